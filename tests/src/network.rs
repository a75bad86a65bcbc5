//! The wire: one bridge, a place for each cluster and the store, and who routes pod addresses to whom.
//!
//! Pod addresses are real without being added one by one: the whole range is declared local to its cluster, so
//! a process there can bind any of them, and one that nobody bound refuses connections at once. Only clusters
//! of one network have routes to each other's ranges; elsewhere a pod address is unreachable.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::Result;
use crate::place::{Place, run};
use crate::site::{SITES, places};

/// The namespace of the bridge; nothing else lives in it.
const HUB: &str = "hub";

/// The wire, once laid.
#[derive(Debug)]
pub(crate) struct Network {
    nft: PathBuf,
}

impl Network {
    /// Lays the wire in this sandbox.
    pub(crate) fn lay(nft: PathBuf) -> Result<Self> {
        ip(&format!("netns add {HUB}"))?;
        ip(&format!("-n {HUB} link add br0 type bridge"))?;
        ip(&format!("-n {HUB} link set br0 up"))?;
        for place in places() {
            plug_in(place)?;
        }
        for site in &SITES {
            let (name, pods) = (site.name, site.pod_cidr());
            ip(&format!("-n {name} route add local {pods} dev lo"))?;
            for peer in SITES.iter().filter(|peer| peer.network == site.network && peer.name != name) {
                ip(&format!("-n {} route add {pods} via {}", peer.name, site.place().address()))?;
            }
        }
        Ok(Self { nft })
    }

    /// Drops every frame between two places, in both directions; `table` names the cut for [`Self::heal`].
    pub(crate) fn cut(&self, table: &str, a: Place, b: Place) -> Result {
        let drop = |from: Place, to: Place| format!("iifname {:?} oifname {:?} drop", port(from), port(to));
        self.load(&format!(
            "create table bridge {table}\ntable bridge {table} {{\n chain forward {{\n type filter hook forward priority 0;\n {}\n {}\n }}\n}}\n",
            drop(a, b),
            drop(b, a),
        ))
    }

    /// Takes a cut away.
    pub(crate) fn heal(&self, table: &str) -> Result {
        self.load(&format!("delete table bridge {table}\n"))
    }

    fn load(&self, rules: &str) -> Result {
        let hub = Place::named(HUB, std::net::Ipv4Addr::UNSPECIFIED);
        let mut nft = hub.command(&self.nft);
        nft.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut nft = nft.spawn().context("cannot run nft")?;
        if let Some(mut input) = nft.stdin.take() {
            std::io::Write::write_all(&mut input, rules.as_bytes())?;
        }
        let output = nft.wait_with_output()?;
        ensure!(output.status.success(), "nft: {}\n{rules}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

/// Gives a place its end of a cable and an address.
fn plug_in(place: Place) -> Result {
    let (name, address) = (place.name(), place.address());
    if place.is_sandbox() {
        ip(&format!("link add name eth0 type veth peer name {} netns {HUB}", port(place)))?;
        ip(&format!("addr add {address}/24 dev eth0"))?;
        ip("link set eth0 up")?;
    } else {
        ip(&format!("netns add {name}"))?;
        ip(&format!("-n {name} link set lo up"))?;
        ip(&format!("link add name eth0 netns {name} type veth peer name {} netns {HUB}", port(place)))?;
        ip(&format!("-n {name} addr add {address}/24 dev eth0"))?;
        ip(&format!("-n {name} link set eth0 up"))?;
    }
    ip(&format!("-n {HUB} link set dev {} master br0 up", port(place)))
}

/// A place's port on the bridge.
fn port(place: Place) -> String {
    format!("v-{}", place.name())
}

fn ip(arguments: &str) -> Result {
    run(Command::new(Path::new("ip")).args(arguments.split_whitespace()))
}
