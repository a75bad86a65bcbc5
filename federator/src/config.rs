//! Configuration: what was typed ([`mod@file`]) becomes what is needed ([`Config`]), checked as a whole before anything
//! starts. The only place that reads the environment. Binds nothing and opens nothing but the file.

mod dns;
pub mod file;
mod gateways;
pub mod membership;
mod overrides;
pub mod rules;
mod snapshot;
mod store;

pub use dns::Dns;
pub use gateways::Gateways;
pub use snapshot::Snapshot;

use crate::{ownership::rules::Timing, store::etcd::Settings};
use model::{
    export::{Address, Families, Family},
    identity::TrustDomain,
    locality::{Locality, Network},
    name::{ClusterId, Label, NameError},
    vip::{VipRangeError, VipRanges},
};
use rules::{ExportRules, ImportRules};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

/// What an agent needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster this agent is in.
    pub cluster: ClusterId,
    /// The agent's name, unique in the fleet.
    pub agent: String,
    /// The zone, without a final dot.
    pub zone: Arc<str>,
    /// The clusters it observes.
    pub clusters: Vec<Cluster>,
    /// How remote Secrets name more clusters, if they do.
    pub membership: Option<membership::Membership>,
    /// How long things must last before a cluster gets another owner.
    pub ownership: Timing,
    /// How long endpoints are held that a comparison of everything would withdraw.
    pub hold: Duration,
    /// What of them is exported.
    pub export: ExportRules,
    /// What of the fleet is handed on to the cluster this agent is in.
    pub import: ImportRules,
    /// Where records go.
    pub store: Store,
    /// What it begins with after a restart, if it is to begin with anything.
    pub snapshot: Option<Snapshot>,
    /// What answers names.
    pub dns: Dns,
    /// Where objects go.
    pub emit: Emit,
    /// How east-west gateways are found and used.
    pub gateways: Gateways,
    /// Where virtual addresses come from.
    pub vips: VipRanges,
    /// How long these stay with a host that nobody exports any more.
    pub rest: Duration,
    /// Where `/status` and the like are served.
    pub admin: SocketAddr,
    /// How API servers are watched over.
    pub watch: Watch,
    /// How it logs.
    pub log: file::Log,
    /// The file that it is of, if it is of one.
    pub file: Option<File>,
}

/// A configuration file, and what overrides it.
#[derive(Clone, Debug)]
pub struct File {
    path: PathBuf,
    set: Vec<String>,
}

/// How API servers are watched over.
#[derive(Clone, Debug)]
pub struct Watch {
    /// The namespace of the canary.
    pub namespace: String,
    /// An API server that tells no news is found out within this.
    pub found_within: Duration,
    /// Between two proofs that credentials are taken and a cluster is the same.
    pub proof: Duration,
}

/// A cluster to observe.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Its id.
    pub id: ClusterId,
    /// Its network, unless its root namespace is labelled with one.
    pub network: Network,
    /// The root namespace of its mesh.
    pub root_namespace: Arc<str>,
    /// Its east-west gateways, where they are not to be found.
    pub gateways: Vec<(Address, u16)>,
    /// The trust domain of its mesh.
    pub trust_domain: TrustDomain,
    /// Where its endpoints run when nothing says so.
    pub locality: Locality,
    /// How it is observed.
    pub source: Source,
}

/// Where a cluster is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its network, while nothing in it says another.
    pub network: Network,
    /// Where its endpoints run when nothing says so.
    pub locality: Locality,
    /// The root namespace of its mesh.
    pub root_namespace: Arc<str>,
    /// Its east-west gateways, where they are not to be found.
    pub gateways: Vec<(Address, u16)>,
    /// The trust domain of its mesh.
    pub trust_domain: TrustDomain,
}

/// How a cluster is observed.
#[derive(Clone, Debug)]
pub enum Source {
    /// By its API server.
    Kubernetes(file::Kubernetes),
    /// As a directory of manifests.
    Directory(PathBuf),
}

