//! The composition root: a checked configuration becomes bound sockets, then running stages (`stages`). With what
//! is below it, the only place that spawns tasks and reads the clock. A stage that ends by itself is a fault: it stops
//! everything, in order, and the process says so with its exit code.

mod clusters;
mod listeners;
mod one;
mod projection;
mod rules;
mod stages;
mod staleness;

pub(crate) use stages::clock;

use crate::{config::Config, gather::Gathered, publish};
use model::export::AnswerMode;
use stages::Stages;
use std::{net::SocketAddr, time::Duration};
use tokio::{sync::watch, task::JoinError};
use tokio_util::sync::CancellationToken;

/// How long a clean stop may take.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// An agent whose sockets are bound and that does not run yet.
#[derive(Debug)]
pub struct Bound {
    config: Config,
    dns: Vec<(dns::Bound, AnswerMode)>,
    admin: tokio::net::TcpListener,
}

/// An agent that runs.
#[derive(Debug)]
pub struct Running {
    gathered: watch::Receiver<Gathered>,
    stages: Stages,
    shutdown: CancellationToken,
}

/// Why an agent could not start or go on; each has an exit code of its own.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppError {
    /// A socket cannot be bound.
    #[error("{0}")]
    Bind(String),
    /// Publishing would harm another cluster.
    #[error(transparent)]
    Publish(#[from] publish::PublishError),
    /// Anything else.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

/// What a stage says when it ends: its name.
type Ended = Result<&'static str, AppError>;

// === impl Bound ===

impl Bound {
    /// Binds every socket of a configuration.
    ///
    /// # Errors
    /// [`AppError::Bind`] names the address and why it cannot be had.
    pub async fn bind(config: Config) -> Result<Self, AppError> {
        let mut dns = Vec::new();
        for listener in &config.dns.listeners {
            let bound = dns::Bound::bind(&[listener.address]).map_err(|error| {
                let reason = format!("{error}: {}", error.source);
                AppError::Bind(format!("{reason}; choose another address in `dns.listeners`"))
            })?;
            dns.push((bound, listener.mode));
        }
        let admin = tokio::net::TcpListener::bind(config.admin).await.map_err(|error| {
            let reason = format!("cannot listen on {}: {error}", config.admin);
            AppError::Bind(format!("{reason}; choose another `admin.address`"))
        })?;
        Ok(Self { config, dns, admin })
    }

    /// The addresses that answer DNS, in the order of the configuration.
    pub fn dns(&self) -> Vec<SocketAddr> {
        self.dns.iter().filter_map(|(bound, _)| bound.local_addr()).collect()
    }

    /// The admin address.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn admin(&self) -> std::io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// Starts all stages, which run until `shutdown`.
    ///
    /// # Errors
    /// [`AppError`], when something cannot be made of the configuration.
    pub async fn start(self, shutdown: CancellationToken) -> Result<Running, AppError> {
        let (stages, gathered) = stages::start(self.config, self.dns, self.admin, &shutdown).await?;
        Ok(Running { gathered, stages, shutdown })
    }
}

// === impl Running ===

impl Running {
    /// What it has gathered, for whoever wants to look on.
    #[must_use]
    pub fn gathered(&self) -> watch::Receiver<Gathered> {
        self.gathered.clone()
    }

    /// Waits for the end: of `shutdown`, or of a stage that ended by itself, which is a fault.
    ///
    /// # Errors
    /// [`AppError`] of the stage that ended first.
    pub async fn join(self) -> Result<(), AppError> {
        let Self { stages: Stages { mut draining, mut others }, shutdown, .. } = self;
        let outcome = tokio::select! {
            // First: a stage that ends because it was told to is no fault.
            biased;
            () = shutdown.cancelled() => Ok(()),
            Some(ended) = draining.join_next() => Err(fault(ended)),
            Some(ended) = others.join_next() => Err(fault(ended)),
        };
        shutdown.cancel();
        let drained = async { while draining.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_WITHIN, drained).await.is_err() {
            tracing::warn!("stopping took too long");
        }
        others.shutdown().await;
        outcome
    }
}

/// Why a stage ended that should not have.
fn fault(ended: Result<Ended, JoinError>) -> AppError {
    match ended {
        Ok(Ok(stage)) => anyhow::anyhow!("stage {stage} ended by itself").into(),
        Ok(Err(error)) => error,
        Err(panic) => anyhow::anyhow!("a stage died: {panic}").into(),
    }
}
