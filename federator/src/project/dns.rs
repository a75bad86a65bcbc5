//! The zones that are served, kept equal to a View: the fleet's own, one a cluster for what that has, one for each alias
//! outside of these, and those of virtual addresses in reverse. What a name means is for [`names`] to say; here is only the
//! keeping of the zones.

pub mod located;
pub mod names;
mod reverse;

use super::{Cursor, aliases::Named};
use crate::{
    config::rules::ImportRules,
    gather::Gathered,
    lookup::chase::{Chased, Wanted},
};
use dns::{Apex, Name, Node, Stale, Zone, ZoneError};
use located::{Hosts, hosts_of};
use model::{
    export::{AnswerMode, Host, Kind, per_cluster},
    merge::Service,
    name::{ClusterId, ServiceKey},
    reach::Place,
    view::View,
    vip::{Vip, VipRanges},
};
use names::{Around, Namer};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    num::NonZero,
    str::FromStr as _,
    sync::Arc,
};

/// What `version.bind` answers.
const VERSION: &str = concat!("federator ", env!("CARGO_PKG_VERSION"));

/// The version of the names' grammar (DNS specification of multi-cluster services), and for how many seconds it is known.
const DNS_VERSION: (&str, u32) = ("1.0.0", 28_800);

/// Below this label of the zone is what is below the zone: who knows services by `<svc>.<ns>.svc` need not think anew.
const MIRROR: &str = "svc";

/// What zones are counted as, by the number that each is given: the fleet's own, those of clusters, aliases, and addresses
/// in reverse.
pub const GROUPS: [&str; 4] = ["fleet", "cluster", "alias", "reverse"];
const CLUSTER: u8 = 1;
const ALIAS: u8 = 2;
const REVERSE: u8 = 3;

/// What a zone projection needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the agent is.
    pub place: Place,
    /// The zone, without a final dot.
    pub zone: Arc<str>,
    /// Seconds an answer may be kept.
    pub ttl: u32,
    /// The longest that a service may ask for instead.
    pub longest_ttl: u32,
    /// The addresses of the zone's server.
    pub servers: Vec<IpAddr>,
    /// Where virtual addresses come from.
    pub vips: VipRanges,
    /// Whether others know names in the zone too.
    pub shared: bool,
    /// Seconds the answer that there is none may be kept.
    pub negative_ttl: u32,
    /// With fewer endpoints than these, farther ones are taken too.
    pub min_answers: usize,
    /// Most addresses in one answer, but for a headless service.
    pub max_answers: NonZero<u16>,
    /// The serial to begin with; RFC 1982 counts on from there.
    pub serial: u32,
}

/// Zones kept equal to a View.
#[derive(Debug)]
pub struct Zones {
    apex: Apex,
    config: Config,
    cursor: Cursor,
    modes: BTreeMap<AnswerMode, Mode>,
    /// Where services have names beside their own.
    placed: HashMap<ServiceKey, Placed>,
    hosts: Hosts,
    revision_name: Name,
    serial: u32,
    is_complete: bool,
}

/// Where a service has names beside its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Placed {
    clusters: Vec<ClusterId>,
    aliases: Vec<Host>,
    vip: Option<Vip>,
    /// The host names of its endpoints that are to be looked up.
    hosts: BTreeSet<Arc<str>>,
}

/// The zones of one answer mode.
#[derive(Debug)]
struct Mode {
    namer: Namer,
    /// The fleet's own.
    zone: Zone,
    /// What each cluster has.
    clusters: BTreeMap<ClusterId, Zone>,
    /// Aliases outside of the fleet's zone.
    aliases: BTreeMap<Host, Zone>,
    /// Virtual addresses in reverse, by their apexes.
    reverse: BTreeMap<String, Zone>,
    /// All of them, as they are handed out.
    served: dns::Zones,
}

/// What makes a zone impossible.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ZonesError {
    /// The zone's name is none.
    #[error("zone `{0}` is not a DNS name")]
    Name(Arc<str>),
    /// The zone itself.
    #[error(transparent)]
    Zone(#[from] ZoneError),
}

// === impl Zones ===

