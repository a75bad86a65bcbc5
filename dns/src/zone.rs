//! One zone at one moment: who owns what under an apex.
//!
//! The map behind it is persistent: a clone costs nothing, and a change to the clone copies the path to what changed,
//! never the rest. Its entries are the owners that were set, each perhaps with names below it that come and go with it.
//! Empty non-terminals are derived: every entry counts its children, so a name exists exactly as long as it or something
//! below it was set. A zone does not know questions; see [`reply()`](crate::reply()).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hickory_proto::rr::{LowerName, Name, RecordType};

use crate::depths::Depths;
use crate::node::{ExtendedError, Node, Why, canonical, sorted};
use crate::path::{Path, ends, topmost};
use crate::table::{Entry, Table};
use crate::tree::{Data, Held, Target, Tree};

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
    group: u8,
    complete: bool,
    shared: bool,
    /// A label directly below the apex, as a path: below it there is what is two labels or more below the apex.
    mirror: Option<Box<[u8]>>,
    /// Names that exist, by their paths below the apex: because they were set, with what was set there and below; because
    /// they have children; or because it is the apex.
    names: Table,
    /// Of those that were set.
    depths: Depths,
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

/// What every zone has at its apex, as it is sent.
struct Head {
    path: Path,
    /// MNAME and RNAME of the SOA.
    names: Box<[u8]>,
    servers: Box<[Path]>,
}

/// What there is at a name that exists.
#[derive(Clone, Copy)]
pub(crate) struct Found<'z, 'q> {
    /// The name.
    pub(crate) path: &'q Path,
    /// How many of its labels are those of the owner that its data was set with.
    pub(crate) owner: usize,
    pub(crate) is_apex: bool,
    /// Of that owner.
    tree: Option<Tree<'z>>,
    /// Absent for an empty non-terminal.
    pub(crate) data: Option<Data<'z>>,
}

// === impl Found ===

