//! `federator etcd`: prepares an etcd that a fleet shares. Prints the commands, or what was done; who may write what
//! stands in `rights`, and how etcd is told in `store::etcd::roles`.

mod rights;

use super::Misuse;
use crate::{
    config::{Config, Store as StoreConfig},
    store::etcd::{Etcd, Settings, roles},
};
use clap::{Args as ClapArgs, Subcommand};
use model::name::ClusterId;
use rights::{Fleet, MEANING};
use std::path::PathBuf;

/// An etcd that a fleet shares.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Give every cluster's agent a user that can write what is the cluster's own, and nothing of others.
    ///
    /// Prints commands of etcdctl, or applies what is missing (--apply). A user is the common name of an agent's
    /// certificate. Running it again with more clusters adds these; name all of them, because rights that are not asked
    /// for are taken from their roles. Nothing is refused to anybody before `etcdctl auth enable`.
    #[command(after_long_help = MEANING)]
    Init(Init),
}

#[derive(Debug, ClapArgs)]
struct Init {
    /// The ids of the clusters.
    #[arg(value_name = "CLUSTER", required = true, value_parser = |text: &str| ClusterId::parse(text))]
    clusters: Vec<ClusterId>,
    /// The user of a cluster's agents, where that is not the cluster's id; may be given several times.
    #[arg(long = "user", value_name = "CLUSTER=USER", value_parser = user)]
    users: Vec<(ClusterId, String)>,
    /// Clusters that a cluster's agents publish while these have no agent of their own, `east=west,south`; may be given
    /// several times.
    #[arg(long = "deputy", value_name = "CLUSTER=CLUSTERS", value_parser = deputy)]
    deputies: Vec<(ClusterId, Vec<ClusterId>)>,
    /// The user that removes clusters from the fleet, and readmits them.
    #[arg(long, value_name = "USER", default_value = "federator-admin")]
    admin: String,
    /// The prefix of all keys: `store.etcd.root` of the agents.
    #[arg(long, value_name = "PREFIX", default_value = "/federator", conflicts_with = "config")]
    root: String,
    /// The configuration of an agent, which names etcd and the root.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Override a field, like store.etcd.tls.certFile=root.crt; may be given several times.
    #[arg(long, value_name = "FIELD=VALUE", requires = "config")]
    set: Vec<String>,
    /// Do it, as a user that has etcd's role `root`: --set the certificate of one, or store.etcd.username.
    #[arg(long, requires = "config")]
    apply: bool,
}

#[expect(clippy::print_stdout, reason = "the command line talks to people")]
pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let Act::Init(init) = args.act;
    let settings = init.settings()?;
    let root = settings.as_ref().map_or(&init.root, |settings| &settings.root);
    let wanted = init.fleet()?.roles(root);
    let (title, steps) = match settings.as_ref().filter(|_| init.apply) {
        None => ("# Who may do what under the root", roles::plan(root, &wanted, &roles::Existing::default())),
        Some(settings) => ("# Done", Etcd::connect(settings).await?.grant(&wanted).await?),
    };
    println!("{title}:");
    for step in &steps {
        println!("{step}");
    }
    if steps.is_empty() {
        println!("# nothing: all is as it should be");
    }
    for line in MEANING.lines() {
        println!("{}", format!("# {line}").trim_end());
    }
    Ok(())
}

// === impl Init ===

impl Init {
    fn settings(&self) -> anyhow::Result<Option<Settings>> {
        let Some(config) = &self.config else { return Ok(None) };
        match Config::load(config, &self.set)?.store {
            StoreConfig::Etcd { settings, .. } => Ok(Some(settings)),
            StoreConfig::Embedded => Err(Misuse("the configuration names no `store.etcd`".to_owned()).into()),
        }
    }

    fn fleet(&self) -> Result<Fleet, Misuse> {
        let mut fleet = Fleet::new(self.clusters.iter().cloned(), &self.admin);
        for (cluster, user) in &self.users {
            fleet.member(cluster).ok_or_else(|| unnamed("--user", cluster))?.user.clone_from(user);
        }
        for (cluster, others) in &self.deputies {
            if let Some(other) = others.iter().find(|other| !self.clusters.contains(other)) {
                return Err(unnamed("--deputy", other));
            }
            let member = fleet.member(cluster).ok_or_else(|| unnamed("--deputy", cluster))?;
            member.deputises.extend(others.iter().cloned());
        }
        fleet.check().map_err(Misuse)?;
        Ok(fleet)
    }
}

fn unnamed(option: &str, cluster: &ClusterId) -> Misuse {
    Misuse(format!("{option}: cluster `{cluster}` is not among those that are given"))
}

fn user(text: &str) -> Result<(ClusterId, String), String> {
    let (cluster, user) = text.split_once('=').ok_or("give CLUSTER=USER")?;
    Ok((ClusterId::parse(cluster).map_err(|error| error.to_string())?, user.to_owned()))
}

fn deputy(text: &str) -> Result<(ClusterId, Vec<ClusterId>), String> {
    let (cluster, others) = text.split_once('=').ok_or("give CLUSTER=CLUSTER,CLUSTER")?;
    let parse = |text: &str| ClusterId::parse(text).map_err(|error| error.to_string());
    Ok((parse(cluster)?, others.split(',').map(parse).collect::<Result<_, _>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Typed {
        #[command(flatten)]
        init: Init,
    }

    fn fleet(line: &str) -> Result<Fleet, String> {
        let typed = Typed::try_parse_from(format!("init {line}").split(' ')).map_err(|error| error.to_string())?;
        typed.init.fleet().map_err(|error| error.to_string())
    }

    #[test]
    fn who_is_not_in_the_fleet_is_named() {
        assert!(fleet("east west --user east=e --deputy east=west --deputy west=east").is_ok());
        for (line, expected) in [
            ("east --user west=w", "--user: cluster `west` is not among"),
            ("east --deputy west=east", "--deputy: cluster `west` is not among"),
            ("east --deputy east=west", "--deputy: cluster `west` is not among"),
            ("east --deputy east", "give CLUSTER=CLUSTER,CLUSTER"),
            ("East", "`East` is not a DNS label"),
            ("east west --user east=west", "two clusters have the user `west`"),
            ("east --user east=federator-admin", "the user `federator-admin`"),
            ("east --apply", "--config"),
        ] {
            let error = fleet(line).expect_err(line);
            assert!(error.contains(expected), "{line}: {error}");
        }
    }

    #[test]
    fn it_is_a_command() {
        assert!(Cli::try_parse_from(["federator", "etcd", "init", "east", "west"]).is_ok());
    }
}
