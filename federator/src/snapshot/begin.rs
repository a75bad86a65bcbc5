//! Beginning with a snapshot: this agent's own, else that of a sibling, else none. Nothing that is wrong with one keeps
//! an agent from starting: what is refused is logged, and said in the status.

use super::{
    Found, Keeper, Loaded, Notes, SnapshotError, Status, Terms,
    files::Files,
    format::{Identity, ReadError},
    sibling::{self, Taken},
};
use crate::config;
use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, SystemTime},
};
use tokio::{sync::watch, task::spawn_blocking};

/// What an agent begins with, and how it goes on keeping it.
#[derive(Debug)]
pub struct Begun {
    /// What there was to begin with.
    pub loaded: Option<Loaded>,
    /// What there was, but is too old to be begun with: some of it does not age.
    pub outdated: Option<Loaded>,
    /// Where gathering notes what it applies.
    pub notes: Notes,
    /// Writes that, where it is to be written.
    pub keeper: Option<Keeper>,
    /// What is kept, for others to look at.
    pub kept: Kept,
}

/// What is kept, for others to look at.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The file.
    pub file: Option<PathBuf>,
    /// How keeping it stands.
    pub status: watch::Receiver<Status>,
    /// What time it is.
    pub clock: fn() -> SystemTime,
}

/// Reads the snapshot of this agent, else of a sibling, and prepares for keeping one; without `config` there is none.
/// `admin` is where siblings find this agent.
pub async fn begin(
    config: Option<&config::Snapshot>,
    identity: Identity,
    admin: SocketAddr,
    clock: fn() -> SystemTime,
) -> Begun {
    let Some(config) = config else {
        let status = watch::Sender::new(Status::default()).subscribe();
        let kept = Kept { file: None, status, clock };
        return Begun { loaded: None, outdated: None, notes: Notes::default(), keeper: None, kept };
    };
    let terms = Terms { identity, max_age: config.max_age, now: clock() };
    let (files, own) = load(config, &terms).await;
    let file = files.path();
    let mut refused = BTreeMap::new();
    let mut outdated = None;
    let mut taken = match own {
        Ok(loaded) => loaded.map(|loaded| (file.display().to_string(), loaded, None)),
        Err(why) => {
            refused.insert(file.display().to_string(), why.to_string());
            if matches!(why, SnapshotError::TooOld { .. }) {
                let path = file.clone();
                let found = spawn_blocking(move || Found::open(&path)).await;
                outdated = found.ok().and_then(Result::ok).map(|found| found.loaded);
            }
            None
        }
    };
    if taken.is_none() && !config.siblings.is_empty() {
        let theirs = sibling::ask(&config.siblings, admin, &terms, &mut refused).await;
        taken = theirs.map(|Taken { from, loaded, given }| (from, loaded, Some(given)));
    }
    for (from, why) in &refused {
        tracing::warn!(from, why, "snapshot refused; it is ignored");
    }
    let mut begin = Status { refused, ..Status::default() };
    let (mut loaded, mut given) = (None, None);
    if let Some((from, taken, theirs)) = taken {
        let age = terms.now.duration_since(taken.written).unwrap_or_default().as_secs();
        tracing::info!(from, position = taken.position, age, entries = taken.entries.len(), "begun with a snapshot");
        (begin.began, begin.position, begin.written) = (Some(from), taken.position, Some(taken.written));
        (loaded, given) = (Some(taken), theirs);
    }
    let (keeper, notes, status) = Keeper::new(files, given, begin, clock);
    let outdated = outdated.filter(|_| loaded.is_none());
    Begun { loaded, outdated, notes, keeper: Some(keeper), kept: Kept { file: Some(file), status, clock } }
}

/// What is in the directory, or why that is not taken.
async fn load(config: &config::Snapshot, terms: &Terms) -> (Files, Result<Option<Loaded>, SnapshotError>) {
    let new = || Files::new(config.directory.clone(), terms.identity.clone());
    let (mut files, terms) = (new(), terms.clone());
    let loading = spawn_blocking(move || {
        let loaded = files.load(&terms);
        (files, loaded)
    });
    loading.await.unwrap_or_else(|panic| {
        let died = io::Error::other(format!("reading it died: {panic}"));
        (new(), Err(ReadError::Io(died).into()))
    })
}

// === impl Kept ===

impl Kept {
    /// How long ago what is written, or was begun with, was the state of the store.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        let written = self.status.borrow().written?;
        // A clock that was set back makes nothing newer than new.
        Some((self.clock)().duration_since(written).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
