//! `federator snapshot`: what is in a snapshot, and whether an agent would begin with it. Reads a file and changes
//! nothing, so it may be run beside an agent.

use crate::{
    app::clock,
    config::Config,
    snapshot::{
        Found, Terms,
        format::{Identity, ReadError},
    },
};
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use model::{cluster::Synced, key::Key, record::Record as _};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fmt, io,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what is in a snapshot, and whether an agent would begin with it.
    ///
    /// Fails when there is none, or when it is torn or broken.
    Inspect(Inspect),
}

#[derive(Debug, ClapArgs)]
struct Inspect {
    /// The directory of `snapshot.directory`, or a file: what the admin port gives at /snapshot.
    #[arg(value_name = "DIRECTORY|FILE")]
    path: PathBuf,
    /// The configuration of the agent that is to begin with it. Without it any identity and age will do.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Override a field, like snapshot.maxAgeSeconds=60; may be given several times.
    #[arg(long, value_name = "FIELD=VALUE", requires = "config")]
    set: Vec<String>,
    /// How to say it.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// What is in a snapshot. Field names are an interface: scripts read them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    cluster: String,
    zone: String,
    store: String,
    position: u64,
    /// Seconds since 1970.
    written: u64,
    age_seconds: u64,
    base_bytes: u64,
    log_bytes: u64,
    /// A crash came in the middle of writing, and what it left is not used.
    torn: bool,
    entries: usize,
    kinds: BTreeMap<&'static str, usize>,
    /// The clusters that have a marker, and the number of records in it.
    markers: BTreeMap<String, u64>,
    accepted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let Command::Inspect(inspect) = args.command;
    let config = inspect.config.as_ref().map(|path| Config::load(path, &inspect.set)).transpose()?;
    let found = Found::open(&inspect.path).map_err(|error| missing(&error, &inspect))?;
    let summary = Summary::new(&found, config.as_ref(), clock());
    let text = match inspect.output {
        Output::Table => summary.to_string(),
        Output::Json => serde_json::to_string_pretty(&summary)? + "\n",
    };
    super::print(&text)
}

fn missing(error: &ReadError, inspect: &Inspect) -> anyhow::Error {
    let path = inspect.path.display();
    match error {
        ReadError::Io(error) if error.kind() == io::ErrorKind::NotFound => {
            anyhow::anyhow!("{path}: there is no snapshot")
        }
        error => anyhow::anyhow!("{path}: {error}"),
    }
}

/// What a key is, in one word.
fn kind(key: &str) -> &'static str {
    match Key::parse(key) {
        Ok(Key::Generation) => "generation",
        Ok(Key::Meta(_)) => "clusters",
        Ok(Key::Owner(_)) => "owners",
        Ok(Key::Candidate(..)) => "candidates",
        Ok(Key::State(_)) => "states",
        Ok(Key::Hold(_)) => "holds",
        Ok(Key::Synced(_)) => "markers",
        Ok(Key::Head(..)) => "heads",
        Ok(Key::Slice(..)) => "slices",
        Ok(Key::Order(_)) => "orders",
        Ok(Key::VipOfHost(_)) => "hosts with addresses",
        Ok(Key::HostOfVip(_)) => "addresses",
        Ok(Key::Tombstone(_)) => "tombstones",
        Err(_) => "unknown",
    }
}

// === impl Summary ===

