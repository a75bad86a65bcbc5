//! What the tests of this crate have in common: names and the apex of a zone.

use hickory_proto::rr::Name;

use crate::zone::Apex;

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
