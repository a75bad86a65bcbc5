//! The names at and below one owner with what they hold, as one run of octets: a zone holds very many, and few are
//! asked for at a time, so records are built when they are.
//!
//! Names are written relative to something above them, from the top label down, each label behind its length. So the
//! octets of a name begin with those of whatever is above it, and in their order descendants follow their ancestor.
//! A tree does not know where it hangs: whoever asks says how far up its owner is.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hickory_proto::rr::rdata::{A, AAAA, SRV};
use hickory_proto::rr::{LowerName, Name, RData, RecordType};

use crate::node::{ExtendedError, Node, RrSet, Srv, Why, canonical, sorted, text_rdata};

/// The types that a node has data of.
const KINDS: [RecordType; 4] = [RecordType::A, RecordType::AAAA, RecordType::SRV, RecordType::TXT];

/// How many names there are, then where each begins, then the names in order, each with its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tree(Arc<[u8]>);

/// A name's labels from the top down, without those of what it is relative to.
#[derive(Debug, Clone)]
pub(crate) struct Path {
    octets: [u8; 255],
    len: usize,
}

/// What one name holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Data<'z> {
    /// Zero where there is no data.
    ttl: u32,
    why: Option<(u8, &'z [u8])>,
    a: &'z [u8],
    aaaa: &'z [u8],
    /// Priority, weight, port and a target each.
    srv: &'z [u8],
    /// A length of two octets and the text each.
    txt: &'z [u8],
}

/// Who asks for data: the name, and how many of its labels are below the owner of the tree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'q> {
    pub(crate) name: &'q Name,
    pub(crate) below: usize,
}

/// What is at a name of a tree.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Held<'z> {
    Data(Data<'z>),
    /// Descendants only.
    Above,
    Nothing,
}

// === impl Path ===

impl Path {
    /// The labels of `name` without the topmost `above`.
    pub(crate) fn new(name: &Name, above: usize) -> Self {
        let mut path = Self { octets: [0; 255], len: 0 };
        for label in name.iter().rev().skip(above) {
            // A name has at most 255 octets, lengths included, and a label at most 63.
            path.octets[path.len] = u8::try_from(label.len()).unwrap_or_default();
            path.octets[path.len + 1..][..label.len()].copy_from_slice(label);
            path.len += 1 + label.len();
        }
        path
    }

    pub(crate) fn octets(&self) -> &[u8] {
        &self.octets[..self.len]
    }
}

/// Where the paths of a name and of all that is above it end, the name's own last.
pub(crate) fn ends(path: &[u8]) -> Vec<usize> {
    let next = |at: &usize| path.get(*at).map(|len| at + 1 + usize::from(*len));
    std::iter::successors(Some(0), next).collect()
}

/// The labels of a path, from the top down.
pub(crate) fn labels(path: &[u8]) -> Vec<&[u8]> {
    ends(path).windows(2).map(|ends| &path[ends[0] + 1..ends[1]]).collect()
}

// === impl Tree ===

impl Tree {
    /// From names relative to the owner, which is absolute and in lower case, and the data of each. Of several nodes
    /// of one name the last counts.
    pub(crate) fn compile(owner: &LowerName, mut nodes: Vec<(Path, Node)>) -> Self {
        nodes.reverse();
        nodes.sort_by(|(a, _), (b, _)| a.octets().cmp(b.octets()));
        nodes.dedup_by(|(a, _), (b, _)| a.octets() == b.octets());
        let mut octets = Vec::new();
        put_u32(&mut octets, nodes.len());
        octets.resize(4 + 4 * nodes.len(), 0);
        for (at, (path, node)) in nodes.into_iter().enumerate() {
            let begin = u32::try_from(octets.len()).unwrap_or(u32::MAX);
            octets[4 + 4 * at..][..4].copy_from_slice(&begin.to_be_bytes());
            put_text(&mut octets, path.octets());
            put_node(&mut octets, owner, node);
        }
        Self(octets.into())
    }

    /// What is at a path below the owner.
    pub(crate) fn find(&self, path: &[u8]) -> Held<'_> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.path(middle) < path { low = middle + 1 } else { high = middle }
        }
        if low == self.len() {
            return Held::Nothing;
        }
        match self.path(low) {
            found if found == path => Held::Data(self.data(low)),
            // Length octets keep a label from being the beginning of another.
            found if found.starts_with(path) => Held::Above,
            _ => Held::Nothing,
        }
    }

    /// All names, relative to the owner, with what they hold.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], Data<'_>)> {
        (0..self.len()).map(|at| (self.path(at), self.data(at)))
    }

    fn len(&self) -> usize {
        Reader(&self.0).u32()
    }

    fn begin(&self, at: usize) -> Reader<'_> {
        Reader(&self.0[Reader(&self.0[4 + 4 * at..]).u32()..])
    }

    fn path(&self, at: usize) -> &[u8] {
        self.begin(at).text()
    }

    fn data(&self, at: usize) -> Data<'_> {
        let mut reader = self.begin(at);
        reader.text();
        let ttl = u32::try_from(reader.u32()).unwrap_or_default();
        let code = reader.take(1)[0];
        let why = (code != u8::MAX).then(|| (code, reader.text()));
        let [a, aaaa, srv, txt] = [0; 4].map(|_| {
            let len = reader.u32();
            reader.take(len)
        });
        Data { ttl, why, a, aaaa, srv, txt }
    }
}