impl Summary {
    fn new(found: &Found, config: Option<&Config>, now: SystemTime) -> Self {
        let Found { identity, loaded, base, end, torn } = found;
        let (mut kinds, mut markers) = (BTreeMap::new(), BTreeMap::new());
        for (key, entry) in &loaded.entries {
            *kinds.entry(kind(key)).or_default() += 1;
            if let (Ok(Key::Synced(id)), Ok(synced)) = (Key::parse(key), Synced::decode(&entry.value)) {
                markers.insert(id.to_string(), synced.records);
            }
        }
        let terms = config.map(|config| Terms {
            identity: Identity::of(config),
            max_age: config.snapshot.as_ref().map_or(Duration::MAX, |snapshot| snapshot.max_age),
            now,
        });
        let refusal = terms.and_then(|terms| terms.check(found).err()).map(|error| error.to_string());
        let since = |earlier| move |later: SystemTime| later.duration_since(earlier).unwrap_or_default().as_secs();
        Self {
            cluster: identity.cluster.clone(),
            zone: identity.zone.clone(),
            store: identity.store.clone(),
            position: loaded.position,
            written: since(UNIX_EPOCH)(loaded.written),
            age_seconds: since(loaded.written)(now),
            base_bytes: base.length,
            log_bytes: end.length - base.length,
            torn: *torn,
            entries: loaded.entries.len(),
            kinds,
            markers,
            accepted: refusal.is_none(),
            refusal,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, name: &str, what: &str| writeln!(f, "{name:10}{what}");
        let list = |items: Vec<String>| if items.is_empty() { "none".to_owned() } else { items.join(", ") };
        let torn = if self.torn { "; a frame that was not written to its end is left aside" } else { "" };
        line(f, "of", &format!("cluster {}, zone {}, store {}", self.cluster, self.zone, self.store))?;
        line(f, "position", &self.position.to_string())?;
        line(f, "age", &format!("{} s", self.age_seconds))?;
        line(f, "bytes", &format!("base {}, log {}{torn}", self.base_bytes, self.log_bytes))?;
        let kinds = self.kinds.iter().map(|(kind, count)| format!("{count} {kind}"));
        line(f, "entries", &format!("{}: {}", self.entries, list(kinds.collect())))?;
        let markers = self.markers.iter().map(|(id, records)| format!("{id} ({records} records)"));
        line(f, "markers", &list(markers.collect()))?;
        line(f, "accepted", &self.refusal.as_ref().map_or_else(|| "yes".to_owned(), |why| format!("no: {why}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        snapshot::format::{Head, Item, Writer},
        store::Entry,
        testing::configured,
    };
    use serde_json::json;

    /// A snapshot of the cluster `east` that was the state of the store at second 1000.
    fn found() -> Found {
        let identity = Identity { cluster: "east".into(), zone: "global".into(), store: "embedded".into() };
        let written = UNIX_EPOCH + Duration::from_secs(1000);
        let mut bytes = Vec::new();
        let mut base = Writer::new(&mut bytes, &Head { identity, position: 7, written }).expect("to memory");
        let synced = Synced { records: 3, ..Synced::default() };
        for (key, value) in [
            ("clusters/west/synced", synced.encode()),
            ("order/a/b", vec![]),
            ("records/west/a/b/head", vec![]),
            ("x", vec![]),
        ] {
            base.add(&Item::of(key, Some(&Entry { value, created: 1, modified: 2 }))).expect("to memory");
        }
        base.end().expect("to memory");
        bytes.extend_from_slice(&[1, 2, 3]);
        Found::read(&*bytes).expect("a snapshot")
    }

    fn summary(config: Option<serde_json::Value>, now: u64) -> Summary {
        Summary::new(&found(), config.map(configured).as_ref(), UNIX_EPOCH + Duration::from_secs(now))
    }

    #[test]
    fn it_says_what_there_is() {
        let expected = "\
of        cluster east, zone global, store embedded
position  7
age       30 s
bytes     base 272, log 0; a frame that was not written to its end is left aside
entries   4: 1 heads, 1 markers, 1 orders, 1 unknown
markers   west (3 records)
accepted  yes
";
        assert_eq!(summary(None, 1030).to_string(), expected);
        let json = serde_json::to_value(summary(None, 1030)).expect("JSON");
        assert_eq!(
            (&json["ageSeconds"], &json["markers"]["west"], &json["torn"]),
            (&json!(30), &json!(3), &json!(true))
        );
        assert_eq!((&json["accepted"], json.get("refusal")), (&json!(true), None));
    }

    #[test]
    fn it_says_whether_an_agent_would_take_it() {
        let of = |more: serde_json::Value, now| summary(Some(more), now).refusal;
        let kept = json!({ "snapshot": { "directory": "d", "maxAgeSeconds": 60 } });
        assert_eq!(of(kept.clone(), 1060), None);
        assert_eq!(of(json!({}), 100_000), None);
        assert!(of(kept.clone(), 1061).is_some_and(|why| why.contains("too old: 61 seconds")));
        assert!(of(json!({ "zone": "mesh" }), 1000).is_some_and(|why| why.contains("its zone is `global`")));
        assert!(
            summary(Some(kept), 1061)
                .to_string()
                .ends_with("accepted  no: it is too old: 61 seconds, and snapshot.maxAgeSeconds is 60\n")
        );
    }

    #[test]
    fn where_there_is_none_it_says_so() {
        let home = tempfile::tempdir().expect("a directory");
        let inspect = |path| Args {
            command: Command::Inspect(Inspect { path, config: None, set: vec![], output: Output::Json }),
        };
        let says = |path| run(inspect(path)).expect_err("none").to_string();
        assert!(says(home.path().to_owned()).ends_with(": there is no snapshot"));
        let other = home.path().join("other");
        std::fs::write(&other, "cluster: east").expect("written");
        assert!(says(other).ends_with("/other: it is no snapshot"));
    }
}
