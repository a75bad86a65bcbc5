//! An answer as a message: sections written into octets, as far as they fit. An answer either fits, or fits without its
//! additional data (RFC 2181, section 9), or is a truncated reply without any record but OPT. Knows nothing of sockets.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{DNSClass, RecordType};

use crate::answer::{Answer, PROHIBITED, RrSet, answer};
use crate::metrics::Transport;
use crate::node::{MAX_CHARACTER_STRING, Reason};
use crate::path::Path;
use crate::policy::Admission;
use crate::query::{Edns, HEADER, KEEPALIVE, Query, Question};
use crate::tree::{Data, Target};
use crate::zone::Zone;
use crate::zones::Zones;

/// What goes through every path without fragments (DNS flag day 2020).
const MAX_PAYLOAD: u16 = 1232;

/// RFC 1035, section 4.2.1: what every client takes; RFC 6891, section 6.2.5: no client takes less.
const MIN_PAYLOAD: u16 = 512;

/// Octets of an OPT record without options, and of the head of an option (RFC 6891, section 6.1.2).
const OPT: usize = 11;
const OPTION: usize = 4;

/// The option of an extended error (RFC 8914, section 2).
const EXTENDED_ERROR: u16 = 15;

/// How far into a message a pointer reaches; its other two bits are set (RFC 1035, section 4.1.4).
const MAX_POINTER: u16 = 0x3fff;

/// Octets of a record before its data: a pointer, type, class, TTL and length.
const RECORD_HEAD: usize = 12;

/// A pointer to the question's name, which is always at one place.
const QUESTION: usize = HEADER;

/// How a message came.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// By what.
    pub transport: Transport,
    /// What may become of it.
    pub admission: Admission,
    /// Tenths of a second for which its connection may be silent, which clients may ask for (RFC 7828); over UDP none.
    pub keep: u16,
    /// A random number, by which some of very many records are chosen.
    pub throw: u32,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replied {
    /// The code that was given.
    pub rcode: ResponseCode,
    /// Whether the client was told to come back over TCP.
    pub truncated: bool,
    /// The type that was asked for.
    pub kind: Option<RecordType>,
    /// The [group](Zone::set_group) of the zone that answered.
    pub group: Option<u8>,
    /// Whether it is a client's question for a name that another server may know.
    pub is_foreign: bool,
}

/// Answers one message: adds the reply's octets to `out`. Adds nothing for what is never answered: an answer, or less than a
/// header.
pub fn reply(zones: &Zones, message: &[u8], asked: Asked, out: &mut Vec<u8>) -> Option<Replied> {
    let mut path = Path::root();
    let query = Query::read(message, &mut path)?;
    let Asked { transport, admission, keep, throw } = asked;
    let answer = match admission {
        Admission::Answered => answer(zones, &query),
        Admission::Slowed => Answer::empty(ResponseCode::NoError, None),
        Admission::Prohibited => Answer::empty(ResponseCode::Refused, Some(PROHIBITED)),
    };
    let edns = query.body.as_ref().and_then(|body| body.edns);
    let limit = match transport {
        Transport::Udp => edns.map_or(MIN_PAYLOAD, |edns| edns.payload.clamp(MIN_PAYLOAD, MAX_PAYLOAD)),
        Transport::Tcp => u16::MAX,
    };
    let is_slowed = admission == Admission::Slowed;
    let mut reply = Reply { begin: out.len(), limit: limit.into(), is_slowed, keep, throw, out };
    Some(reply.write(&query, &answer, edns))
}

/// A message that is being written.
struct Reply<'o> {
    out: &'o mut Vec<u8>,
    /// Where it begins.
    begin: usize,
    /// How many octets it may have.
    limit: usize,
    /// Whether all of it is for another time.
    is_slowed: bool,
    keep: u16,
    throw: u32,
}

/// There is no room for more.
struct Full;

// === impl Reply ===