/// Where records go.
#[derive(Clone, Debug)]
pub enum Store {
    /// Nowhere: this agent observes every cluster itself.
    Embedded,
    /// A shared etcd.
    Etcd {
        /// How it is reached.
        settings: Settings,
        /// How long every agent may write again what it holds, after it was restored or emptied.
        grace: Duration,
    },
}

/// Where objects go.
#[derive(Clone, Debug)]
pub struct Emit {
    /// The namespace for services that this cluster does not have.
    pub namespace: String,
    /// Whether a DestinationRule goes with every service.
    pub destination_rules: bool,
    /// To which namespaces entries and rules are exported; empty for all.
    pub export_to: Vec<String>,
    /// For which services there are any.
    pub scope: file::EmitScope,
    /// Which ports entries have.
    pub ports: file::EmitPorts,
    /// The families of which entries have virtual addresses.
    pub families: Families,
    /// The labels of the pods of east-west gateways; none where the Gateway is somebody else's to write.
    pub gateway: BTreeMap<String, String>,
    /// Where to.
    pub target: EmitTarget,
}

/// Where objects go.
#[derive(Clone, Debug)]
pub enum EmitTarget {
    /// Nowhere.
    Nothing,
    /// To the API server of the agent's own cluster.
    Kubernetes {
        /// How it is reached.
        by: file::Kubernetes,
        /// Whether nothing is written, and only said what would be.
        dry_run: bool,
    },
    /// Into a directory, as YAML.
    Directory(PathBuf),
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The file says something that is not understood.
    #[error("configuration {place}: {reason}")]
    Parse {
        /// The file, or where an override came from.
        place: String,
        /// What, where in it, and what was perhaps meant.
        reason: String,
    },
    /// A field has a value that cannot be.
    #[error("configuration field `{field}`: {reason}")]
    Field {
        /// The field, as it is written.
        field: String,
        /// Why not.
        reason: String,
    },
}

// === impl Config ===

impl Config {
    /// Reads the file, applies overrides from the environment (`FEDERATOR_DNS__TTL=10`) and then from the command
    /// line (`dns.ttl=10`), and checks the whole.
    ///
    /// # Errors
    /// [`ConfigError`]: one line that says what, where and what to do.
    pub fn load(path: &std::path::Path, set: &[String]) -> Result<Self, ConfigError> {
        File { path: path.to_owned(), set: set.to_vec() }.load()
    }

