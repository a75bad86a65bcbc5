//! One zone at one moment: who owns what under an apex.
//!
//! The map behind it is persistent: a clone costs nothing, and a change to the clone copies the path to what changed,
//! never the rest. Empty non-terminals are derived: every name counts its children, so a name exists exactly as long
//! as it or something below it was set. A zone does not know questions; see [`answer()`](crate::answer()).

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use hickory_proto::rr::rdata::{NS, SOA};
use hickory_proto::rr::{LowerName, Name, RData, RecordType};
use rpds::HashTrieMapSync;

use crate::node::{Node, RrSet, RrSets, canonical};

/// What one message carries over TCP: 65,535 octets less header, question, SOA and OPT at their largest.
const MAX_RRSET: usize = 64_000;

/// What a zone says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Apex {
    /// The zone's name, `global.` for one.
    pub name: Name,
    /// The SOA's primary server (MNAME).
    pub primary: Name,
    /// The SOA's mailbox (RNAME): `hostmaster.example.` is hostmaster@example.
    pub mailbox: Name,
    /// The zone's servers, at least one. Those inside the zone are owners like any other: set their addresses.
    pub servers: Vec<Name>,
    /// Seconds, of SOA and NS themselves.
    pub ttl: u32,
    /// Seconds; of interest to secondaries only, and there are none.
    pub refresh: i32,
    /// Seconds; as `refresh`.
    pub retry: i32,
    /// Seconds; as `refresh`.
    pub expire: i32,
    /// Seconds that a resolver may remember an absence (the SOA's MINIMUM, RFC 2308, section 4).
    pub negative_ttl: u32,
}

/// An immutable snapshot once it is shared; whoever holds it alone may change it.
#[derive(Clone)]
pub struct Zone {
    apex: Arc<Apex>,
    head: Arc<Head>,
    serial: u32,
    complete: bool,
    names: HashTrieMapSync<LowerName, Entry>,
}

/// Why a zone or a node is not accepted. The zone is unchanged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ZoneError {
    /// Every zone has a server (RFC 1034, section 4.2.1).
    #[error("the zone names no server")]
    NoServer,
    /// The owner is not the apex and not below it.
    #[error("{owner} is outside of the zone")]
    Outside {
        /// Who was to be set.
        owner: Name,
    },
    /// Wildcards (RFC 4592) are not spoken here, so a label `*` would not mean what it says.
    #[error("{owner} has a wildcard label")]
    Wildcard {
        /// Who was to be set.
        owner: Name,
    },
    /// No message could carry it, not even over TCP.
    #[error("{kind} of {owner} takes {octets} octets, more than the {MAX_RRSET} of a message")]
    TooLarge {
        /// Who was to be set.
        owner: Name,
        /// The RRset in question.
        kind: RecordType,
        /// Its size on the wire.
        octets: usize,
    },
}

/// What every zone has at its apex.
struct Head {
    soa: Option<RrSet>,
    negative_soa: Option<RrSet>,
    ns: Option<RrSet>,
    servers: Box<[LowerName]>,
}

/// A name that exists: because it was set, because it has children, or because it is the apex.
#[derive(Debug, Clone, Default, PartialEq)]
struct Entry {
    sets: Option<Arc<RrSets>>,
    /// Names that exist directly below.
    children: u32,
}

/// What there is at a name that exists.
#[derive(Clone, Copy)]
pub(crate) struct Found<'z> {
    owner: &'z Name,
    /// Set when the name is the apex.
    head: Option<&'z Head>,
    /// Absent for an empty non-terminal.
    pub(crate) sets: Option<&'z RrSets>,
}

// === impl Zone ===

impl Zone {
    /// A zone with nothing but its apex, serial 0, not complete.
    ///
    /// # Errors
    ///
    /// [`ZoneError::NoServer`]; [`ZoneError::Wildcard`] for the apex's own name.
    pub fn new(mut apex: Apex) -> Result<Self, ZoneError> {
        let name = canonical(&apex.name);
        apex.name = name.clone().into();
        if apex.servers.is_empty() {
            return Err(ZoneError::NoServer);
        }
        refuse_wildcard(&apex.name)?;
        Ok(Self {
            head: Arc::new(Head::new(&apex, 0)),
            apex: Arc::new(apex),
            serial: 0,
            complete: false,
            names: HashTrieMapSync::new_sync().insert(name, Entry::default()),
        })
    }