impl Zones {
    /// Empty zones for these modes. Until told otherwise they say of no name that it does not exist.
    ///
    /// # Errors
    /// [`ZonesError`], when the zone's name cannot be one.
    pub fn new(config: Config, modes: impl IntoIterator<Item = AnswerMode>) -> Result<Self, ZonesError> {
        let name = |text: &str| Name::from_str(text).map_err(|_| ZonesError::Name(config.zone.clone()));
        let apex = Apex {
            name: name(&format!("{}.", config.zone))?,
            primary: name(&format!("ns.{}.", config.zone))?,
            // A mailbox at a name that exists, and that is more than a top-level domain.
            mailbox: name(&format!("hostmaster.ns.{}.", config.zone))?,
            servers: vec![name(&format!("ns.{}.", config.zone))?],
            ttl: config.ttl,
            // For secondaries, of which there are none; checkers have opinions about them.
            refresh: 14_400,
            retry: 3600,
            expire: 604_800,
            negative_ttl: config.negative_ttl,
        };
        let revision_name = name(&format!("_revision.{}.", config.zone))?;
        let version_name = name(&format!("dns-version.{}.", config.zone))?;
        let mut zone = Zone::new(apex.clone())?;
        zone.mirror(MIRROR);
        zone.set_shared(config.shared);
        zone.set(&apex.primary, server(&config))?;
        let (version, ttl) = DNS_VERSION;
        zone.set(&version_name, Node { ttl, txt: vec![version.to_owned()], ..Node::default() })?;
        let mut reverse = BTreeMap::new();
        for text in reverse::apexes(&config.vips) {
            let mut zone = Zone::new(Apex { name: name(&format!("{text}."))?, ..apex.clone() })?;
            zone.set_group(REVERSE);
            reverse.insert(text, zone);
        }
        let mode = |mode| {
            let namer = Namer {
                place: config.place.clone(),
                zone: config.zone.clone(),
                ttl: config.ttl,
                longest_ttl: config.longest_ttl,
                mode,
                min_answers: config.min_answers,
                max_answers: config.max_answers,
            };
            let mut served = dns::Zones::default();
            served.set_version(VERSION);
            served.set(Arc::new(zone.clone()));
            reverse.values().for_each(|zone| served.set(Arc::new(zone.clone())));
            let (clusters, aliases, reverse) = (BTreeMap::new(), BTreeMap::new(), reverse.clone());
            (mode, Mode { namer, zone: zone.clone(), clusters, aliases, reverse, served })
        };
        let modes = modes.into_iter().map(mode).collect();
        let serial = config.serial;
        Ok(Self {
            apex,
            config,
            cursor: Cursor::default(),
            modes,
            placed: HashMap::new(),
            hosts: Hosts::default(),
            revision_name,
            serial,
            is_complete: false,
        })
    }

    /// Sets what is imported, from the next update on.
    pub fn set_rules(&mut self, rules: ImportRules) {
        self.cursor.set_rules(rules);
    }

    /// Sets what is known of host names, from the next update on.
    pub fn set_chased(&mut self, chased: Chased) {
        self.cursor.touch(self.hosts.learn(chased));
    }

    /// The host names that endpoints have.
    #[must_use]
    pub fn wanted(&self) -> &Wanted {
        self.hosts.wanted()
    }

    /// Whether something is known of each of them.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.hosts.is_settled()
    }

    /// Brings the zones to what was gathered, and hands them out.
    pub fn update(&mut self, gathered: &Gathered) -> BTreeMap<AnswerMode, dns::Zones> {
        let due = self.cursor.advance(&gathered.view);
        self.serial = self.serial.wrapping_add(1);
        let mut changes = Vec::with_capacity(due.services.len());
        for (key, service) in due.services {
            let placed =
                service.as_deref().map(|service| Placed::new(service, &self.cursor.named(service), &self.config.zone));
            let before = match placed.clone() {
                Some(placed) => self.placed.insert(key.clone(), placed),
                None => self.placed.remove(&key),
            };
            let (before, now) = (before.unwrap_or_default(), placed.unwrap_or_default());
            self.hosts.set(&key, &before.hosts, &now.hosts);
            changes.push(Change { key, service, before, now });
        }
        let around = Around { networks: &due.networks, located: &self.hosts };
        let fresh = Fresh { apex: &self.apex, around, complete: gathered.complete, serial: self.serial };
        let revision = revision_text(gathered);
        let turned = std::mem::replace(&mut self.is_complete, gathered.complete) != gathered.complete;
        for mode in self.modes.values_mut() {
            mode.keep_clusters(&fresh, &gathered.view);
            // An alias may be another service's now.
            changes.iter().for_each(|change| mode.take_away(change));
            changes.iter().for_each(|change| mode.put(&fresh, change));
            let txt = Node { ttl: 0, txt: vec![revision.clone()], ..Node::default() };
            if let Err(error) = mode.zone.set(&self.revision_name, txt) {
                tracing::warn!(name = %self.revision_name, %error, "name left out");
            }
            mode.serve(&fresh, turned, &changes);
        }
        self.served()
    }

    /// Sets what answers say because of their age, from the next update on.
    pub fn set_stale(&mut self, stale: Option<Stale>) {
        self.modes.values_mut().for_each(|mode| mode.served.set_stale(stale));
    }

    /// The serial of the last update.
    #[must_use]
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// What is handed out at the moment.
    pub fn served(&self) -> BTreeMap<AnswerMode, dns::Zones> {
        self.modes.iter().map(|(mode, kept)| (*mode, kept.served.clone())).collect()
    }

    /// Where answers are given from.
    pub fn place(&self) -> &Place {
        &self.config.place
    }
}

