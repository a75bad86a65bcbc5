//! A zone snapshot in, DNS out.
//!
//! Whoever knows what names mean builds a [`Zone`]: owners and what each of them holds. It is handed over inside
//! [`Zones`], which one listener serves, and is replaced as a whole whenever something changed; a clone shares all that
//! did not. Questions are answered from the snapshot alone: no lock, no lookup elsewhere, no clock. This crate knows
//! nothing of Kubernetes, services, clusters or etcd. It asks no other server; whoever does is an [`Elsewhere`].
//!
//! # What is answered, what is refused
//!
//! | Question | Answer |
//! |---|---|
//! | a known owner, a type it has | the data; SRV and NS carry the addresses of their targets in the zone |
//! | a known owner, another type | NODATA with SOA, and the owner's [`Why`] as an extended error; SERVFAIL where that says it is not known |
//! | a name with nothing but descendants | NODATA with SOA |
//! | any other name under an apex | NXDOMAIN with SOA, or what an [`Elsewhere`] says where the zone is shared; SERVFAIL while it is not complete |
//! | the apex: SOA, NS | the zone's own |
//! | a name under no apex | REFUSED, or what an [`Elsewhere`] says when recursion is desired |
//! | the root | REFUSED, at once: health probes ask `. NS` |
//! | ANY | one RRset of those there are |
//! | AXFR, IXFR | REFUSED |
//! | class CH, `version.bind`, `version.server` TXT | the version given to [`Zones::set_version`] |
//! | other names of class CH, other classes | REFUSED |
//! | NOTIFY, UPDATE | REFUSED |
//! | another opcode than QUERY | NOTIMP |
//! | no question, several questions | FORMERR |
//! | EDNS of a version above 0 | BADVERS |
//! | any name under an apex while the zones are [`Stale`] | the same with an extended error, or SERVFAIL; SERVFAIL instead of NXDOMAIN |
//!
//! # Whose rules
//!
//! | RFC | Taken from it |
//! |---|---|
//! | 1034, 1035 | authority, sections, TCP framing, 512 octets over UDP without EDNS |
//! | 2181 | one TTL per RRset; TC only when what was asked for does not fit |
//! | 2308 | SOA in negative answers, with the smaller of its TTL and its minimum |
//! | 2782 | SRV, and addresses of its targets as additional data |
//! | 3225 | the DO bit is copied, although nothing here is signed |
//! | 6891 | EDNS(0); the OPT record stays in truncated answers; BADVERS |
//! | 7766 | TCP connections are kept, pipelined and closed when idle |
//! | 7828 | over TCP, how long a connection may be silent, for clients that ask |
//! | 8020 | NXDOMAIN means that nothing exists below either, hence the empty non-terminals |
//! | 8482 | minimal answers to ANY |
//! | 8914 | extended errors |
//! | 9619 | exactly one question |
//!
//! Not spoken: DNSSEC, zone transfer, dynamic update, TSIG, cookies, wildcards, CNAME.
//!
//! Read on in [`Node`] and [`Zone`] (what is held), [`reply()`] (what is said), [`Policy`] (to whom), [`Bound`] (how it gets
//! out).

mod depths;
mod metrics;
mod node;
mod path;
mod policy;
mod table;
mod tree;
mod zone;
mod zones;

mod answer;
mod query;
mod reply;

mod bind;
mod responder;
mod seats;
mod server;
mod tcp;
mod udp;

#[cfg(test)]
mod testing;

pub use hickory_proto::rr::Name;

pub use bind::{BindError, Bound};
pub use metrics::{Metrics, Transport};
pub use node::{ExtendedError, Node, Srv, Why};
pub use policy::{Admission, Policy, Rate};
pub use reply::{Asked, Replied, reply};
pub use responder::{Elsewhere, Pending, Responder};
pub use server::{Limits, ServeError};
pub use zone::{Apex, Zone, ZoneError};
pub use zones::{Stale, Zones};
