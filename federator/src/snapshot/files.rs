//! The directory of a snapshot: one file, which is replaced as a whole by renaming another over it, and else only
//! grows. So whatever a crash leaves is a state that was there, and nothing has to be put together. One process
//! writes, because it holds the lock; anybody may read. Blocks.

use super::{
    Found, Loaded, SnapshotError, Terms,
    format::{Head, Identity, Item, Mark, Packed, ReadError, Reader, Writer},
};
use crate::store::Entry;
use axum::body::Bytes;
use std::{
    collections::BTreeMap,
    fs::{self, File, Metadata, TryLockError},
    io::{self, BufReader, BufWriter, Seek as _, SeekFrom, Write},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

/// The snapshot.
const NAME: &str = "snapshot";

/// The one that is to replace it.
const NEXT: &str = "snapshot.next";

/// Locked by the process that writes.
const LOCK: &str = "lock";

/// What is read at once.
const BUFFER: usize = 256 << 10;

/// A log below this is not worth a new base, however small that is.
const MERGE_ABOVE: u64 = 4 << 20;

/// The files of one agent's snapshot.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    identity: Identity,
    lock: Option<File>,
    current: Option<Current>,
    merge_above: u64,
    #[cfg(test)]
    pub(super) room: tests::Room,
}

/// A file that holds all that was noted so far, so that what comes next may be written behind it.
#[derive(Debug)]
struct Current {
    file: File,
    base: Mark,
    end: Mark,
    /// Merging failed before: no new try before the log is as long as this.
    not_before: u64,
}

/// A snapshot that came from elsewhere and was read whole.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) bytes: Bytes,
    /// The end of its base.
    pub(super) base: Mark,
    /// The end of its last whole frame.
    pub(super) end: Mark,
}

/// Where bytes go.
#[derive(Debug)]
struct Sink<'a> {
    file: &'a File,
    path: &'a Path,
    at: u64,
    #[cfg(test)]
    room: tests::Room,
}

/// The file in a directory, or the path itself where it is none.
#[must_use]
pub(super) fn in_directory(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(NAME) } else { path.to_owned() }
}

/// Opens a snapshot for reading.
pub(super) fn open(path: &Path) -> io::Result<BufReader<File>> {
    Ok(BufReader::with_capacity(BUFFER, File::open(path)?))
}

// === impl Files ===

impl Files {
    pub(super) fn new(directory: PathBuf, identity: Identity) -> Self {
        Self {
            directory,
            identity,
            lock: None,
            current: None,
            merge_above: MERGE_ABOVE,
            #[cfg(test)]
            room: tests::Room::default(),
        }
    }

    /// Where the snapshot is.
    pub(super) fn path(&self) -> PathBuf {
        self.directory.join(NAME)
    }

