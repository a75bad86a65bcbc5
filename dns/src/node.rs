//! What one owner name holds, as it is written down. How it is kept is for a tree to know, and how it is sent for a reply.
//!
//! A node knows neither its zone nor its neighbours. Its data has no order: it is sorted and freed of duplicates when
//! it is compiled, so equal data makes equal answers, whoever collected it and in which order.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZero;

use hickory_proto::rr::{LowerName, Name, RecordType};

/// RFC 2181, section 8: a TTL has 31 bits.
pub(crate) const MAX_TTL: u32 = i32::MAX as u32;

/// RFC 1035, section 3.3: a character-string has at most 255 octets; longer texts become several of them.
pub(crate) const MAX_CHARACTER_STRING: usize = 255;

/// An extended error must fit into the smallest truncated reply (512 octets) beside the longest question.
pub(crate) const MAX_WHY: usize = 160;

/// Type, class, TTL and length of a record (RFC 1035, section 3.2.1).
const RECORD_HEAD: usize = 10;

/// What one owner name holds. All of it may be empty: such a name exists and has nothing to give (NODATA).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// Seconds, of every RRset of this owner; cut to 31 bits (RFC 2181, section 8).
    pub ttl: u32,
    /// Addresses; duplicates are dropped.
    pub a: Vec<Ipv4Addr>,
    /// Addresses; duplicates are dropped.
    pub aaaa: Vec<Ipv6Addr>,
    /// Services (RFC 2782); duplicates are dropped.
    pub srv: Vec<Srv>,
    /// One record each; a text longer than 255 octets is cut into character-strings of that record.
    pub txt: Vec<String>,
    /// Names of an address, where the owner is one in reverse (RFC 1035, section 3.5); duplicates are dropped.
    pub ptr: Vec<Name>,
    /// Most records in one answer; none for all. Of more, each answer has others, all of them equally often.
    pub at_most: Option<NonZero<u16>>,
    /// Says why a question for a type that is missing here gets NODATA; or SERVFAIL, where it is
    /// [`ExtendedError::NotReady`] or [`ExtendedError::NetworkError`]: what is not known is not told to be absent.
    pub why_empty: Option<Why>,
}

/// The data of an SRV record (RFC 2782), in wire order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Srv {
    /// The lowest is tried first.
    pub priority: u16,
    /// The share among those of equal priority.
    pub weight: u16,
    /// Where the target listens.
    pub port: u16,
    /// If this owner is in the same zone, its addresses go along as additional data.
    pub target: Name,
}

/// An extended error (RFC 8914): a code for programs and a short text for whoever reads `dig`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    code: ExtendedError,
    text: Cow<'static, str>,
}

/// The same as it is kept and sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reason<'z> {
    pub(crate) code: u8,
    pub(crate) text: &'z [u8],
}

/// The INFO-CODEs of RFC 8914, section 4, that an authoritative server has a use for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtendedError {
    /// None of the others.
    Other = 0,
    /// The data is older than it should be.
    StaleAnswer = 3,
    /// The server does not have its data yet.
    NotReady = 14,
    /// The operator's policy keeps the answer back.
    Blocked = 15,
    /// The client's own request keeps the answer back.
    Filtered = 17,
    /// This client may not ask this.
    Prohibited = 18,
    /// The name is not ours.
    NotAuthoritative = 20,
    /// The operation is not implemented.
    NotSupported = 21,
    /// Those who know cannot be reached.
    NetworkError = 23,
}

// === impl Reason ===

impl Reason<'_> {
    /// Whether it says that data is not known, rather than absent.
    pub(crate) fn is_failure(self) -> bool {
        [ExtendedError::NotReady as u8, ExtendedError::NetworkError as u8].contains(&self.code)
    }
}

// === impl Why ===

impl Why {
    /// A text beyond 160 octets is cut: it has to fit into a truncated reply.
    pub fn new(code: ExtendedError, text: impl Into<Cow<'static, str>>) -> Self {
        let mut text = text.into();
        if text.len() > MAX_WHY {
            text = Cow::Owned(text[..text.floor_char_boundary(MAX_WHY)].to_owned());
        }
        Self { code, text }
    }

    /// The INFO-CODE.
    pub fn code(&self) -> ExtendedError {
        self.code
    }

    /// The EXTRA-TEXT.
    pub fn text(&self) -> &str {
        &self.text
    }
}

// === impl Node ===

impl Node {
    /// Whether it has no data of any type.
    pub(crate) fn is_empty(&self) -> bool {
        self.a.is_empty() && self.aaaa.is_empty() && self.srv.is_empty() && self.txt.is_empty() && self.ptr.is_empty()
    }

    /// Of each type the most octets that its records take on the wire.
    pub(crate) fn octets(&self, owner: &Name) -> [(RecordType, usize); 5] {
        let head = name_octets(owner) + RECORD_HEAD;
        let srv = self.srv.iter().map(|srv| head + 6 + name_octets(&srv.target)).sum();
        let parts = |text: &String| text.len().div_ceil(MAX_CHARACTER_STRING).max(1);
        let txt = self.txt.iter().map(|text| head + text.len() + parts(text)).sum();
        let ptr = self.ptr.iter().map(|name| head + name_octets(name)).sum();
        let (a, aaaa) = (self.a.len() * (head + 4), self.aaaa.len() * (head + 16));
        [
            (RecordType::A, a),
            (RecordType::AAAA, aaaa),
            (RecordType::SRV, srv),
            (RecordType::TXT, txt),
            (RecordType::PTR, ptr),
        ]
    }
}

/// Lower case and absolute: the form in which names are compared here.
pub(crate) fn canonical(name: &Name) -> LowerName {
    let mut name = name.clone();
    name.set_fqdn(true);
    LowerName::from(name)
}

pub(crate) fn sorted<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort_unstable();
    items.dedup();
    items
}

/// A length octet before each label, and the root's.
pub(crate) fn name_octets(name: &Name) -> usize {
    name.iter().map(|label| 1 + label.len()).sum::<usize>() + 1
}
