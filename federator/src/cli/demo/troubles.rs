//! What the agent leaves out of the manifests, and why, as its own `/status` tells. Says each thing once.

use super::say;
use anyhow::Context as _;
use serde_json::Value;
use std::{collections::BTreeSet, net::SocketAddr};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Things that are named at once; `/status` has them all.
const MAX_NAMED: usize = 8;

/// What was said.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    known: BTreeSet<String>,
}

// === impl Troubles ===

impl Troubles {
    /// Asks, and says what is new and what is over.
    pub(super) async fn say_news(&mut self, admin: SocketAddr) -> anyhow::Result<()> {
        let now = read(&status(admin).await?);
        for news in lines(&self.known, &now) {
            say(&news)?;
        }
        self.known = now;
        Ok(())
    }
}

fn lines(before: &BTreeSet<String>, now: &BTreeSet<String>) -> Vec<String> {
    let new: Vec<&String> = now.difference(before).collect();
    let mut lines: Vec<String> = new.iter().take(MAX_NAMED).map(|what| format!("left out: {what}")).collect();
    if let more @ 1.. = new.len().saturating_sub(MAX_NAMED) {
        lines.push(format!("left out: {more} more, see the status"));
    }
    // What goes on with another reason is not over.
    let subject = |what: &str| what.split(": ").take(2).collect::<Vec<_>>().join(": ");
    let still: BTreeSet<String> = now.iter().map(|what| subject(what)).collect();
    let over: BTreeSet<String> = before.iter().map(|what| subject(what)).filter(|what| !still.contains(what)).collect();
    lines.extend(over.into_iter().take(MAX_NAMED).map(|what| format!("no longer left out: {what}")));
    lines
}

/// `CLUSTER: OBJECT OR FILE: REASON`
fn read(status: &Value) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for (id, cluster) in status["clusters"].as_object().into_iter().flatten() {
        let observed = &cluster["observed"];
        for (what, reason) in observed["leftOut"].as_object().into_iter().flatten() {
            all.insert(format!("{id}: {what}: {}", reason.as_str().unwrap_or_default()));
        }
        for trouble in observed["troubles"].as_array().into_iter().flatten() {
            all.insert(format!("{id}: {}", trouble.as_str().unwrap_or_default()));
        }
    }
    all
}

/// By HTTP/1.0, where the body ends with the connection: there is nothing else to know.
async fn status(admin: SocketAddr) -> anyhow::Result<Value> {
    let asked = async {
        let mut stream = TcpStream::connect(admin).await?;
        stream.write_all(b"GET /status HTTP/1.0\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        let (_, body) = text.split_once("\r\n\r\n").context("no body")?;
        anyhow::Ok(serde_json::from_str(body)?)
    };
    asked.await.with_context(|| format!("asking http://{admin}/status"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_thing_is_said_once() {
        let status =
            |left_out: Value| read(&json!({"clusters": {"east": {"observed": {"leftOut": left_out, "troubles": []}}}}));
        let none = BTreeSet::new();
        let broken = status(json!({"file a.yaml": "line 3: x"}));
        let otherwise = status(json!({"file a.yaml": "line 4: y"}));
        assert_eq!(lines(&none, &broken), ["left out: east: file a.yaml: line 3: x"]);
        assert!(lines(&broken, &broken).is_empty());
        assert_eq!(lines(&broken, &otherwise), ["left out: east: file a.yaml: line 4: y"]);
        assert_eq!(lines(&broken, &none), ["no longer left out: east: file a.yaml"]);
        let many: serde_json::Map<_, _> = (0..20).map(|n| (format!("file {n}.yaml"), json!("x"))).collect();
        assert_eq!(lines(&none, &status(many.into())).last().expect("lines"), "left out: 12 more, see the status");
    }
}
