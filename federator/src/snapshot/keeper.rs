//! Keeping the snapshot: takes note of what gathering applied, in its order, and writes it once a second at most. Who
//! notes never waits: what has not been written yet is held with the last change of each key, and when that becomes
//! too much it is let go, and a whole state asked for. Trouble with the disk is said and outlived.

use super::{
    files::{Files, Given},
    format::Packed,
};
use crate::store::{Batch, Entry, Snapshot};
use std::{
    collections::BTreeMap,
    io,
    time::{Duration, SystemTime},
};
use tokio::{sync::watch, task::spawn_blocking, time::Instant};
use tokio_util::sync::CancellationToken;

/// Between two writes: what changes often costs its last value, and the disk one sync a second.
const PAUSE: Duration = Duration::from_secs(1);

/// After a write that failed: disks do not become empty by themselves.
const PAUSE_IN_TROUBLE: Duration = Duration::from_secs(30);

/// How often that is doubled where only a whole state helps, which costs the store a read of everything.
const DOUBLED: u32 = 5;

/// A state that stays as it is is confirmed this often, as long as the store is followed, so that its age tells when it
/// was last known to be true and not when something last changed.
const CONFIRM: Duration = Duration::from_secs(60);

/// Most bytes of changes that are held. A fleet of a million endpoints is about twice as large, so that beyond this a
/// whole state is the cheaper thing to write.
const MAX_HELD: usize = 64 << 20;

/// What a change costs beside its key and value.
const CHANGE: usize = 128;

/// Where gathering notes what it applied; cheap to clone. Notes that nobody keeps cost nothing.
#[derive(Clone, Debug, Default)]
pub struct Notes(Option<watch::Sender<Held>>);

/// Writes what is noted.
#[derive(Debug)]
pub struct Keeper {
    files: Files,
    held: watch::Sender<Held>,
    status: watch::Sender<Status>,
    clock: fn() -> SystemTime,
    /// What could not be written yet.
    work: Work,
    /// When it was last looked whether something is to be written.
    last: Instant,
    /// How long to leave the disk alone.
    pause: Duration,
    /// Whole states in a row that could not be written.
    failed: u32,
}

/// How keeping stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// In one word.
    pub stand: Stand,
    /// The store's revision up to which it is written; before anything is, that which this process began with.
    pub position: u64,
    /// When that was last known to be the state of the store.
    pub written: Option<SystemTime>,
    /// The size of it.
    pub bytes: u64,
    /// Why it cannot be written.
    pub trouble: Option<String>,
    /// Where this process began: the file or the sibling whose snapshot was taken.
    pub began: Option<String>,
    /// Snapshots that were not taken at the start, and why.
    pub refused: BTreeMap<String, String>,
}

/// How keeping stands, in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stand {
    /// None is kept.
    #[default]
    Off,
    /// Nothing is written yet.
    Waiting,
    /// It is written, up to the last seconds.
    Kept,
    /// It could not be written fast enough, and a whole state is waited for.
    Behind,
    /// It cannot be written.
    Failing,
}

/// What was noted and is not taken to be written yet.
#[derive(Debug, Default)]
struct Held {
    work: Work,
    gap: Gap,
    /// Whether the store is followed, so that the state is true even if it stays as it is.
    followed: bool,
}

/// Whether changes follow on what is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Gap {
    /// They do.
    #[default]
    None,
    /// They do not, and nobody was asked for a whole state yet.
    Open,
    /// They do not until a whole state comes, which was asked for.
    Asked,
}

/// What is to be written.
#[derive(Debug, Default)]
struct Work {
    /// A whole state, which comes before the changes.
    whole: Option<Whole>,
    changes: BTreeMap<String, Option<Entry>>,
    /// Bytes of the changes.
    bytes: usize,
    /// The revision after them.
    position: u64,
}

/// A whole state.
#[derive(Debug)]
enum Whole {
    /// As the store was read.
    Read(Packed),
    /// What this process began with, and was not its own.
    Given(Given),
}

// === impl Notes ===

impl Notes {
    /// This is everything now: what was read whole.
    pub fn replaced(&self, whole: Snapshot) {
        let Some(held) = &self.0 else { return };
        let whole = Packed::from(whole);
        held.send_modify(|held| {
            held.work = Work { position: whole.position, whole: Some(Whole::Read(whole)), ..Work::default() };
            held.gap = Gap::None;
        });
    }

