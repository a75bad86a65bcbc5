//! The DNS server beside others of its kind, with the same records, on the loopback of the sandbox; and behind resolvers of
//! all makes, as `docs/dns.md` says how, each in a place of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bed;
mod checkers;
mod coredns;
mod dnsmasq;
mod families;
mod flips;
mod forward;
mod kubedns;
mod manual;
mod mcs;
mod membership;
mod ndots;
mod nodelocal;
mod nsd;
mod resolved;
mod stream;
mod unbound;
