//! What observing and emitting have in common: a client of an API server, following one kind of object for ever, and
//! what errors mean; and what may stand in a kubeconfig that others wrote. Knows nothing of any kind in particular.

pub mod client;
mod connection;
pub mod explain;
pub mod follow;
pub mod kubeconfig;
