//! The configuration file, as it is typed. Every field is described here and in `docs/configuration.md`; an unknown
//! one is an error, so a mistyped field is never silently a default.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use model::export::AnswerMode;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    num::NonZero,
    path::PathBuf,
};

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct File {
    /// Id of the cluster this agent is in.
    pub cluster: String,
    /// Name of this agent, unique in the fleet. Default: the pod's or host's name and the process id.
    pub agent: Option<String>,
    /// The zone.
    #[serde(default = "defaults::zone")]
    pub zone: String,
    /// The clusters this agent observes: with a shared store its own, without one all.
    pub clusters: Vec<Cluster>,
    /// Clusters that remote Secrets name, beside `clusters`. Without it Secrets are not read.
    pub membership: Option<Membership>,
    /// What of those clusters is exported.
    #[serde(default)]
    pub export: Export,
    /// What of the fleet is handed on to the cluster this agent is in.
    #[serde(default)]
    pub import: Import,
    /// Where records go.
    #[serde(default)]
    pub store: Store,
    /// What an agent begins with after a restart. Without it: with nothing.
    pub snapshot: Option<Snapshot>,
    /// What answers names.
    #[serde(default)]
    pub dns: Dns,
    /// Where objects go.
    #[serde(default)]
    pub emit: Emit,
    /// How east-west gateways are found and used.
    #[serde(default)]
    pub gateways: Gateways,
    /// Ranges of virtual addresses; the same in all agents.
    #[serde(default)]
    pub vips: Vips,
    /// Status, metrics, probes.
    #[serde(default)]
    pub admin: Admin,
    /// How API servers are watched over.
    #[serde(default)]
    pub watch: Watch,
    /// Logging.
    #[serde(default)]
    pub log: Log,
}

/// A cluster to observe, by `kubernetes` or by `directory`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Cluster {
    /// Its id: one DNS label.
    pub id: String,
    /// The network of its pods, unless the root namespace is labelled with one. Clusters that name none share one.
    #[serde(default)]
    pub network: String,
    /// The root namespace of its mesh.
    #[serde(default = "defaults::root_namespace")]
    pub root_namespace: String,
    /// `region/zone/subzone` of endpoints of which nothing better is known.
    #[serde(default)]
    pub locality: String,
    /// Its east-west gateways, as `address:port`, instead of those that are found; host names are looked up.
    #[serde(default)]
    pub gateways: Vec<String>,
    /// The trust domain of its mesh (`trustDomain` of Istio's MeshConfig); empty when it is not to be told to others.
    #[serde(default)]
    pub trust_domain: String,
    /// Observe it by its API server.
    pub kubernetes: Option<Kubernetes>,
    /// Observe it as a directory of manifests.
    pub directory: Option<PathBuf>,
}

/// What is exported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Export {
    /// Whether a service has to ask for it.
    pub mode: ExportMode,
    /// The namespaces whose services are.
    pub namespaces: Namespaces,
}

/// Whether a service has to ask for being exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExportMode {
    /// All services are.
    #[default]
    All,
    /// Those that are annotated so, or have a ServiceExport.
    OptIn,
}

/// What is imported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Import {
    /// The clusters whose exports are; the agent's own always is one.
    pub clusters: Lists,
    /// The namespaces whose services are.
    pub namespaces: Namespaces,
    /// The services that are, as `namespace/name`.
    pub services: Lists,
    /// Whose services have which aliases.
    pub aliases: Aliases,
}

/// Which aliases services may have beside those of their own namespace in the zone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Aliases {
    /// An alias is allowed by any of these.
    pub allow: Vec<AliasRule>,
}

/// Who may have aliases under a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AliasRule {
    /// The name; itself, and what is below it.
    pub suffix: String,
    /// The namespaces whose services may; empty means all.
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// The clusters whose exports may ask for it; empty means all.
    #[serde(default)]
    pub clusters: Vec<String>,
}

/// Names; `*` stands for any letters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Lists {
    /// Those that take part; empty means all.
    pub allow: Vec<String>,
    /// Those that do not, even where they are allowed.
    pub deny: Vec<String>,
}

/// The same for namespaces, of which those of the system do not take part unless it is said.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Namespaces {
    /// Those that take part; empty means all.
    pub allow: Vec<String>,
    /// Those that do not, even where they are allowed.
    pub deny: Vec<String>,
}

/// How to reach an API server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Kubernetes {
    /// A kubeconfig file. Default: the service account of the pod.
    pub kubeconfig: Option<PathBuf>,
    /// The context in it. Default: its current one.
    pub context: Option<String>,
}