    /// Whether the store is this agent's own, so that it observes every cluster itself.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        matches!(self.store, Store::Embedded)
    }

    /// Checks what was typed.
    ///
    /// # Errors
    /// [`ConfigError::Field`] names the first field that cannot be.
    pub fn check(file: file::File) -> Result<Self, ConfigError> {
        let cluster = cluster_id("cluster", &file.cluster)?;
        let mut clusters = Vec::new();
        for (n, typed) in file.clusters.into_iter().enumerate() {
            let checked = Cluster::check(&format!("clusters[{n}]"), typed)?;
            if clusters.iter().any(|known: &Cluster| known.id == checked.id) {
                return Err(field(format!("clusters[{n}].id"), format!("`{}` is there twice", checked.id)));
            }
            clusters.push(checked);
        }
        if !clusters.iter().any(|known| known.id == cluster) {
            return Err(field("clusters", format!("the agent's own cluster `{cluster}` is not among them")));
        }
        let zone = file.zone.strip_suffix('.').unwrap_or(&file.zone);
        for label in zone.split('.') {
            Label::parse(label).map_err(|error| field("zone", error.to_string()))?;
        }
        let zone: Arc<str> = zone.into();
        let import = ImportRules::check(&file.import, &cluster, &zone)?;
        let own = clusters.iter().find(|known| known.id == cluster).map(|known| known.source.clone());
        let typed = file.membership.clone().unwrap_or_default();
        let ownership = Timing {
            deputy_after: Duration::from_secs(typed.deputy_after_seconds.into()),
            resign_after: Duration::from_secs(typed.resign_after_seconds.into()),
            hand_back_after: Duration::from_secs(typed.hand_back_after_seconds.into()),
        };
        let hold = Duration::from_secs(typed.hold_seconds.into());
        let membership = match file.membership {
            Some(typed) => Some(membership::Membership::check(typed, own.as_ref())?),
            None => None,
        };
        let target = match (file.emit.kubernetes, file.emit.directory) {
            (Some(_), Some(_)) => return Err(field("emit", "give `kubernetes` or `directory`, not both")),
            (None, _) if file.emit.dry_run => {
                return Err(field("emit.dryRun", "give `emit.kubernetes`, into which nothing is to be written"));
            }
            (None, None) => EmitTarget::Nothing,
            (None, Some(directory)) => EmitTarget::Directory(directory),
            (Some(typed), None) => {
                let by = match own {
                    Some(Source::Kubernetes(own)) if typed == file::Kubernetes::default() => own,
                    _ => typed,
                };
                EmitTarget::Kubernetes { by, dry_run: file.emit.dry_run }
            }
        };
        let gateway = match file.emit.gateway {
            file::EmitGateway { enabled: false, .. } => BTreeMap::new(),
            file::EmitGateway { selector, .. } if selector.is_empty() => {
                let reason = "name the labels of the gateway's pods: without, every gateway would pass everything";
                return Err(field("emit.gateway.selector", reason));
            }
            file::EmitGateway { selector, .. } => selector,
        };
        let store = match file.store.etcd {
            None => Store::Embedded,
            Some(etcd) => {
                let grace = Duration::from_secs(etcd.grace_seconds.into());
                Store::Etcd { settings: store::check(etcd)?, grace }
            }
        };
        let agent = file.agent.unwrap_or_else(|| {
            let host = ["POD_NAME", "HOSTNAME"]
                .iter()
                .find_map(|wanted| environment().find(|(name, _)| name == wanted))
                .map(|(_, value)| value);
            format!("{}-{}", host.unwrap_or_else(|| cluster.to_string()), std::process::id())
        });
        let rest = Duration::from_secs(file.vips.rest_seconds);
        Ok(Self {
            cluster,
            agent,
            zone,
            clusters,
            membership,
            ownership,
            hold,
            export: ExportRules::check(&file.export)?,
            import,
            store,
            snapshot: file.snapshot.map(Snapshot::check).transpose()?,
            dns: Dns::check(file.dns, rest)?,
            emit: Emit {
                namespace: file.emit.namespace,
                destination_rules: file.emit.destination_rules,
                export_to: export_to(file.emit.export_to)?,
                scope: file.emit.scope,
                ports: file.emit.ports,
                families: families(&file.emit.families)?,
                gateway,
                target,
            },
            gateways: Gateways::check(&file.gateways)?,
            vips: VipRanges::new(file.vips.ipv4, file.vips.ipv6)
                .map_err(|error: VipRangeError| field("vips", error.to_string()))?,
            rest,
            admin: file.admin.address,
            watch: Watch::check(file.watch)?,
            log: file.log,
            file: None,
        })
    }
}

// === impl File ===

impl File {
    /// Reads it, as [`Config::load`] does.
    ///
    /// # Errors
    /// [`ConfigError`]: one line that says what, where and what to do.
    pub fn load(&self) -> Result<Config, ConfigError> {
        let path = self.path.display().to_string();
        let text =
            std::fs::read_to_string(&self.path).map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        let typed = overrides::parse(&path, &text, environment(), &self.set)?;
        Ok(Config { file: Some(self.clone()), ..Config::check(typed)? })
    }
}

// === impl Place ===

impl Place {
    /// Where a cluster of the configuration is.
    #[must_use]
    pub fn of(cluster: &Cluster) -> Self {
        let Cluster { network, locality, root_namespace, gateways, trust_domain, .. } = cluster.clone();
        Self { network, locality, root_namespace, gateways, trust_domain }
    }
}

impl Default for Place {
    fn default() -> Self {
        Self {
            network: Network::default(),
            locality: Locality::default(),
            root_namespace: "istio-system".into(),
            gateways: Vec::new(),
            trust_domain: TrustDomain::default(),
        }
    }
}