impl<'z> Found<'z, '_> {
    /// What a target holds that was set together with the name, and the octets of its path.
    pub(crate) fn beside(&self, target: &Target<'_>) -> Option<(Data<'z>, usize)> {
        let (tree, below) = self.tree.zip(target.inside())?;
        match tree.find(below) {
            Held::Data(data) => Some((data, self.path.above(self.owner).len() + below.len())),
            Held::Above | Held::Nothing => None,
        }
    }
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
        let mut names = Table::default();
        names.insert(Entry::new(&[], 0, &[]));
        Ok(Self {
            head: Arc::new(Head::new(&apex)),
            apex: Arc::new(apex),
            serial: 0,
            group: 0,
            complete: false,
            shared: false,
            mirror: None,
            names,
            depths: Depths::default(),
        })
    }

    /// Whether its apex is also that of a zone of others, who know the names that are not here: what is absent is asked of
    /// an [`Elsewhere`](crate::Elsewhere), where there is one.
    pub fn set_shared(&mut self, shared: bool) {
        self.shared = shared;
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.shared
    }

    /// Under which number its questions are counted.
    pub fn set_group(&mut self, group: u8) {
        self.group = group;
    }

    pub(crate) fn group(&self) -> u8 {
        self.group
    }

    /// Lets `owner` hold this and nothing else; the apex may be an owner too. Says whether that is a change.
    ///
    /// # Errors
    ///
    /// [`ZoneError::Outside`], [`ZoneError::Wildcard`], [`ZoneError::TooLarge`]; what the owner held before stays.
    pub fn set(&mut self, owner: &Name, node: Node) -> Result<bool, ZoneError> {
        let path = self.relative(owner)?;
        fits(owner, &node)?;
        Ok(self.put(&path, &Tree::compile(&canonical(owner), vec![(Path::new(&Name::root(), 0), node)])))
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
        let (path, key) = (self.relative(owner)?, canonical(owner));
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
        Ok((self.put(&path, &Tree::compile(&key, held)), errors))
    }

    fn put(&mut self, path: &Path, tree: &[u8]) -> bool {
        let known = self.names.get(path.octets());
        if known.is_some_and(|entry| entry.held() == tree) {
            return false;
        }
        if known.is_none_or(|entry| entry.held().is_empty()) {
            self.depths.add(path.labels());
        }
        let children = known.map(Entry::children);
        self.names.insert(Entry::new(path.octets(), children.unwrap_or_default(), tree));
        if children.is_none() {
            self.announce(path.octets());
        }
        true
    }

    /// Takes from `owner` all that was set with it; it exists on only if it has other descendants. Says whether that is
    /// a change.
    pub fn remove(&mut self, owner: &Name) -> bool {
        let Ok(path) = self.relative(owner) else { return false };
        let Some(entry) = self.names.get(path.octets()).filter(|entry| !entry.held().is_empty()) else {
            return false;
        };
        let idle = Entry::new(path.octets(), entry.children(), &[]);
        self.depths.remove(path.labels());
        self.names.insert(idle);
        self.prune(path.octets());
        true
    }

    /// The path of an owner below the apex.
    fn relative(&self, owner: &Name) -> Result<Path, ZoneError> {
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
    }

    /// Lets the names below this label be those below the apex, except for those directly below it: with `svc` what is at
    /// `web.demo.global` is at `web.demo.svc.global` too. What was set below the label itself is not found any more.
    pub fn mirror(&mut self, label: &str) {
        let len = u8::try_from(label.len()).unwrap_or_default();
        self.mirror = Some([&[len], label.to_ascii_lowercase().as_bytes()].concat().into());
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

    /// The apex.
    pub(crate) fn path(&self) -> &Path {
        &self.head.path
    }

    /// The zone's servers.
    pub(crate) fn servers(&self) -> &[Path] {
        &self.head.servers
    }

    /// Writes the data of the SOA record (RFC 1035, section 3.3.13).
    pub(crate) fn write_soa(&self, out: &mut Vec<u8>) {
        let Apex { refresh, retry, expire, negative_ttl, .. } = *self.apex;
        out.extend_from_slice(&self.head.names);
        out.extend(self.serial.to_be_bytes());
        [refresh, retry, expire].iter().for_each(|seconds| out.extend(seconds.to_be_bytes()));
        out.extend(negative_ttl.to_be_bytes());
    }

    /// Whether `path` is the apex or below it.
    pub(crate) fn covers(&self, path: &Path) -> bool {
        let apex = self.path();
        path.labels() >= apex.labels() && path.above(apex.labels()) == apex.octets()
    }

    /// What there is at a name that is covered; `None` when neither it nor a descendant was set.
    pub(crate) fn find<'q>(&self, path: &'q Path) -> Option<Found<'_, 'q>> {
        let apex = self.path();
        let below = &path.octets()[apex.octets().len()..];
        let is_apex = below.is_empty();
        let mirrored = self.mirror.as_deref().and_then(|label| below.strip_prefix(label));
        // Below the mirror there is nothing that is directly below the apex, but for names that have something below.
        let (top, least, below) = match mirrored {
            Some(below) => (apex.labels() + 1, 2, below),
            None => (apex.labels(), 0, below),
        };
        let found = |owner, tree, data| Some(Found { path, owner, is_apex, tree, data });
        for labels in self.depths.iter().filter(|labels| *labels >= least) {
            let Some(owner) = topmost(below, labels) else { continue };
            let Some(tree) = self.names.get(owner).and_then(|entry| Tree::read(entry.held())) else { continue };
            match tree.find(&below[owner.len()..]) {
                Held::Data(data) => return found(top + labels, Some(tree), Some(data)),
                Held::Above => return found(top + labels, Some(tree), None),
                Held::Nothing => {}
            }
        }
        // The apex of the mirror is one of them.
        let entry = self.names.get(below)?;
        let is_hidden = mirrored.is_some() && !below.is_empty() && entry.children() == 0;
        found(path.labels(), None, None).filter(|_| !is_hidden)
    }

    /// An entry came into being: its parent has one child more, and may come into being with it.
    fn announce(&mut self, path: &[u8]) {
        for end in ends(path).into_iter().rev().skip(1) {
            let parent = &path[..end];
            if let Some(entry) = self.names.get(parent) {
                self.names.insert(entry.with_children(entry.children() + 1));
                return;
            }
            self.names.insert(Entry::new(parent, 1, &[]));
        }
    }

    /// Ends an entry without data and children, and then perhaps its parent; the apex stays.
    fn prune(&mut self, path: &[u8]) {
        let ends = ends(path);
        for (end, parent) in ends.iter().rev().zip(ends.iter().rev().skip(1)) {
            let is_idle = |entry: &Entry| entry.held().is_empty() && entry.children() == 0;
            if !self.names.get(&path[..*end]).is_some_and(is_idle) {
                return;
            }
            self.names.remove(&path[..*end]);
            if let Some(parent) = self.names.get(&path[..*parent]) {
                self.names.insert(parent.with_children(parent.children() - 1));
            }
        }
    }

    /// Everything that is held, by name, with the owner that it was set with.
    fn owners(&self) -> Vec<(LowerName, Path, Data<'_>)> {
        let entries = self.names.entries().into_iter();
        let trees = entries.filter_map(|entry| Some((entry.path(), Tree::read(entry.held())?)));
        let names = trees.flat_map(|(path, tree)| {
            let owner = self.path().below(self.path().labels(), path);
            tree.iter().filter_map(move |(below, data)| {
                let owner = owner?;
                let name = owner.below(owner.labels(), below)?;
                Some((LowerName::from(name.to_name()), owner, data))
            })
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
            && (&self.names, &self.mirror) == (&other.names, &other.mirror)
    }
}

/// Master file form, SOA and NS first, then in canonical order (RFC 4034, section 6.1): for people, and to compare.
impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Apex { name, primary, mailbox, ttl, refresh, retry, expire, negative_ttl, .. } = &*self.apex;
        let serial = self.serial;
        writeln!(f, "{name} {ttl} IN SOA {primary} {mailbox} {serial} {refresh} {retry} {expire} {negative_ttl}")?;
        self.servers().iter().try_for_each(|server| writeln!(f, "{name} {ttl} IN NS {}", server.to_name()))?;
        for (name, owner, data) in self.owners() {
            let ttl = data.ttl;
            for a in data.a() {
                writeln!(f, "{name} {ttl} IN A {}", Ipv4Addr::from(*a))?;
            }
            for aaaa in data.aaaa() {
                writeln!(f, "{name} {ttl} IN AAAA {}", Ipv6Addr::from(*aaaa))?;
            }
            for srv in data.srv() {
                let [priority, weight, port] = srv.numbers();
                let target = srv.path(&owner, owner.labels()).map(Path::to_name).unwrap_or_default();
                writeln!(f, "{name} {ttl} IN SRV {priority} {weight} {port} {target}")?;
            }
            for txt in data.txt() {
                writeln!(f, "{name} {ttl} IN TXT {}", String::from_utf8_lossy(txt))?;
            }
            for ptr in data.ptr() {
                writeln!(f, "{name} {ttl} IN PTR {}", ptr.to_name())?;
            }
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
            .field("names", &self.names.len())
            .finish()
    }
}

// === impl Head ===

impl Head {
    fn new(apex: &Apex) -> Self {
        let mut names = Vec::new();
        [&apex.primary, &apex.mailbox].iter().for_each(|name| Path::new(name, 0).write(&mut names));
        let servers = sorted(apex.servers.iter().map(canonical).collect());
        let servers = servers.iter().map(|server| Path::new(server, 0)).collect();
        Self { path: Path::new(&apex.name, 0), names: names.into(), servers }
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
