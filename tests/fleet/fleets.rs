//! Three hundred fleets from seeds, seen from each of their clusters: what an agent there would write is admitted by a real
//! API server and by istiod, and every proxy is told every endpoint that it should reach exactly once, as near as it is
//! and with the share that it has, and no other.
//!
//! A seed that fails says what is told instead, and is dealt again alone by `DEALT_FLEETS=SEED`; `A..B` deals a range.

mod deal;
mod manifests;
mod oracle;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use envoy_types::pb::envoy::config::core::v3::address::Address;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, LbEndpoint};
use envoy_types::pb::google::protobuf::value::Kind;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use harness::{Fleet, Istiod, Result, Spare, XdsClient, XdsNode};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::core::GroupVersionKind;

use crate::judge::claimed_twice;
use deal::{Dealt, NAMESPACE};
use oracle::{Expected, Row, Viewer, expected};

/// The seeds of the default run.
const SEEDS: Range<u64> = 0..300;

/// The seeds to deal. Agents take variables of `FEDERATOR_` for their configuration.
const VARIABLE: &str = "DEALT_FLEETS";

/// On a busy machine; a quiet one takes a minute.
const LIMIT: Duration = Duration::from_secs(600);

/// So many fleets are worked on at once: an agent waits more than it works.
const AT_ONCE: usize = 4;

/// So many differences are shown.
const SHOWN: usize = 5;

/// Where the proxies are that have no pod.
const CLIENT: [u8; 4] = [10, 40, 3, 250];

/// By how much weights may be off that cannot be exact.
const ROUNDED: f64 = 0.13;

/// One question: the endpoints of a port of a service, as an agent in one cluster has them written.
struct Question<'a> {
    fleet: &'a Dealt,
    home: &'a deal::Cluster,
    service: &'static str,
    port: u16,
}

#[test]
fn every_proxy_of_any_fleet_is_told_every_endpoint_once() -> Result {
    let fleets: Vec<Dealt> = seeds()?.map(Dealt::of).collect();
    Fleet::shared_within(LIMIT, async |fleet| {
        let north = fleet.spare().await?;
        for namespace in [NAMESPACE, "istio-system"] {
            north.apply("", &format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}}}}}")).await?;
        }
        let istiod = north.istiod().await?;
        let files = tempfile::tempdir()?;
        let worked = stream::iter(&fleets).map(|dealt| {
            let (north, istiod, files) = (&north, &istiod, files.path().join(dealt.seed.to_string()));
            async move { written(north, istiod, dealt, &files).await.with_context(|| again(dealt.seed)) }
        });
        let written: Vec<usize> = worked.buffer_unordered(AT_ONCE).try_collect().await?;
        ensure!(written.iter().sum::<usize>() >= fleets.len(), "nothing to ask for: {written:?}");

        let mut asked = 0;
        for (viewer, questions) in questions(&fleets) {
            asked += questions.len();
            answered(&istiod, &viewer, &questions).await?;
        }
        ensure!(asked >= fleets.len(), "{asked} questions of {} fleets", fleets.len());
        Ok(())
    })
}

fn seeds() -> Result<Range<u64>> {
    let Ok(text) = std::env::var(VARIABLE) else { return Ok(SEEDS) };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let range = match text.split_once("..") {
        Some((start, end)) => number(start).zip(number(end)).map(|(start, end)| start..end),
        None => number(&text).map(|seed| seed..seed + 1),
    };
    range.with_context(|| format!("{VARIABLE} is `{text}`: give a seed, or a range as `0..300`"))
}

fn again(seed: u64) -> String {
    format!("fleet {seed}; again: {VARIABLE}={seed}")
}

