//! The names at and below one owner with what they hold, as one run of octets: a zone holds very many, and few are asked
//! for at a time, so they are kept as small as they can be and written into answers from there.
//!
//! A tree does not know where it hangs: its names are relative to its owner.

use std::num::NonZero;

use hickory_proto::rr::{LowerName, Name, RecordType};

use crate::node::{Node, Reason, Srv, canonical, sorted};
use crate::path::Path;

/// The types that a node has data of.
const KINDS: [RecordType; 5] = [RecordType::A, RecordType::AAAA, RecordType::SRV, RecordType::TXT, RecordType::PTR];

/// How many names there are, then where each begins, then the names in order, each with its data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tree<'z>(&'z [u8]);

/// What one name holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Data<'z> {
    /// Zero where there is no data.
    pub(crate) ttl: u32,
    /// Most records in one answer; zero for all.
    at_most: u16,
    /// Says why a question for a type that is missing here gets NODATA.
    pub(crate) why: Option<Reason<'z>>,
    a: &'z [u8],
    aaaa: &'z [u8],
    /// Priority, weight, port and a target each.
    srv: &'z [u8],
    /// A length of four octets and the text each.
    txt: &'z [u8],
    /// A length octet and the path each.
    ptr: &'z [u8],
}

/// A service as it is held.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'z> {
    /// Priority, weight and port, as they are sent.
    pub(crate) octets: &'z [u8],
    /// Whether the path is relative to the owner of the tree.
    is_inside: bool,
    relative: &'z [u8],
}

/// What is at a name of a tree.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Held<'z> {
    Data(Data<'z>),
    /// Descendants only.
    Above,
    Nothing,
}

// === impl Tree ===

impl<'z> Tree<'z> {
    /// From names relative to the owner, which is absolute and in lower case, and the data of each. Of several nodes
    /// of one name the last counts.
    pub(crate) fn compile(owner: &LowerName, mut nodes: Vec<(Path, Node)>) -> Vec<u8> {
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
        octets
    }

    /// What was compiled; `None` where that is nothing.
    pub(crate) fn read(octets: &'z [u8]) -> Option<Self> {
        (!octets.is_empty()).then_some(Self(octets))
    }

    /// What is at a path below the owner.
    pub(crate) fn find(self, path: &[u8]) -> Held<'z> {
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
    pub(crate) fn iter(self) -> impl Iterator<Item = (&'z [u8], Data<'z>)> {
        (0..self.len()).map(move |at| (self.path(at), self.data(at)))
    }

    fn len(self) -> usize {
        Reader(self.0).u32()
    }

    fn begin(self, at: usize) -> Reader<'z> {
        Reader(&self.0[Reader(&self.0[4 + 4 * at..]).u32()..])
    }

    fn path(self, at: usize) -> &'z [u8] {
        self.begin(at).text()
    }

    fn data(self, at: usize) -> Data<'z> {
        let mut reader = self.begin(at);
        reader.text();
        let ttl = u32::try_from(reader.u32()).unwrap_or_default();
        let at_most = reader.u16();
        let code = reader.take(1)[0];
        let why = (code != u8::MAX).then(|| Reason { code, text: reader.text() });
        let [a, aaaa, srv, txt, ptr] = [0; 5].map(|_| {
            let len = reader.u32();
            reader.take(len)
        });
        Data { ttl, at_most, why, a, aaaa, srv, txt, ptr }
    }
}

fn put_node(octets: &mut Vec<u8>, owner: &LowerName, node: Node) {
    let empty = node.is_empty();
    let Node { ttl, a, aaaa, srv, txt, ptr, at_most, why_empty } = node;
    octets.extend(if empty { 0 } else { ttl.min(crate::node::MAX_TTL) }.to_be_bytes());
    octets.extend(at_most.filter(|_| !empty).map_or(0, NonZero::get).to_be_bytes());
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
    let names = ptr.iter().map(|name| Name::from(canonical(name))).collect();
    put_all(octets, &sorted(names), |octets, name: &Name| put_text(octets, Path::new(name, 0).octets()));
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
    /// Whether there is any of a type.
    pub(crate) fn has(&self, kind: RecordType) -> bool {
        !match kind {
            RecordType::A => self.a,
            RecordType::AAAA => self.aaaa,
            RecordType::SRV => self.srv,
            RecordType::TXT => self.txt,
            RecordType::PTR => self.ptr,
            _ => &[],
        }
        .is_empty()
    }

    /// The first type of which there is any.
    pub(crate) fn first(&self) -> Option<RecordType> {
        KINDS.into_iter().find(|kind| self.has(*kind))
    }

    pub(crate) fn a(&self) -> &'z [[u8; 4]] {
        self.a.as_chunks().0
    }

    pub(crate) fn aaaa(&self) -> &'z [[u8; 16]] {
        self.aaaa.as_chunks().0
    }

    /// Which of `all` records one answer has, and in which order: those from the `throw`th on, around the end. Clients that
    /// take the first are not to take the same one.
    pub(crate) fn part<T: Iterator + Clone>(
        &self,
        all: T,
        len: usize,
        throw: u32,
    ) -> impl Iterator<Item = T::Item> + Clone + use<'z, T> {
        let most = Some(usize::from(self.at_most)).filter(|most| *most > 0).unwrap_or(len);
        let first = usize::try_from(throw).unwrap_or_default() % len.max(1);
        all.clone().skip(first).chain(all.take(first)).take(most)
    }

    pub(crate) fn srv(&self) -> impl Iterator<Item = Target<'z>> + Clone + use<'z> {
        let mut reader = Reader(self.srv);
        std::iter::from_fn(move || {
            (!reader.0.is_empty()).then(|| Target {
                octets: reader.take(6),
                is_inside: reader.take(1)[0] != 0,
                relative: reader.text(),
            })
        })
    }

    pub(crate) fn ptr(&self) -> impl Iterator<Item = Path> + use<'z> {
        let mut reader = Reader(self.ptr);
        std::iter::from_fn(move || (!reader.0.is_empty()).then(|| reader.text()))
            .filter_map(|name| Path::root().below(0, name))
    }

    pub(crate) fn txt(&self) -> impl Iterator<Item = &'z [u8]> + use<'z> {
        let mut reader = Reader(self.txt);
        std::iter::from_fn(move || {
            (!reader.0.is_empty()).then(|| {
                let len = reader.u32();
                reader.take(len)
            })
        })
    }
}

// === impl Target ===

impl Target<'_> {
    /// The target's name, where the owner of the tree is the topmost `labels` of `path`.
    pub(crate) fn path(&self, path: &Path, labels: usize) -> Option<Path> {
        let (above, labels) = if self.is_inside { (path, labels) } else { (&Path::root(), 0) };
        above.below(labels, self.relative)
    }

    /// Its path below the owner of the tree, where it is there.
    pub(crate) fn inside(&self) -> Option<&[u8]> {
        self.is_inside.then_some(self.relative)
    }

    /// Whether two of one tree have the same name.
    pub(crate) fn is_at(&self, other: &Self) -> bool {
        (self.is_inside, self.relative) == (other.is_inside, other.relative)
    }

    /// Priority, weight and port.
    pub(crate) fn numbers(&self) -> [u16; 3] {
        let (numbers, _) = self.octets.as_chunks::<2>();
        [0, 1, 2].map(|at| u16::from_be_bytes(numbers[at]))
    }
}

/// Reads what was written here, so it never comes to an end too early.
#[derive(Clone)]
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