    /// What comes is not the state that is used, as with a store that was restored or emptied: what is written stays as
    /// it is until a whole state comes, which is [wanted](Self::wanted) from now on.
    pub fn interrupted(&self) {
        let Some(held) = &self.0 else { return };
        held.send_if_modified(|held| {
            let news = held.gap != Gap::Asked;
            held.work.let_go();
            held.gap = Gap::Asked;
            news
        });
    }

    /// This changed.
    pub fn changed(&self, batch: Batch) {
        let Some(held) = &self.0 else { return };
        held.send_if_modified(|held| {
            if held.gap == Gap::None {
                held.work.add(batch);
                held.limit();
            }
            held.gap != Gap::Asked
        });
    }

    /// Whether the store is followed: as long as it is, the state is confirmed though nothing changes.
    pub fn followed(&self, followed: bool) {
        let Some(held) = &self.0 else { return };
        held.send_if_modified(|held| std::mem::replace(&mut held.followed, followed) != followed);
    }

    /// Returns when only a whole state helps: read everything then, and note it as [`Self::replaced`]. May be dropped
    /// and called again.
    pub async fn wanted(&self) {
        match &self.0 {
            // The sender lives in `self`, so it is there.
            Some(held) => _ = held.subscribe().wait_for(|held| held.gap == Gap::Asked).await,
            None => std::future::pending().await,
        }
    }
}

// === impl Keeper ===

impl Keeper {
    /// Goes on with these files, where they hold the state that gathering begins with, or with what is `given` in their
    /// place; and where to note what comes.
    pub(super) fn new(
        files: Files,
        given: Option<Given>,
        begin: Status,
        clock: fn() -> SystemTime,
    ) -> (Self, Notes, watch::Receiver<Status>) {
        let gap = if files.is_current() || given.is_some() { Gap::None } else { Gap::Asked };
        let held = watch::Sender::new(Held { gap, ..Held::default() });
        let stand = if files.is_current() { Stand::Kept } else { Stand::Waiting };
        let status = watch::Sender::new(Status { stand, bytes: files.bytes(), ..begin });
        let (notes, said) = (Notes(Some(held.clone())), status.subscribe());
        let position = status.borrow().position;
        let work = Work { whole: given.map(Whole::Given), position, ..Work::default() };
        (Self { files, held, status, clock, work, last: Instant::now(), pause: PAUSE, failed: 0 }, notes, said)
    }

    /// Writes what is noted until `shutdown`, and then what is left.
    ///
    /// # Errors
    /// When writing died.
    pub async fn run(mut self, shutdown: CancellationToken) -> io::Result<()> {
        loop {
            let stopping = shutdown.run_until_cancelled(self.due()).await.is_none();
            self = self.write().await?;
            if stopping {
                return Ok(());
            }
            shutdown.run_until_cancelled(tokio::time::sleep(self.pause)).await;
        }
    }

    /// Waits until there is something to do.
    async fn due(&self) {
        let mut held = self.held.subscribe();
        let until = self.last + CONFIRM;
        if !self.work.is_empty() {
            return;
        }
        tokio::select! {
            _ = held.wait_for(|held| !held.work.is_empty() || held.gap == Gap::Open) => {}
            () = tokio::time::sleep_until(until) => {}
        }
    }

    /// Writes what there is, or confirms what is written.
    async fn write(mut self) -> io::Result<Self> {
        let (waiting, followed) = self.take();
        let confirming = followed && self.last.elapsed() >= CONFIRM;
        self.last = Instant::now();
        self.pause = PAUSE;
        if waiting && self.status.borrow().stand == Stand::Kept {
            self.status.send_modify(|status| status.stand = Stand::Behind);
        }
        if waiting || self.work.is_empty() && !confirming {
            return Ok(self);
        }
        let now = (self.clock)();
        // What was given is as old as it was.
        let confirms = !self.work.changes.is_empty() || !matches!(self.work.whole, Some(Whole::Given(_)));
        let died = |panic| io::Error::other(format!("writing the snapshot died: {panic}"));
        let written = spawn_blocking(move || {
            let outcome = self.work.write(&mut self.files, now);
            (self, outcome)
        });
        let (mut keeper, outcome) = written.await.map_err(died)?;
        keeper.wrote(confirms.then_some(now), outcome);
        Ok(keeper)
    }

