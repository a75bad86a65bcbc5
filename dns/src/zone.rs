//! One zone at one moment: who owns what under an apex.
//!
//! The map behind it is persistent: a clone costs nothing, and a change to the clone copies the path to what changed,
//! never the rest. Its entries are the owners that were set, each perhaps with names below it that come and go with it.
//! Empty non-terminals are derived: every entry counts its children, so a name exists exactly as long as it or something
//! below it was set. A zone does not know questions; see [`answer()`](crate::answer()).

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use hickory_proto::rr::rdata::{NS, SOA};
use hickory_proto::rr::{LowerName, Name, RData, RecordType};
use rpds::HashTrieMapSync;

use crate::node::{ExtendedError, Node, RrSet, Why, canonical};
use crate::tree::{Asked, Data, Held, Path, Tree, ends, labels};

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
    /// By their paths below the apex.
    names: HashTrieMapSync<Box<[u8]>, Entry>,
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
    /// What was set here and below.
    tree: Option<Tree>,
    /// Entries directly below.
    children: u32,
}

/// What there is at a name that exists.
#[derive(Clone, Copy)]
pub(crate) struct Found<'z, 'q> {
    asked: Asked<'q>,
    /// Set when the name is the apex.
    head: Option<&'z Head>,
    /// Absent for an empty non-terminal.
    data: Option<Data<'z>>,
}

// === impl Zone ===

impl Zone {
    /// A zone with nothing but its apex, serial 0, not complete.
    ///
    /// # Errors
    ///
    /// [`ZoneError::NoServer`]; [`ZoneError::Wildcard`] for the apex's own name.
    pub fn new(mut apex: Apex) -> Result<Self, ZoneError> {
        apex.name = canonical(&apex.name).into();
        if apex.servers.is_empty() {
            return Err(ZoneError::NoServer);
        }
        refuse_wildcard(&apex.name)?;
        Ok(Self {
            head: Arc::new(Head::new(&apex, 0)),
            apex: Arc::new(apex),
            serial: 0,
            complete: false,
            names: HashTrieMapSync::new_sync().insert(Box::default(), Entry::default()),
        })
    }

    /// Lets `owner` hold this and nothing else; the apex may be an owner too. Says whether that is a change.
    ///
    /// # Errors
    ///
    /// [`ZoneError::Outside`], [`ZoneError::Wildcard`], [`ZoneError::TooLarge`]; what the owner held before stays.
    pub fn set(&mut self, owner: &Name, node: Node) -> Result<bool, ZoneError> {
        let path = self.path(owner)?;
        fits(owner, &node)?;
        Ok(self.put(&path, Tree::compile(&canonical(owner), vec![(Path::new(&Name::root(), 0), node)])))
    }

    /// Lets `owner` and the names below it hold these and nothing else; they go together with [`Self::remove`]. It costs
    /// little more than one name. Nothing else may be set below `owner` then. A name whose data is too large exists
    /// without any. Says whether that is a change, and what is not as it should be.
    ///
    /// # Errors
    ///
    /// [`ZoneError::Outside`], [`ZoneError::Wildcard`] for any of the names; what they held before stays.
    pub fn set_all(
        &mut self,
        owner: &Name,
        nodes: impl IntoIterator<Item = (Name, Node)>,
    ) -> Result<(bool, Vec<ZoneError>), ZoneError> {
        let (path, key) = (self.path(owner)?, canonical(owner));
        let (mut held, mut errors) = (Vec::new(), Vec::new());
        for (name, mut node) in nodes {
            let lower = canonical(&name);
            if !key.zone_of(&lower) {
                return Err(ZoneError::Outside { owner: name });
            }
            refuse_wildcard(&lower)?;
            if let Err(error) = fits(&name, &node) {
                let why = Why::new(ExtendedError::Other, "more than a message can carry");
                node = Node { why_empty: Some(why), ..Node::default() };
                errors.push(error);
            }
            held.push((Path::new(&lower, key.iter().len()), node));
        }
        if held.is_empty() {
            return Ok((self.remove(owner), errors));
        }
        Ok((self.put(&path, Tree::compile(&key, held)), errors))
    }

    fn put(&mut self, path: &Path, tree: Tree) -> bool {
        let known = self.names.get(path.octets());
        if known.and_then(|entry| entry.tree.as_ref()) == Some(&tree) {
            return false;
        }
        let children = known.map(|entry| entry.children);
        let entry = Entry { tree: Some(tree), children: children.unwrap_or_default() };
        self.names.insert_mut(path.octets().into(), entry);
        if children.is_none() {
            self.announce(path.octets());
        }
        true
    }

    /// Takes from `owner` all that was set with it; it exists on only if it has other descendants. Says whether that is
    /// a change.
    pub fn remove(&mut self, owner: &Name) -> bool {
        let Ok(path) = self.path(owner) else { return false };
        let Some(entry) = self.names.get(path.octets()).filter(|entry| entry.tree.is_some()) else {
            return false;
        };
        let children = entry.children;
        self.names.insert_mut(path.octets().into(), Entry { tree: None, children });
        self.prune(path.octets());
        true
    }

