//! Question in, answer out: a pure function over a snapshot.
//!
//! Everything that is decided is decided here: codes, sections, extended errors. Nothing is copied and nothing built: an
//! answer points at what the zones hold. It does not know transports, sizes or sockets; fitting an answer into a message is
//! for a reply.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{DNSClass, RecordType};

use crate::node::{ExtendedError, Reason};
use crate::query::{Body, Query, Question};
use crate::zone::{Found, Zone};
use crate::zones::{Stale, Zones};

/// OPCODEs: of a query (RFC 1035, section 4.1.1), of a NOTIFY (RFC 1996), and of an UPDATE (RFC 2136).
const QUERY: u8 = 0;
const NOTIFY: u8 = 4;
const UPDATE: u8 = 5;

const NOT_READY: Reason<'_> = reason(ExtendedError::NotReady, "zone not complete yet");
/// For who is not to be answered.
pub(crate) const PROHIBITED: Reason<'_> = reason(ExtendedError::Prohibited, "not for this client");
const NOT_OURS: Reason<'_> = reason(ExtendedError::NotAuthoritative, "no zone of this server");
const NO_TRANSFER: Reason<'_> = reason(ExtendedError::NotSupported, "no zone transfer");
const NO_CLASS: Reason<'_> = reason(ExtendedError::NotSupported, "no such class");
const NO_OPCODE: Reason<'_> = reason(ExtendedError::NotSupported, "queries only");
const STALE: Reason<'_> = reason(ExtendedError::StaleAnswer, "the last known state");
const STALE_ABSENCE: Reason<'_> = reason(ExtendedError::StaleAnswer, "not in the last known state");

/// What to say.
pub(crate) struct Answer<'z, 'q> {
    /// With EDNS it may be above 15 (BADVERS).
    pub(crate) rcode: ResponseCode,
    /// The AA bit.
    pub(crate) authoritative: bool,
    /// What was asked for.
    pub(crate) answers: Option<RrSet<'z, 'q>>,
    /// Whose SOA makes an absence one that may be remembered.
    pub(crate) negative: Option<&'z Zone>,
    /// For clients that speak EDNS.
    pub(crate) why: Option<Reason<'z>>,
    /// Which zone the name is in.
    pub(crate) zone: Option<&'z Zone>,
    /// Whether it is in none, or absent there, and might be known elsewhere.
    pub(crate) is_foreign: bool,
}

