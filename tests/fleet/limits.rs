//! Services that do not fit into an entry, or hardly: for each an object that a real API server and istiod take without a
//! word, or none, and a word on what is missing.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use harness::{Fleet, Istiod, Result, SOON, Spare, XdsNode, eventually};
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{DynamicObject, PostParams};
use serde_json::{Value, json};

use crate::federation::service_entry;
use crate::judge::{claimed_twice, written};

/// Most endpoints, and most ports, of one entry; most endpoints of one EndpointSlice.
const ENDPOINTS: usize = 4096;
const PORTS: usize = 256;
const OF_A_SLICE: usize = 1000;

/// Stands for as many endpoints as are no more than a mebibyte.
const AS_FIT: usize = usize::MAX;
const MEBIBYTE: usize = 1 << 20;

/// More hosts than one entry may have.
const HOSTS: usize = 300;

/// A port of a service and, where that is another, of its endpoints.
type Ports = Vec<(u16, u16)>;

/// A service, and what becomes of it.
struct Case {
    name: &'static str,
    ports: Ports,
    /// Its endpoints: addresses of both families, and host names.
    endpoints: Vec<String>,
    /// Its resolution, and how many ports and endpoints it has; `None` where there is no entry.
    entry: Option<(&'static str, usize, usize)>,
    /// How what is said of it begins.
    said: Vec<&'static str>,
}

fn cases() -> Vec<Case> {
    let addresses = |count: usize| (0..count).map(|n| format!("10.98.{}.{}", n / 250, n % 250 + 1)).collect::<Vec<_>>();
    let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let one = || vec![(80, 8080)];
    let some = |count: u16| (1..=count).map(|port| (port, port)).collect::<Ports>();
    let case = |name, ports, endpoints, entry, said| Case { name, ports, endpoints, entry, said };
    let full = "TooManyEndpoints: 4096 of 4097 endpoints are held: an entry has room for no more";
    let ports = "TooManyPorts: 256 of 500 ports are held: an entry has room for no more";
    let udp = "PortTransport: 53/UDP(dns) is left out: a ServiceEntry knows TCP only";
    vec![
        case("full", one(), addresses(ENDPOINTS), Some(("STATIC", 1, ENDPOINTS)), vec![]),
        case("over", one(), addresses(ENDPOINTS + 1), Some(("STATIC", 1, ENDPOINTS)), vec![full]),
        case("ports", some(500), addresses(1), Some(("STATIC", PORTS, 1)), vec![ports]),
        // Each says of every port where it listens.
        case(
            "large",
            (1..=20).map(|port| (port, port + 10_000)).collect(),
            addresses(ENDPOINTS),
            Some(("STATIC", 20, AS_FIT)),
            vec!["TooManyEndpoints: "],
        ),
        case("empty", one(), vec![], Some(("STATIC", 1, 0)), vec![]),
        case("names", one(), texts(&["a.example", "b.example"]), Some(("DNS", 1, 2)), vec![]),
        case("mixed", one(), texts(&["a.example", "10.98.0.1", "fd00:98::1"]), Some(("DNS", 1, 3)), vec![]),
        case("families", one(), texts(&["10.98.0.1", "fd00:98::1"]), Some(("STATIC", 1, 2)), vec![]),
        // Of a port that is said to be of UDP; see the manifest.
        case("udp", vec![(53, 53)], addresses(1), None, vec![udp, "NoPort: no port is left, so there is no entry"]),
    ]
}

// === impl Case ===

impl Case {
    fn manifest(&self) -> String {
        let protocol = if self.name == "udp" { "UDP" } else { "TCP" };
        let port_name = |port: &u16| if protocol == "UDP" { "dns".to_owned() } else { format!("http-{port}") };
        let ports = self.ports.iter().map(
            |(port, target)| json!({"name": port_name(port), "port": port, "targetPort": target, "protocol": protocol}),
        );
        let mut objects = vec![json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": self.name},
            "spec": {"ports": ports.collect::<Vec<_>>()},
        })];
        let targets = self
            .ports
            .iter()
            .map(|(port, target)| json!({"name": port_name(port), "port": target, "protocol": protocol}));
        let targets: Vec<Value> = targets.collect();
        let mut families: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for endpoint in &self.endpoints {
            let family = match endpoint.parse() {
                Ok(std::net::IpAddr::V4(_)) => "IPv4",
                Ok(std::net::IpAddr::V6(_)) => "IPv6",
                Err(_) => "FQDN",
            };
            families.entry(family).or_default().push(json!({"addresses": [endpoint]}));
        }
        for (family, endpoints) in families {
            for (number, some) in endpoints.chunks(OF_A_SLICE).enumerate() {
                let labels = json!({
                    "kubernetes.io/service-name": self.name,
                    "endpointslice.kubernetes.io/managed-by": "tests",
                });
                let name = format!("{}-{}-{number}", self.name, family.to_lowercase());
                objects.push(json!({
                    "apiVersion": "discovery.k8s.io/v1",
                    "kind": "EndpointSlice",
                    "metadata": {"name": name, "labels": labels},
                    "addressType": family,
                    "ports": targets,
                    "endpoints": some,
                }));
            }
        }
        objects.iter().map(|object| format!("---\n{object}\n")).collect()
    }

    /// Whether an entry is as it should be; how many endpoints it holds.
    fn is(&self, entry: &DynamicObject) -> Result<usize> {
        let spec = &entry.data["spec"];
        let count = |field: &str| spec[field].as_array().map_or(0, Vec::len);
        let (resolution, ports, endpoints) = self.entry.context("an entry that should not be")?;
        let found = (spec["resolution"].as_str().unwrap_or_default(), count("ports"), count("endpoints"));
        if endpoints == AS_FIT {
            let bytes = spec["endpoints"].to_string().len();
            // Another two would not fit.
            let room = MEBIBYTE - 2 * bytes / found.2.max(1)..=MEBIBYTE;
            ensure!((found.0, found.1) == (resolution, ports) && room.contains(&bytes), "{found:?} of {bytes}");
        } else {
            ensure!(found == (resolution, ports, endpoints), "{found:?}");
        }
        Ok(found.2)
    }

    /// Waits until a proxy was told so many endpoints, where none has to be looked up: those come another way.
    async fn is_told(&self, istiod: &Istiod, ns: &str, host: &str, count: usize) -> Result {
        let (Some(("STATIC", ..)), Some((port, _))) = (self.entry, self.ports.first()) else { return Ok(()) };
        let name = format!("outbound|{port}||{host}");
        let mut proxy = istiod.endpoints(&XdsNode::sidecar(ns, [10, 40, 3, 250]), vec![name.clone()]).await?;
        proxy
            .until(&format!("{count} endpoints of {name}"), |proxy| {
                let assignment = proxy.assignment(&name).context("no word on them")?;
                let told: usize = assignment.endpoints.iter().map(|group| group.lb_endpoints.len()).sum();
                ensure!(told == count, "{told} endpoints");
                Ok(())
            })
            .await
    }
}

