//! `federator remote-secret`: lets the agents elsewhere observe a cluster.

use crate::kubernetes::{
    grant::Account,
    remote_secret::{self, Request},
};
use clap::{Args as ClapArgs, Subcommand};
use model::name::{ClusterId, NameError};
use std::path::PathBuf;

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an account that may read what agents need in a cluster, and print the Secret by which they use it.
    ///
    /// Run it against the cluster that is to be observed, and apply what it prints where the observers are:
    /// federator remote-secret create --context west --name west | kubectl --context east apply -f -
    Create(Create),
}

#[derive(Debug, ClapArgs)]
struct Create {
    /// The id by which the fleet is to know the cluster: one DNS label.
    #[arg(long, value_name = "CLUSTER_ID", value_parser = cluster_id)]
    name: ClusterId,
    /// The kubeconfig of an administrator of the cluster; by default as kubectl finds it.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context in it; by default the current one.
    #[arg(long)]
    context: Option<String>,
    /// The namespace of the account; it is made if it is not there.
    #[arg(long, default_value = "istio-system")]
    namespace: String,
    /// The account that is made.
    #[arg(long, default_value = "federator-reader")]
    service_account: String,
    /// The address by which other clusters reach the API server; by default that of the kubeconfig.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// The namespace that the Secret is for: the agents'; by default that of the account.
    #[arg(long, value_name = "NAMESPACE")]
    secret_namespace: Option<String>,
    /// Print what would be applied in the cluster, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let Command::Create(create) = args.command;
    let account = Account { namespace: create.namespace.clone(), name: create.service_account };
    let text = if create.dry_run {
        remote_secret::dry_run(&account)?
    } else {
        remote_secret::create(&Request {
            id: create.name,
            kubeconfig: create.kubeconfig,
            context: create.context,
            account,
            server: create.server,
            secret_namespace: create.secret_namespace.unwrap_or(create.namespace),
        })
        .await?
    };
    super::print(&text)
}

fn cluster_id(text: &str) -> Result<ClusterId, NameError> {
    ClusterId::parse(text)
}
