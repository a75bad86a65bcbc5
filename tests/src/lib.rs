//! A fleet of real clusters for tests, on one machine and without a trace on it.
//!
//! Three clusters, `east`, `west` and `south`, run real parts (kube-apiserver, kube-controller-manager, etcd,
//! kwok, CoreDNS) in network namespaces of a sandbox. East and west share the network `n1`, south is alone on
//! `n2`: pod addresses are routed within a network only, while API servers, DNS and the fleet's own etcd are
//! reached from everywhere. A test gets all of it from [`Fleet::shared`] or [`Fleet::exclusive`]:
//!
//! ```no_run
//! use harness::{Fleet, Result};
//!
//! # fn the_web_is_ready() -> Result {
//! Fleet::shared(async |fleet| {
//!     let ns = fleet.namespace("pods").await?;
//!     let west = fleet.cluster("west");
//!     west.deploy(&ns, "web", 3, 8080).await?;
//!     let cut = fleet.cut("east", "west")?;
//!     // what is true of the fleet while the two do not see each other
//!     cut.heal()?;
//!     Ok(())
//! })
//! # }
//! ```
//!
//! The harness knows nothing of how Federator works: it runs the daemon as a process, reads its admin port and
//! asks its DNS, like an operator would. Only the observer reads what stands in the shared store, by the words that the
//! agents have for it.
//!
//! Read on in this order: `fleet` (what a test holds), `cluster` and `workload` (what it does with a cluster),
//! `agent`, `sketch`, `cli`, `dig`, `load`, `observer` and `leaks` (Federator itself), `reader`, `account`, `remote_secret`, `proxy`
//! and `liar` (what agents get of a cluster), `istiod`, `ads`, `envoy`, `question` and `backend` (what Istio makes of it),
//! `cut`, `spare` and `trio` (what breaks); then how the bed is made: `bed`, `network`, `place`, `control_plane`,
//! `process`.

mod fleet;

mod account;
mod ads;
mod agent;
mod backend;
mod cli;
mod cluster;
mod cut;
mod dig;
mod leaks;
mod liar;
mod load;
mod manifest;
mod namer;
mod namespace;
mod nsd;
mod observer;
mod proxy;
mod question;
mod reader;
mod remote_secret;
mod sketch;
mod spare;
mod store;
mod trio;
mod wait;
mod workload;

mod bed;
mod control_plane;
mod coredns;
mod credentials;
mod envoy;
mod etcd;
mod failure;
mod furniture;
mod http;
mod istiod;
mod network;
mod parts;
mod place;
mod process;
mod scheduler;
mod site;

pub use account::Account;
pub use ads::{XdsClient, XdsNode};
pub use agent::{Agent, AgentSetup};
pub use backend::{Backend, Manners};
pub use cli::Said;
pub use cluster::Cluster;
pub use cut::Cut;
pub use dig::{Answer, Reply, Resolver};
pub use envoy::Envoy;
pub use fleet::Fleet;
pub use hickory_proto::op::ResponseCode;
pub use hickory_proto::rr::RecordType;
pub use istiod::Istiod;
pub use leaks::Leaks;
pub use liar::Liar;
pub use load::{Counts, Expected, Load};
pub use namer::Namer;
pub use namespace::Namespace;
pub use nsd::Nsd;
pub use observer::{Findings, Observer};
pub use parts::{Parts, federator, require_sandbox};
pub use place::Place;
pub use process::Process;
pub use proxy::Proxy;
pub use question::Question;
pub use reader::{Reader, Request, Rule};
pub use remote_secret::RemoteSecret;
pub use spare::{RestartApiServer, Snapshot, Spare};
pub use store::Store;
pub use trio::{ClientFiles, Trio, TrioSetup};
pub use wait::{SOON, eventually};
pub use workload::Endpoint;

/// What a test and every step of the harness returns; `anyhow` prints the whole chain of a failure.
pub type Result<T = ()> = anyhow::Result<T>;