    /// Lets `owner` hold this and nothing else; the apex may be an owner too. Says whether that is a change.
    ///
    /// # Errors
    ///
    /// [`ZoneError::Outside`], [`ZoneError::Wildcard`], [`ZoneError::TooLarge`]; what the owner held before stays.
    pub fn set(&mut self, owner: &Name, node: Node) -> Result<bool, ZoneError> {
        let key = canonical(owner);
        if !self.apex.name.zone_of(&key) {
            return Err(ZoneError::Outside { owner: owner.clone() });
        }
        refuse_wildcard(&key)?;
        let sets = RrSets::compile(node);
        if let Some(set) = sets.iter(&key).find(|set| set.octets() > MAX_RRSET) {
            return Err(ZoneError::TooLarge { owner: owner.clone(), kind: set.kind(), octets: set.octets() });
        }
        let known = self.names.get(&key);
        if known.and_then(|entry| entry.sets.as_deref()) == Some(&sets) {
            return Ok(false);
        }
        let children = known.map(|entry| entry.children);
        let entry = Entry { sets: Some(Arc::new(sets)), children: children.unwrap_or_default() };
        self.names.insert_mut(key.clone(), entry);
        if children.is_none() {
            self.announce(&key);
        }
        Ok(true)
    }

    /// Takes from `owner` all it holds; it exists on only if it has descendants. Says whether that is a change.
    pub fn remove(&mut self, owner: &Name) -> bool {
        let key = canonical(owner);
        let Some(entry) = self.names.get(&key).filter(|entry| entry.sets.is_some()) else {
            return false;
        };
        let children = entry.children;
        self.names.insert_mut(key.clone(), Entry { sets: None, children });
        self.prune(key);
        true
    }

    /// Sets the SOA's serial (RFC 1982 arithmetic is the caller's).
    pub fn set_serial(&mut self, serial: u32) {
        self.serial = serial;
        self.head = Arc::new(Head::new(&self.apex, serial));
    }

    /// As long as a zone is not complete, names it does not know get SERVFAIL instead of NXDOMAIN.
    pub fn set_complete(&mut self, complete: bool) {
        self.complete = complete;
    }

    /// What the zone says about itself.
    pub fn apex(&self) -> &Apex {
        &self.apex
    }

    /// The SOA's serial.
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// Whether an absent name is known to be absent.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether `name` is the apex or below it.
    pub(crate) fn covers(&self, name: &LowerName) -> bool {
        self.apex.name.zone_of_case(name)
    }

    /// What there is at `name`; `None` when neither it nor a descendant was set.
    pub(crate) fn find(&self, name: &LowerName) -> Option<Found<'_>> {
        let (owner, entry) = self.names.get_key_value(name)?;
        let is_apex = name.iter().len() == self.apex.name.iter().len();
        Some(Found { owner, head: is_apex.then_some(&*self.head), sets: entry.sets.as_deref() })
    }

    /// The SOA as negative answers carry it.
    pub(crate) fn negative_soa(&self) -> Option<&RrSet> {
        self.head.negative_soa.as_ref()
    }

    /// A name came into being: its parent has one child more, and may come into being with it.
    fn announce(&mut self, name: &LowerName) {
        let mut parent = name.base_name();
        while parent.iter().len() >= self.apex.name.iter().len() {
            if let Some(entry) = self.names.get_mut(&parent) {
                entry.children += 1;
                return;
            }
            let entry = Entry { sets: None, children: 1 };
            self.names.insert_mut(parent.clone(), entry);
            parent = parent.base_name();
        }
    }

    /// Ends a name without data and children, and then perhaps its parent; the apex stays.
    fn prune(&mut self, mut name: LowerName) {
        while name.iter().len() > self.apex.name.iter().len() && self.names.get(&name).is_some_and(Entry::is_idle) {
            self.names.remove_mut(&name);
            name = name.base_name();
            if let Some(parent) = self.names.get_mut(&name) {
                parent.children -= 1;
            }
        }
    }
}

