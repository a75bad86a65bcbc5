//! The directory where parts are kept: each entry is built once, beside its place, and renamed into it.
//!
//! An entry's name ends with a hash of all that decides its content, so an entry is never changed and never stale,
//! and checkouts at different commits share what they have in common. A lock file per entry makes runs at the same
//! time build it once; the kernel releases it when its holder dies, and the next holder clears what was left.

use std::{
    env,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// An open cache.
pub(crate) struct Cache(PathBuf);

// === impl Cache ===

impl Cache {
    /// The cache of this user.
    pub(crate) fn open() -> Result<Self> {
        let under =
            |key: &str, tail: &str| env::var_os(key).filter(|v| !v.is_empty()).map(|v| PathBuf::from(v).join(tail));
        let root = under("FEDERATOR_CACHE", "")
            .or_else(|| under("XDG_CACHE_HOME", "federator"))
            .or_else(|| under("HOME", ".cache/federator"))
            .context("no place for the parts: set FEDERATOR_CACHE to a directory with 2 GB free")?;
        Ok(Self(std::path::absolute(root)?))
    }

    /// Where an entry is or will be.
    pub(crate) fn place(&self, entry: &str) -> PathBuf {
        self.0.join(entry)
    }

    /// The entry's directory; `build` fills it in if it is not there yet.
    pub(crate) fn obtain(&self, entry: &str, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let place = self.place(entry);
        if place.exists() {
            return Ok(place);
        }
        let lock = beside(&place, "lock");
        let held = hold(&lock, entry)
            .with_context(|| format!("locking {} (FEDERATOR_CACHE can name another directory)", lock.display()))?;
        if !place.exists() {
            fill(&place, build)?;
        }
        drop(held);
        Ok(place)
    }
}

/// A short name for everything in `pins`.
pub(crate) fn key(pins: &str) -> String {
    Sha256::digest(pins).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The sha256 of a file, as lock files write it.
pub(crate) fn sha256(file: &Path) -> Result<String> {
    let bytes = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    Ok(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

fn hold(lock: &Path, entry: &str) -> Result<File> {
    fs::create_dir_all(lock.parent().unwrap_or(lock))?;
    let file = File::create(lock)?;
    if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
        eprintln!("waiting: another run is at work on {entry}");
    }
    file.lock()?;
    Ok(file)
}

fn fill(place: &Path, build: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let room = beside(place, "tmp");
    let clear = || {
        if room.exists() { fs::remove_dir_all(&room) } else { Ok(()) }
    };
    clear().and_then(|()| fs::create_dir(&room)).with_context(|| format!("making {}", room.display()))?;
    let built = build(&room);
    if built.is_err() {
        clear()?;
    }
    built?;
    fs::rename(&room, place).with_context(|| format!("renaming {} to {}", room.display(), place.display()))
}

fn beside(place: &Path, suffix: &str) -> PathBuf {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    place.with_file_name(format!(".{name}.{suffix}"))
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    use super::*;

    #[test]
    fn a_key_depends_on_every_byte() {
        assert_eq!(key("a").len(), 16);
        assert_ne!(key("a\nb"), key("a\nc"));
    }

    #[test]
    fn runs_at_the_same_time_build_once() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let builds = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let build = |room: &Path| {
                        builds.fetch_add(1, Ordering::SeqCst);
                        Ok(fs::write(room.join("file"), "whole")?)
                    };
                    let place = Cache(dir.path().into()).obtain("parts/x-1", build).expect("builds");
                    assert_eq!(fs::read_to_string(place.join("file")).expect("is there"), "whole");
                });
            }
        });
        assert_eq!(builds.into_inner(), 1);
        Ok(())
    }

    #[test]
    fn a_failed_build_leaves_nothing_and_can_be_repeated() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let cache = Cache(dir.path().into());
        let half = |room: &Path| {
            fs::write(room.join("half"), "")?;
            anyhow::bail!("no luck")
        };
        assert_eq!(cache.obtain("x", half).unwrap_err().to_string(), "no luck");
        assert!(!cache.place("x").exists() && !cache.place(".x.tmp").exists());
        assert!(cache.obtain("x", |room| Ok(fs::write(room.join("file"), "")?))?.join("file").exists());
        Ok(())
    }

    #[test]
    fn what_a_killed_run_left_is_cleared() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let cache = Cache(dir.path().into());
        fs::create_dir(cache.place(".x.tmp"))?;
        fs::write(cache.place(".x.tmp").join("half"), "")?;
        assert!(!cache.obtain("x", |_| Ok(()))?.join("half").exists());
        Ok(())
    }
}