// === impl Watch ===

impl Watch {
    fn check(typed: file::Watch) -> Result<Self, ConfigError> {
        Label::parse(&typed.namespace).map_err(|error| field("watch.namespace", error.to_string()))?;
        let seconds = |name: &str, value: u32| match value {
            0 => Err(field(format!("watch.{name}"), "give at least 1")),
            value => Ok(Duration::from_secs(value.into())),
        };
        Ok(Self {
            found_within: seconds("foundWithinSeconds", typed.found_within_seconds)?,
            proof: seconds("proofSeconds", typed.proof_seconds)?,
            namespace: typed.namespace,
        })
    }
}

// === impl Cluster ===

impl Cluster {
    fn check(at: &str, typed: file::Cluster) -> Result<Self, ConfigError> {
        let source = match (typed.kubernetes, typed.directory) {
            (Some(kubernetes), None) => Source::Kubernetes(kubernetes),
            (None, Some(directory)) => {
                if let Err(error) = std::fs::read_dir(&directory) {
                    return Err(field(format!("{at}.directory"), format!("{}: {error}", directory.display())));
                }
                Source::Directory(directory)
            }
            _ => return Err(field(at, "give either `kubernetes` or `directory`")),
        };
        Ok(Self {
            id: cluster_id(&format!("{at}.id"), &typed.id)?,
            network: Network::new(&typed.network),
            locality: locality(&format!("{at}.locality"), &typed.locality)?,
            root_namespace: typed.root_namespace.into(),
            gateways: gateways::gateways(&format!("{at}.gateways"), &typed.gateways)?,
            trust_domain: trust_domain(&format!("{at}.trustDomain"), &typed.trust_domain)?,
            source,
        })
    }
}

/// The variables that are texts; whoever sets others does not mean us.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn cluster_id(at: &str, text: &str) -> Result<ClusterId, ConfigError> {
    ClusterId::parse(text).map_err(|error: NameError| field(at, error.to_string()))
}

/// `region/zone/subzone`, or less of it.
fn locality(at: &str, text: &str) -> Result<Locality, ConfigError> {
    let mut levels = text.split('/').map(str::to_owned);
    let mut level = || levels.next().unwrap_or_default();
    let locality = Locality::new(&level(), &level(), &level());
    if levels.next().is_some() || locality.to_string() != text {
        return Err(field(at, format!("`{text}` is not region/zone/subzone, with no empty level")));
    }
    Ok(locality)
}

/// As Istio takes it: `*` for all namespaces, `.` for that of the object, or names.
fn export_to(typed: Vec<String>) -> Result<Vec<String>, ConfigError> {
    let mut seen = BTreeSet::new();
    for (n, text) in typed.iter().enumerate() {
        let at = || format!("emit.exportTo[{n}]");
        if !seen.insert(text) {
            return Err(field(at(), format!("`{text}` stands there twice")));
        }
        match text.as_str() {
            "*" | "." if typed.len() > 1 => return Err(field(at(), format!("give `{text}` alone"))),
            "*" | "." => {}
            name => drop(Label::parse(name).map_err(|error| field(at(), error.to_string()))?),
        }
    }
    Ok(typed)
}

fn families(typed: &[file::Family]) -> Result<Families, ConfigError> {
    let families = typed.iter().map(|family| match family {
        file::Family::V4 => Family::V4,
        file::Family::V6 => Family::V6,
    });
    let families: Families = families.collect();
    if families.is_unknown() { Err(field("emit.families", "give IPv4, IPv6 or both")) } else { Ok(families) }
}

fn trust_domain(at: &str, text: &str) -> Result<TrustDomain, ConfigError> {
    let reason = "give lower-case letters, digits, dots, dashes and underscores";
    TrustDomain::parse(text).ok_or_else(|| field(at, format!("`{text}` cannot be a trust domain: {reason}")))
}

fn field(field: impl Into<String>, reason: impl Into<String>) -> ConfigError {
    ConfigError::Field { field: field.into(), reason: reason.into() }
}

#[cfg(test)]
mod tests;