fn put_node(octets: &mut Vec<u8>, owner: &LowerName, node: Node) {
    let empty = node.is_empty();
    let Node { ttl, a, aaaa, srv, txt, why_empty } = node;
    octets.extend(if empty { 0 } else { ttl.min(crate::node::MAX_TTL) }.to_be_bytes());
    match why_empty {
        Some(why) => {
            octets.push(why.code() as u8);
            put_text(octets, why.text().as_bytes());
        }
        None => octets.push(u8::MAX),
    }
    let (a, aaaa) = (sorted(a), sorted(aaaa));
    put_u32(octets, 4 * a.len());
    a.iter().for_each(|a| octets.extend(a.octets()));
    put_u32(octets, 16 * aaaa.len());
    aaaa.iter().for_each(|aaaa| octets.extend(aaaa.octets()));
    let lower = |srv: Srv| Srv { target: canonical(&srv.target).into(), ..srv };
    put_all(octets, &sorted(srv.into_iter().map(lower).collect()), |octets, srv: &Srv| {
        [srv.priority, srv.weight, srv.port].iter().for_each(|number| octets.extend(number.to_be_bytes()));
        // Nearly every target is at or below the owner, whose name need not be repeated.
        let inside = owner.zone_of(&LowerName::from(&srv.target));
        octets.push(inside.into());
        put_text(octets, Path::new(&srv.target, if inside { owner.iter().len() } else { 0 }).octets());
    });
    put_all(octets, &sorted(txt), |octets, text: &String| {
        put_u32(octets, text.len());
        octets.extend(text.as_bytes());
    });
}

/// Items behind the number of octets that they take.
fn put_all<T>(octets: &mut Vec<u8>, items: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
    let begin = octets.len();
    put_u32(octets, 0);
    items.iter().for_each(|item| put(octets, item));
    let len = u32::try_from(octets.len() - begin - 4).unwrap_or(u32::MAX);
    octets[begin..][..4].copy_from_slice(&len.to_be_bytes());
}

fn put_u32(octets: &mut Vec<u8>, number: usize) {
    octets.extend(u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes());
}

/// At most 255 octets behind their number.
fn put_text(octets: &mut Vec<u8>, text: &[u8]) {
    octets.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    octets.extend(&text[..text.len().min(255)]);
}

// === impl Data ===

impl<'z> Data<'z> {
    /// Says why a question for a type that is missing here gets NODATA.
    pub(crate) fn why(&self) -> Option<Why> {
        let (code, text) = self.why?;
        Some(Why::new(ExtendedError::from_code(code), String::from_utf8_lossy(text).into_owned()))
    }

    /// The RRset of that type.
    pub(crate) fn get(&self, asked: Asked<'_>, kind: RecordType) -> Option<RrSet> {
        let (owner, ttl) = (asked.name, self.ttl);
        match kind {
            RecordType::A => {
                let (all, _) = self.a.as_chunks::<4>();
                RrSet::new(owner, ttl, all.iter().map(|a| RData::A(A(Ipv4Addr::from(*a)))))
            }
            RecordType::AAAA => {
                let (all, _) = self.aaaa.as_chunks::<16>();
                RrSet::new(owner, ttl, all.iter().map(|a| RData::AAAA(AAAA(Ipv6Addr::from(*a)))))
            }
            RecordType::SRV => RrSet::new(owner, ttl, self.srvs(asked).map(RData::SRV)),
            RecordType::TXT => RrSet::new(owner, ttl, self.texts().map(|text| text_rdata(&text))),
            _ => None,
        }
    }

    /// All RRsets.
    pub(crate) fn iter(self, asked: Asked<'_>) -> impl Iterator<Item = RrSet> {
        KINDS.into_iter().filter_map(move |kind| self.get(asked, kind))
    }

    /// The SRV targets, each once.
    pub(crate) fn targets(&self, asked: Asked<'_>) -> Vec<LowerName> {
        sorted(self.srvs(asked).map(|srv| LowerName::from(&srv.target)).collect())
    }

    fn srvs<'q>(&self, asked: Asked<'q>) -> impl Iterator<Item = SRV> + use<'z, 'q> {
        let mut reader = Reader(self.srv);
        std::iter::from_fn(move || {
            if reader.0.is_empty() {
                return None;
            }
            let [priority, weight, port] = [0; 3].map(|_| reader.u16());
            let inside = reader.take(1)[0] != 0;
            let path = labels(reader.text());
            let above = asked.name.iter().skip(asked.below).filter(|_| inside);
            let target = Name::from_labels(path.into_iter().rev().chain(above)).ok()?;
            Some(SRV::new(priority, weight, port, target))
        })
    }

    fn texts(&self) -> impl Iterator<Item = Cow<'z, str>> + use<'z> {
        let mut reader = Reader(self.txt);
        std::iter::from_fn(move || {
            (!reader.0.is_empty()).then(|| {
                let len = reader.u32();
                String::from_utf8_lossy(reader.take(len))
            })
        })
    }
}

/// Reads what was written here, so it never comes to an end too early.
struct Reader<'z>(&'z [u8]);

impl<'z> Reader<'z> {
    fn take(&mut self, len: usize) -> &'z [u8] {
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken
    }

    fn text(&mut self) -> &'z [u8] {
        let len = self.take(1)[0];
        self.take(len.into())
    }

    fn u16(&mut self) -> u16 {
        self.take(2).iter().fold(0, |number, octet| number << 8 | u16::from(*octet))
    }

    fn u32(&mut self) -> usize {
        self.take(4).iter().fold(0, |number, octet| number << 8 | usize::from(*octet))
    }
}