/// Clusters by the remote Secrets of the agent's own cluster: those labelled `istio/multiCluster=true`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Membership {
    /// The agent's own cluster; `{}` reaches it as it is observed.
    pub kubernetes: Kubernetes,
    /// Namespaces to read beside the agent's own.
    pub namespaces: Vec<String>,
    /// Cluster ids for what a Secret calls otherwise.
    pub aliases: BTreeMap<String, String>,
    /// What a kubeconfig may say that is refused otherwise.
    pub allow: Vec<String>,
    /// What holds for clusters of which `clusters` says nothing else.
    pub defaults: Place,
    /// What holds for single clusters, by id.
    pub clusters: BTreeMap<String, Place>,
    /// Seconds for which a cluster's services stay after its Secret was deleted, without a shared store.
    pub drain_seconds: u32,
    /// Seconds for which a cluster must be without an owner that sees it in the shared store, before this agent looks at
    /// it and steps in. Each agent adds up to as many again of its own, so that not all of them look at once.
    pub deputy_after_seconds: u32,
    /// Seconds for which an owner must have lost sight of its cluster before it hands it to somebody who sees it.
    pub resign_after_seconds: u32,
    /// Seconds for which a cluster's own agent must see it before a deputy hands it back; doubled each time that it was
    /// lost again soon after, up to 32 times as many.
    pub hand_back_after_seconds: u32,
    /// Seconds for which endpoints are kept as a last resort that a new owner misses, where these are many, before it
    /// withdraws them though nobody confirmed that they are gone.
    pub hold_seconds: u32,
}

/// Where a cluster is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Place {
    /// The network of its pods.
    pub network: Option<String>,
    /// `region/zone/subzone` of endpoints of which nothing better is known.
    pub locality: Option<String>,
    /// The root namespace of its mesh.
    pub root_namespace: Option<String>,
    /// Its east-west gateways, as `address:port`, instead of those that are found.
    pub gateways: Option<Vec<String>>,
    /// The trust domain of its mesh (`trustDomain` of Istio's MeshConfig).
    pub trust_domain: Option<String>,
}

/// Where records go. Without `etcd`: nowhere, this agent observes every cluster itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Store {
    /// A shared etcd.
    pub etcd: Option<Etcd>,
}

/// A shared etcd.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Etcd {
    /// URLs of its members.
    pub endpoints: Vec<String>,
    /// Prefix of all keys.
    #[serde(default = "defaults::root")]
    pub root: String,
    /// Seconds an owner that died silently keeps its cluster.
    #[serde(default = "defaults::lease_seconds")]
    pub lease_seconds: u32,
    /// Seconds for which, after etcd was restored or emptied, every agent may write again what it holds, before anything
    /// is taken for gone.
    #[serde(default = "defaults::grace_seconds")]
    pub grace_seconds: u32,
    /// With TLS: for endpoints that begin with `https://`.
    pub tls: Option<EtcdTls>,
    /// The user, where etcd does not take it from the certificate.
    pub username: Option<String>,
    /// The file that holds the password.
    pub password_file: Option<PathBuf>,
}

/// Files in PEM. They may change while the agent runs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EtcdTls {
    /// Who vouches for the members.
    pub ca_file: PathBuf,
    /// This agent's certificate; its common name is the user, where etcd has users.
    pub cert_file: Option<PathBuf>,
    /// The key to it.
    pub key_file: Option<PathBuf>,
}

/// What an agent begins with after a restart.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Snapshot {
    /// A directory of its own on a volume that outlives the process.
    pub directory: PathBuf,
    /// Seconds for which a state may not have been confirmed by the store and is still begun with.
    #[serde(default = "defaults::max_age_seconds")]
    pub max_age_seconds: u32,
    /// `HOST:PORT` of the admin ports of other replicas of this agent, whose snapshot is as good.
    #[serde(default)]
    pub siblings: Vec<String>,
}

/// What answers names.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Dns {
    /// Where, and what kind of answer is given there.
    pub listeners: Vec<Listener>,
    /// The addresses of `ns.<zone>`, which the zone names as its server; those of the listeners by default.
    pub addresses: Vec<IpAddr>,
    /// Seconds an answer may be kept.
    pub ttl: u32,
    /// Seconds the answer that there is none may be kept.
    pub negative_ttl: u32,
    /// Of a service with fewer endpoints than these here, those of the region are answered too, and then all.
    pub min_answers: u16,
    /// Most addresses in one answer, but for headless services; of more, each answer has others.
    pub max_answers: NonZero<u16>,
    /// Who is answered, as networks in CIDR notation; none for everybody.
    pub allow: Vec<IpNet>,
    /// What a client may ask of a listener.
    pub limits: DnsLimits,
    /// Who is asked for names that are not ours, as `address:port`; none to refuse them.
    pub forward: Vec<SocketAddr>,
    /// What becomes of names in the zone that the fleet does not have.
    pub unknown: Unknown,
    /// Who is asked for the addresses of endpoints that are host names, as `address` or `address:port`; none for those of
    /// `/etc/resolv.conf`.
    pub nameservers: Vec<String>,
    /// Seconds for which the store may be lost until what is known counts as stale.
    pub stale_after_seconds: u32,
    /// What is answered then.
    pub stale: Stale,
    /// Whether each query is logged.
    pub query_log: bool,
}

