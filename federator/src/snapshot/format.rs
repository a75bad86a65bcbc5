//! The form of a snapshot, pure: bytes to entries and back. A base, sorted by key, and behind it a log of batches, each
//! in a frame with its length and a checksum over everything so far. Knows neither files nor whether a snapshot is
//! wanted.
//!
//! | part | what |
//! |---|---|
//! | `fedsnap\n`, version | four bytes, little-endian like every number here |
//! | frame | length of the payload, its complement, CRC-32 of all payloads up to this one, payload |
//! | payload `H` | position, milliseconds since 1970, cluster, zone, store |
//! | payload `B` | entries: length of key, of value, revision created, modified, key, value |
//! | payload `E` | how many entries the base has; it ends the base |
//! | payload `C` | position, milliseconds, then as in `B`; a length of all ones is a deletion |
//!
//! A log may end in the middle of a frame, as a crash leaves it: it counts up to the last whole one. A base may not,
//! and nothing but its end may be broken. CRC-32 because a start waits for it: it is eight times as fast as SHA-256,
//! and what it guards against is a disk, not an enemy.

use crate::store::{Entry, Snapshot};
use std::{
    io::{self, Read, Write},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// What a snapshot begins with.
const MAGIC: [u8; 8] = *b"fedsnap\n";

/// The version of what is described above.
const VERSION: u32 = 1;

/// Length, complement, checksum.
const FRAME: usize = 12;

/// The lengths and revisions of an entry.
const ITEM: usize = 24;

/// Most bytes of a payload. The keeper ends a batch far below; whatever claims more is broken.
const MAX_PAYLOAD: usize = 256 << 20;

/// A block of the base is ended at this size: large enough that frames cost nothing, small enough to be held twice.
const BLOCK: usize = 256 << 10;

/// Stands for the length of a value that was deleted.
const DELETED: u32 = u32::MAX;

/// What a snapshot is of. One of anything else is foreign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster of the agent.
    pub cluster: String,
    /// The zone.
    pub zone: String,
    /// Which store: `embedded`, or `etcd` and the root in it.
    pub store: String,
}

/// What a snapshot says about itself in front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// What it is of.
    pub identity: Identity,
    /// The store's revision of which the base is.
    pub position: u64,
    /// When the base was the state of the store.
    pub written: SystemTime,
}

/// A key and what stands behind it, where it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// The key.
    pub key: &'a str,
    /// The value; `None` where the key was deleted.
    pub value: Option<&'a [u8]>,
    /// The revision at which the key came to be.
    pub created: u64,
    /// The revision of its last write.
    pub modified: u64,
}

/// The end of a frame: behind it the next one may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Bytes up to here.
    pub length: u64,
    /// The checksum up to here.
    check: u32,
}

/// Why bytes are not a snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// They cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// They do not begin like one.
    #[error("it is no snapshot")]
    NoSnapshot,
    /// A newer Federator wrote them, or an older one.
    #[error("it is of version {0} of the format, and this federator reads version {VERSION}")]
    Version(u32),
    /// They end before the base does.
    #[error("it is torn: it ends at byte {0}, within its base")]
    Torn(u64),
    /// Something in them is not as it was written.
    #[error("it is broken at byte {at}: {what}")]
    Broken {
        /// Where the frame begins.
        at: u64,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// A whole state, its entries one behind the other as they are written: as a map it takes twice the room, in very many
/// pieces that are in the way when they are gone.
#[derive(Debug)]
pub struct Packed {
    /// The store's revision.
    pub position: u64,
    bytes: Box<[u8]>,
}

/// Writes a base.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    at: Mark,
    block: Vec<u8>,
    entries: u64,
}

/// Reads a base, then its log.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    /// The end of the last frame that was read whole.
    at: Mark,
    payload: Vec<u8>,
    /// The last key of the base so far.
    last: Vec<u8>,
    entries: u64,
    in_base: bool,
    torn: bool,
}

/// Entries of a block, or changes of a batch, one after the other.
#[derive(Debug)]
pub struct Items<'a> {
    rest: &'a [u8],
    at: u64,
}

