//! The CoreDNS that a cluster's pods ask: its own zone, and `global` forwarded to Federator as the manual says.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::place::Place;
use crate::process::Process;
use crate::site::{Lane, REPLICA, Site};
use crate::{Result, http};

/// One server in a cluster, for the agents of one lane.
#[derive(Debug)]
pub(crate) struct CoreDns {
    process: Process,
    place: Place,
    lane: Lane,
}

impl CoreDns {
    /// Writes its Corefile to `directory` and describes the process.
    pub(crate) fn new(
        site: &Site,
        lane: Lane,
        binary: PathBuf,
        kubeconfig: &Path,
        directory: &Path,
        logs: &Path,
    ) -> Result<Self> {
        let place = site.place();
        let path = directory.join(format!("Corefile.{}", lane.dns()));
        fs::write(&path, corefile(site.name, place, lane, kubeconfig))?;
        let process = Process::new("coredns", place, binary, ["-conf".into(), path.into_os_string()], logs);
        Ok(Self { process, place, lane })
    }

    pub(crate) const fn process(&self) -> &Process {
        &self.process
    }

    pub(crate) const fn lane(&self) -> Lane {
        self.lane
    }

    /// Where clients ask it; its forwarded names come from the agent's `endpoints` listener.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.place.port(self.lane.dns())
    }

    /// The same, with forwarded names from the agent's `vip` listener.
    pub(crate) const fn vip_address(&self) -> SocketAddr {
        self.place.port(self.lane.dns_vip())
    }

    /// Whether it has read its cluster and serves now.
    pub(crate) async fn check(&self) -> Result {
        http::get(self.place, self.lane.dns_ready(), "/ready").await.context("coredns")?;
        Ok(())
    }
}

fn corefile(cluster: &str, place: Place, lane: Lane, kubeconfig: &Path) -> String {
    let address = place.address();
    let (dns, ready, kubeconfig) = (lane.dns(), lane.dns_ready(), kubeconfig.display());
    let local = format!(
        "\
.:{dns} {{
    bind {address}
    errors
    ready {ready}
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {kubeconfig} {cluster}
        ttl 5
    }}
}}
"
    );
    let upstreams = |port| [place.port(port), place.port(port + REPLICA)];
    let endpoints = forwarded(dns, address, upstreams(lane.endpoints()));
    let vip = forwarded(lane.dns_vip(), address, upstreams(lane.vip()));
    local + &endpoints + &vip
}

/// The stanza that an operator is given, with two upstreams, so that an agent may die unnoticed.
fn forwarded(port: u16, address: std::net::Ipv4Addr, [agent, replica]: [SocketAddr; 2]) -> String {
    let upstreams = format!("forward . {agent} {replica} {{");
    let server = format!("global:{port} {{\n    bind {address}");
    include_str!("../../manifests/coredns/stanza")
        .replace("forward . FEDERATOR-DNS {", &upstreams)
        .replace("global:53 {", &server)
}