/// Same apex, same serial, same names holding the same.
impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        (&self.apex, self.serial, self.complete) == (&other.apex, other.serial, other.complete)
            && self.names == other.names
    }
}

/// Master file form, SOA and NS first, then in canonical order (RFC 4034, section 6.1): for people, and to compare.
impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<_> = self.names.iter().collect();
        names.sort_unstable_by_key(|(name, _)| *name);
        let nodes = names.into_iter().filter_map(|(name, entry)| Some((name, entry.sets.as_deref()?)));
        let nodes = nodes.flat_map(|(name, sets)| sets.iter(name)).map(Cow::Owned);
        let head = [&self.head.soa, &self.head.ns].into_iter().flatten().map(Cow::Borrowed);
        for set in head.chain(nodes) {
            set.records().iter().try_for_each(|record| writeln!(f, "{record}"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zone")
            .field("apex", &self.apex.name)
            .field("serial", &self.serial)
            .field("complete", &self.complete)
            .field("names", &self.names.size())
            .finish()
    }
}

// === impl Head ===

impl Head {
    fn new(apex: &Apex, serial: u32) -> Self {
        let soa = |ttl| {
            let soa = SOA::new(
                apex.primary.clone(),
                apex.mailbox.clone(),
                serial,
                apex.refresh,
                apex.retry,
                apex.expire,
                apex.negative_ttl,
            );
            RrSet::new(&apex.name, ttl, [RData::SOA(soa)])
        };
        let mut servers: Vec<LowerName> = apex.servers.iter().map(canonical).collect();
        servers.sort_unstable();
        servers.dedup();
        let ns = servers.iter().map(|server| RData::NS(NS(server.into())));
        Self {
            soa: soa(apex.ttl),
            // RFC 2308, section 3: the smaller of the two, because resolvers differ in which one they look at.
            negative_soa: soa(apex.ttl.min(apex.negative_ttl)),
            ns: RrSet::new(&apex.name, apex.ttl, ns),
            servers: servers.into_boxed_slice(),
        }
    }
}

// === impl Entry ===

impl Entry {
    fn is_idle(&self) -> bool {
        self.sets.is_none() && self.children == 0
    }
}

// === impl Found ===

impl<'z> Found<'z> {
    /// The RRset of that type.
    pub(crate) fn get(&self, kind: RecordType) -> Option<Cow<'z, RrSet>> {
        match (kind, self.head) {
            (RecordType::SOA, Some(head)) => head.soa.as_ref().map(Cow::Borrowed),
            (RecordType::NS, Some(head)) => head.ns.as_ref().map(Cow::Borrowed),
            _ => self.sets?.get(self.owner, kind).map(Cow::Owned),
        }
    }

    /// Any RRset (RFC 8482, section 4.1).
    pub(crate) fn any(&self) -> Option<Cow<'z, RrSet>> {
        let soa = self.head.and_then(|head| head.soa.as_ref());
        soa.map(Cow::Borrowed).or_else(|| self.sets?.iter(self.owner).next().map(Cow::Owned))
    }

    /// The names whose addresses belong to an answer of that type as additional data.
    pub(crate) fn targets(&self, kind: RecordType) -> Cow<'z, [LowerName]> {
        match (kind, self.head, self.sets) {
            (RecordType::NS, Some(head), _) => Cow::Borrowed(&head.servers),
            (RecordType::SRV, _, Some(sets)) => Cow::Owned(sets.targets()),
            _ => Cow::Borrowed(&[]),
        }
    }
}

fn refuse_wildcard(owner: &Name) -> Result<(), ZoneError> {
    if owner.iter().any(|label| label == b"*") {
        return Err(ZoneError::Wildcard { owner: owner.clone() });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
