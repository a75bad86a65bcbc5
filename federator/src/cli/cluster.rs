//! `federator cluster`: takes a cluster out of the fleet, or back in, or accepts that its endpoints go, in the store that
//! a configuration names. Prints what was done; what that is stands in `membership::removal` and `withdrawal`.

use super::Misuse;
use crate::{
    config::{Config, Store as StoreConfig},
    membership::{
        removal::{Done, How, RemovalError, readmit, remove},
        withdrawal::{self, WithdrawalError, accept},
    },
    store::etcd::Etcd,
};
use clap::{Args as ClapArgs, Subcommand};
use model::{cluster::Hold, name::ClusterId};
use std::path::PathBuf;

/// Why nothing can be accepted where there is no store to say so in.
const ALONE: &str = "without `store.etcd` what is held goes after `membership.holdSeconds`: set it lower and restart the \
                     agent, which forgets what it held";

/// What is done to a cluster as a member of the fleet.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Take a cluster out of the fleet: nobody publishes it any more, and what it left behind is deleted.
    ///
    /// All agents drop its endpoints at once. An agent of that cluster that still runs, or comes back, writes nothing
    /// until the cluster is readmitted. Virtual addresses stay. May be run again after an interruption.
    Remove {
        #[command(flatten)]
        of: Of,
        /// Remove a cluster that the store does not know, so that it is barred before it comes.
        #[arg(long)]
        force: bool,
    },
    /// Take a removed cluster back; its agent publishes it again within seconds.
    Readmit {
        #[command(flatten)]
        of: Of,
    },
    /// Let the endpoints go that the owner of a cluster holds (condition `WithdrawalHeld`): they are withdrawn at once.
    AcceptWithdrawal {
        #[command(flatten)]
        of: Of,
        /// Accept where nothing is held: a cluster whose API server shows an earlier state for good (condition
        /// `Behind`) is published as it is seen now. Many endpoints that are missing then are held all the same.
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, ClapArgs)]
struct Of {
    /// The id of the cluster.
    #[arg(value_name = "ID", value_parser = |text: &str| ClusterId::parse(text))]
    id: ClusterId,
    /// The configuration of an agent, which names the store.
    #[arg(long, value_name = "FILE", env = "FEDERATOR_CONFIG")]
    config: PathBuf,
    /// Override a field, like store.etcd.root=/other; may be given several times.
    #[arg(long, value_name = "FIELD=VALUE")]
    set: Vec<String>,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
}

#[expect(clippy::print_stdout, reason = "the command line talks to people")]
pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    match args.act {
        Act::Remove { of, force } => {
            let store = of.store(&of.only_member()).await?;
            let done = remove(&store, &of.id, How { dry_run: of.dry_run, force }).await;
            println!("{}", removed(&of, &done.map_err(say)?));
        }
        Act::Readmit { of } => {
            let store = of.store(&of.only_member()).await?;
            let done = readmit(&store, &of.id, How { dry_run: of.dry_run, force: false }).await;
            println!("{}", readmitted(&of, &done.map_err(say)?));
        }
        Act::AcceptWithdrawal { of, force } => {
            let store = of.store(ALONE).await?;
            let done = accept(&store, &of.id, withdrawal::How { dry_run: of.dry_run, force }).await;
            println!("{}", accepted(&of, &done.map_err(refuse)?));
        }
    }
    Ok(())
}

fn removed(of: &Of, done: &Done) -> String {
    let id = &of.id;
    let Done { tombstone, already, records } = done;
    let uid = if tombstone.uid.is_empty() { "unknown" } else { &*tombstone.uid };
    let is = match (already, of.dry_run) {
        (true, _) => "is removed already",
        (false, true) => "would be removed",
        (false, false) => "is removed",
    };
    let deleted = if of.dry_run { "would be deleted" } else { "deleted" };
    format!("cluster {id} {is}: tombstone {}, uid {uid}; {records} records {deleted}", tombstone.number)
}

fn readmitted(of: &Of, done: &Done) -> String {
    let (id, number) = (&of.id, done.tombstone.number);
    let is = if of.dry_run { "would be readmitted" } else { "is readmitted" };
    format!("cluster {id} {is}: tombstone {number}; its agent publishes it within seconds")
}