#[test]
fn what_has_no_room_in_an_entry_is_said_and_the_rest_is_valid() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("limits").await?;
        let north = fleet.spare().await?;
        ns.add_to(&north).await?;
        let cases = cases();
        for case in &cases {
            north.apply(&ns, &case.manifest()).await.with_context(|| case.name)?;
        }
        let istiod = north.istiod().await?;
        let agent = fleet.agent_of(&north).embedded().emitting().start().await?;
        for case in cases.iter().filter(|case| case.entry.is_some()) {
            let host = format!("{}.{ns}.global", case.name);
            // What is large takes its time.
            let what = format!("the entry of {} is right", case.name);
            let right = eventually(SOON * 2, &what, async || case.is(&service_entry(&north, &ns, &host).await?));
            case.is_told(&istiod, &ns, &host, right.await?).await?;
        }
        let status = agent.status().await?;
        for case in &cases {
            let left_out = &status["emit"]["leftOut"][format!("{ns}/{}", case.name)];
            let said: Vec<_> = left_out.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let begins = said.iter().zip(&case.said).all(|(said, expected)| said.starts_with(expected));
            ensure!(said.len() == case.said.len() && begins, "{}: {said:?}", case.name);
        }
        let entries = are_sound(&north, &istiod).await?;
        let expected = cases.iter().filter(|case| case.entry.is_some()).count();
        ensure!(entries.len() == expected, "{} entries", entries.len());
        ensure!(status["emit"]["troubles"] == json!({}), "{}", status["emit"]["troubles"]);
        let metrics = agent.metrics().await?;
        for (reason, count) in [("TooManyEndpoints", 2), ("TooManyPorts", 1), ("NoPort", 1), ("PortTransport", 1)] {
            let counted = format!("federator_emit_left_out_services{{reason=\"{reason}\"}} {count}\n");
            ensure!(metrics.contains(&counted), "{counted} is not in {metrics}");
        }
        Ok(())
    })
}

#[test]
fn more_hosts_than_an_entry_has_are_an_entry_each() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("hosts").await?;
        let north = fleet.spare().await?;
        ns.add_to(&north).await?;
        let services: Api<Service> = Api::namespaced(north.client(), &ns);
        let made = stream::iter(0..HOSTS).map(|number| {
            let (name, port) = (format!("web-{number}"), json!({"name": "http", "port": 80}));
            let service = json!({"metadata": {"name": name}, "spec": {"ports": [port]}});
            let services = &services;
            async move {
                services.create(&PostParams::default(), &serde_json::from_value(service)?).await?;
                anyhow::Ok(())
            }
        });
        made.buffer_unordered(8).try_collect::<Vec<()>>().await?;
        let istiod = north.istiod().await?;
        let agent = fleet.agent_of(&north).embedded().emitting().start().await?;
        agent.wait_until("has written everything", |now| now["emit"]["inPlace"] == 2 * HOSTS).await?;
        let entries = are_sound(&north, &istiod).await?;
        let single =
            entries.iter().filter(|entry| entry.data["spec"]["hosts"].as_array().is_some_and(|of| of.len() == 1));
        ensure!(single.count() == HOSTS && entries.len() == HOSTS, "{} entries", entries.len());
        Ok(())
    })
}

/// Checks all that was written, and returns the ServiceEntries.
async fn are_sound(north: &Spare, istiod: &Istiod) -> Result<Vec<DynamicObject>> {
    let objects = written(north).await?;
    for object in &objects {
        istiod.admits(object).await?;
    }
    let twice = claimed_twice(&objects);
    ensure!(twice.is_empty(), "claimed twice: {twice:?}");
    let is_entry = |object: &DynamicObject| object.types.as_ref().is_some_and(|types| types.kind == "ServiceEntry");
    Ok(objects.into_iter().filter(is_entry).collect())
}
