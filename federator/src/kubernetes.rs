//! What observing and emitting have in common: a client of an API server, following one kind of object for ever, and
//! what errors mean; what may stand in a kubeconfig that others wrote, and how one is made that we accept. Following
//! knows nothing of any kind in particular.

pub mod client;
mod connection;
pub mod explain;
pub mod follow;
pub mod grant;
pub mod kubeconfig;
pub mod lenient;
pub mod remote_secret;
