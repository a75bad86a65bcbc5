//! Tests against the fleet of real clusters, one file a subject. The first proves the bed itself: what the
//! scenarios take for granted is shown there once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod battery;
mod bed;
mod brake;
mod capture;
mod chaos;
mod conflicts;
mod emission;
mod etcd;
mod faults;
mod federation;
mod fleets;
mod gateways;
mod hosts;
mod install;
mod istio;
mod judge;
mod lies;
mod limits;
mod membership;
mod mesh;
mod names;
mod objects;
mod observation;
mod passage;
mod remote;
mod removal;
mod render;
mod rights;
mod spare;
mod traffic;
mod trio;
mod vips;
mod watches;
mod writers;
