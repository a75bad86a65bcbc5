//! The pure core, in this process: how long a fleet takes from records to objects when nothing is known before, and what
//! one change costs then. No store, no cluster, no network, one thread.

use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use federator::emit::object::{Desired, ObjectKey};
use federator::gather::Gathered;
use federator::gather::fold::{Applied, Fold};
use federator::project::objects::{Config, Objects};
use federator::store::{Batch, Entry, Snapshot};
use harness::Result;
use model::export::Family;
use model::key::Key;
use model::locality::Network;
use model::merge::{Parts, merge};
use model::name::{ClusterId, ServiceKey};
use model::reach::{Mode, Place};
use model::record::Record as _;
use model::tracked::{Since, Tracked};
use model::view::View;

use crate::cpu;
use crate::shape::{NETWORK, Shape, ZONE, marker};

/// A thousand services of ten endpoints, of few clusters and of many.
const FEW: Shape = Shape { clusters: 10, services: 100, slices: 1, endpoints: 10, shared: false };
const MANY: Shape = Shape { clusters: 100, services: 10, ..FEW };

/// A hundred times as many.
const LARGE: Shape = Shape { clusters: 100, services: 1000, ..FEW };

/// A million endpoints of services of the same names.
const SHARED: Shape = Shape { shared: true, ..LARGE };

/// How long everything takes from scratch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scratch {
    pub(super) shape: Shape,
    /// From records to a View: decoded, hashed, merged.
    pub(super) read: Duration,
    /// From exports to a View.
    pub(super) merged: Duration,
    /// From the View to objects.
    pub(super) projected: Duration,
}

/// What a change costs, in microseconds of CPU, and how many objects are others then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    pub(super) cpu: f64,
    pub(super) objects: f64,
}

/// One round, all within seconds.
pub(super) struct Round {
    /// Of a thousand services of ten clusters.
    pub(super) few: Cost,
    /// Of as many of a hundred clusters.
    pub(super) many: Cost,
    /// Of a hundred thousand of a hundred clusters.
    pub(super) large: Cost,
}

/// A fleet that is known, and the objects for it.
struct Fleet {
    shape: Shape,
    fold: Fold,
    objects: Objects,
    desired: Tracked<ObjectKey, Desired>,
    markers: BTreeMap<u32, Vec<u8>>,
    /// Slices that are not as they were first.
    changed: HashMap<String, Vec<u8>>,
    changes: u32,
    revision: u64,
}

/// A million endpoints from scratch, in two shapes.
pub(super) fn from_scratch() -> Result<[Scratch; 2]> {
    Ok([scratch(SHARED)?, scratch(LARGE)?])
}

/// Changes in turn, round by round.
pub(super) fn change(rounds: u16, changes: u32) -> Result<Vec<Round>> {
    let mut fleets = [FEW, MANY, LARGE].map(Fleet::new).into_iter().collect::<Result<Vec<_>>>()?;
    let mut found = Vec::new();
    // The first one is not counted: memory is touched for the first time.
    for _ in 0..=rounds {
        let costs = fleets.iter_mut().map(|fleet| fleet.round(changes)).collect::<Result<Vec<_>>>()?;
        let [few, many, large] = costs.try_into().ok().context("three fleets")?;
        found.push(Round { few, many, large });
    }
    found.remove(0);
    Ok(found)
}

fn scratch(shape: Shape) -> Result<Scratch> {
    let snapshot = snapshot(&shape)?;
    let mut fold = Fold::new(&ZONE.into());
    let start = Instant::now();
    fold.replace(&snapshot);
    let read = start.elapsed();
    drop(snapshot);

    let known = fold.result().view;
    let parts: Vec<(ServiceKey, Parts)> = known
        .services()
        .iter()
        .map(|(key, service)| {
            let order = service.exports.iter().map(|(cluster, _)| cluster.clone()).collect();
            (key.clone(), Parts { exports: service.exports.iter().cloned().collect(), order, vip: service.vip })
        })
        .collect();
    let start = Instant::now();
    let mut view = View::default();
    known.clusters().iter().for_each(|(id, cluster)| view.set_cluster(id, Some(cluster.clone())));
    for (key, parts) in &parts {
        view.set_service(key, merge(key, parts));
    }
    let merged = start.elapsed();
    ensure!(view.services().len() == shape.names() as usize, "{} services", view.services().len());

    let mut objects = objects()?;
    let gathered = Gathered { view, ..Gathered::default() };
    let start = Instant::now();
    let desired = objects.update(&gathered);
    let projected = start.elapsed();
    ensure!(desired.len() == 2 * shape.names() as usize, "{} objects", desired.len());
    Ok(Scratch { shape, read, merged, projected })
}

