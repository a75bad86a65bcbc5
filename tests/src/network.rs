//! The wire: one bridge, a place for each cluster and the store, and who routes pod addresses to whom.
//!
//! Pod addresses are real without being added one by one: the whole range is declared local to its cluster, so
//! a process there can bind any of them, and one that nobody bound refuses connections at once. Only clusters
//! of one network have routes to each other's ranges; elsewhere a pod address is unreachable.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::Result;
use crate::place::{Place, run};
use crate::site::{SITES, Site, places};

/// The namespace of the bridge; nothing else lives in it.
const HUB: &str = "hub";
const HUB_PLACE: Place = Place::named(HUB, Ipv4Addr::UNSPECIFIED);

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
            ip(&format!("-n {} route add local {} dev lo", site.name, site.pod_cidr()))?;
            peers(site).try_for_each(|peer| route("add", peer, site))?;
        }
        Ok(Self { nft })
    }

    /// Adds a place that was not there from the beginning.
    pub(crate) fn plug_in(&self, place: Place) -> Result {
        plug_in(place)
    }

    /// Takes away what [`Self::plug_in`] has made; processes in there keep their namespace, which nobody reaches.
    pub(crate) fn unplug(&self, place: Place) -> Result {
        ip(&format!("-n {HUB} link delete {}", port(place)))?;
        ip(&format!("netns delete {}", place.name()))
    }

    /// Adds a cluster that was not there from the beginning.
    pub(crate) fn add(&self, site: &Site) -> Result {
        self.plug_in(site.place())?;
        ip(&format!("-n {} route add local {} dev lo", site.name, site.pod_cidr()))?;
        peers(site).try_for_each(|peer| {
            route("add", peer, site)?;
            route("add", site, peer)
        })
    }

    /// Takes away what [`Self::add`] has made.
    pub(crate) fn remove(&self, site: &Site) -> Result {
        self.unplug(site.place())?;
        peers(site).try_for_each(|peer| route("delete", peer, site))
    }

    /// Drops every frame between two places, in both directions; `table` names the cut for [`Self::heal`].
    pub(crate) fn cut(&self, table: &str, a: Place, b: Place) -> Result {
        let drop = |from: Place, to: Place| format!("iifname {:?} oifname {:?} drop", port(from), port(to));
        self.load(HUB_PLACE, &format!(
            "create table bridge {table}\ntable bridge {table} {{\n chain forward {{\n type filter hook forward priority 0;\n {}\n {}\n }}\n}}\n",
            drop(a, b),
            drop(b, a),
        ))
    }

    /// Takes a cut away.
    pub(crate) fn heal(&self, table: &str) -> Result {
        self.load(HUB_PLACE, &format!("delete table bridge {table}\n"))
    }

    /// Has what an address of a place sends by TCP into a range arrive at a port of that place instead. The range needs a
    /// route, because the kernel looks for one first; what others send there is lost.
    pub(crate) fn redirect(&self, place: Place, from: IpAddr, range: &str, port: u16) -> Result {
        ip(&format!("-n {} route add {range} dev lo", place.name()))?;
        self.load(place, &format!(
            "table inet capture {{\n chain output {{\n type nat hook output priority -100;\n ip saddr {from} ip daddr {range} meta l4proto tcp redirect to :{port}\n }}\n}}\n",
        ))
    }

    fn load(&self, place: Place, rules: &str) -> Result {
        let mut nft = place.command(&self.nft);
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

/// The clusters that are always there and reach the pods of this one.
fn peers(of: &Site) -> impl Iterator<Item = &'static Site> {
    SITES.iter().filter(|peer| peer.network == of.network && peer.name != of.name)
}

/// Adds or deletes the way of a cluster to the pods of another.
fn route(verb: &str, from: &Site, to: &Site) -> Result {
    ip(&format!("-n {} route {verb} {} via {}", from.name, to.pod_cidr(), to.place().address()))
}

/// A place that no wire leads to, with a device of its own beside the loopback, and these addresses.
pub(crate) fn alone(place: Place, more: &[Ipv4Addr]) -> Result {
    let name = place.name();
    ip(&format!("netns add {name}"))?;
    ip(&format!("-n {name} link set lo up"))?;
    // The other end is in there too: a device whose cable leads nowhere is down.
    ip(&format!("link add name eth0 netns {name} type veth peer name eth1 netns {name}"))?;
    for device in ["eth0", "eth1"] {
        ip(&format!("-n {name} link set {device} up"))?;
    }
    [place.address()]
        .iter()
        .chain(more)
        .try_for_each(|address| ip(&format!("-n {name} addr add {address}/24 dev eth0")))
}

/// Gives a place its end of a cable and an address, and always the same hardware address: whoever knew the one that had
/// this place before would send to nobody for up to a minute.
fn plug_in(place: Place) -> Result {
    let (name, address) = (place.name(), place.address());
    let hardware = format!("address 02:00:00:00:00:{:02x}", address.octets()[3]);
    if place.is_sandbox() {
        ip(&format!("link add name eth0 {hardware} type veth peer name {} netns {HUB}", port(place)))?;
        ip(&format!("addr add {address}/24 dev eth0"))?;
        ip("link set eth0 up")?;
    } else {
        ip(&format!("netns add {name}"))?;
        ip(&format!("-n {name} link set lo up"))?;
        ip(&format!("link add name eth0 {hardware} netns {name} type veth peer name {} netns {HUB}", port(place)))?;
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