    /// Takes what was noted; says whether a whole state is waited for, and whether the store is followed.
    fn take(&mut self) -> (bool, bool) {
        let (mut waiting, mut followed) = (false, false);
        self.held.send_if_modified(|held| {
            followed = held.followed;
            if held.gap == Gap::None {
                self.work.follow(std::mem::take(&mut held.work));
                if self.work.bytes > MAX_HELD {
                    held.gap = Gap::Open;
                }
            }
            if held.gap != Gap::None {
                // What is between is lost, so not even what was taken before may be written.
                self.work.let_go();
                waiting = true;
            }
            let ask = held.gap == Gap::Open;
            if ask {
                held.gap = Gap::Asked;
            }
            ask
        });
        (waiting, followed)
    }

    /// Says how writing went, and closes a gap or opens one.
    fn wrote(&mut self, confirmed: Option<SystemTime>, outcome: io::Result<()>) {
        let kept = self.files.is_current();
        if !kept {
            // Whatever was noted meanwhile does not follow on what is on the disk.
            self.work.let_go();
            self.held.send_modify(|held| {
                if held.work.whole.is_none() {
                    held.work.let_go();
                    held.gap = Gap::Open;
                }
            });
        }
        let trouble = outcome.err().map(|error| error.to_string());
        if trouble.is_some() {
            self.pause = PAUSE_IN_TROUBLE * 2_u32.pow(self.failed.min(DOUBLED));
        }
        self.failed = if kept { 0 } else { self.failed + 1 };
        if trouble.is_some() && self.status.borrow().trouble != trouble {
            let error = trouble.as_deref().unwrap_or_default();
            tracing::warn!(error, "cannot write the snapshot; going on without");
        }
        if trouble.is_none() && self.status.borrow().trouble.is_some() {
            tracing::info!("the snapshot is written again");
        }
        let (written, position) = (kept && self.work.is_empty(), self.work.position);
        let bytes = self.files.bytes();
        self.status.send_modify(|status| {
            status.stand = if trouble.is_some() { Stand::Failing } else { Stand::Kept };
            status.trouble = trouble;
            if kept {
                status.bytes = bytes;
            }
            if written {
                (status.position, status.written) = (position, confirmed.or(status.written));
            }
        });
    }
}

// === impl Held ===

impl Held {
    /// Lets everything go that would be too much.
    fn limit(&mut self) {
        if self.work.bytes > MAX_HELD {
            self.work.let_go();
            self.gap = Gap::Open;
        }
    }
}

// === impl Work ===

impl Work {
    fn is_empty(&self) -> bool {
        self.whole.is_none() && self.changes.is_empty()
    }

    fn let_go(&mut self) {
        *self = Self { position: self.position, ..Self::default() };
    }

    fn add(&mut self, batch: Batch) {
        self.position = batch.revision;
        for (key, entry) in batch.changes {
            self.insert(key, entry);
        }
    }

    fn insert(&mut self, key: String, entry: Option<Entry>) {
        let cost = |entry: &Option<Entry>| entry.as_ref().map_or(0, |entry| entry.value.len());
        self.bytes += cost(&entry);
        let own = key.len() + CHANGE;
        match self.changes.insert(key, entry) {
            Some(before) => self.bytes -= cost(&before),
            None => self.bytes += own,
        }
    }

    /// Adds what comes after it.
    fn follow(&mut self, later: Self) {
        if later.is_empty() {
            return;
        }
        if later.whole.is_some() {
            *self = later;
            return;
        }
        self.position = later.position;
        for (key, entry) in later.changes {
            self.insert(key, entry);
        }
    }

    /// Writes what there is; what is written is not there any more.
    fn write(&mut self, files: &mut Files, now: SystemTime) -> io::Result<()> {
        if let Some(whole) = &self.whole {
            match whole {
                Whole::Read(whole) => files.replace(whole, now)?,
                Whole::Given(given) => files.adopt(given)?,
            }
            self.whole = None;
            if self.changes.is_empty() {
                return Ok(());
            }
        }
        files.append(self.position, now, &self.changes)?;
        self.let_go();
        files.merge()
    }
}

// === impl Stand ===

impl Stand {
    /// As it is shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Waiting => "waiting",
            Self::Kept => "kept",
            Self::Behind => "behind",
            Self::Failing => "failing",
        }
    }
}

#[cfg(test)]
mod tests;
