//! Envoy as a sidecar or a gateway of a spare cluster, configured by the istiod there: what a client in the mesh gets of
//! what is emitted.
//!
//! Unless a pod's connections are redirected to it (`Spare::redirect`), what the pod would send to a port goes to that port
//! of the loopback, with the host's name.

use std::ffi::OsString;
use std::fs;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::place::Place;
use crate::process::Process;
use crate::site::loopback;
use crate::{Leaks, Question, Result, Spare, XdsNode, eventually, http, istiod};

/// Its own port for administrators, on the loopback of a place that nobody shares; a gateway's is beside a sidecar's.
const ADMIN: u16 = 15000;
const ADMIN_OF_ROUTER: u16 = 15100;

/// Where istiod has a sidecar listen for what is redirected.
pub(crate) const OUTBOUND: u16 = 15001;

/// From the start to the first whole configuration.
const START: Duration = Duration::from_secs(30);

/// An Envoy; it ends when it is dropped.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    place: Place,
    admin: u16,
}

impl Spare {
    /// Starts Envoy beside the istiod of this cluster, and returns when it has what that tells it. There is room for one
    /// sidecar and one gateway.
    pub async fn envoy(&self, node: &XdsNode) -> Result<Envoy> {
        let (name, admin) = match node.kind() {
            "router" => ("envoy-router", ADMIN_OF_ROUTER),
            _ => ("envoy", ADMIN),
        };
        let config = self.logs().join(format!("{name}.json"));
        fs::write(&config, bootstrap(&node.json(self.name()), admin).to_string())?;
        let mut arguments: Vec<OsString> = vec!["--config-path".into(), config.into_os_string()];
        arguments.extend(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"].map(Into::into));
        let envoy = Envoy {
            process: Process::new(name, self.place(), self.part("envoy")?, arguments, self.logs()),
            place: self.place(),
            admin,
        };
        envoy.process.start()?;
        eventually(START, "Envoy is ready", async || {
            ensure!(envoy.process.is_running(), "it ended: {}", envoy.process.tail());
            http::get(envoy.place, loopback(envoy.admin), "/ready").await
        })
        .await?;
        Ok(envoy)
    }
}

impl Envoy {
    /// What a host answers on a port, as a client in the mesh gets it; any answer but `200` is an error.
    pub async fn get(&self, host: &str, port: u16) -> Result<String> {
        self.question(host, port).ask().await
    }

    /// A question for a host on a port, as a client in the mesh asks it.
    pub fn question(&self, host: &str, port: u16) -> Question {
        self.place.question(host, loopback(port))
    }

    /// What its process holds now: files, connections, threads, memory.
    pub fn leaks(&self) -> Result<Leaks> {
        Leaks::of(self.process.pid()?)
    }

    /// How often it has refused what istiod sent.
    pub async fn refusals(&self) -> Result<u64> {
        self.count("update_rejected").await
    }

    /// The sum of all its counters whose names match this.
    pub async fn count(&self, names: &str) -> Result<u64> {
        let counters = http::get(self.place, loopback(self.admin), &format!("/stats?filter={names}")).await?;
        let values = counters.lines().map(|line| Ok(line.rsplit(' ').next().context("a counter")?.parse::<u64>()?));
        values.sum()
    }
}

fn bootstrap(node: &Value, admin: u16) -> Value {
    let by_ads = json!({"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"});
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let address = |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    json!({
        "node": node,
        "admin": {"address": address(admin)},
        "dynamic_resources": {
            "lds_config": by_ads,
            "cds_config": by_ads,
            "ads_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "istiod"}}],
            },
        },
        "static_resources": {"clusters": [{
            "name": "istiod",
            "type": "STATIC",
            "connect_timeout": "1s",
            "typed_extension_protocol_options": {options: {
                "@type": format!("type.googleapis.com/{options}"),
                "explicit_http_config": {"http2_protocol_options": {}},
            }},
            "load_assignment": {
                "cluster_name": "istiod",
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(istiod::XDS)}}]}],
            },
        }]},
    })
}
