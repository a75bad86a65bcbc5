//! The DNS server beside others of its kind, with the same records, on the loopback of the sandbox.

mod nsd;