/// What changed from one state of the store to a later one.
#[derive(Debug)]
pub struct Changes<'a> {
    /// The store's revision after it.
    pub position: u64,
    /// When that was the state of the store.
    pub written: SystemTime,
    /// The changes.
    pub items: Items<'a>,
}

/// What there is where a frame may be.
enum Found {
    Frame,
    Nothing,
    /// The end of a frame is not there.
    Torn,
}

// === impl Item ===

impl<'a> Item<'a> {
    /// A change as the store tells of it.
    #[must_use]
    pub fn of(key: &'a str, entry: Option<&'a Entry>) -> Self {
        let (created, modified) = entry.map_or((0, 0), |entry| (entry.created, entry.modified));
        Self { key, value: entry.map(|entry| &*entry.value), created, modified }
    }

    /// The same, to keep.
    #[must_use]
    pub fn to_entry(self) -> Option<Entry> {
        self.value.map(|value| Entry { value: value.to_vec(), created: self.created, modified: self.modified })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&length(self.key.len()).to_le_bytes());
        out.extend_from_slice(&self.value.map_or(DELETED, |value| length(value.len())).to_le_bytes());
        out.extend_from_slice(&self.created.to_le_bytes());
        out.extend_from_slice(&self.modified.to_le_bytes());
        out.extend_from_slice(self.key.as_bytes());
        out.extend_from_slice(self.value.unwrap_or_default());
    }

    fn read(rest: &mut &'a [u8]) -> Option<Self> {
        let mut revisions = rest.get(8..)?;
        let (created, modified) = (long(&mut revisions)?, long(&mut revisions)?);
        let (key, value) = Self::skip(rest)?;
        Some(Self { key: std::str::from_utf8(key).ok()?, value, created, modified })
    }

    /// The key and the value of the next one.
    fn skip(rest: &mut &'a [u8]) -> Option<(&'a [u8], Option<&'a [u8]>)> {
        let (key, value) = (number(rest)?, number(rest)?);
        take(rest, 16)?;
        let key = take(rest, key)?;
        Some((key, if value == DELETED { None } else { Some(take(rest, value)?) }))
    }
}

// === impl Packed ===

impl Packed {
    /// The entries, in the order of their keys.
    #[must_use]
    pub fn items(&self) -> Items<'_> {
        Items { rest: &self.bytes, at: 0 }
    }
}

impl From<Snapshot> for Packed {
    fn from(whole: Snapshot) -> Self {
        let size = whole.entries.iter().map(|(key, entry)| ITEM + key.len() + entry.value.len()).sum();
        let mut bytes = Vec::with_capacity(size);
        for (key, entry) in &whole.entries {
            Item::of(key, Some(entry)).write(&mut bytes);
        }
        Self { position: whole.revision, bytes: bytes.into() }
    }
}

// === impl Mark ===

impl Mark {
    /// In front of the first frame.
    fn start() -> Self {
        Self { length: (MAGIC.len() + 4) as u64, check: VERSION }
    }

    /// A frame behind this mark, and the mark behind it.
    fn frame(self, payload: &[u8]) -> ([u8; FRAME], Self) {
        let after = self.past(payload);
        let bytes = length(payload.len());
        let mut header = [0; FRAME];
        header[..4].copy_from_slice(&bytes.to_le_bytes());
        header[4..8].copy_from_slice(&(!bytes).to_le_bytes());
        header[8..].copy_from_slice(&after.check.to_le_bytes());
        (header, after)
    }

    fn past(self, payload: &[u8]) -> Self {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.check);
        hasher.update(payload);
        Self { length: self.length + (FRAME + payload.len()) as u64, check: hasher.finalize() }
    }

    /// The frame of a batch that follows, and the mark behind it.
    pub fn batch<'a>(
        self,
        position: u64,
        written: SystemTime,
        changes: impl Iterator<Item = Item<'a>>,
    ) -> (Vec<u8>, Self) {
        let mut bytes = vec![0; FRAME];
        bytes.push(b'C');
        bytes.extend_from_slice(&position.to_le_bytes());
        bytes.extend_from_slice(&millis(written).to_le_bytes());
        changes.for_each(|change| change.write(&mut bytes));
        let (header, after) = self.frame(&bytes[FRAME..]);
        bytes[..FRAME].copy_from_slice(&header);
        (bytes, after)
    }
}