/// What became of a service.
struct Change {
    key: ServiceKey,
    /// `None` when there is nothing of it any more.
    service: Option<Arc<Service>>,
    before: Placed,
    now: Placed,
}

/// What all zones have in common in one update.
struct Fresh<'a> {
    apex: &'a Apex,
    around: Around<'a>,
    complete: bool,
    serial: u32,
}

// === impl Placed ===

impl Placed {
    /// Host names in the fleet's own zone lead back here, where they could be what they lead to: nobody looks them up.
    fn new(service: &Service, named: &Named, zone: &str) -> Self {
        let clusters = service.exports.iter().map(|(cluster, _)| cluster.clone()).collect();
        let vip = service.vip.filter(|_| service.kind == Kind::ClusterIp);
        let is_ours = |host: &str| host.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        let hosts = hosts_of(service).filter(|host| !is_ours(host)).cloned().collect();
        Self { clusters, aliases: named.held.clone(), vip, hosts }
    }
}

// === impl Fresh ===

impl Fresh<'_> {
    /// A zone with nothing in it but what every zone has.
    fn zone(&self, apex: &str, group: u8) -> Option<Zone> {
        let name = Name::from_ascii(format!("{apex}.")).ok()?;
        let mut zone = Zone::new(Apex { name, ..self.apex.clone() }).ok()?;
        zone.set_group(group);
        zone.set_complete(self.complete);
        Some(zone)
    }
}

// === impl Mode ===

impl Mode {
    /// There is a zone for every cluster that there is.
    fn keep_clusters(&mut self, fresh: &Fresh<'_>, view: &View) {
        let gone: Vec<ClusterId> =
            self.clusters.keys().filter(|id| !view.clusters().contains_key(*id)).cloned().collect();
        for id in gone {
            if let Some(zone) = self.clusters.remove(&id) {
                self.served.remove(&zone.apex().name);
            }
        }
        for id in view.clusters().keys() {
            if !self.clusters.contains_key(id)
                && let Some(zone) = fresh.zone(&format!("svc.cluster.{id}"), CLUSTER)
            {
                self.served.set(Arc::new(zone.clone()));
                self.clusters.insert(id.clone(), zone);
            }
        }
    }

    /// Removes names that a service has no more.
    fn take_away(&mut self, Change { key, before, now, .. }: &Change) {
        for cluster in before.clusters.iter().filter(|cluster| !now.clusters.contains(cluster)) {
            if let Some(zone) = self.clusters.get_mut(cluster) {
                name(&per_cluster(key, cluster)).map(|owner| zone.remove(&owner));
            }
        }
        for alias in before.aliases.iter().filter(|alias| !now.aliases.contains(alias)) {
            match self.aliases.remove(alias) {
                Some(zone) => self.served.remove(&zone.apex().name),
                None => _ = name(alias.as_str()).map(|owner| self.zone.remove(&owner)),
            }
        }
        for address in before.vip.filter(|_| before.vip != now.vip).into_iter().flat_map(reverse::names) {
            if let Some((_, zone)) = around(&mut self.reverse, &address) {
                name(&address).map(|owner| zone.remove(&owner));
            }
        }
    }

