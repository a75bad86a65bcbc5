//! Waiting, in one way only: look again until it is so.
//!
//! Level-triggered: a condition is looked at, never an event awaited, so nothing can be missed between two
//! looks. There is no other sleep in the harness or in a test.

use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::time::{Instant, sleep, timeout_at};

use crate::Result;

/// Between two looks: short against everything that is waited for, long against the cost of a look.
const PAUSE: Duration = Duration::from_millis(20);

/// More than anything that a fleet agrees on takes on a busy machine; only a failure waits this long.
pub const SOON: Duration = Duration::from_secs(30);

/// Looks until it succeeds, and returns what it found.
///
/// An error of `look` means *not yet*; the last one is shown when the time is over, so let it say what was
/// seen: `ensure!(n == 3, "{n} endpoints")`.
pub async fn eventually<T>(within: Duration, what: &str, mut look: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + within;
    let mut seen = anyhow!("the first look never ended");
    loop {
        match timeout_at(deadline, look()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(not_yet)) => seen = not_yet,
            Err(_) => break,
        }
        if Instant::now() + PAUSE >= deadline {
            break;
        }
        sleep(PAUSE).await;
    }
    Err(seen).with_context(|| format!("not within {within:?}: {what}"))
}
