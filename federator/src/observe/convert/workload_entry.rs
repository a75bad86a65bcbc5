//! A WorkloadEntry (`networking.istio.io`): a workload that is no pod, selected by the Services of its namespace as
//! Istio selects it. Weights are not read: an endpoint is an endpoint.

use super::{
    LeftOut, NETWORK_LABEL,
    service::{SourceService, Target},
    text, workload,
};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::ObjectMeta, jiff::Timestamp};
use model::{
    export::{Address, Health, Kind, TLS_MODE_LABEL, TargetPort, Workload},
    locality::{Locality, Network},
};
use serde::Deserialize;
use std::{collections::BTreeMap, sync::Arc};

/// The API group.
pub const GROUP: &str = "networking.istio.io";

/// The versions it is served in. What is read of it is the same in all; the first is the one that every release of
/// Istio since 1.6 serves.
pub const VERSIONS: [&str; 3] = ["v1beta1", "v1", "v1alpha3"];

/// Says that Istio probes the workload, and writes down what it found.
const HEALTH_CHECKS: &str = "proxy.istio.io/health-checks-enabled";

/// The WorkloadGroup that an entry was registered under when its proxy connected.
const AUTO_REGISTERED: &str = "istio.io/autoRegistrationGroup";

/// When the proxy connected and disconnected last, in RFC 3339. Disconnecting takes the first away.
const CONNECTED_AT: &str = "istio.io/connectedAt";
const DISCONNECTED_AT: &str = "istio.io/disconnectedAt";

/// A WorkloadEntry as it is read.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct WorkloadEntry {
    /// Its metadata.
    pub metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    status: Option<Status>,
}

/// A WorkloadEntry, before a service selected it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceEntry {
    /// Where it is reached.
    pub address: Address,
    /// The network it is on, where that is not its cluster's.
    pub network: Option<Network>,
    /// Whether it takes traffic.
    pub health: Health,
    /// Where it runs; unknown when it does not say.
    pub locality: Locality,
    /// What runs there.
    pub workload: Arc<Workload>,
    /// What services select it by.
    pub labels: BTreeMap<String, String>,
    /// Where it listens, by the names of target ports.
    pub ports: BTreeMap<String, u16>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    address: String,
    ports: BTreeMap<String, u16>,
    labels: BTreeMap<String, String>,
    network: String,
    locality: String,
    service_account: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

/// Reads a WorkloadEntry.
///
/// # Errors
/// [`LeftOut`] says why it is nobody's endpoint.
pub fn workload_entry(entry: &WorkloadEntry) -> Result<SourceEntry, LeftOut> {
    let spec = &entry.spec;
    let address = match spec.address.as_str() {
        "" => return Err(LeftOut::NoAddress),
        unix if unix.starts_with("unix://") => return Err(LeftOut::UnixSocket),
        text => {
            let address = Address::parse_ip(text).or_else(|| Address::parse_host(text));
            address.ok_or_else(|| LeftOut::Address(text.to_owned()))?
        }
    };
    // Istio takes both kinds of labels together, and those of the metadata first.
    let mut labels = spec.labels.clone();
    labels.extend(entry.metadata.labels.clone().unwrap_or_default());
    let network = Some(spec.network.as_str()).filter(|network| !network.is_empty());
    let network = network.or_else(|| text(Some(&labels), NETWORK_LABEL)).map(Network::new);
    let mut workload = workload(Some(&labels), &spec.service_account);
    // A workload that has an identity takes mutual TLS, unless it says otherwise.
    if !workload.service_account.is_empty() && !workload.labels.contains_key(TLS_MODE_LABEL) {
        Arc::make_mut(&mut workload).labels.insert(TLS_MODE_LABEL.into(), "istio".into());
    }
    let mut levels = spec.locality.split('/');
    let mut level = || levels.next().unwrap_or_default();
    Ok(SourceEntry {
        address,
        network,
        health: health(entry),
        locality: Locality::new(level(), level(), level()),
        workload,
        labels,
        ports: spec.ports.clone(),
    })
}

/// A new entry that is probed takes no traffic until a probe has succeeded; one whose proxy is gone, not until it is
/// back.
fn health(entry: &WorkloadEntry) -> Health {
    let annotation = |name| text(entry.metadata.annotations.as_ref(), name);
    // As Go reads a boolean.
    let probed =
        annotation(HEALTH_CHECKS).is_some_and(|text| matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True"));
    let conditions = || entry.status.iter().flat_map(|status| &status.conditions);
    let healthy =
        || conditions().find(|condition| condition.kind == "Healthy").is_some_and(|found| found.status == "True");
    let time = |name| annotation(name).and_then(|text| text.parse::<Timestamp>().ok());
    let gone = annotation(AUTO_REGISTERED).is_some()
        && time(DISCONNECTED_AT).is_some_and(|gone| time(CONNECTED_AT).is_none_or(|came| came < gone));
    if gone || (probed && !healthy()) { Health::NotReady } else { Health::Ready }
}

// === impl SourceEntry ===

impl SourceEntry {
    /// Where it listens for each port of a service of its namespace; `None` when that service does not select it, or
    /// it serves none of its ports.
    #[must_use]
    pub fn serves(&self, service: &SourceService) -> Option<Vec<TargetPort>> {
        // A headless service has those endpoints that its own cluster's DNS answers: Istio adds none to it.
        if service.head.kind == Kind::Headless || !self.is_selected(service) {
            return None;
        }
        let ports = service.head.ports.iter().zip(&service.targets).filter_map(|(port, target)| {
            let mapped = |name: &str| self.ports.get(name).copied().filter(|number| *number != 0);
            let number = match target {
                // A number leads there, unless the entry maps the service's port by its name.
                Target::Number(number) => mapped(&port.name).unwrap_or(*number),
                Target::Name(name) => mapped(name)?,
            };
            Some(TargetPort { name: port.name.clone(), number, protocol: port.protocol })
        });
        Some(ports.collect()).filter(|ports: &Vec<_>| !ports.is_empty())
    }

    /// Whether a service of its namespace selects it.
    #[must_use]
    pub fn is_selected(&self, service: &SourceService) -> bool {
        let has = |(name, value): (&String, &String)| self.labels.get(name) == Some(value);
        !service.selector.is_empty() && service.selector.iter().all(has)
    }
}

custom_resource!(WorkloadEntry, GROUP, VERSIONS[0], "workloadentries");