    /// Reads what is there; `None` when nothing is. What comes next can be appended then, unless another process
    /// writes, or writing is not possible.
    pub(super) fn load(&mut self, terms: &Terms) -> Result<Option<Loaded>, SnapshotError> {
        // In this order: what is read under the lock is what there is. Whether it could be had is found out again
        // when there is something to write.
        let held = self.hold().is_ok();
        let path = self.path();
        let file = match open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ReadError::Io(at(&path)(error)).into()),
        };
        let found = Found::read(file)?;
        terms.check(&found)?;
        let Found { loaded, base, end, .. } = found;
        if held && let Ok(file) = File::options().write(true).open(&path) {
            // A log that ended in the middle of a frame goes on where the frame began.
            if file.set_len(end.length).is_ok() {
                self.current = Some(Current { file, base, end, not_before: 0 });
            }
        }
        Ok(Some(loaded))
    }

    /// Whether the file holds all that was noted so far.
    pub(super) fn is_current(&self) -> bool {
        self.current.is_some()
    }

    /// The length of the file.
    pub(super) fn bytes(&self) -> u64 {
        self.current.as_ref().map_or(0, |current| current.end.length)
    }

    /// Puts this whole state in the place of whatever there is. When that fails, there is what there was.
    pub(super) fn replace(&mut self, whole: &Packed, written: SystemTime) -> io::Result<()> {
        self.hold()?;
        self.current = None;
        let head = Head { identity: self.identity.clone(), position: whole.position, written };
        self.current = Some(self.rewrite(|out| {
            let mut base = Writer::new(out, &head)?;
            for item in whole.items() {
                base.add(&item.map_err(io::Error::other)?)?;
            }
            let end = base.end()?;
            io::Result::Ok((end, end))
        })?);
        Ok(())
    }

    /// The same with what somebody else wrote.
    pub(super) fn adopt(&mut self, given: &Given) -> io::Result<()> {
        self.hold()?;
        self.current = None;
        let Given { bytes, base, end } = given;
        // Behind that somebody was in the middle of writing.
        let whole = usize::try_from(end.length).ok().and_then(|end| bytes.get(..end)).unwrap_or_default();
        self.current = Some(self.rewrite(|mut out| {
            out.write_all(whole)?;
            out.flush()?;
            io::Result::Ok((*base, *end))
        })?);
        Ok(())
    }

    /// Writes one batch behind what there is. When that fails, there is what there was.
    pub(super) fn append(
        &mut self,
        position: u64,
        written: SystemTime,
        changes: &BTreeMap<String, Option<Entry>>,
    ) -> io::Result<()> {
        let path = self.path();
        let Some(mut current) = self.current.take() else {
            return Err(at(&path)(io::Error::other("a batch without a base")));
        };
        if !current.is_at(&path) {
            return Err(at(&path)(io::Error::other("somebody took the snapshot away")));
        }
        let items = changes.iter().map(|(key, entry)| Item::of(key, entry.as_ref()));
        let (frame, end) = current.end.batch(position, written, items);
        let mut out = self.sink(&current.file, &path, current.end.length);
        let outcome = out.write_all(&frame).and_then(|()| current.file.sync_data().map_err(at(&path)));
        if outcome.is_ok() {
            current.end = end;
        }
        // Part of a frame may be there, and must not be when the next one is.
        if outcome.is_ok() || current.file.set_len(current.end.length).is_ok() {
            self.current = Some(current);
        }
        outcome
    }

    /// Makes a new base of the base and its log, once that has become long. When that fails, there is what there was.
    pub(super) fn merge(&mut self) -> io::Result<()> {
        let Some(current) = &self.current else { return Ok(()) };
        let log = current.end.length - current.base.length;
        if log < self.merge_above.max(current.base.length / 2).max(current.not_before) {
            return Ok(());
        }
        match self.merged() {
            Ok(merged) => self.current = Some(merged),
            // What was written cannot be read: only a whole state helps.
            Err(ReadError::Io(error)) => {
                if let Some(current) = &mut self.current {
                    current.not_before = log + self.merge_above;
                }
                return Err(error);
            }
            Err(error) => {
                self.current = None;
                return Err(at(&self.path())(io::Error::other(error)));
            }
        }
        Ok(())
    }

    /// Streams the base past the log, of which only the last value of each key counts.
    fn merged(&self) -> Result<Current, ReadError> {
        let path = self.path();
        let Some(Current { base, .. }) = &self.current else { return Err(ReadError::NoSnapshot) };
        let mut later: BTreeMap<String, Option<Entry>> = BTreeMap::new();
        let mut log = open(&path)?;
        log.seek(SeekFrom::Start(base.length))?;
        let mut log = Reader::resume(log, *base);
        let (mut reader, mut head) = Reader::open(open(&path)?)?;
        while let Some(batch) = log.batch()? {
            (head.position, head.written) = (batch.position, batch.written);
            for item in batch.items {
                let item = item?;
                later.insert(item.key.to_owned(), item.to_entry());
            }
        }
        let mut later = later.iter().peekable();
        self.rewrite(|out| {
            let mut base = Writer::new(out, &head)?;
            while let Some(block) = reader.block()? {
                for item in block {
                    let item = item?;
                    while let Some((key, change)) = later.next_if(|(key, _)| key.as_str() < item.key) {
                        base.add(&Item::of(key, change.as_ref()))?;
                    }
                    match later.next_if(|(key, _)| key.as_str() == item.key) {
                        Some((key, change)) => base.add(&Item::of(key, change.as_ref()))?,
                        None => base.add(&item)?,
                    }
                }
            }
            later.try_for_each(|(key, change)| base.add(&Item::of(key, change.as_ref())))?;
            let end = base.end()?;
            Ok((end, end))
        })
    }

    /// Writes a file beside the snapshot and renames it over that; `write` says where the base and all of it end.
    fn rewrite<E: From<io::Error>>(
        &self,
        write: impl FnOnce(BufWriter<Sink<'_>>) -> Result<(Mark, Mark), E>,
    ) -> Result<Current, E> {
        let next = self.directory.join(NEXT);
        let written = self.write_next(&next, write);
        if written.is_err() {
            // A full disk is not to be full of this.
            let _ = fs::remove_file(&next);
        }
        written
    }

    fn write_next<E: From<io::Error>>(
        &self,
        next: &Path,
        write: impl FnOnce(BufWriter<Sink<'_>>) -> Result<(Mark, Mark), E>,
    ) -> Result<Current, E> {
        let file = File::create(next).map_err(at(next))?;
        let (base, end) = write(BufWriter::with_capacity(BUFFER, self.sink(&file, next, 0)))?;
        file.sync_all().map_err(at(next))?;
        fs::rename(next, self.path()).map_err(at(next))?;
        // After a crash of the machine the old file may be back, whose state was there as well: no reason to fail.
        let _ = File::open(&self.directory).and_then(|directory| directory.sync_all());
        Ok(Current { file, base, end, not_before: 0 })
    }

    fn sink<'a>(&self, file: &'a File, path: &'a Path, at: u64) -> Sink<'a> {
        Sink {
            file,
            path,
            at,
            #[cfg(test)]
            room: self.room.clone(),
        }
    }

    /// Takes the lock, unless it is held.
    fn hold(&mut self) -> io::Result<()> {
        if self.lock.is_some() {
            return Ok(());
        }
        fs::create_dir_all(&self.directory).map_err(at(&self.directory))?;
        let path = self.directory.join(LOCK);
        let lock = File::create(&path).map_err(at(&path))?;
        match lock.try_lock() {
            Ok(()) => self.lock = Some(lock),
            Err(TryLockError::WouldBlock) => {
                let reason = "another agent writes its snapshot there: give each a directory of its own";
                return Err(at(&path)(io::Error::other(reason)));
            }
            Err(TryLockError::Error(error)) => return Err(at(&path)(error)),
        }
        Ok(())
    }
}

// === impl Current ===

impl Current {
    /// Whether this is the file that a reader would find.
    fn is_at(&self, path: &Path) -> bool {
        let same = |own: Metadata, found: Metadata| (own.dev(), own.ino()) == (found.dev(), found.ino());
        self.file.metadata().and_then(|own| Ok(same(own, fs::metadata(path)?))).unwrap_or(false)
    }
}

// === impl Sink ===

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        #[cfg(test)]
        let bytes = self.room.limit(bytes).map_err(at(self.path))?;
        let count = self.file.write_at(bytes, self.at).map_err(at(self.path))?;
        self.at += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Says which path an error is about.
fn at(path: &Path) -> impl Fn(io::Error) -> io::Error {
    let path = path.display().to_string();
    move |error| io::Error::new(error.kind(), format!("{path}: {error}"))
}

#[cfg(test)]
pub(in crate::snapshot) mod tests;
