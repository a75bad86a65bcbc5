//! A watch over a link: in order and without a gap, but late, in larger or smaller pieces, and until it breaks. One that
//! fell silent is found out by keep-alives, as that of etcd is.

use super::{Link, Tide, Weather};
use async_trait::async_trait;
use federator::store::{Batch, StoreError, Watch};
use std::time::Duration;
use tokio::{sync::watch, time::Instant};

/// After so long without an answer to a ping a connection is dead.
const KEEP_ALIVE: Duration = Duration::from_secs(13);

pub(super) struct LinkWatch {
    link: Link,
    weather: watch::Receiver<Weather>,
    tide: watch::Receiver<Tide>,
    next: u64,
    opened: Instant,
    /// Since when it hears nothing, and never will.
    deaf_since: Option<Instant>,
    breaks: u64,
    started: u64,
    /// When what is new arrives.
    due: Option<Instant>,
}

// === impl LinkWatch ===

impl LinkWatch {
    pub(super) async fn start(link: Link, revision: u64) -> Result<Self, StoreError> {
        let (weather, tide) = (link.weather.clone(), link.shore.tide.subscribe());
        let started = tide.borrow().started;
        // A compaction is told at once or by the first message.
        let at_once = link.dice.once_in(2);
        let opening = link.call("watch", move |etcd, _| {
            if etcd.revision + 1 < revision {
                let (now, seen) = (etcd.revision, revision - 1);
                return Err(StoreError::WentBack(format!("it is at revision {now}, and {seen} was seen")));
            }
            if at_once { etcd.since(revision, revision).map(|_| ()) } else { Ok(()) }
        });
        opening.await?;
        let breaks = weather.borrow().breaks;
        Ok(Self {
            link,
            weather,
            tide,
            next: revision,
            opened: Instant::now(),
            deaf_since: None,
            breaks,
            started,
            due: None,
        })
    }

    /// How often watches were broken, and when it is found out that this one is silent, if it is.
    fn silence(&mut self) -> (u64, Option<Instant>) {
        let weather = self.weather.borrow_and_update();
        self.deaf_since = self.deaf_since.or_else(|| weather.silent_since.filter(|since| self.opened <= *since));
        // A cut that ends in time was no more than a delay.
        let cut = weather.cut.map(|(_, since)| since.max(self.opened));
        (weather.breaks, cut.into_iter().chain(self.deaf_since).min().map(|since| since + KEEP_ALIVE))
    }

    /// What has arrived; nothing when it is not yet due.
    fn arrived(&mut self, revision: u64) -> Result<Option<Batch>, StoreError> {
        let now = Instant::now();
        let lag = || now + self.weather.borrow().behind(&self.link.dice);
        if *self.due.get_or_insert_with(lag) > now {
            return Ok(None);
        }
        self.due = None;
        let upto = if self.link.dice.once_in(3) { self.next } else { revision };
        let batch = self.link.shore.with(|etcd| etcd.since(self.next, upto))?;
        self.next = batch.revision + 1;
        Ok(Some(batch))
    }
}

#[async_trait]
impl Watch for LinkWatch {
    async fn next(&mut self) -> Result<Batch, StoreError> {
        let broken = |why: &str| Err(StoreError::Unavailable(format!("watch: {why}")));
        loop {
            let (breaks, silence) = self.silence();
            let Tide { started, revision, .. } = *self.tide.borrow_and_update();
            if breaks != self.breaks {
                return broken("connection lost");
            }
            if silence.is_some_and(|end| end <= Instant::now()) {
                return broken("no answer to a keep-alive");
            }
            if silence.is_none() && started != self.started {
                return broken("the store stopped");
            }
            if silence.is_none()
                && revision >= self.next
                && let Some(batch) = self.arrived(revision)?
            {
                return Ok(batch);
            }
            let timer = silence.or(self.due);
            tokio::select! {
                biased;
                Ok(()) = self.weather.changed() => {}
                Ok(()) = self.tide.changed() => {}
                () = super::sleep_until(timer) => {}
                else => return broken("the run is over"),
            }
        }
    }
}