// === impl Writer ===

impl<W: Write> Writer<W> {
    /// Begins a base.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(mut out: W, head: &Head) -> io::Result<Self> {
        out.write_all(&MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        let mut writer = Self { out, at: Mark::start(), block: vec![b'H'], entries: 0 };
        let block = &mut writer.block;
        block.extend_from_slice(&head.position.to_le_bytes());
        block.extend_from_slice(&millis(head.written).to_le_bytes());
        for text in [&head.identity.cluster, &head.identity.zone, &head.identity.store] {
            block.extend_from_slice(&length(text.len()).to_le_bytes());
            block.extend_from_slice(text.as_bytes());
        }
        writer.end_block()?;
        Ok(writer)
    }

    /// Adds an entry; keys must come in ascending order. What was deleted is not in a base.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn add(&mut self, item: &Item<'_>) -> io::Result<()> {
        if item.value.is_none() {
            return Ok(());
        }
        if self.block.is_empty() {
            self.block.push(b'B');
        }
        item.write(&mut self.block);
        self.entries += 1;
        if self.block.len() < BLOCK { Ok(()) } else { self.end_block() }
    }

    /// Ends the base, and says where the log begins.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn end(mut self) -> io::Result<Mark> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        self.block.push(b'E');
        self.block.extend_from_slice(&self.entries.to_le_bytes());
        self.end_block()?;
        self.out.flush()?;
        Ok(self.at)
    }

    fn end_block(&mut self) -> io::Result<()> {
        let (header, after) = self.at.frame(&self.block);
        self.out.write_all(&header)?;
        self.out.write_all(&self.block)?;
        self.at = after;
        self.block.clear();
        Ok(())
    }
}

// === impl Reader ===