impl Reply<'_> {
    fn write(&mut self, query: &Query<'_>, answer: &Answer<'_, '_>, edns: Option<Edns>) -> Replied {
        self.out.extend_from_slice(&[0; HEADER]);
        let question = query.body.as_ref().and_then(|body| body.question.as_ref());
        if let Some(question) = question {
            self.out.extend_from_slice(question.octets);
        }
        // OPT comes last and is always there (RFC 6891, section 7).
        let why = answer.why.filter(|_| edns.is_some());
        let keep = edns.filter(|edns| edns.keepalive && self.keep > 0).map(|_| self.keep);
        self.limit -= edns.map_or(0, |_| OPT);
        self.limit -= why.map_or(0, |why| OPTION + 2 + why.text.len()) + keep.map_or(0, |_| OPTION + 2);
        let end_of_question = self.out.len();
        let sections = self.sections(answer, question).ok();
        if sections.is_none() {
            self.out.truncate(end_of_question);
        }
        if let Some(edns) = edns {
            self.opt(answer.rcode, edns, why, keep);
        }
        // Copies id, opcode, RD and CD; RA stays 0, there is no recursion.
        let truncated = sections.is_none() || self.is_slowed;
        let [answers, authorities, additionals] = sections.unwrap_or_default();
        let flags = 0x80
            | query.op_code << 3
            | u8::from(answer.authoritative) << 2
            | u8::from(truncated) << 1
            | u8::from(query.recursion_desired);
        let more = u8::from(query.checking_disabled) << 4 | answer.rcode.low();
        let counts = [question.is_some().into(), answers, authorities, additionals + u16::from(edns.is_some())];
        let header = &mut self.out[self.begin..][..HEADER];
        header[..2].copy_from_slice(&query.id);
        header[2..4].copy_from_slice(&[flags, more]);
        for (count, octets) in counts.iter().zip(header[4..].as_chunks_mut::<2>().0) {
            *octets = count.to_be_bytes();
        }
        Replied {
            rcode: answer.rcode,
            truncated,
            kind: question.map(|question| question.kind),
            group: answer.zone.map(Zone::group),
            is_foreign: answer.is_foreign && query.recursion_desired,
        }
    }

    /// Writes all sections, and says how many records each has.
    fn sections(&mut self, answer: &Answer<'_, '_>, question: Option<&Question<'_>>) -> Result<[u16; 3], Full> {
        let Some(set) = &answer.answers else {
            let Some((zone, question)) = answer.negative.zip(question) else { return Ok([0; 3]) };
            self.negative(zone, question.path)?;
            return Ok([0, 1, 0]);
        };
        let begin_of_answers = self.out.len();
        let answers = self.set(set)?;
        let end_of_answers = self.out.len();
        let additionals = self.additionals(set, begin_of_answers).unwrap_or_else(|Full| {
            self.out.truncate(end_of_answers);
            0
        });
        Ok([answers, 0, additionals])
    }

    fn set(&mut self, set: &RrSet<'_, '_>) -> Result<u16, Full> {
        match set {
            RrSet::Soa(zone) => {
                let apex = zone.apex();
                self.record(QUESTION, RecordType::SOA, DNSClass::IN, apex.ttl, |out| zone.write_soa(out))?;
                Ok(1)
            }
            RrSet::Ns(zone) => {
                for server in zone.servers() {
                    self.record(QUESTION, RecordType::NS, DNSClass::IN, zone.apex().ttl, |out| server.write(out))?;
                }
                Ok(count(zone.servers().len()))
            }
            RrSet::Version(version) => {
                self.record(QUESTION, RecordType::TXT, DNSClass::CH, 0, |out| write_text(out, version.as_bytes()))?;
                Ok(1)
            }
            RrSet::Data(_, kind @ (RecordType::A | RecordType::AAAA), found) => {
                let Some(data) = &found.data else { return Ok(0) };
                self.addresses(QUESTION, *kind, data)
            }
            RrSet::Data(_, RecordType::SRV, found) => {
                let Some(data) = found.data else { return Ok(0) };
                let mut records = 0;
                for srv in self.targets(&data) {
                    let Some(target) = srv.path(found.path, found.owner) else { continue };
                    self.record(QUESTION, RecordType::SRV, DNSClass::IN, data.ttl, |out| {
                        out.extend_from_slice(srv.octets);
                        target.write(out);
                    })?;
                    records += 1;
                }
                Ok(records)
            }
            RrSet::Data(_, RecordType::PTR, found) => {
                let Some(data) = found.data else { return Ok(0) };
                let mut records = 0;
                for name in data.ptr() {
                    self.record(QUESTION, RecordType::PTR, DNSClass::IN, data.ttl, |out| name.write(out))?;
                    records += 1;
                }
                Ok(records)
            }
            RrSet::Data(_, _, found) => {
                let Some(data) = found.data else { return Ok(0) };
                let mut records = 0;
                for text in data.txt() {
                    self.record(QUESTION, RecordType::TXT, DNSClass::IN, data.ttl, |out| write_text(out, text))?;
                    records += 1;
                }
                Ok(records)
            }
        }
    }

    /// All addresses of one family that a name has; `owner` is where the message has the name.
    fn addresses(&mut self, owner: usize, kind: RecordType, data: &Data<'_>) -> Result<u16, Full> {
        let (throw, mut records) = (self.throw, 0);
        let mut put = |octets: &[u8]| {
            records += 1;
            self.record(owner, kind, DNSClass::IN, data.ttl, |out| out.extend_from_slice(octets))
        };
        match kind {
            RecordType::A => data.part(data.a().iter(), data.a().len(), throw).try_for_each(|a| put(a))?,
            _ => data.part(data.aaaa().iter(), data.aaaa().len(), throw).try_for_each(|aaaa| put(aaaa))?,
        }
        Ok(records)
    }

    /// The targets that the answer has.
    fn targets<'z>(&self, data: &Data<'z>) -> impl Iterator<Item = Target<'z>> + Clone + use<'z> {
        data.part(data.srv(), data.srv().count(), self.throw)
    }

    /// RFC 2782 and RFC 1035, section 3.3.11: who is named a server is wanted for its addresses next. The names stand in
    /// the records that were just written, which begin at `begin`.
    fn additionals(&mut self, set: &RrSet<'_, '_>, begin: usize) -> Result<u16, Full> {
        let mut records = 0;
        let mut at = begin;
        match set {
            RrSet::Ns(zone) => {
                for server in zone.servers() {
                    records += self.addresses_of(within(zone, server), at + RECORD_HEAD)?;
                    at += RECORD_HEAD + server.octets().len() + 1;
                }
            }
            RrSet::Data(zone, RecordType::SRV, found) => {
                let Some(data) = &found.data else { return Ok(0) };
                let all = self.targets(data);
                for (number, srv) in all.clone().enumerate() {
                    let (host, len) = match found.beside(&srv) {
                        Some((data, len)) => (Some(data), len),
                        None => {
                            let Some(target) = srv.path(found.path, found.owner) else { continue };
                            (within(zone, &target), target.octets().len())
                        }
                    };
                    // They are in order of their numbers, so one target may come again only with others.
                    let is_again = |known: Target<'_>| known.octets != srv.octets && known.is_at(&srv);
                    if !all.clone().take(number).any(is_again) {
                        records += self.addresses_of(host, at + RECORD_HEAD + srv.octets.len())?;
                    }
                    at += RECORD_HEAD + srv.octets.len() + len + 1;
                }
            }
            _ => {}
        }
        Ok(records)
    }

    /// The addresses of a name that was written at `at`.
    fn addresses_of(&mut self, host: Option<Data<'_>>, at: usize) -> Result<u16, Full> {
        let Some(host) = host else { return Ok(0) };
        let owner = at - self.begin;
        Ok(self.addresses(owner, RecordType::A, &host)? + self.addresses(owner, RecordType::AAAA, &host)?)
    }

    /// The SOA of a negative answer. Its owner is the end of the question's name.
    fn negative(&mut self, zone: &Zone, asked: &Path) -> Result<(), Full> {
        let apex = zone.apex();
        let owner = QUESTION + asked.octets().len() - zone.path().octets().len();
        // RFC 2308, section 3: the smaller of the two, because resolvers differ in which one they look at.
        let ttl = apex.ttl.min(apex.negative_ttl);
        self.record(owner, RecordType::SOA, DNSClass::IN, ttl, |out| zone.write_soa(out))
    }

    /// One record. `owner` is where the message has its name.
    fn record(
        &mut self,
        owner: usize,
        kind: RecordType,
        class: DNSClass,
        ttl: u32,
        data: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Full> {
        let pointer = u16::try_from(owner).ok().filter(|owner| *owner <= MAX_POINTER).ok_or(Full)?;
        let [p0, p1] = (pointer | !MAX_POINTER).to_be_bytes();
        let ([k0, k1], [c0, c1]) = (u16::from(kind).to_be_bytes(), u16::from(class).to_be_bytes());
        let [t0, t1, t2, t3] = ttl.to_be_bytes();
        self.out.extend_from_slice(&[p0, p1, k0, k1, c0, c1, t0, t1, t2, t3, 0, 0]);
        let begin = self.out.len();
        data(self.out);
        let len = u16::try_from(self.out.len() - begin).map_err(|_| Full)?;
        self.out[begin - 2..begin].copy_from_slice(&len.to_be_bytes());
        if self.out.len() - self.begin > self.limit { Err(Full) } else { Ok(()) }
    }

    /// The OPT record, for which there is always room.
    fn opt(&mut self, rcode: ResponseCode, asked: Edns, why: Option<Reason<'_>>, keep: Option<u16>) {
        let [k0, k1] = u16::from(RecordType::OPT).to_be_bytes();
        let [p0, p1] = MAX_PAYLOAD.to_be_bytes();
        let flags = u8::from(asked.dnssec_ok) << 7;
        self.out.extend_from_slice(&[0, k0, k1, p0, p1, rcode.high(), 0, flags, 0, 0, 0]);
        let begin = self.out.len();
        let mut put = |numbers: &[u16]| numbers.iter().for_each(|number| self.out.extend(number.to_be_bytes()));
        if let Some(keep) = keep {
            put(&[KEEPALIVE, 2, keep]);
        }
        if let Some(why) = why {
            put(&[EXTENDED_ERROR, 2 + count(why.text.len()), why.code.into()]);
            self.out.extend_from_slice(why.text);
        }
        let options = count(self.out.len() - begin).to_be_bytes();
        self.out[begin - 2..begin].copy_from_slice(&options);
    }
}

/// What a name holds, if it is the zone's.
fn within<'z>(zone: &'z Zone, name: &Path) -> Option<Data<'z>> {
    Some(name).filter(|name| zone.covers(name)).and_then(|name| zone.find(name))?.data
}

/// A text as character-strings (RFC 1035, section 3.3.14). An empty one is one; none at all would not be a TXT record.
fn write_text(out: &mut Vec<u8>, text: &[u8]) {
    if text.is_empty() {
        out.push(0);
    }
    for part in text.chunks(MAX_CHARACTER_STRING) {
        out.push(u8::try_from(part.len()).unwrap_or_default());
        out.extend_from_slice(part);
    }
}

/// What is counted in a message is below 65,536, as its octets are.
fn count(items: usize) -> u16 {
    u16::try_from(items).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests;
