//! `federator agent`: the daemon.

use crate::{app::Bound, config::Config, shutdown, telemetry};
use anyhow::Context as _;
use clap::Args as ClapArgs;
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;

/// Runs until SIGTERM or SIGINT. Fields of the configuration are overridden by the environment
/// (FEDERATOR_DNS__TTL=10 is dns.ttl) and then by --set.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "FEDERATOR_CONFIG")]
    config: PathBuf,
    /// Override a field, like dns.ttl=10; may be given several times.
    #[arg(long, value_name = "FIELD=VALUE")]
    set: Vec<String>,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let config = Config::load(&args.config, &args.set)?;
    telemetry::start(&config.log).context("configuration field `log.filter`")?;
    let bound = Bound::bind(config.clone()).await?;
    tracing::info!(
        agent = config.agent,
        cluster = %config.cluster,
        zone = %config.zone,
        dns = ?bound.dns(),
        admin = %bound.admin()?,
        store = ?config.store,
        version = env!("CARGO_PKG_VERSION"),
        "starting"
    );
    let token = CancellationToken::new();
    let running = bound.start(token.clone()).await?;
    tokio::select! {
        outcome = running.join() => outcome?,
        outcome = shutdown::on_signal(token) => outcome.context("signals")?,
    }
    tracing::info!("stopped");
    Ok(())
}