/// Has an agent in each cluster of a fleet say what it would write, judges it, and writes it. Returns how many objects.
async fn written(north: &Spare, istiod: &Istiod, fleet: &Dealt, files: &Path) -> Result<usize> {
    manifests::write(fleet, files)?;
    let mut count = 0;
    for home in &fleet.clusters {
        let config = manifests::config(fleet, home, files);
        let objects = north.sketch(&files.join(format!("agent-{}", home.id)), config).await?;
        let said = || format!("an agent in {}", home.id);
        sound(&objects).with_context(said)?;
        for object in &objects {
            istiod.admits(object).await.with_context(said)?;
            let types = object.types.clone().context("an object without a kind")?;
            // It is the same for all, and all would have one name.
            if types.kind == "Gateway" {
                continue;
            }
            let namespace = object.metadata.namespace.as_deref().context("an object without a namespace")?;
            let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(types)?);
            let api: Api<DynamicObject> = Api::namespaced_with(north.client(), namespace, &resource);
            api.create(&PostParams::default(), object).await.with_context(said)?;
        }
        count += objects.len();
    }
    Ok(count)
}

/// What nothing of Istio looks for: a host or a virtual address of two entries, and a locality with nothing between its
/// slashes.
fn sound(objects: &[DynamicObject]) -> Result {
    let twice = claimed_twice(objects);
    ensure!(twice.is_empty(), "claimed twice: {twice:?}");
    for object in objects {
        for endpoint in object.data["spec"]["endpoints"].as_array().into_iter().flatten() {
            let locality = endpoint["locality"].as_str().unwrap_or("said");
            ensure!(locality.split('/').all(|segment| !segment.is_empty()), "{endpoint}");
            ensure!(endpoint["address"].as_str().is_some_and(|address| !address.is_empty()), "{endpoint}");
        }
    }
    Ok(())
}

/// What every proxy asks: a sidecar in each zone of each cluster, and the east-west gateway of the cluster.
fn questions(fleets: &[Dealt]) -> BTreeMap<Viewer, Vec<Question<'_>>> {
    let mut all: BTreeMap<Viewer, Vec<Question<'_>>> = BTreeMap::new();
    for fleet in fleets {
        let services = fleet.services();
        for home in &fleet.clusters {
            let localities = manifests::localities(home);
            let sidecars = localities.iter().map(|locality| (locality, false));
            for (locality, gate) in sidecars.chain(localities.first().map(|locality| (locality, true))) {
                let viewer = Viewer { network: home.network, locality: locality.clone(), gate };
                let asked = all.entry(viewer).or_default();
                for (service, ports) in &services {
                    asked.extend(ports.iter().map(|port| Question { fleet, home, service, port: *port }));
                }
            }
        }
    }
    all
}

/// Waits until a proxy was told what it should be told.
async fn answered(istiod: &Istiod, viewer: &Viewer, questions: &[Question<'_>]) -> Result {
    let mut node = match viewer.gate {
        false => XdsNode::sidecar(NAMESPACE, CLIENT),
        true => XdsNode::router(NAMESPACE, CLIENT),
    };
    if let Some(network) = viewer.network {
        node = node.network(network);
        if viewer.gate {
            node = node.view(network);
        }
    }
    let names = questions.iter().map(|question| question.name(viewer)).collect();
    let mut proxy = istiod.endpoints(&node.locality(&viewer.locality), names).await?;
    proxy
        .until(&format!("{viewer:?} is told everything"), |proxy| {
            let differences: Vec<_> = questions.iter().filter_map(|question| question.differs(proxy, viewer)).collect();
            let shown: String = differences.iter().take(SHOWN).map(String::as_str).collect();
            ensure!(differences.is_empty(), "{} of {} differ{shown}", differences.len(), questions.len());
            Ok(())
        })
        .await
}

// === impl Question ===

impl Question<'_> {
    /// As a proxy asks: a gateway by the name that is the SNI of those who come in.
    fn name(&self, viewer: &Viewer) -> String {
        let Self { fleet, home, service, port } = self;
        let host = format!("{service}.{NAMESPACE}.{}", manifests::zone(fleet, home));
        if viewer.gate { format!("outbound_.{port}_._.{host}") } else { format!("outbound|{port}||{host}") }
    }

    /// In what the answer is not as it should be.
    fn differs(&self, proxy: &XdsClient, viewer: &Viewer) -> Option<String> {
        let expected = expected(self.fleet, self.home, viewer, self.service, self.port);
        let told = told(proxy.assignment(&self.name(viewer)));
        let why = match &told {
            Ok(told) => differs(&expected, told)?,
            Err(error) => format!("{error:#}"),
        };
        let mut text = format!("\n{}: {} for {viewer:?}: {why}\n", again(self.fleet.seed), self.name(viewer));
        for (row, share) in &expected.rows {
            let _ = writeln!(text, "  expected {row} x{share}");
        }
        for (row, weight) in told.iter().flatten() {
            let _ = writeln!(text, "  told     {row} x{weight}");
        }
        Some(text)
    }
}

