//! What the tests of this crate have in common: names, the apex of a zone, and questions with the answers to them as a
//! client reads them, who is hickory-proto.

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};

use crate::metrics::Transport;
use crate::policy::Admission;
use crate::reply::{Asked, reply};
use crate::zone::Apex;
use crate::zones::Zones;

/// A message that came over TCP.
pub(crate) const OVER_TCP: Asked =
    Asked { transport: Transport::Tcp, admission: Admission::Answered, keep: 300, throw: 0 };

/// A name by its text.
pub(crate) fn n(name: &str) -> Name {
    Name::from_ascii(name).unwrap()
}

/// The apex of a zone, with a negative TTL that is smaller than its own.
pub(crate) fn apex(name: &str) -> Apex {
    Apex {
        name: n(name),
        primary: n("ns.global."),
        mailbox: n("hostmaster.global."),
        servers: vec![n("ns.global.")],
        ttl: 60,
        refresh: 7200,
        retry: 1800,
        expire: 86400,
        negative_ttl: 3,
    }
}

/// A query as a stub resolver sends it.
pub(crate) fn query(name: &Name, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name.clone(), kind));
    message
}

/// The answer to a message over TCP.
pub(crate) fn ask(zones: &Zones, message: &Message) -> Message {
    let mut octets = Vec::new();
    reply(zones, &message.to_vec().unwrap(), OVER_TCP, &mut octets).unwrap();
    Message::from_vec(&octets).unwrap()
}
