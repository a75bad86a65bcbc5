//! Envoy as a sidecar of a spare cluster, configured by the istiod there: what a client in the mesh gets of what is
//! emitted.
//!
//! Nothing is redirected to it: what a pod would send to a port goes to that port of the loopback, with the host's name.

use std::ffi::OsString;
use std::fs;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::place::Place;
use crate::process::Process;
use crate::site::loopback;
use crate::{Result, Spare, XdsNode, eventually, http, istiod};

/// Its own port for administrators, on the loopback of a place that nobody shares.
const ADMIN: u16 = 15000;

/// From the start to the first whole configuration.
const START: Duration = Duration::from_secs(30);

/// An Envoy; it ends when it is dropped.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    place: Place,
}

impl Spare {
    /// Starts Envoy beside the istiod of this cluster, and returns when it has what that tells it. There is room for one.
    pub async fn envoy(&self, node: &XdsNode) -> Result<Envoy> {
        let config = self.logs().join("envoy.json");
        fs::write(&config, bootstrap(&node.json(self.name())).to_string())?;
        let mut arguments: Vec<OsString> = vec!["--config-path".into(), config.into_os_string()];
        arguments.extend(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"].map(Into::into));
        let envoy = Envoy {
            process: Process::new("envoy", self.place(), self.part("envoy")?, arguments, self.logs()),
            place: self.place(),
        };
        envoy.process.start()?;
        eventually(START, "Envoy is ready", async || {
            ensure!(envoy.process.is_running(), "it ended: {}", envoy.process.tail());
            http::get(envoy.place, loopback(ADMIN), "/ready").await
        })
        .await?;
        Ok(envoy)
    }
}

impl Envoy {
    /// What a host answers on a port, as a client in the mesh gets it; any answer but `200` is an error.
    pub async fn get(&self, host: &str, port: u16) -> Result<String> {
        http::get_of(host, self.place, loopback(port), "/").await
    }

    /// How often it has refused what istiod sent.
    pub async fn refusals(&self) -> Result<u64> {
        let counters = http::get(self.place, loopback(ADMIN), "/stats?filter=update_rejected").await?;
        let values = counters.lines().map(|line| Ok(line.rsplit(' ').next().context("a counter")?.parse::<u64>()?));
        values.sum()
    }
}

fn bootstrap(node: &Value) -> Value {
    let by_ads = json!({"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"});
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let address = |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    json!({
        "node": node,
        "admin": {"address": address(ADMIN)},
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
