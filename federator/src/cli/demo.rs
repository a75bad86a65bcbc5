//! `federator demo`: many clusters that answer as one, from directories of manifests and nothing else. It runs the
//! agent itself, with an embedded store, and looks at it from outside, as anybody could: it edits files, and asks
//! over DNS. Here is only the order of things; what it starts is in [`clusters`], what it says in [`overview`].

mod ask;
mod bundle;
mod changes;
mod check;
mod clusters;
mod moves;
mod overview;
mod troubles;

use crate::{
    app::{Bound, Running},
    gather::Gathered,
    shutdown, telemetry,
};
use anyhow::Context as _;
use ask::Resolver;
use clap::Args as ClapArgs;
use clusters::Fleet;
use model::reach::Place;
use moves::Mover;
use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use troubles::Troubles;

/// Reading some files takes milliseconds; who waits longer than this waits for something that never comes.
const START_WITHIN: Duration = Duration::from_secs(15);

/// Between two moves: time to read a line and to ask oneself.
const MOVE_EVERY: Duration = Duration::from_secs(3);

/// How soon a file that cannot be read is named.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Shows clusters that answer as one, all of them observed from directories of manifests. Needs no Kubernetes, no etcd,
/// no root and no network. Without --dir there are three: east and west on network n1, south on n2; an endpoint
/// moves every few seconds. Goes on until Ctrl-C.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Show and check everything once, then exit: with 0 when names answer what the manifests say, else with 1.
    #[arg(long)]
    once: bool,
    /// Answer as the agent of this cluster would; by default, of the first by name.
    #[arg(long = "as", value_name = "CLUSTER")]
    place: Option<String>,
    /// Use your own manifests: one sub-directory a cluster, named by the cluster's id, with .yaml, .yml or .json files
    /// as `kubectl get services,endpointslices,nodes -A -o yaml` prints them. A file `network` beside them holds the
    /// name of the cluster's network; clusters without one share a network. Edit the files, and see what changes.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Log what the agent does, to standard error.
    #[arg(short, long)]
    verbose: bool,
}

/// A running demo, as seen from outside.
struct Demo {
    zone: Arc<str>,
    place: Place,
    fleet: Fleet,
    resolver: Resolver,
    admin: SocketAddr,
    gathered: watch::Receiver<Gathered>,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let outcome = tokio::select! {
        // In this order: the signals are ours before there is anything to clean up, which then happens by dropping.
        biased;
        outcome = shutdown::on_signal(shutdown.clone()) => outcome.context("signals"),
        () = shutdown.cancelled() => Ok(()),
        outcome = demo(args, shutdown.clone()) => outcome,
    };
    match outcome {
        // Whoever reads has read enough.
        Err(error) if error.downcast_ref().map(io::Error::kind) == Some(io::ErrorKind::BrokenPipe) => Ok(()),
        outcome => outcome,
    }
}

async fn demo(args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    // Held to the end, for it removes its directory when it goes.
    let bundle = match args.dir {
        None => Some(bundle::unpack().context("cannot write the manifests")?),
        Some(_) => None,
    };
    let fleet = match (&args.dir, &bundle) {
        (Some(dir), _) => Fleet::read(dir)?,
        (None, bundle) => Fleet::read(bundle.as_ref().context("no manifests")?.path())?,
    };
    let place = fleet.place(args.place.as_deref())?;
    let config = fleet.config(&place, args.verbose)?;
    telemetry::start(&config.log).context("log filter")?;
    let zone = config.zone.clone();
    let bound = Bound::bind(config).await?;
    let (dns, admin) = (bound.dns(), bound.admin()?);
    let running = bound.start(shutdown).await?;
    let mut demo = Demo {
        resolver: Resolver::new(*dns.first().context("no DNS listener")?).await?,
        zone,
        place,
        fleet,
        admin,
        gathered: running.gathered(),
    };
    let bundled = bundle.is_some();
    tokio::select! {
        outcome = ended(running) => outcome,
        outcome = async {
            demo.settled().await?;
            if args.once { demo.once(bundled).await } else { demo.go_on(bundled).await }
        } => outcome,
    }
}

/// The agent's own end is a fault. Its stages hold nothing that would be lost, so they are dropped with this future.
async fn ended(running: Running) -> anyhow::Result<()> {
    Ok(running.join().await?)
}

/// Prints a line.
fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

// === impl Demo ===

impl Demo {
    /// Waits until everything was read and published, and the zone says so.
    async fn settled(&mut self) -> anyhow::Result<()> {
        let clusters = self.fleet.clusters.len();
        let settled = |now: &Gathered| {
            let markers = now.view.clusters().values().filter_map(|cluster| cluster.synced.as_ref());
            let published = || markers.clone().filter(|marker| marker.is_complete());
            // What cannot be read is said, and not waited for.
            let whole = now.complete || published().any(|marker| marker.partial);
            whole && published().count() == clusters
        };
        let resolver = &self.resolver;
        let waiting = async {
            let revision = self.gathered.wait_for(settled).await.map(|now| now.view.revision())?;
            resolver.wait_for_revision(&self.zone, revision).await
        };
        tokio::time::timeout(START_WITHIN, waiting)
            .await
            .with_context(|| format!("the manifests were not read within {START_WITHIN:?}"))?
    }

    async fn once(&mut self, bundled: bool) -> anyhow::Result<()> {
        self.show().await?;
        Troubles::default().say_news(self.admin).await?;
        if bundled {
            let mut mover = Mover::new(&self.fleet, &self.place)?;
            let before = check::as_written(self).await?;
            say(&format!("\n{}", mover.step(self).await?))?;
            // Once more, for the manifests say something else now.
            let after = check::as_written(self).await?;
            check::report(before.into_iter().chain(after))
        } else {
            check::report(check::as_gathered(self).await?)
        }
    }

    async fn go_on(&mut self, bundled: bool) -> anyhow::Result<()> {
        self.show().await?;
        let mut troubles = Troubles::default();
        troubles.say_news(self.admin).await?;
        if bundled {
            say("\nAn endpoint moves every few seconds; Ctrl-C ends this.")?;
            let mut mover = Mover::new(&self.fleet, &self.place)?;
            loop {
                say(&mover.step(self).await?.to_string())?;
                // So that people can read.
                tokio::time::sleep(MOVE_EVERY).await;
            }
        }
        say("\nEdit the manifests, and see here what changes; Ctrl-C ends this.")?;
        let mut before = self.gathered.borrow_and_update().view.clone();
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                changed = self.gathered.changed() => {
                    changed.context("the agent has stopped")?;
                    let now = self.gathered.borrow_and_update().view.clone();
                    for line in changes::between(&before, &now) {
                        say(&format!("revision {}: {line}", now.revision()))?;
                    }
                    before = now;
                }
                _ = look.tick() => troubles.say_news(self.admin).await?,
            }
        }
    }

    async fn show(&self) -> anyhow::Result<()> {
        let view = self.gathered.borrow().view.clone();
        Ok(say(&overview::overview(self, &view).await?)?)
    }
}