/// In what proxies are told another thing than what was expected: of rows, or of weights, which have to be in the
/// proportions of what they stand for.
fn differs(expected: &Expected, told: &[(Row, u32)]) -> Option<String> {
    if !expected.rows.iter().map(|(row, _)| row).eq(told.iter().map(|(row, _)| row)) {
        return Some("other endpoints".to_owned());
    }
    let sum: u64 = told.iter().map(|(_, weight)| u64::from(*weight)).sum();
    if sum >= u64::from(u32::MAX) {
        return Some(format!("weights of {sum}, of which Envoy takes none"));
    }
    let share: f64 = expected.rows.iter().map(|(_, share)| share).sum();
    let unit = f64::from(u32::try_from(sum).unwrap_or(u32::MAX)) / share;
    let within = if expected.exact { 1e-6 } else { ROUNDED };
    let is_off = |((_, share), (_, weight)): (&(Row, f64), &(Row, u32))| {
        (f64::from(*weight) / (share * unit) - 1.0).abs() > within
    };
    expected.rows.iter().zip(told).any(is_off).then(|| "other shares".to_owned())
}

/// What a proxy was told, in the order of what is expected.
fn told(assignment: Option<&ClusterLoadAssignment>) -> Result<Vec<(Row, u32)>> {
    let mut rows = Vec::new();
    for group in assignment.into_iter().flat_map(|of| &of.endpoints) {
        let locality = group.locality.clone().unwrap_or_default();
        let locality = [locality.region, locality.zone, locality.sub_zone].join("/");
        let mut sum = 0;
        for endpoint in &group.lb_endpoints {
            let (address, port) = address(endpoint).context("an endpoint without an address")?;
            let weight = endpoint.load_balancing_weight.map_or(1, |weight| weight.value);
            sum += u64::from(weight);
            let row = Row {
                level: group.priority,
                locality: locality.trim_end_matches('/').to_owned(),
                address,
                port,
                mutual_tls: mutual_tls(endpoint),
            };
            rows.push((row, weight));
        }
        let of_group = group.load_balancing_weight.map_or(sum, |weight| weight.value.into());
        ensure!(of_group == sum, "a group of {sum} weighs {of_group}");
    }
    rows.sort();
    Ok(rows)
}

fn address(endpoint: &LbEndpoint) -> Option<(String, u32)> {
    let Some(HostIdentifier::Endpoint(at)) = &endpoint.host_identifier else { return None };
    let Some(Address::SocketAddress(socket)) = &at.address.as_ref()?.address else { return None };
    let Some(PortSpecifier::PortValue(port)) = socket.port_specifier else { return None };
    Some((socket.address.clone(), port))
}

fn mutual_tls(endpoint: &LbEndpoint) -> bool {
    let said =
        endpoint.metadata.as_ref().and_then(|metadata| metadata.filter_metadata.get("envoy.transport_socket_match"));
    let mode = said.and_then(|fields| fields.fields.get("tlsMode")).and_then(|mode| mode.kind.as_ref());
    matches!(mode, Some(Kind::StringValue(mode)) if mode == "istio")
}
