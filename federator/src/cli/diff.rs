//! `federator diff`: what an agent would do to its cluster now, which is nothing where it does its work. The agent says
//! what should be there, the API server what is, and the emitter's own rule what follows.

use super::{Misuse, print, render::Agent};
use crate::{
    config::{Config, EmitTarget},
    emit::{diff::diff, kubernetes::found, yaml},
    kubernetes::client::{administrator, connector},
};
use anyhow::Context as _;
use clap::Args as ClapArgs;
use std::path::PathBuf;

/// How `--help` ends.
const EXIT_CODES: &str = "\
Exit codes:
  0  the agent would write nothing
  1  it would
  2  that could not be found out";

#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub(super) struct Args {
    #[command(flatten)]
    agent: Agent,
    /// The configuration of the agent: the cluster is reached as its `emit.kubernetes` says.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kubeconfig", "context"])]
    config: Option<PathBuf>,
    /// Override a field, like emit.kubernetes.context=east; may be given several times.
    #[arg(long, value_name = "FIELD=VALUE", requires = "config")]
    set: Vec<String>,
    /// The kubeconfig of whoever may list the objects; by default as kubectl finds it.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context in it: the agent's own cluster; by default the current one.
    #[arg(long)]
    context: Option<String>,
}

/// Says whether anything would be written. Whatever goes wrong is [`Misuse`], whose exit code is no answer of `diff`.
pub(super) async fn run(args: Args) -> anyhow::Result<bool> {
    compare(args).await.map_err(|error| Misuse(format!("{error:#}")).into())
}

async fn compare(args: Args) -> anyhow::Result<bool> {
    let connector = match &args.config {
        Some(file) => match Config::load(file, &args.set)?.emit.target {
            EmitTarget::Kubernetes { by, .. } => connector(&by).await.context("emit.kubernetes")?,
            _ => return Err(Misuse(format!("{}: `emit.kubernetes` is not there", file.display())).into()),
        },
        None => administrator(args.kubeconfig.as_deref(), args.context.as_deref()).await?,
    };
    let client = connector.connect()?;
    let desired =
        yaml::read(&args.agent.objects().await?).map_err(anyhow::Error::msg).context("the agent's objects")?;
    let found = found(&client).await.map_err(anyhow::Error::msg).with_context(|| connector.server.to_string())?;
    let diff = diff(&desired, &found);
    print(&diff.text)?;
    Ok(diff.differs)
}