    /// The path of an owner below the apex.
    fn path(&self, owner: &Name) -> Result<Path, ZoneError> {
        let key = canonical(owner);
        if !self.apex.name.zone_of(&key) {
            return Err(ZoneError::Outside { owner: owner.clone() });
        }
        refuse_wildcard(&key)?;
        Ok(Path::new(&key, self.apex.name.iter().len()))
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

    /// What there is at `name`, which is covered; `None` when neither it nor a descendant was set.
    pub(crate) fn find<'q>(&self, name: &'q LowerName) -> Option<Found<'_, 'q>> {
        let path = Path::new(name, self.apex.name.iter().len());
        let path = path.octets();
        let head = path.is_empty().then_some(&*self.head);
        let entry = self.names.get(path);
        // Nearly every name that is asked for is an owner itself.
        if let Some(Held::Data(data)) = entry.and_then(|entry| entry.tree.as_ref()).map(|tree| tree.find(&[])) {
            return Some(Found { asked: Asked { name, below: 0 }, head, data: Some(data) });
        }
        let ends = ends(path);
        let held = ends.iter().rev().enumerate().find_map(|(below, end)| {
            let tree = self.names.get(&path[..*end])?.tree.as_ref()?;
            match tree.find(&path[*end..]) {
                Held::Data(data) => Some((below, Some(data))),
                Held::Above => Some((below, None)),
                Held::Nothing => None,
            }
        });
        let (below, data) = held.or_else(|| entry.map(|_| (0, None)))?;
        Some(Found { asked: Asked { name, below }, head, data })
    }

    /// The SOA as negative answers carry it.
    pub(crate) fn negative_soa(&self) -> Option<&RrSet> {
        self.head.negative_soa.as_ref()
    }

    /// An entry came into being: its parent has one child more, and may come into being with it.
    fn announce(&mut self, path: &[u8]) {
        for end in ends(path).into_iter().rev().skip(1) {
            let parent = &path[..end];
            if let Some(entry) = self.names.get_mut(parent) {
                entry.children += 1;
                return;
            }
            self.names.insert_mut(parent.into(), Entry { tree: None, children: 1 });
        }
    }

    /// Ends an entry without data and children, and then perhaps its parent; the apex stays.
    fn prune(&mut self, path: &[u8]) {
        let ends = ends(path);
        for (end, parent) in ends.iter().rev().zip(ends.iter().rev().skip(1)) {
            if !self.names.get(&path[..*end]).is_some_and(Entry::is_idle) {
                return;
            }
            self.names.remove_mut(&path[..*end]);
            if let Some(parent) = self.names.get_mut(&path[..*parent]) {
                parent.children -= 1;
            }
        }
    }

    /// Everything that is held, by name.
    fn owners(&self) -> Vec<(LowerName, usize, Data<'_>)> {
        let apex: Vec<&[u8]> = self.apex.name.iter().collect();
        let trees = self.names.iter().filter_map(|(path, entry)| Some((path, entry.tree.as_ref()?)));
        let names = trees.flat_map(|(path, tree)| {
            tree.iter()
                .filter_map(|(below, data)| {
                    let below = labels(below);
                    let path = labels(path);
                    let all = below.iter().rev().chain(path.iter().rev()).chain(&apex).copied();
                    Some((LowerName::from(Name::from_labels(all).ok()?), below.len(), data))
                })
                .collect::<Vec<_>>()
        });
        let mut names: Vec<_> = names.collect();
        names.sort_unstable_by(|(a, ..), (b, ..)| a.cmp(b));
        names
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
        let owners = self.owners();
        let sets = owners.iter().flat_map(|(name, below, data)| data.iter(Asked { name, below: *below }));
        let nodes = sets.map(Cow::Owned);
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
        self.tree.is_none() && self.children == 0
    }
}

// === impl Found ===

impl<'z> Found<'z, '_> {
    /// The RRset of that type.
    pub(crate) fn get(&self, kind: RecordType) -> Option<Cow<'z, RrSet>> {
        match (kind, self.head) {
            (RecordType::SOA, Some(head)) => head.soa.as_ref().map(Cow::Borrowed),
            (RecordType::NS, Some(head)) => head.ns.as_ref().map(Cow::Borrowed),
            _ => self.data?.get(self.asked, kind).map(Cow::Owned),
        }
    }

    /// Any RRset (RFC 8482, section 4.1).
    pub(crate) fn any(&self) -> Option<Cow<'z, RrSet>> {
        let soa = self.head.and_then(|head| head.soa.as_ref());
        soa.map(Cow::Borrowed).or_else(|| self.data?.iter(self.asked).next().map(Cow::Owned))
    }

    /// The names whose addresses belong to an answer of that type as additional data.
    pub(crate) fn targets(&self, kind: RecordType) -> Cow<'z, [LowerName]> {
        match (kind, self.head, self.data) {
            (RecordType::NS, Some(head), _) => Cow::Borrowed(&head.servers),
            (RecordType::SRV, _, Some(data)) => Cow::Owned(data.targets(self.asked)),
            _ => Cow::Borrowed(&[]),
        }
    }

    /// Says why a question for a type that is missing here gets NODATA.
    pub(crate) fn why(&self) -> Option<Why> {
        self.data?.why()
    }
}

/// Whether one message can carry each of its RRsets.
fn fits(owner: &Name, node: &Node) -> Result<(), ZoneError> {
    let large = node.octets(owner).into_iter().find(|(_, octets)| *octets > MAX_RRSET);
    large.map_or(Ok(()), |(kind, octets)| Err(ZoneError::TooLarge { owner: owner.clone(), kind, octets }))
}

fn refuse_wildcard(owner: &Name) -> Result<(), ZoneError> {
    if owner.iter().any(|label| label == b"*") {
        return Err(ZoneError::Wildcard { owner: owner.clone() });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