    /// Sets all names of a service anew.
    fn put(&mut self, fresh: &Fresh<'_>, Change { key, service, now, .. }: &Change) {
        let Self { namer, zone, clusters, aliases, reverse, .. } = self;
        let Some(owner) = namer.owner(key) else { return };
        let Some(service) = service.as_deref() else {
            zone.remove(&owner);
            return;
        };
        set(zone, &owner, namer.names_at(fresh.around, service, &owner));
        for cluster in &now.clusters {
            if let Some((zone, owner)) = clusters.get_mut(cluster).zip(name(&per_cluster(key, cluster))) {
                set(zone, &owner, namer.part_at(fresh.around, service, cluster, &owner));
            }
        }
        for address in now.vip.into_iter().flat_map(reverse::names) {
            if let Some(((_, zone), at)) = around(reverse, &address).zip(name(&address)) {
                let node = Node { ttl: namer.ttl, ptr: vec![owner.clone()], ..Node::default() };
                set(zone, &at, vec![(at.clone(), node)]);
            }
        }
        for alias in &now.aliases {
            let Some(owner) = name(alias.as_str()) else { continue };
            let names = namer.names_at(fresh.around, service, &owner);
            if alias.is_under(&namer.zone) {
                set(zone, &owner, names);
            } else if let Some(mut apex) = fresh.zone(alias.as_str(), ALIAS) {
                set(&mut apex, &owner, names);
                aliases.insert(alias.clone(), apex);
            }
        }
    }

    /// Hands out what has changed; everything, where it has `turned` out whether names may be absent.
    fn serve(&mut self, fresh: &Fresh<'_>, turned: bool, changes: &[Change]) {
        let touched = || changes.iter().flat_map(|Change { before, now, .. }| [before, now]);
        let mut clusters: BTreeSet<ClusterId> = touched().flat_map(|placed| placed.clusters.iter().cloned()).collect();
        let mut aliases: BTreeSet<Host> = touched().flat_map(|placed| placed.aliases.iter().cloned()).collect();
        let vips = touched().filter_map(|placed| placed.vip).flat_map(reverse::names);
        let mut reversed: BTreeSet<String> =
            vips.filter_map(|address| around(&mut self.reverse, &address).map(|(apex, _)| apex.clone())).collect();
        if turned {
            reversed.extend(self.reverse.keys().cloned());
            clusters.extend(self.clusters.keys().cloned());
            aliases.extend(self.aliases.keys().cloned());
        }
        let mut serve = |zone: &mut Zone| {
            zone.set_complete(fresh.complete);
            zone.set_serial(fresh.serial);
            self.served.set(Arc::new(zone.clone()));
        };
        clusters.iter().for_each(|id| _ = self.clusters.get_mut(id).map(&mut serve));
        aliases.iter().for_each(|host| _ = self.aliases.get_mut(host).map(&mut serve));
        reversed.iter().for_each(|apex| _ = self.reverse.get_mut(apex).map(&mut serve));
        serve(&mut self.zone);
    }
}

/// The zone that a name is in.
fn around<'a>(zones: &'a mut BTreeMap<String, Zone>, name: &str) -> Option<(&'a String, &'a mut Zone)> {
    zones.iter_mut().find(|(apex, _)| name.strip_suffix(&***apex).is_some_and(|rest| rest.ends_with('.')))
}

/// What the zone's server has, which may have no address that is known.
fn server(config: &Config) -> Node {
    let mut node = Node { ttl: config.ttl, ..Node::default() };
    for address in &config.servers {
        match address {
            IpAddr::V4(v4) => node.a.push(*v4),
            IpAddr::V6(v6) => node.aaaa.push(*v6),
        }
    }
    node
}

/// Replaces the names at and below an owner.
fn set(zone: &mut Zone, owner: &Name, names: Vec<(Name, Node)>) {
    // Names are made of checked labels, so only their length can be wrong, or that they hold too much.
    match zone.set_all(owner, names) {
        Ok((_, left_out)) => {
            for error in left_out {
                tracing::warn!(%error, "name left out");
            }
        }
        Err(error) => tracing::warn!(%owner, %error, "names left out"),
    }
}

/// A name by its text; `None` when it is too long for DNS.
fn name(text: &str) -> Option<Name> {
    Name::from_ascii(format!("{text}.")).ok()
}

/// `revision`, or `revision+local` while this agent uses what it sees itself.
#[must_use]
pub fn revision_text(gathered: &Gathered) -> String {
    match gathered.local {
        0 => gathered.view.revision().to_string(),
        local => format!("{}+{local}", gathered.view.revision()),
    }
}

#[cfg(test)]
mod tests;