impl<R: Read> Reader<R> {
    /// Begins to read. `source` should be buffered.
    ///
    /// # Errors
    /// [`ReadError`], also when the source is empty.
    pub fn open(mut source: R) -> Result<(Self, Head), ReadError> {
        let mut start = [0; MAGIC.len() + 4];
        source.read_exact(&mut start).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ReadError::NoSnapshot,
            _ => error.into(),
        })?;
        let mut version = start.strip_prefix(&MAGIC).ok_or(ReadError::NoSnapshot)?;
        match number(&mut version) {
            Some(VERSION) => {}
            other => return Err(ReadError::Version(other.unwrap_or_default())),
        }
        let mut reader = Self::resume(source, Mark::start());
        reader.in_base = true;
        let at = reader.at.length;
        reader.base_frame()?;
        let head = read_head(&reader.payload).ok_or(ReadError::Broken { at, what: "its head" })?;
        Ok((reader, head))
    }

    /// Goes on in the log behind a mark; `source` begins there.
    pub fn resume(source: R, mark: Mark) -> Self {
        let (payload, last) = (Vec::new(), Vec::new());
        Self { source, at: mark, payload, last, entries: 0, in_base: false, torn: false }
    }

    /// The next block of the base; `None` at its end.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn block(&mut self) -> Result<Option<Items<'_>>, ReadError> {
        if !self.in_base {
            return Ok(None);
        }
        let at = self.at.length;
        let broken = |what| ReadError::Broken { at, what };
        self.base_frame()?;
        match self.payload.split_first() {
            Some((b'B', mut rest)) => {
                let items = Items { rest, at };
                // The order is what lets a base be merged with what came later.
                let mut last = &*self.last;
                while !rest.is_empty() {
                    let (key, value) = Item::skip(&mut rest).ok_or_else(|| broken("an entry"))?;
                    if value.is_none() || self.entries > 0 && key <= last {
                        return Err(broken("the order of its keys"));
                    }
                    (last, self.entries) = (key, self.entries + 1);
                }
                self.last = last.to_vec();
                Ok(Some(items))
            }
            Some((b'E', rest)) if *rest == self.entries.to_le_bytes() => {
                self.in_base = false;
                Ok(None)
            }
            Some((b'E', _)) => Err(broken("the number of its entries")),
            _ => Err(broken("the kind of a frame")),
        }
    }

    /// The next batch of the log; `None` at its end. The base has to be read before.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn batch(&mut self) -> Result<Option<Changes<'_>>, ReadError> {
        let at = self.at.length;
        let broken = |what| ReadError::Broken { at, what };
        match self.frame()? {
            Found::Frame => {}
            Found::Nothing => return Ok(None),
            Found::Torn => {
                self.torn = true;
                return Ok(None);
            }
        }
        let Some((b'C', mut rest)) = self.payload.split_first() else {
            return Err(broken("the kind of a frame"));
        };
        let position = long(&mut rest).ok_or_else(|| broken("a batch"))?;
        let written = long(&mut rest).and_then(time).ok_or_else(|| broken("a batch"))?;
        Ok(Some(Changes { position, written, items: Items { rest, at } }))
    }

    /// The end of the last frame that was read whole.
    pub fn mark(&self) -> Mark {
        self.at
    }

    /// Whether something behind the last whole frame was left aside.
    pub fn is_torn(&self) -> bool {
        self.torn
    }

    fn base_frame(&mut self) -> Result<(), ReadError> {
        match self.frame()? {
            Found::Frame => Ok(()),
            Found::Nothing | Found::Torn => Err(ReadError::Torn(self.at.length)),
        }
    }

    /// Reads a frame into the payload.
    fn frame(&mut self) -> Result<Found, ReadError> {
        let broken = |what| ReadError::Broken { at: self.at.length, what };
        self.payload.clear();
        (&mut self.source).take(FRAME as u64).read_to_end(&mut self.payload)?;
        let mut header = &*self.payload;
        if header.is_empty() {
            return Ok(Found::Nothing);
        }
        let (Some(bytes), Some(complement), Some(check)) =
            (number(&mut header), number(&mut header), number(&mut header))
        else {
            return Ok(Found::Torn);
        };
        // A file may have been lengthened and not written to its end when the machine went down.
        if bytes != !complement || bytes == 0 || bytes as usize > MAX_PAYLOAD {
            return if only_zeros(&mut self.source)? { Ok(Found::Torn) } else { Err(broken("a length")) };
        }
        self.payload.clear();
        (&mut self.source).take(bytes.into()).read_to_end(&mut self.payload)?;
        if self.payload.len() < bytes as usize {
            return Ok(Found::Torn);
        }
        let after = self.at.past(&self.payload);
        if after.check == check {
            self.at = after;
            return Ok(Found::Frame);
        }
        if only_zeros(&mut self.source)? { Ok(Found::Torn) } else { Err(broken("a checksum")) }
    }
}

// === impl Items ===

impl<'a> Iterator for Items<'a> {
    type Item = Result<Item<'a>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let item = Item::read(&mut self.rest).ok_or(ReadError::Broken { at: self.at, what: "an entry" });
        if item.is_err() {
            self.rest = &[];
        }
        Some(item)
    }
}

/// Whether nothing but zeros follows.
fn only_zeros(source: &mut impl Read) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(true),
            Ok(count) if buffer[..count].iter().any(|byte| *byte != 0) => return Ok(false),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn read_head(payload: &[u8]) -> Option<Head> {
    let (b'H', mut rest) = payload.split_first()? else { return None };
    let (position, written) = (long(&mut rest)?, time(long(&mut rest)?)?);
    let mut text = || {
        let bytes = number(&mut rest)?;
        String::from_utf8(take(&mut rest, bytes)?.to_vec()).ok()
    };
    let identity = Identity { cluster: text()?, zone: text()?, store: text()? };
    rest.is_empty().then_some(Head { identity, position, written })
}

fn take<'a>(rest: &mut &'a [u8], bytes: u32) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(bytes as usize)?;
    *rest = left;
    Some(taken)
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(u32::from_le_bytes(*taken))
}

fn long(rest: &mut &[u8]) -> Option<u64> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(u64::from_le_bytes(*taken))
}

/// No key, value or batch comes near four gigabytes; one that did would be refused when it is read.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(DELETED - 1)
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn time(millis: u64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests;
