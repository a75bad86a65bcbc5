//! Compares what names answer with what the manifests say. The manifests are read here a second time, in the
//! plainest way, so that a fault of the pipeline cannot hide in its own reading.

use super::{Demo, ask::RecordType, say};
use anyhow::bail;
use model::locality::Network;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    net::IpAddr,
};

/// A name that nobody exports.
const UNKNOWN: &str = "nowhere.shop";

/// A question, and whether the answer is right.
#[derive(Debug)]
pub(super) struct Check {
    question: String,
    expected: String,
    got: String,
    holds: bool,
}

/// What manifests say of one service.
#[derive(Debug, Default)]
struct Written {
    /// The name and number of its first port.
    port: Option<(String, u64)>,
    /// Ready endpoints of all clusters on our network.
    here: BTreeSet<IpAddr>,
    /// Other networks with ready endpoints.
    elsewhere: BTreeSet<Network>,
}

/// Every service of manifests that hold no surprises: one port a service, the same in all its slices.
pub(super) async fn as_written(demo: &Demo) -> anyhow::Result<Vec<Check>> {
    let mut checks = Vec::new();
    for (host, written) in read(demo)? {
        let reply = demo.resolver.ask(&host, RecordType::A).await?;
        let question = format!("{host} A");
        if written.here.is_empty() {
            let networks: Vec<String> = written.elsewhere.iter().map(ToString::to_string).collect();
            let network = format!("network {}", networks.join(", "));
            let holds = reply.is_nodata() && reply.why.as_ref().is_some_and(|why| why.contains(&network));
            let expected = format!("nothing: on {network}");
            checks.push(Check { question, expected, got: reply.to_string(), holds });
            continue;
        }
        let addresses: Vec<String> = written.here.iter().map(ToString::to_string).collect();
        checks.push(Check::equal(question, addresses.join(" "), reply.to_string()));
        if let Some((name, number)) = written.port {
            let name = format!("_{name}._tcp.{host}");
            let reply = demo.resolver.ask(&name, RecordType::SRV).await?;
            // Priority, weight, port, target (RFC 2782).
            let port = |data: &String| data.split(' ').nth(2).unwrap_or_default().to_owned();
            let ports: BTreeSet<String> = reply.data.iter().map(port).collect();
            let got =
                if ports.is_empty() { reply.to_string() } else { ports.into_iter().collect::<Vec<_>>().join(" ") };
            checks.push(Check::equal(format!("{name} SRV, port"), number.to_string(), got));
        }
    }
    checks.extend(always(demo).await?);
    Ok(checks)
}

/// What must hold whatever manifests say: every service has an answer, or a reason why not.
pub(super) async fn as_gathered(demo: &Demo) -> anyhow::Result<Vec<Check>> {
    let view = demo.gathered.borrow().view.clone();
    let mut checks = Vec::new();
    for (key, _) in view.services().iter() {
        let host = key.host(&demo.zone);
        let reply = demo.resolver.addresses(&host).await?;
        let holds = reply.has_data() || reply.is_nodata() && reply.why.is_some();
        let expected = "an address, or why there is none".to_owned();
        checks.push(Check { question: host, expected, got: reply.to_string(), holds });
    }
    checks.extend(always(demo).await?);
    Ok(checks)
}

/// What holds of any fleet.
async fn always(demo: &Demo) -> anyhow::Result<[Check; 2]> {
    let unknown = format!("{UNKNOWN}.{}", demo.zone);
    // What was never readable may hold any name.
    let absent = if demo.gathered.borrow().complete { "NXDOMAIN" } else { "SERVFAIL" };
    let reply = demo.resolver.ask(&unknown, RecordType::A).await?;
    let served = demo.resolver.revision(&demo.zone).await?;
    let gathered = crate::project::dns::revision_text(&demo.gathered.borrow());
    Ok([
        Check::equal(format!("{unknown} A"), absent.to_owned(), reply.to_string()),
        Check::equal(format!("_revision.{} TXT", demo.zone), gathered, served),
    ])
}

/// Says how it went.
pub(super) fn report(checks: impl IntoIterator<Item = Check>) -> anyhow::Result<()> {
    let (right, wrong): (Vec<Check>, Vec<Check>) = checks.into_iter().partition(|check| check.holds);
    for check in &wrong {
        say(&format!("\n{check}"))?;
    }
    let (right, wrong) = (right.len(), wrong.len());
    if wrong > 0 {
        bail!("{wrong} of {} answers are wrong", right + wrong);
    }
    say(&format!("All {right} answers that were checked are right."))?;
    Ok(())
}

/// Services by the name they answer at.
fn read(demo: &Demo) -> anyhow::Result<BTreeMap<String, Written>> {
    let mut all: BTreeMap<String, Written> = BTreeMap::new();
    for cluster in &demo.fleet.clusters {
        for entry in fs::read_dir(&cluster.directory)? {
            let path = entry?.path();
            if path.extension().is_none_or(|ending| ending != "yaml") {
                continue;
            }
            for document in serde_saphyr::from_multiple::<Value>(&fs::read_to_string(path)?)? {
                let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
                let (kind, namespace) = (text("/kind"), text("/metadata/namespace"));
                let name = match kind {
                    "Service" => text("/metadata/name"),
                    "EndpointSlice" => text("/metadata/labels/kubernetes.io~1service-name"),
                    _ => continue,
                };
                let written = all.entry(format!("{name}.{namespace}.{}", demo.zone)).or_default();
                let addresses = ready(&document);
                if kind == "Service" {
                    let number = document.pointer("/spec/ports/0/port").and_then(Value::as_u64);
                    written.port = number.map(|number| (text("/spec/ports/0/name").to_owned(), number));
                } else if cluster.network == demo.place.network {
                    written.here.extend(addresses);
                } else if !addresses.is_empty() {
                    written.elsewhere.insert(cluster.network.clone());
                }
            }
        }
    }
    Ok(all)
}

/// The addresses of a slice's ready endpoints.
fn ready(slice: &Value) -> Vec<IpAddr> {
    let endpoints = slice.get("endpoints").and_then(Value::as_array);
    endpoints
        .into_iter()
        .flatten()
        .filter(|endpoint| endpoint.pointer("/conditions/ready") != Some(&Value::Bool(false)))
        .filter_map(|endpoint| endpoint.pointer("/addresses/0")?.as_str()?.parse().ok())
        .collect()
}

// === impl Check ===

impl Check {
    fn equal(question: String, expected: String, got: String) -> Self {
        let holds = expected == got;
        Self { question, expected, got, holds }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { question, expected, got, .. } = self;
        write!(f, "{question}\n  expected  {expected}\n  got       {got}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_answer_says_what_was_expected_and_got() {
        let right = || Check::equal("a A".into(), "10.0.0.1".into(), "10.0.0.1".into());
        let wrong = Check::equal("b A".into(), "10.0.0.1".into(), "NXDOMAIN".into());
        assert_eq!(wrong.to_string(), "b A\n  expected  10.0.0.1\n  got       NXDOMAIN");
        assert!(report([right()]).is_ok());
        let error = report([right(), wrong]).expect_err("one is wrong");
        assert_eq!(error.to_string(), "1 of 2 answers are wrong");
    }
}