fn accepted(of: &Of, hold: &Hold) -> String {
    let (id, Hold { endpoints, since, .. }) = (&of.id, hold);
    let is = if of.dry_run { "would be accepted" } else { "is accepted" };
    if *endpoints == 0 {
        return format!("cluster {id}: {is} as it is seen now; nothing is held of it");
    }
    format!(
        "cluster {id}: the withdrawal of {endpoints} endpoints, held since {since} (seconds since 1970), {is}; its \
         owner withdraws them within seconds"
    )
}

fn refuse(error: WithdrawalError) -> anyhow::Error {
    match error {
        WithdrawalError::NothingHeld(_) | WithdrawalError::Unknown(_) => Misuse(error.to_string()).into(),
        error => error.into(),
    }
}

/// What names the wrong cluster is a mistake on the command line.
fn say(error: RemovalError) -> anyhow::Error {
    match error {
        RemovalError::Unknown { .. } | RemovalError::NotRemoved(_) => Misuse(error.to_string()).into(),
        error => error.into(),
    }
}

// === impl Of ===

impl Of {
    /// The store; `otherwise` says what to do where an agent has none to share.
    async fn store(&self, otherwise: &str) -> anyhow::Result<Etcd> {
        match Config::load(&self.config, &self.set)?.store {
            StoreConfig::Etcd { settings, .. } => Ok(Etcd::connect(&settings).await?),
            StoreConfig::Embedded => Err(Misuse(otherwise.to_owned()).into()),
        }
    }

    fn only_member(&self) -> String {
        format!(
            "without `store.etcd` the agent is the fleet's only member: delete the Secret that names `{}`, or its entry \
             in `clusters`",
            self.id
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::cluster::Tombstone;

    fn of(dry_run: bool) -> Of {
        let id = ClusterId::parse("west").expect("an id");
        Of { id, config: PathBuf::new(), set: vec![], dry_run }
    }

    #[test]
    fn it_says_what_was_done() {
        let done = |number, uid: &str, already, records| Done {
            tombstone: Tombstone { uid: uid.into(), number, removed: true },
            already,
            records,
        };
        let check = |said: String, expected: &str| assert_eq!(said, expected);
        check(
            removed(&of(false), &done(1, "u", false, 7)),
            "cluster west is removed: tombstone 1, uid u; 7 records deleted",
        );
        check(
            removed(&of(true), &done(1, "", false, 7)),
            "cluster west would be removed: tombstone 1, uid unknown; 7 records would be deleted",
        );
        check(
            removed(&of(false), &done(3, "u", true, 0)),
            "cluster west is removed already: tombstone 3, uid u; 0 records deleted",
        );
        check(
            readmitted(&of(true), &done(2, "", false, 0)),
            "cluster west would be readmitted: tombstone 2; its agent publishes it within seconds",
        );
    }

    #[test]
    fn it_says_what_is_accepted() {
        let hold = |endpoints| Hold { since: 7, endpoints, accepted: true, ..Hold::default() };
        let check = |said: String, expected: &str| assert_eq!(said, expected);
        check(
            accepted(&of(false), &hold(40)),
            "cluster west: the withdrawal of 40 endpoints, held since 7 (seconds since 1970), is accepted; its owner \
             withdraws them within seconds",
        );
        check(
            accepted(&of(true), &hold(0)),
            "cluster west: would be accepted as it is seen now; nothing is held of it",
        );
    }

    #[tokio::test]
    async fn without_a_shared_store_there_is_nothing_to_remove_from() {
        let home = tempfile::TempDir::new().expect("a directory");
        let config = home.path().join("f.yaml");
        std::fs::write(&config, "cluster: east\nclusters: [{id: east, kubernetes: {}}]\n").expect("written");
        let of = Of { config, ..of(false) };
        let error = of.store(&of.only_member()).await.expect_err("embedded");
        assert!(error.is::<Misuse>() && error.to_string().contains("delete the Secret that names `west`"), "{error}");
    }
}
