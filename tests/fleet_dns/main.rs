//! The DNS server beside others of its kind, with the same records, on the loopback of the sandbox.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod nsd;
