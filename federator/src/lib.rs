//! One agent per cluster makes many Kubernetes clusters look like one.
//!
//! ```text
//! observe -> publish -> [ store ] -> gather -> View -> project -+-> dns    answers .global
//! every      own keys   etcd or      all keys  merged,  pure    +-> emit   ServiceEntries
//! cluster it            embedded     one watch immutable        +-> api    /status, /metrics
//! owns
//! ```
//!
//! Modules in reading order, which is that of the data. Every stage is an async function from a `watch` channel to
//! a `watch` channel of immutable snapshots; a slow one skips, and none queues. One revision runs through all.

pub mod observe;

pub mod ownership;

pub mod publish;

pub mod store;

pub mod gather;

pub mod project;

pub mod emit;

pub mod api;

pub mod app;
pub mod backoff;
pub mod cli;
pub mod condition;
pub mod config;
pub mod forward;
pub mod kubernetes;
pub mod lookup;
pub mod membership;
pub mod serial;
pub mod shutdown;
pub mod snapshot;
pub mod telemetry;

#[cfg(test)]
mod testing;
