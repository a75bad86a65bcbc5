//! The SOA's serial across the lives of a process (RFC 1982): it never goes back, whatever the clock does and however fast
//! things change. Numbers are reserved in a file, many at once, so that hardly ever one is written; where there is no place
//! for such a file, the clock alone says where to begin.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};
use tokio::{sync::watch, task::spawn_blocking};

/// In the directory of the snapshot.
const NAME: &str = "serial";

/// So many numbers are reserved at once: as many changes pass until the file is written again.
const RESERVED: u32 = 1 << 16;

/// Reserves numbers.
#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
    /// The first number that is not reserved.
    end: u32,
}

/// A serial to begin with: greater than every one that an earlier process can have given out, and than `seconds`, the time.
pub async fn begin(directory: Option<&Path>, seconds: u32) -> (u32, Option<Reserve>) {
    let Some(path) = directory.map(|directory| directory.join(NAME)) else { return (seconds, None) };
    let file = path.clone();
    let begun = spawn_blocking(move || {
        let first = match read(&file) {
            Ok(known) => known.filter(|known| is_after(*known, seconds)).unwrap_or(seconds),
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "serial not read; beginning with the time");
                seconds
            }
        };
        (first, Reserve::new(file, first))
    });
    match begun.await {
        Ok((first, reserve)) => (first, Some(reserve)),
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "serial not read; beginning with the time");
            (seconds, None)
        }
    }
}

/// Reserves more before what is reserved is used up, until nobody counts any more.
pub async fn keep(mut reserve: Reserve, mut serial: watch::Receiver<u32>) {
    loop {
        let end = reserve.end;
        let is_due = |serial: &u32| is_after(serial.wrapping_add(RESERVED / 2), end);
        let Ok(now) = serial.wait_for(is_due).await.map(|now| *now) else { return };
        let path = reserve.path;
        let Ok(more) = spawn_blocking(move || Reserve::new(path, now)).await else { return };
        reserve = more;
    }
}

/// Whether a serial is greater than another (RFC 1982, section 3.2).
fn is_after(serial: u32, other: u32) -> bool {
    serial.wrapping_sub(other).cast_signed() > 0
}

fn read(path: &Path) -> io::Result<Option<u32>> {
    match fs::read_to_string(path) {
        Ok(text) => text.trim_end().parse().map(Some).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

// === impl Reserve ===

impl Reserve {
    /// Reserves the numbers after `serial`. Where that fails, they are used all the same, and it is tried again later.
    fn new(path: PathBuf, serial: u32) -> Self {
        let end = serial.wrapping_add(RESERVED);
        if let Err(error) = write(&path, end) {
            tracing::warn!(file = %path.display(), %error, "serial not written; it may go back after a restart");
        }
        Self { path, end }
    }
}

fn write(path: &Path, end: u32) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let next = path.with_extension("next");
    let mut file = fs::File::create(&next)?;
    writeln!(file, "{end}")?;
    file.sync_all()?;
    fs::rename(next, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// RFC 1982, section 3.2: two serials are in order while they are less than half of all numbers apart.
        #[test]
        fn serials_are_in_order_around_the_end(serial: u32, step in 1_u32..1 << 31) {
            prop_assert!(is_after(serial.wrapping_add(step), serial));
            prop_assert!(!is_after(serial, serial.wrapping_add(step)) && !is_after(serial, serial));
        }
    }

    #[tokio::test]
    async fn a_serial_never_goes_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let there = Some(directory.path());
        let (first, reserve) = begin(there, 1000).await;
        let reserve = reserve.expect("a directory to write to");
        assert_eq!((first, reserve.end), (1000, 1000 + RESERVED));
        // A crash right away: the numbers that were reserved are left out. The clock went back.
        let (second, reserve) = begin(there, 900).await;
        assert_eq!(second, 1000 + RESERVED);
        // Changes come faster than one a second, for long.
        let (count, serial) = watch::channel(second);
        #[expect(clippy::disallowed_methods, reason = "a test's own runtime ends with it")]
        let kept = tokio::spawn(keep(reserve.expect("a directory to write to"), serial));
        let last = second.wrapping_add(RESERVED * 3);
        count.send_replace(last);
        drop(count);
        kept.await.expect("it ends with who counts");
        assert!(is_after(begin(there, 900).await.0, last));
        // Who was away for long goes on with the time.
        assert_eq!(begin(there, 2_000_000).await.0, 2_000_000);
        fs::write(directory.path().join(NAME), "torn").expect("a file");
        assert_eq!((begin(there, 7).await.0, begin(None, 8).await.0), (7, 8));
    }
}
