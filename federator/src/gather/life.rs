//! What gathering does about a store that was restored or emptied: the first to notice proposes a new generation, every
//! agent says again what it holds, by creating what is absent and nothing else, and after a grace the generation is
//! settled. Every agent does all of it: whoever is later finds it done.

use super::{
    Config,
    fold::{Assertion, Fold},
};
use crate::{
    backoff::Backoff,
    store::{Committed, Guard, MAX_WRITES, Store, StoreError, Txn},
};
use futures::{FutureExt as _, future::BoxFuture};
use model::{generation::Generation, key::Key, record::Record as _};
use std::sync::Arc;
use tokio::time::{Instant, sleep_until};

/// Proposes a generation over the one that was read. Whether somebody else was faster does not matter: it is read again.
pub(super) async fn propose(store: &dyn Store, generation: &Generation, over: Option<&[u8]>) -> Result<(), StoreError> {
    let key = Key::Generation.to_string();
    let guard = over.map_or_else(|| Guard::absent(&key), |over| Guard::holds(&key, over));
    let txn = Txn { guards: vec![guard], writes: vec![(key, Some(generation.encode()))], ..Txn::default() };
    if let Committed::Done(revision) = store.commit(&txn).await? {
        let Generation { id, base, settled, .. } = generation;
        tracing::info!(generation = %id, base, settled, revision, "the store begins or settles a generation");
    }
    Ok(())
}

/// When this agent first saw a generation. A watch that breaks does not begin the grace anew: where each breaks before
/// it is over, nothing would ever be settled.
#[derive(Debug, Default)]
pub(super) struct Seen(Option<(Arc<str>, Instant)>);

/// What a store has lost, on its way to be said again; and a generation that is not settled, on its way to be.
pub(super) struct Restored(Option<BoxFuture<'static, Result<(), StoreError>>>);

// === impl Seen ===

impl Seen {
    fn first(&mut self, generation: &Generation) -> Instant {
        match &self.0 {
            Some((known, first)) if *known == generation.id => *first,
            _ => self.0.insert((generation.id.clone(), Instant::now())).1,
        }
    }
}

// === impl Restored ===

impl Restored {
    /// What there is to do in the generation that is followed.
    pub(super) fn new(config: &Config, store: &Arc<dyn Store>, fold: &Fold, seen: &mut Seen) -> Self {
        let Some((generation, entry)) = fold.generation().cloned() else { return Self(None) };
        let assertions = fold.assertions();
        if generation.settled {
            let store = store.clone();
            let late = async move { assert_all(&*store, assertions, &entry.value).await };
            return Self(Some(late.boxed()));
        }
        let is_first = assertions.is_empty() && fold.is_empty();
        let grace = if is_first { config.first_grace } else { config.grace };
        let over = seen.first(&generation) + grace;
        let (store, settled) = (store.clone(), Generation { settled: true, ..generation });
        let settle = async move {
            assert_all(&*store, assertions, &entry.value).await?;
            // For the others to do the same; a clock of one's own is enough, for all begin at about the same time.
            sleep_until(over).await;
            propose(&*store, &settled, Some(&entry.value)).await
        };
        Self(Some(settle.boxed()))
    }

    /// Does it; never returns when there is nothing to do. May be dropped and called again.
    pub(super) async fn settle(&mut self) -> Result<(), StoreError> {
        let Some(settle) = &mut self.0 else { return std::future::pending().await };
        let outcome = settle.await;
        self.0 = None;
        outcome
    }
}

/// Writes what is absent. What somebody else wrote meanwhile stands; and once the generation has another value, and so is
/// settled, nobody changes places.
async fn assert_all(store: &dyn Store, assertions: Vec<Assertion>, generation: &[u8]) -> Result<(), StoreError> {
    let is_order = |assertion: &Assertion| assertion.iter().any(|(key, ..)| matches!(key, Key::Order(_)));
    let unsettled = Guard::holds(Key::Generation.to_string(), generation);
    let mut backoff = Backoff::default();
    let mut waiting = assertions;
    let mut together = MAX_WRITES;
    while !waiting.is_empty() {
        let (mut txn, mut taken) = (Txn::default(), 0);
        for assertion in &waiting {
            if taken > 0 && txn.writes.len() + assertion.len() > together {
                break;
            }
            if is_order(assertion) && !txn.guards.contains(&unsettled) {
                txn.guards.push(unsettled.clone());
            }
            for (key, value, over) in assertion {
                txn.guards.push(Guard::modified(key.to_string(), *over));
                txn.writes.push((key.to_string(), Some(value.clone())));
            }
            taken += 1;
        }
        match store.commit(&txn).await {
            Ok(Committed::Done(_)) => _ = waiting.drain(..taken),
            // Somebody was faster with one of them: it is found by trying fewer.
            Ok(Committed::Refused(_)) if taken == 1 => _ = waiting.remove(0),
            Ok(Committed::Refused(found)) => {
                let stands = |(key, _, over): &(Key, Vec<u8>, u64)| {
                    let found = found.get(&key.to_string());
                    found.is_some_and(|entry| entry.as_ref().map_or(0, |entry| entry.modified) != *over)
                };
                let is_settled = found
                    .get(&unsettled.key)
                    .is_some_and(|entry| entry.as_ref().is_none_or(|entry| entry.value != generation));
                let before = waiting.len();
                waiting.retain(|assertion| !(is_settled && is_order(assertion) || assertion.iter().any(stands)));
                together = if waiting.len() == before { 1 } else { MAX_WRITES };
            }
            Err(StoreError::Unavailable(_)) => backoff.wait().await,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
