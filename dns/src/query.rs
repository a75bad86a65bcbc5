//! A message as far as it decides its answer: the header, the question, and what its OPT record says. What else is in it
//! is stepped over. Nothing is copied but the question's name. Knows nothing of answers.

use hickory_proto::rr::{DNSClass, RecordType};

use crate::path::Path;

/// Octets of a header (RFC 1035, section 4.1.1).
pub(crate) const HEADER: usize = 12;

/// Type, class, TTL and length of a record (RFC 1035, section 3.2.1).
const RECORD_HEAD: usize = 10;

/// Type and class of a question.
const QUESTION_TAIL: usize = 4;

/// The TYPE of the OPT record (RFC 6891, section 6.1.1).
const OPT: u16 = 41;

/// The option by which a client asks how long its connection may be silent (RFC 7828, section 3.1).
pub(crate) const KEEPALIVE: u16 = 11;

/// The first two bits of a pointer to a name elsewhere (RFC 1035, section 4.1.4).
const POINTER: u8 = 0b1100_0000;

/// A message that is to be answered.
pub(crate) struct Query<'m> {
    /// As it came.
    pub(crate) id: [u8; 2],
    /// Four bits.
    pub(crate) op_code: u8,
    /// RD, to be given back.
    pub(crate) recursion_desired: bool,
    /// CD, to be given back (RFC 4035, section 3.1.6).
    pub(crate) checking_disabled: bool,
    /// `None` when it cannot be read.
    pub(crate) body: Option<Body<'m>>,
}

/// What comes behind the header.
pub(crate) struct Body<'m> {
    /// `None` when there is none, or more than one.
    pub(crate) question: Option<Question<'m>>,
    /// What the OPT record says, if there is one.
    pub(crate) edns: Option<Edns>,
}

/// What is asked.
pub(crate) struct Question<'m> {
    /// All of it as it came, with its case (0x20).
    pub(crate) octets: &'m [u8],
    /// The name.
    pub(crate) path: &'m Path,
    pub(crate) kind: RecordType,
    pub(crate) class: DNSClass,
}

/// EDNS(0), RFC 6891.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Edns {
    /// Octets that the client takes over UDP.
    pub(crate) payload: u16,
    pub(crate) version: u8,
    /// DO, to be given back (RFC 3225, section 3).
    pub(crate) dnssec_ok: bool,
    /// Whether the client asks how long its connection may be silent (RFC 7828).
    pub(crate) keepalive: bool,
}

// === impl Query ===

impl<'m> Query<'m> {
    /// Reads a message, and its question's name into `path`; `None` for one that is never answered: shorter than a header,
    /// or an answer itself.
    pub(crate) fn read(message: &'m [u8], path: &'m mut Path) -> Option<Self> {
        let (header, rest) = message.split_first_chunk::<HEADER>()?;
        let [id0, id1, flags, more, counts @ ..] = *header;
        if flags & 0x80 != 0 {
            return None;
        }
        Some(Self {
            id: [id0, id1],
            op_code: flags >> 3 & 0xf,
            recursion_desired: flags & 1 != 0,
            checking_disabled: more & 0x10 != 0,
            body: Body::read(rest, counts, path),
        })
    }
}

// === impl Body ===

impl<'m> Body<'m> {
    /// `counts` are those of the four sections.
    fn read(body: &'m [u8], counts: [u8; 8], path: &'m mut Path) -> Option<Self> {
        let (counts, _) = counts.as_chunks::<2>();
        let [questions, answers, authorities, additionals] = [0, 1, 2, 3].map(|at| u16::from_be_bytes(counts[at]));
        let mut rest = body;
        let mut question = None;
        if questions == 1 {
            let (asked, behind) = Question::read(rest, path)?;
            (question, rest) = (Some(asked), behind);
        } else {
            for _ in 0..questions {
                rest = rest.get(name(rest)? + QUESTION_TAIL..)?;
            }
        }
        for _ in 0..u32::from(answers) + u32::from(authorities) {
            rest = Record::read(rest)?.1;
        }
        let mut edns = None;
        for _ in 0..additionals {
            let (record, behind) = Record::read(rest)?;
            if record.kind == OPT {
                // RFC 6891, section 6.1.1: not more than one.
                edns = match edns {
                    None => Some(Edns::read(&record)?),
                    Some(_) => return None,
                };
            }
            rest = behind;
        }
        Some(Self { question, edns })
    }
}

// === impl Question ===

impl<'m> Question<'m> {
    fn read(octets: &'m [u8], path: &'m mut Path) -> Option<(Self, &'m [u8])> {
        let len = path.read(octets)?;
        let (octets, rest) = octets.split_at_checked(len + QUESTION_TAIL)?;
        let number = |at: usize| u16::from_be_bytes([octets[at], octets[at + 1]]);
        let (kind, class) = (RecordType::from(number(len)), DNSClass::from(number(len + 2)));
        Some((Self { octets, path, kind, class }, rest))
    }
}

/// A record that is stepped over, or is OPT.
struct Record<'m> {
    is_root: bool,
    kind: u16,
    class: u16,
    ttl: [u8; 4],
    data: &'m [u8],
}

// === impl Record ===

impl<'m> Record<'m> {
    fn read(octets: &'m [u8]) -> Option<(Self, &'m [u8])> {
        let name = name(octets)?;
        let (head, rest) = octets.get(name..)?.split_first_chunk::<RECORD_HEAD>()?;
        let [k0, k1, c0, c1, t0, t1, t2, t3, l0, l1] = *head;
        let (data, rest) = rest.split_at_checked(u16::from_be_bytes([l0, l1]).into())?;
        let record = Self {
            is_root: name == 1,
            kind: u16::from_be_bytes([k0, k1]),
            class: u16::from_be_bytes([c0, c1]),
            ttl: [t0, t1, t2, t3],
            data,
        };
        Some((record, rest))
    }
}

/// How many octets a name takes here, which may end in a pointer.
fn name(octets: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let len = *octets.get(at)?;
        match len {
            0 => return Some(at + 1),
            1..64 => at += 1 + usize::from(len),
            _ if len & POINTER == POINTER => return Some(at + 2),
            _ => return None,
        }
    }
}

// === impl Edns ===

impl Edns {
    /// From an OPT record (RFC 6891, section 6.1.2). Other options than one are not looked at, but have to be some: a
    /// client's subnet (RFC 7871) makes no difference here.
    fn read(record: &Record<'_>) -> Option<Self> {
        let (mut options, mut keepalive) = (record.data, false);
        while !options.is_empty() {
            let ([o0, o1, l0, l1], rest) = options.split_first_chunk::<4>()?;
            keepalive |= u16::from_be_bytes([*o0, *o1]) == KEEPALIVE;
            options = rest.get(u16::from_be_bytes([*l0, *l1]).into()..)?;
        }
        let [_, version, flags, _] = record.ttl;
        record.is_root.then_some(Self { payload: record.class, version, dnssec_ok: flags & 0x80 != 0, keepalive })
    }
}

#[cfg(test)]
mod tests;
