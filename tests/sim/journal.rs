//! What happened when, in simulated time, and the first thing that must not have happened. Knows nothing of what the
//! lines mean. A run that nobody asked for keeps no lines: it is told again, from its seed, when it failed.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{sync::watch, time::Instant};

/// The journal of one run. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    start: Instant,
    lines: Option<Arc<Mutex<Vec<String>>>>,
    failure: watch::Sender<Option<String>>,
}

// === impl Journal ===

impl Journal {
    /// An empty journal that begins now; without `keep` it keeps nothing but a failure.
    pub(crate) fn begin(keep: bool) -> Self {
        Self { start: Instant::now(), lines: keep.then(Arc::default), failure: watch::Sender::new(None) }
    }

    /// Takes note of what happened.
    pub(crate) fn note(&self, what: fmt::Arguments<'_>) {
        if let Some(lines) = &self.lines {
            locked(lines).push(format!("{} {what}", self.time()));
        }
    }

    /// Takes note of what must not happen. The first such thing is why the run failed.
    pub(crate) fn fail(&self, what: fmt::Arguments<'_>) {
        self.note(format_args!("MUST NOT BE: {what}"));
        let time = self.time();
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            failure.get_or_insert_with(|| format!("{time} {what}"));
            first
        });
    }

    /// Whether lines are kept.
    pub(crate) fn is_kept(&self) -> bool {
        self.lines.is_some()
    }

    /// Whether the run failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.failure.borrow().is_some()
    }

    /// Why the run failed, if it did, and all that was kept.
    pub(crate) fn end(&self) -> (Option<String>, Vec<String>) {
        let lines = self.lines.as_ref().map(|lines| locked(lines).clone()).unwrap_or_default();
        (self.failure.borrow().clone(), lines)
    }

    fn time(&self) -> impl fmt::Display + use<> {
        let time = self.start.elapsed();
        fmt::from_fn(move |f| write!(f, "{:>4}.{:03}", time.as_secs(), time.subsec_millis()))
    }
}

/// What a panic left is whole: every critical section here is one statement or a method that cannot fail halfway.
pub(crate) fn locked<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}
