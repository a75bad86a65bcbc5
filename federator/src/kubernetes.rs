//! What observing and emitting have in common: a client of an API server, following one kind of object for ever, and
//! what errors mean. Knows nothing of any kind in particular.

pub mod client;
pub mod explain;
pub mod follow;
