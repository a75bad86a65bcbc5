//! How long to wait before trying again: exponential with jitter, over backon. The only place that knows backon.
//! (`backoff`, the crate of that name, is unmaintained: RUSTSEC-2025-0012.)

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use std::time::Duration;

/// First pause.
const MIN: Duration = Duration::from_millis(100);

/// Longest pause: an outage that ends is noticed about this late.
const MAX: Duration = Duration::from_secs(2);

/// Growing pauses between tries of one thing.
#[derive(Debug)]
pub struct Backoff(ExponentialBackoff);

// === impl Backoff ===

impl Backoff {
    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        self.0.next().unwrap_or(MAX)
    }

    /// Waits for the next pause. There is nothing to be told by: that it works again is found out by trying.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.pause()).await;
    }

    /// It worked: the next pause is the first again.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self(
            ExponentialBuilder::new().with_min_delay(MIN).with_max_delay(MAX).with_jitter().without_max_times().build(),
        )
    }
}
