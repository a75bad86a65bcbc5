//! Question in, answer out: a pure function over a snapshot.
//!
//! Everything that is decided is decided here: codes, sections, extended errors. It borrows from the zones
//! what it says of them, and builds no record that is not asked for. It does not know transports, sizes or sockets; fitting an answer into a message is the
//! server's business.

use std::borrow::Cow;

use hickory_proto::op::{Edns, LowerQuery, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};

use crate::node::{ExtendedError, RrSet, Why};
use crate::zone::{Found, Zone};
use crate::zones::Zones;

static NOT_READY: Why = Why::known(ExtendedError::NotReady, "zone not complete yet");
static NOT_OURS: Why = Why::known(ExtendedError::NotAuthoritative, "no zone of this server");
static NO_TRANSFER: Why = Why::known(ExtendedError::NotSupported, "no zone transfer");
static NO_CLASS: Why = Why::known(ExtendedError::NotSupported, "no such class");
static NO_OPCODE: Why = Why::known(ExtendedError::NotSupported, "queries only");

/// What of a message decides its answer.
#[derive(Debug, Clone, Copy)]
pub struct Request<'q> {
    /// The header's.
    pub op_code: OpCode,
    /// As many as came; anything but one is an error.
    pub questions: &'q [LowerQuery],
    /// The OPT record, if there was one.
    pub edns: Option<&'q Edns>,
}

/// What to say, borrowed from the zones.
#[derive(Debug)]
pub struct Answer<'z> {
    /// With EDNS it may be above 15 (BADVERS).
    pub rcode: ResponseCode,
    /// The AA bit.
    pub authoritative: bool,
    /// What was asked for.
    pub answers: Option<Cow<'z, RrSet>>,
    /// The SOA of a negative answer.
    pub authorities: Option<&'z RrSet>,
    /// Addresses of the targets named in `answers`; may be left out when there is no room.
    pub additionals: Vec<Cow<'z, RrSet>>,
    /// For clients that speak EDNS.
    pub why: Option<Cow<'z, Why>>,
}

/// Answers from `zones` alone; the table is in the crate's documentation.
pub fn answer<'z>(zones: &'z Zones, request: &Request<'_>) -> Answer<'z> {
    // RFC 6891, section 6.1.3: nothing else of a message in an unknown version may be understood.
    if request.edns.is_some_and(|edns| edns.version() > 0) {
        return Answer::empty(ResponseCode::BADVERS, None);
    }
    if request.op_code != OpCode::Query {
        return Answer::empty(ResponseCode::NotImp, Some(&NO_OPCODE));
    }
    // RFC 9619: a query has one question.
    let [question] = request.questions else {
        return Answer::empty(ResponseCode::FormErr, None);
    };
    match (question.query_class(), question.query_type()) {
        (DNSClass::CH, kind) => chaos(zones, question, kind),
        (DNSClass::IN, RecordType::AXFR | RecordType::IXFR) => refused(&NO_TRANSFER),
        (DNSClass::IN, kind) => match zones.find(question.name()) {
            Some(zone) => inside(zone, question, kind),
            None => refused(&NOT_OURS),
        },
        _ => refused(&NO_CLASS),
    }
}

// === impl Answer ===

impl<'z> Answer<'z> {
    /// The most octets its records take on the wire.
    pub fn octets(&self) -> usize {
        let sections = self.answers.iter().chain(&self.additionals).map(|set| set.octets());
        sections.chain(self.authorities.map(RrSet::octets)).sum()
    }

    fn empty(rcode: ResponseCode, why: Option<&'z Why>) -> Self {
        Self {
            rcode,
            authoritative: false,
            answers: None,
            authorities: None,
            additionals: Vec::new(),
            why: why.map(Cow::Borrowed),
        }
    }

    fn positive(answers: Cow<'z, RrSet>, additionals: Vec<Cow<'z, RrSet>>) -> Self {
        Self { authoritative: true, answers: Some(answers), additionals, ..Self::empty(ResponseCode::NoError, None) }
    }

    /// RFC 2308, sections 2.1 and 2.2: an absence is remembered only with the SOA beside it.
    fn negative(zone: &'z Zone, rcode: ResponseCode, why: Option<Why>) -> Self {
        let why = why.map(Cow::Owned);
        Self { authoritative: true, authorities: zone.negative_soa(), why, ..Self::empty(rcode, None) }
    }
}

/// The question's name is the zone's to answer.
fn inside<'z>(zone: &'z Zone, question: &LowerQuery, kind: RecordType) -> Answer<'z> {
    let Some(found) = zone.find(question.name()) else {
        return if zone.is_complete() {
            Answer::negative(zone, ResponseCode::NXDomain, None)
        } else {
            // An absence told too early would be remembered; a failure is asked again.
            Answer::empty(ResponseCode::ServFail, Some(&NOT_READY))
        };
    };
    let set = match kind {
        // RFC 8482, section 4.1: any of them will do, all of them would be an amplifier.
        RecordType::ANY => found.any(),
        _ => found.get(kind),
    };
    match set {
        Some(set) => {
            let additionals = addresses(zone, &found, set.kind());
            Answer::positive(set, additionals)
        }
        None => Answer::negative(zone, ResponseCode::NoError, found.why()),
    }
}

/// RFC 2782 and RFC 1035, section 3.3.11: who is named a server is wanted for its addresses next.
fn addresses<'z>(zone: &'z Zone, found: &Found<'z, '_>, kind: RecordType) -> Vec<Cow<'z, RrSet>> {
    let targets = found.targets(kind);
    let targets = targets.iter().filter_map(|target| zone.find(target));
    targets.flat_map(|target| [target.get(RecordType::A), target.get(RecordType::AAAA)]).flatten().collect()
}

fn chaos<'z>(zones: &'z Zones, question: &LowerQuery, kind: RecordType) -> Answer<'z> {
    match zones.version(question.name()) {
        Some(set) if matches!(kind, RecordType::TXT | RecordType::ANY) => {
            Answer::positive(Cow::Borrowed(set), Vec::new())
        }
        _ => refused(&NOT_OURS),
    }
}

fn refused(why: &'static Why) -> Answer<'static> {
    Answer::empty(ResponseCode::Refused, Some(why))
}

#[cfg(test)]
mod tests;