/// What becomes of names in the zone that the fleet does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Unknown {
    /// They do not exist.
    #[default]
    Nxdomain,
    /// Who is asked for names that are not ours is asked for them too.
    Forward,
}

/// What is answered while the store is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stale {
    /// What was known last, with an extended error that says so.
    #[default]
    Known,
    /// SERVFAIL.
    Servfail,
}

/// What a client may ask of a listener.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct DnsLimits {
    /// Networks of those whose queries are many clients', such as CoreDNS; the limits of a client are not for them, and half
    /// of all connections are theirs alone.
    pub forwarders: Vec<IpNet>,
    /// Queries a second over UDP from one client, who is told to come back over TCP with more; 0 for no limit.
    pub client_queries: u32,
    /// Connections from one client; 0 for no limit.
    pub client_connections: u32,
    /// Connections from all clients.
    pub connections: NonZero<u32>,
    /// Seconds that a connection may be silent.
    pub idle_seconds: NonZero<u32>,
    /// Queries for names that are not ours, under way at once; more fail.
    pub forwarded: NonZero<u32>,
}

/// A place that answers names, over UDP and TCP.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it answers.
    #[serde(default, with = "AnswerModes")]
    pub mode: AnswerMode,
}

/// The names of answer modes.
#[derive(Deserialize)]
#[serde(remote = "AnswerMode", rename_all = "camelCase")]
enum AnswerModes {
    Endpoints,
    Vip,
    Cluster,
}

/// Where objects go: `kubernetes`, `directory`, or nowhere.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Emit {
    /// The agent's own cluster; `{}` reaches it as it is observed.
    pub kubernetes: Option<Kubernetes>,
    /// A directory, as YAML.
    pub directory: Option<PathBuf>,
    /// Whether nothing is written into the cluster, and only said what would be.
    pub dry_run: bool,
    /// The namespace of objects for services that this cluster does not have.
    pub namespace: String,
    /// Whether a DestinationRule goes with every service: near endpoints first, far ones when those fail.
    pub destination_rules: bool,
    /// To which namespaces ServiceEntries and DestinationRules are exported, as Istio's `exportTo`; none for all.
    pub export_to: Vec<String>,
    /// For which services there are any.
    pub scope: EmitScope,
    /// Which ports of a service ServiceEntries have.
    pub ports: EmitPorts,
    /// The families of which ServiceEntries have virtual addresses.
    pub families: Vec<Family>,
    /// What this cluster's east-west gateways let through.
    pub gateway: EmitGateway,
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Family {
    /// IPv4.
    #[serde(rename = "IPv4")]
    V4,
    /// IPv6.
    #[serde(rename = "IPv6")]
    V6,
}

/// For which services objects are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EmitScope {
    /// For all that are imported.
    #[default]
    All,
    /// For those only that another cluster exports too: sidecars hold less. Whoever asks for another by its global name goes
    /// to nobody.
    Remote,
}

/// Which ports of a service a ServiceEntry has. It cannot leave an endpoint out of one port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EmitPorts {
    /// Those that every endpoint serves.
    #[default]
    Common,
    /// Those that any serves: who is sent to another for one of them is refused there.
    Union,
}

/// The Gateway that lets others in, where this cluster has east-west gateways.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct EmitGateway {
    /// Whether it is written.
    pub enabled: bool,
    /// The labels of the gateways' pods.
    pub selector: BTreeMap<String, String>,
}

/// How east-west gateways are found and used.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Gateways {
    /// How endpoints of other clusters are reached.
    pub mode: GatewayMode,
    /// Who is asked for the addresses of gateways that are host names, as `address` or `address:port`; none for those of
    /// `/etc/resolv.conf`.
    pub nameservers: Vec<String>,
}

/// How endpoints of other clusters are reached; the same in all agents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum GatewayMode {
    /// Those on the same network directly, others through gateways.
    #[default]
    Auto,
    /// All directly: somebody routes between the networks.
    Workload,
    /// All through gateways, also those on the same network.
    Gateway,
}