/// The records of one owner and type, of which there is at least one. The owner is the name that was asked for.
#[derive(Clone, Copy)]
pub(crate) enum RrSet<'z, 'q> {
    /// The zone's own SOA.
    Soa(&'z Zone),
    /// The zone's own NS.
    Ns(&'z Zone),
    /// What was set.
    Data(&'z Zone, RecordType, Found<'z, 'q>),
    /// The version, in class CH.
    Version(&'z str),
}

/// Answers from `zones` alone; the table is in the crate's documentation.
pub(crate) fn answer<'z, 'q>(zones: &'z Zones, query: &'q Query<'_>) -> Answer<'z, 'q> {
    let edns = query.body.as_ref().and_then(|body| body.edns);
    // RFC 6891, section 6.1.3: nothing else of a message in an unknown version may be understood.
    if edns.is_some_and(|edns| edns.version > 0) {
        return Answer::empty(ResponseCode::BADVERS, None);
    }
    match query.op_code {
        QUERY => {}
        NOTIFY | UPDATE => return refused(NO_OPCODE),
        _ => return Answer::empty(ResponseCode::NotImp, Some(NO_OPCODE)),
    }
    // RFC 9619: a query has one question.
    let Some(Body { question: Some(question), .. }) = &query.body else {
        return Answer::empty(ResponseCode::FormErr, None);
    };
    match (question.class, question.kind) {
        (DNSClass::IN, RecordType::AXFR | RecordType::IXFR) => refused(NO_TRANSFER),
        (DNSClass::IN, _) => match zones.find(question.path) {
            Some(zone) => Answer { zone: Some(zone), ..aged(zones.stale(), inside(zone, question)) },
            // Health probes ask for the root, and are not to wait for anybody.
            None => Answer { is_foreign: question.path.labels() > 0, ..refused(NOT_OURS) },
        },
        (DNSClass::CH, kind) => match zones.version(question.path) {
            Some(version) if matches!(kind, RecordType::TXT | RecordType::ANY) => {
                Answer::positive(RrSet::Version(version))
            }
            _ => refused(NOT_OURS),
        },
        _ => refused(NO_CLASS),
    }
}

// === impl Answer ===

impl<'z, 'q> Answer<'z, 'q> {
    pub(crate) fn empty(rcode: ResponseCode, why: Option<Reason<'z>>) -> Self {
        Self { rcode, authoritative: false, answers: None, negative: None, why, zone: None, is_foreign: false }
    }

    fn positive(answers: RrSet<'z, 'q>) -> Self {
        Self { authoritative: true, answers: Some(answers), ..Self::empty(ResponseCode::NoError, None) }
    }

    /// RFC 2308, sections 2.1 and 2.2: an absence is remembered only with the SOA beside it.
    fn negative(zone: &'z Zone, rcode: ResponseCode, why: Option<Reason<'z>>) -> Self {
        Self { authoritative: true, negative: Some(zone), ..Self::empty(rcode, why) }
    }
}

/// What stale data says (RFC 8767; RFC 8914, section 4.4): a name that is absent may be there by now.
fn aged<'z, 'q>(stale: Option<Stale>, answer: Answer<'z, 'q>) -> Answer<'z, 'q> {
    let is_of_apex = matches!(answer.answers, Some(RrSet::Soa(_) | RrSet::Ns(_)));
    match (stale, answer.rcode) {
        (None, _) | (_, ResponseCode::ServFail) => answer,
        (Some(_), ResponseCode::NXDomain) => {
            Answer { is_foreign: answer.is_foreign, ..Answer::empty(ResponseCode::ServFail, Some(STALE_ABSENCE)) }
        }
        (Some(Stale::Fails), _) if !is_of_apex => Answer::empty(ResponseCode::ServFail, Some(STALE)),
        (Some(_), _) => Answer { why: answer.why.or(Some(STALE)), ..answer },
    }
}

/// The question's name is the zone's to answer.
fn inside<'z, 'q>(zone: &'z Zone, question: &'q Question<'_>) -> Answer<'z, 'q> {
    let Some(found) = zone.find(question.path) else {
        return if zone.is_complete() {
            Answer { is_foreign: zone.is_shared(), ..Answer::negative(zone, ResponseCode::NXDomain, None) }
        } else {
            // An absence told too early would be remembered; a failure is asked again.
            Answer::empty(ResponseCode::ServFail, Some(NOT_READY))
        };
    };
    let kind = match question.kind {
        // RFC 8482, section 4.1: any of them will do, all of them would be an amplifier.
        RecordType::ANY if found.is_apex => Some(RecordType::SOA),
        RecordType::ANY => found.data.and_then(|data| data.first()),
        kind => Some(kind),
    };
    let set = kind.and_then(|kind| match kind {
        RecordType::SOA => found.is_apex.then_some(RrSet::Soa(zone)),
        RecordType::NS => found.is_apex.then_some(RrSet::Ns(zone)),
        kind => found.data.filter(|data| data.has(kind)).map(|_| RrSet::Data(zone, kind, found)),
    });
    let why = found.data.and_then(|data| data.why);
    match set {
        Some(set) => Answer::positive(set),
        None if why.is_some_and(Reason::is_failure) => Answer::empty(ResponseCode::ServFail, why),
        None => Answer::negative(zone, ResponseCode::NoError, why),
    }
}

fn refused(why: Reason<'static>) -> Answer<'static, 'static> {
    Answer::empty(ResponseCode::Refused, Some(why))
}

const fn reason(code: ExtendedError, text: &'static str) -> Reason<'static> {
    Reason { code: code as u8, text: text.as_bytes() }
}

#[cfg(test)]
mod tests;
