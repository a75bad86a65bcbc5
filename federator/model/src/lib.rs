//! The nouns of Federator and the rules that merge them. No I/O, no clock, no randomness, no logger: the manifest
//! of this crate proves it, and so everything here is a function of its arguments.
//!
//! Words, in reading order:
//!
//! * [`name`]: validated identifiers: a cluster, a namespace, a service.
//! * [`locality`]: where an endpoint runs (region, zone) and which network it is on.
//! * [`export`]: what **one cluster asserts about one service**: a head and its endpoint slices.
//! * [`cluster`]: what a cluster asserts about itself, and the marker that says how far its records are complete.
//! * [`seat`]: who publishes a cluster, and who could.
//! * [`generation`]: the lives of a store that was restored or emptied.
//! * [`key`]: the grammar of the store's keys.
//! * [`record`]: the protobuf form of what stands behind those keys.
//! * [`tracked`]: a persistent map that knows what changed since a sequence number; every stage hands one on.
//! * [`vip`]: virtual addresses: ranges, and the sequence of candidates for a host.
//! * [`merge`]: many clusters' exports of one service, merged; the conflict rules.
//! * [`view`]: everything merged, at one revision.
//! * [`reach`]: which of a service's endpoints can be used from one place, and why the others cannot.

pub mod name;

pub mod locality;

pub mod export;

pub mod gateway;
pub mod identity;

pub mod cluster;

pub mod seat;

pub mod generation;

pub mod key;

pub mod record;
mod wire;

pub mod tracked;

pub mod vip;

pub mod merge;

pub mod view;

pub mod reach;
