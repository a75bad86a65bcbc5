//! An observer's own watch on the shared store: every transaction under the root, in order and without a gap, whatever
//! happens to etcd meanwhile.
//!
//! It asks for history from the beginning, so what was written before it was there, or while it was not connected, is
//! seen all the same.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use etcd_client::{Client, EventType, GetOptions, KeyValue, WatchOptions, WatchResponse, WatchStream};
use futures::future::join_all;
use tokio::time::{sleep, timeout};

use super::State;
use super::transactions::{Standing, Transaction};
use crate::Result;

/// Between two tries to reach etcd.
const PAUSE: Duration = Duration::from_millis(100);

/// A page of history of a small fleet is far below.
const MAX_ANSWER: usize = 64 << 20;

/// A member that says nothing for twice as long, though it was asked, is tried no more.
const SILENCE: Duration = Duration::from_secs(1);

/// Follows the store until it is dropped, through one member after the other.
pub(super) async fn follow(state: Arc<State>) {
    let mut told = false;
    for client in state.store.iter().cycle() {
        if let Err(error) = session(client, &state, &mut told).await
            && !told
        {
            state.seen().history.note(&format!("the observer has lost the store: {error:#}"));
            told = true;
        }
        sleep(PAUSE).await;
    }
}

/// One watch, until it breaks.
async fn session(client: &Client, state: &State, told: &mut bool) -> Result {
    let root = &*state.root;
    let mut from = state.seen().resume();
    let mut stream = timeout(SILENCE, watch(client, root, from)).await.context("etcd does not answer")??;
    let mut asked = false;
    loop {
        let message = match timeout(SILENCE, stream.message()).await {
            Ok(message) => message?.context("etcd ended the watch")?,
            Err(_) if asked => bail!("etcd is silent"),
            Err(_) => {
                stream.request_progress().await?;
                asked = true;
                continue;
            }
        };
        asked = false;
        *told = false;
        // etcd accepts a revision of the future, and then says nothing until it is reached.
        let now = message.header().map_or(0, |header| unsign(header.revision()));
        if message.created() && now + 1 < from {
            state.seen().forget(&format!("it is at {now}, and {} was seen", from - 1));
            return Ok(());
        }
        let compacted = unsign(message.compact_revision());
        if compacted > 0 {
            let found = read(client, root, compacted).await?;
            let wrong = {
                let mut seen = state.seen();
                seen.history.note(&format!("the observer starts at {compacted}: what was before is compacted"));
                seen.transactions.adopt(&found)
            };
            state.seen().wrong("the store", wrong);
            from = compacted + 1;
            stream = watch(client, root, from).await?;
            continue;
        }
        if message.canceled() {
            bail!("etcd cancelled the watch: {}", message.cancel_reason());
        }
        for txn in transactions(&message, root) {
            state.seen().transaction(&txn);
        }
    }
}

async fn watch(client: &Client, root: &str, from: u64) -> Result<WatchStream> {
    let options = WatchOptions::new().with_prefix().with_start_revision(i64::try_from(from)?);
    let mut watches = client.watch_client().max_decoding_message_size(MAX_ANSWER);
    Ok(watches.watch(root, Some(options)).await?)
}

/// Everything under the root as it was at a revision.
async fn read(client: &Client, root: &str, revision: u64) -> Result<Transaction> {
    let options = GetOptions::new().with_prefix().with_revision(i64::try_from(revision)?);
    let found = client.kv_client().max_decoding_message_size(MAX_ANSWER).get(root, Some(options)).await?;
    let changes = found.kvs().iter().filter_map(|kv| Some((key(kv, root)?, Some(standing(kv))))).collect();
    Ok(Transaction { revision, changes })
}

/// The revision of the last write under the root that has not been undone since.
pub(super) async fn latest(state: &State) -> Result<u64> {
    let options = GetOptions::new().with_prefix().with_keys_only();
    let asked = state.store.iter().map(async |client| {
        let mut kv = client.kv_client().max_decoding_message_size(MAX_ANSWER);
        let found = kv.get(&*state.root, Some(options.clone())).await?;
        Ok::<_, anyhow::Error>(found.kvs().iter().map(|kv| unsign(kv.mod_revision())).max().unwrap_or(0))
    });
    let answers = join_all(asked).await;
    answers.into_iter().reduce(Result::or).context("a store without members")?
}

/// A message holds whole transactions: etcd splits one only when fragments are asked for.
fn transactions(message: &WatchResponse, root: &str) -> Vec<Transaction> {
    let mut found: Vec<Transaction> = Vec::new();
    for event in message.events() {
        let Some((kv, key)) = event.kv().and_then(|kv| Some((kv, key(kv, root)?))) else {
            continue;
        };
        let change = (key, (event.event_type() == EventType::Put).then(|| standing(kv)));
        let revision = unsign(kv.mod_revision());
        match found.last_mut() {
            Some(last) if last.revision == revision => last.changes.push(change),
            _ => found.push(Transaction { revision, changes: vec![change] }),
        }
    }
    found
}

fn key(kv: &KeyValue, root: &str) -> Option<String> {
    Some(kv.key_str().ok()?.strip_prefix(root)?.to_owned())
}

fn standing(kv: &KeyValue) -> Standing {
    let (created, modified) = (unsign(kv.create_revision()), unsign(kv.mod_revision()));
    Standing { value: kv.value().to_vec(), created, modified }
}

fn unsign(revision: i64) -> u64 {
    u64::try_from(revision).unwrap_or(0)
}