/// All that the clusters of a shape export, as it would be read.
fn snapshot(shape: &Shape) -> Result<Snapshot> {
    let mut writes = shape.common()?;
    for cluster in 0..shape.clusters {
        writes.extend(shape.records(cluster)?);
    }
    let entries = writes.into_iter().map(|(key, value)| (key, Entry { value, created: 1, modified: 1 }));
    Ok(Snapshot { revision: 1, entries: entries.collect() })
}

/// Objects for a cluster that has nothing itself, on the network of all others.
fn objects() -> Result<Objects> {
    Ok(Objects::new(Config {
        place: Place { cluster: ClusterId::parse("home")?, network: Network::new(NETWORK), mode: Mode::Auto },
        zone: ZONE.into(),
        namespace: "istio-system".into(),
        rules: true,
        export_to: Arc::default(),
        remote_only: false,
        all_ports: false,
        families: [Family::V4].into_iter().collect(),
        gateway: BTreeMap::new(),
    }))
}

// === impl Fleet ===

impl Fleet {
    fn new(shape: Shape) -> Result<Self> {
        let snapshot = snapshot(&shape)?;
        let synced = |cluster| Ok((cluster, Key::Synced(Shape::cluster(cluster)?).to_string()));
        let markers = (0..shape.clusters).map(synced).collect::<Result<Vec<_>>>()?;
        let markers = markers.into_iter().map(|(cluster, key)| (cluster, snapshot.entries[&key].value.clone()));
        let markers = markers.collect();
        let (mut fold, mut objects) = (Fold::new(&ZONE.into()), objects()?);
        fold.replace(&snapshot);
        let desired = objects.update(&fold.result());
        Ok(Self { shape, fold, objects, desired, markers, changed: HashMap::new(), changes: 0, revision: 1 })
    }

    fn round(&mut self, changes: u32) -> Result<Cost> {
        let batches = (0..changes).map(|_| self.next()).collect::<Result<Vec<_>>>()?;
        let mut written: u32 = 0;
        let before = cpu::of_tree(std::process::id())?;
        for batch in &batches {
            ensure!(self.fold.apply(batch) == Applied::All, "no marker vouches for {batch:?}");
            let desired = self.objects.update(&self.fold.result());
            let Since::Changes(changed) = desired.since(self.desired.sequence()) else {
                anyhow::bail!("what changed is forgotten");
            };
            for (_, desired) in changed {
                // As text, as an emitter compares and writes it.
                black_box(desired.map(|desired| desired.json().to_string()));
                written += 1;
            }
            self.desired = desired;
        }
        let cpu = cpu::of_tree(std::process::id())? - before;
        let changes = f64::from(changes);
        Ok(Cost { cpu: cpu.as_secs_f64() * 1e6 / changes, objects: f64::from(written) / changes })
    }

    /// What a store would tell of the next change.
    fn next(&mut self) -> Result<Batch> {
        let number = self.changes;
        self.changes += 1;
        self.revision += 1;
        let at = self.shape.place(number);
        let key = self.shape.key(at)?.to_string();
        let after = self.shape.slice(at, number + 1).encode();
        let before = self.changed.insert(key.clone(), after.clone());
        let before = before.unwrap_or_else(|| self.shape.slice(at, 0).encode());
        let known = self.markers.get_mut(&at.cluster).context("a cluster")?;
        *known = marker(known, &key, &before, &after)?;
        let synced = Key::Synced(Shape::cluster(at.cluster)?).to_string();
        let entry = |value: &[u8]| Some(Entry { value: value.to_vec(), created: 1, modified: self.revision });
        let changes = vec![(key, entry(&after)), (synced, entry(known))];
        Ok(Batch { revision: self.revision, changes })
    }
}