/// Ranges of virtual addresses.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Vips {
    /// At least a /24.
    pub ipv4: Ipv4Net,
    /// At least a /112.
    pub ipv6: Ipv6Net,
    /// How long addresses stay with a host that nobody exports any more.
    pub rest_seconds: u64,
}

/// Status, metrics, probes.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Admin {
    /// Where it listens.
    pub address: SocketAddr,
}

/// How API servers are watched over.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Watch {
    /// The namespace of the Lease that is renewed in every cluster, where the credentials allow it.
    pub namespace: String,
    /// Seconds within which an API server is found out that answers and tells no news, or old ones.
    pub found_within_seconds: u32,
    /// Seconds between two proofs that the credentials are still taken and the cluster is still the same.
    pub proof_seconds: u32,
}

/// Logging, to standard error.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Log {
    /// JSON, a line an event, or text for people.
    pub format: LogFormat,
    /// What is logged, as in `info,federator::emit=debug`.
    pub filter: String,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// Text.
    Text,
}

impl Default for Namespaces {
    fn default() -> Self {
        Self { allow: Vec::new(), deny: vec!["kube-*".to_owned(), "*-system".to_owned()] }
    }
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            listeners: Vec::new(),
            addresses: Vec::new(),
            ttl: 5,
            negative_ttl: 5,
            min_answers: 2,
            max_answers: NonZero::new(32).unwrap_or(NonZero::<u16>::MIN),
            allow: Vec::new(),
            limits: DnsLimits::default(),
            forward: Vec::new(),
            unknown: Unknown::default(),
            nameservers: Vec::new(),
            stale_after_seconds: 30,
            stale: Stale::default(),
            query_log: false,
        }
    }
}

impl Default for DnsLimits {
    fn default() -> Self {
        let some = |number| NonZero::new(number).unwrap_or(NonZero::<u32>::MIN);
        Self {
            forwarders: Vec::new(),
            client_queries: 0,
            client_connections: 0,
            connections: some(4096),
            idle_seconds: some(30),
            forwarded: some(256),
        }
    }
}

impl Default for Membership {
    fn default() -> Self {
        Self {
            kubernetes: Kubernetes::default(),
            namespaces: Vec::new(),
            aliases: BTreeMap::new(),
            allow: Vec::new(),
            defaults: Place::default(),
            clusters: BTreeMap::new(),
            drain_seconds: 30,
            deputy_after_seconds: 30,
            resign_after_seconds: 60,
            hand_back_after_seconds: 120,
            hold_seconds: 600,
        }
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self { namespace: "istio-system".to_owned(), found_within_seconds: 10, proof_seconds: 120 }
    }
}

impl Default for Emit {
    fn default() -> Self {
        Self {
            kubernetes: None,
            directory: None,
            dry_run: false,
            namespace: "istio-system".to_owned(),
            destination_rules: true,
            export_to: Vec::new(),
            scope: EmitScope::All,
            ports: EmitPorts::Common,
            // One is enough where clients have both: istiod repeats every endpoint once an address.
            families: vec![Family::V4],
            gateway: EmitGateway::default(),
        }
    }
}

impl Default for EmitGateway {
    fn default() -> Self {
        // As Istio's own installation labels them.
        Self { enabled: true, selector: BTreeMap::from([("istio".to_owned(), "eastwestgateway".to_owned())]) }
    }
}

impl Default for Vips {
    fn default() -> Self {
        // Within 240.0.0.0/4, which no host on the internet has, and apart from Istio's and Admiral's.
        let ipv4 = Ipv4Net::new_assert([240, 64, 0, 0].into(), 12);
        // A unique local prefix (RFC 4193) that spells "fed" in its first bytes.
        let ipv6 = Ipv6Net::new_assert([0xfdfe, 0xd066, 0, 0, 0, 0, 0, 0].into(), 64);
        // Whoever resolved a name a day ago has asked again.
        Self { ipv4, ipv6, rest_seconds: 86400 }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self { address: ([127, 0, 0, 1], 9153).into() }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::default(), filter: "info".to_owned() }
    }
}

mod defaults {
    pub(super) fn zone() -> String {
        "global".to_owned()
    }

    pub(super) fn root_namespace() -> String {
        "istio-system".to_owned()
    }

    pub(super) fn root() -> String {
        "/federator".to_owned()
    }

    pub(super) fn lease_seconds() -> u32 {
        10
    }

    pub(super) fn grace_seconds() -> u32 {
        30
    }

    /// A day: the time for which pods of a cluster that nobody speaks for are believed to be where they were. After
    /// that an address more likely is another pod's, and a wrong answer is worse than none.
    pub(super) fn max_age_seconds() -> u32 {
        24 * 60 * 60
    }
}
