//! The one picture of an agent that leaves it, as JSON. Field names are an interface: scripts read them.

use super::Sources;
use crate::{
    config::rules::ImportRules,
    emit::DryRun,
    gather::{Gathered, StoreHealth},
    project::import,
    snapshot::Kept,
    store::Upkeep,
};
use model::{
    export::Export,
    merge::Service,
    name::ClusterId,
    reach::{Asker, Networks, Place, offer},
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// `/status`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The agent's name.
    pub agent: String,
    /// Its cluster.
    pub cluster: String,
    /// Its version.
    pub version: &'static str,
    /// Whether what is asked for is answered.
    pub ready: bool,
    /// Whether names that are not there can be said not to exist.
    pub complete: bool,
    /// The largest store revision in the View.
    pub revision: u64,
    /// What this agent uses of its own observation because the store has no word on it.
    pub local: u64,
    /// A hash of the records that make the View: equal on two agents that have read the same.
    pub digest: String,
    /// Which life of the store is followed: another one after it was restored or emptied.
    pub generation: Option<String>,
    /// How the store is.
    pub store: StoreReport,
    /// The clusters, by id.
    pub clusters: BTreeMap<String, ClusterReport>,
    /// What remote Secrets name that is not used, by cluster id or by place in a Secret, and why.
    pub refused: BTreeMap<String, BTreeMap<&'static str, String>>,
    /// Namespaces whose remote Secrets cannot be read, and why.
    pub secrets: BTreeMap<String, String>,
    /// The services, by `namespace/name`.
    pub services: BTreeMap<String, ServiceReport>,
    /// What this agent's own rules keep out, by rule.
    pub not_imported: BTreeMap<String, NotImportedReport>,
    /// Records that cannot be used, by key, with the reason.
    pub quarantined: BTreeMap<String, String>,
    /// How emitting stands.
    pub emit: EmitReport,
    /// What is kept for the next start.
    pub snapshot: SnapshotReport,
}

/// How the store is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreReport {
    /// `never-read`, `snapshot`, `followed` or `lost`.
    pub state: &'static str,
    /// Its own revision up to which it was followed.
    pub position: u64,
    /// The age of the snapshot that is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_seconds: Option<u64>,
    /// Why it is lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How it is looked after, where it is shared.
    #[serde(flatten)]
    pub upkeep: Option<UpkeepReport>,
}

/// How a shared store is looked after.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpkeepReport {
    /// What is wrong with each member, by endpoint; nothing where it serves.
    pub members: BTreeMap<String, Option<String>>,
    /// Size of the largest member's database.
    pub db_bytes: u64,
    /// How much of it holds something.
    pub db_in_use_bytes: u64,
    /// How large it may become.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_bytes: Option<u64>,
    /// How many revisions can still be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_revisions: Option<u64>,
    /// What to do.
    pub advice: Vec<String>,
}

/// A cluster.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterReport {
    /// Its network; empty when none is named.
    pub network: String,
    /// The uid of its `kube-system` namespace.
    pub uid: String,
    /// Whether its records were complete at least once.
    pub synced: bool,
    /// The agent that publishes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// What that agent is to the cluster: `home`, `deputy` or `caretaker`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Who could publish it, with whether at once.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub candidates: BTreeMap<String, bool>,
    /// Why nothing new is known of it for sure, by its owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frozen: Option<FrozenReport>,
    /// What is held of it though its source does not name it any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<HoldReport>,
    /// Whether the store's word on it is kept aside, and what was known before is used.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub aside: bool,
    /// How far its source was read.
    pub source_version: String,
    /// Its east-west gateways: where they are, and the network that they lead into.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<String>,
    /// The hosts that these let through.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub passed: Vec<String>,
    /// The trust domain of its mesh; empty when it is not known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub trust_domain: String,
    /// What is wrong with it, by reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub conditions: BTreeMap<&'static str, String>,
    /// What this agent sees of it, where it observes it itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed: Option<ObservedReport>,
}

/// A cluster of which nothing new is known for sure.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FrozenReport {
    /// Since when, in seconds since 1970 by the clock of its owner.
    pub since: i64,
    /// Why.
    pub reason: String,
}

/// Endpoints that are held.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HoldReport {
    /// Since when, in seconds since 1970 by the clock of the owner that began it.
    pub since: i64,
    /// How many these are.
    pub endpoints: u64,
    /// Why.
    pub reason: String,
    /// Whether an operator has said that they may go.
    pub accepted: bool,
}

/// A cluster as this agent observes it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObservedReport {
    /// Whether everything was seen at least once.
    pub synced: bool,
    /// Whether this agent publishes it.
    pub owner: bool,
    /// Seconds for which nothing new is known for sure: what is here may be as old.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frozen_seconds: Option<u64>,
    /// Objects that its restored storage does not confirm: they are only remembered.
    pub remembered: usize,
    /// Some of these, by kind and name.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub remembered_names: BTreeSet<String>,
    /// What is wrong, in observing and in publishing.
    pub troubles: Vec<String>,
    /// Objects that are left out, with the reason.
    pub left_out: BTreeMap<String, String>,
}

/// A service.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceReport {
    /// `ClusterSetIP` or `Headless`.
    pub kind: &'static str,
    /// Its virtual addresses.
    pub addresses: Vec<String>,
    /// Its ports.
    pub ports: Vec<String>,
    /// Who exports it, oldest first, with the number of ready endpoints.
    pub exports: Vec<ExportReport>,
    /// How many endpoints of what is imported can be used from here.
    pub usable: usize,
    /// What of it cannot be used from here, and why.
    pub left_out: Vec<String>,
    /// What exports contradict each other in, by the reason of the MCS API: what is used, why, and who says what else.
    pub conflicts: Vec<String>,
}

/// One cluster's export.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportReport {
    /// The cluster.
    pub cluster: String,
    /// Its ready endpoints.
    pub ready: usize,
    /// All its endpoints.
    pub endpoints: usize,
    /// What it is told of where exports contradict each other: what it says itself that is not used, else who does.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<String>,
    /// The rule by which this agent does not import it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_imported: Option<String>,
}

/// What one rule keeps out.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NotImportedReport {
    /// How many services, in whole or in part.
    pub services: usize,
    /// The clusters that export these.
    pub clusters: BTreeSet<String>,
    /// The first few of the services.
    pub some: Vec<String>,
}

/// How emitting stands.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EmitReport {
    /// Objects that are as they should be.
    pub in_place: usize,
    /// Writes and deletes since the start.
    pub writes: u64,
    /// Writes and deletes that failed since the start.
    pub failures: u64,
    /// Objects that are not as they should be, and why.
    pub troubles: BTreeMap<String, String>,
    /// What objects do not hold of their services, and why.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<String, Vec<String>>,
    /// The agent of the cluster that is elected to write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writer: Option<String>,
    /// Why nothing can be emitted at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// How many objects would be created, changed and deleted, where nothing is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<DryRun>,
}

/// What is kept for the next start.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotReport {
    /// `off`, `waiting`, `kept`, `behind` or `failing`.
    pub state: &'static str,
    /// The store's revision up to which it is written.
    pub position: u64,
    /// When that was last known to be the state of the store, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written: Option<u64>,
    /// How long ago that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_seconds: Option<u64>,
    /// Its size.
    pub bytes: u64,
    /// Why it cannot be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// The file or the sibling whose snapshot this process began with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub began: Option<String>,
    /// Snapshots that it did not begin with, and why.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<String, String>,
}

// === impl Report ===

impl Report {
    /// The picture now. Costs the fleet: it is for people, not for the pipeline.
    #[must_use]
    pub fn new(sources: &Sources) -> Self {
        let gathered = sources.gathered.borrow().clone();
        let view = &gathered.view;
        let emitted = sources.emitted.borrow().clone();
        let mut clusters: BTreeMap<String, ClusterReport> =
            view.clusters().keys().map(|id| (id.to_string(), ClusterReport::of(&gathered, id))).collect();
        for (id, own) in &*sources.own.borrow() {
            let report = clusters.entry(id.to_string()).or_insert_with(|| ClusterReport::of(&gathered, id));
            report.observed = Some(ObservedReport::new(own));
        }
        let mut refused = BTreeMap::new();
        for (id, conditions) in sources.conditions() {
            let shown: BTreeMap<_, _> =
                conditions.iter().map(|(reason, message)| (reason.as_str(), message.to_owned())).collect();
            match clusters.get_mut(&id) {
                _ if shown.is_empty() => {}
                Some(cluster) => cluster.conditions = shown,
                None => _ = refused.insert(id, shown),
            }
        }
        let secrets = sources.roster.borrow().troubles.clone();
        let networks = Networks::new(view);
        let rules = sources.import.borrow().clone();
        Self {
            agent: sources.agent.clone(),
            cluster: sources.place.cluster.to_string(),
            version: env!("CARGO_PKG_VERSION"),
            ready: *sources.ready.borrow(),
            complete: gathered.complete,
            revision: view.revision(),
            local: gathered.local,
            digest: view.digest().to_string(),
            generation: gathered.generation.as_ref().map(|(generation, _)| generation.id.to_string()),
            store: StoreReport::new(&gathered, &sources.snapshot, sources.upkeep.borrow().clone()),
            clusters,
            refused,
            secrets,
            services: view
                .services()
                .iter()
                .map(|(key, service)| (key.to_string(), ServiceReport::new(&networks, &sources.place, &rules, service)))
                .collect(),
            not_imported: import::left_out(&rules, view).into_iter().map(NotImportedReport::of).collect(),
            quarantined: (*gathered.quarantined).clone(),
            emit: EmitReport {
                in_place: emitted.in_place,
                writes: emitted.writes,
                failures: emitted.failures,
                troubles: (*emitted.troubles).clone(),
                left_out: sources
                    .entry_conditions
                    .borrow()
                    .iter()
                    .map(|(key, missing)| (key.to_string(), missing.iter().map(ToString::to_string).collect()))
                    .collect(),
                writer: emitted.writer.map(|agent| agent.to_string()),
                trouble: [emitted.trouble, emitted.unread]
                    .into_iter()
                    .flatten()
                    .reduce(|all, more| format!("{all}; {more}")),
                dry_run: emitted.dry_run,
            },
            snapshot: SnapshotReport::new(&sources.snapshot),
        }
    }
}

// === impl SnapshotReport ===

impl SnapshotReport {
    fn new(kept: &Kept) -> Self {
        let age_seconds = kept.age().map(|age| age.as_secs());
        let status = kept.status.borrow().clone();
        let since_1970 = |written: SystemTime| written.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self {
            state: status.stand.as_str(),
            position: status.position,
            written: status.written.map(since_1970),
            age_seconds,
            bytes: status.bytes,
            trouble: status.trouble,
            began: status.began,
            refused: status.refused,
        }
    }
}

// === impl StoreReport ===

impl StoreReport {
    fn new(gathered: &Gathered, kept: &Kept, upkeep: Option<Upkeep>) -> Self {
        let (state, reason) = match &gathered.store {
            StoreHealth::NeverRead => ("never-read", None),
            StoreHealth::Snapshot => ("snapshot", None),
            StoreHealth::Followed => ("followed", None),
            StoreHealth::Lost(why) => ("lost", Some(why.clone())),
        };
        let age = kept.age().filter(|_| gathered.store == StoreHealth::Snapshot);
        Self {
            state,
            position: gathered.position,
            age_seconds: age.map(|age| age.as_secs()),
            reason,
            upkeep: upkeep.map(UpkeepReport::new),
        }
    }
}

// === impl UpkeepReport ===

impl UpkeepReport {
    fn new(upkeep: Upkeep) -> Self {
        let Upkeep { members, db_bytes, db_in_use_bytes, quota_bytes, kept_revisions, advice } = upkeep;
        Self { members, db_bytes, db_in_use_bytes, quota_bytes, kept_revisions, advice }
    }
}

// === impl ClusterReport ===

impl ClusterReport {
    fn of(gathered: &Gathered, id: &ClusterId) -> Self {
        let cluster = gathered.view.clusters().get(id).cloned().unwrap_or_default();
        let meta = cluster.meta.unwrap_or_default();
        let synced = cluster.synced.unwrap_or_default();
        let seats = gathered.seats.get(id).cloned().unwrap_or_default();
        let owner = seats.owner.map(|(owner, _)| owner);
        let state = cluster.state.filter(|state| state.frozen);
        Self {
            network: meta.network.as_str().to_owned(),
            uid: meta.uid.to_string(),
            synced: synced.is_complete(),
            role: owner.as_ref().map(|owner| owner.role.to_string()),
            owner: owner.map(|owner| owner.agent),
            candidates: seats.candidates.iter().map(|(agent, c)| (agent.to_string(), c.qualified)).collect(),
            frozen: state.map(|state| FrozenReport { since: state.since, reason: state.reason.to_string() }),
            hold: cluster.hold.map(|hold| HoldReport {
                since: hold.since,
                endpoints: hold.endpoints,
                reason: hold.reason.to_string(),
                accepted: hold.accepted,
            }),
            aside: gathered.aside.contains(id),
            source_version: synced.source_version.to_string(),
            gateways: meta.gateways.iter().map(ToString::to_string).collect(),
            passed: meta.passed.iter().map(|passed| passed.as_str().to_owned()).collect(),
            trust_domain: meta.trust_domain.to_string(),
            conditions: BTreeMap::new(),
            observed: None,
        }
    }
}

// === impl ObservedReport ===

impl ObservedReport {
    fn new(own: &super::Own) -> Self {
        let (seen, published) = (own.observed.borrow(), own.published.borrow());
        let waiting = published.standing_by_for.as_ref().map(|owner| format!("standing by: {owner} is the owner"));
        let troubles = seen.conditions.iter().map(|(reason, message)| format!("{reason}: {message}"));
        Self {
            synced: seen.synced,
            frozen_seconds: seen.frozen_since.map(|since| since.elapsed().as_secs()),
            remembered: seen.remembered,
            remembered_names: (*seen.remembered_names).clone(),
            owner: published.owner,
            troubles: troubles.chain(published.trouble.clone()).chain(waiting).collect(),
            left_out: (*seen.left_out).clone(),
        }
    }
}

// === impl NotImportedReport ===

impl NotImportedReport {
    fn of((rule, left_out): (String, import::LeftOut)) -> (String, Self) {
        let import::LeftOut { services, clusters, some } = left_out;
        let clusters = clusters.iter().map(ToString::to_string).collect();
        (rule, Self { services, clusters, some: some.iter().map(ToString::to_string).collect() })
    }
}

// === impl ServiceReport ===

impl ServiceReport {
    fn new(networks: &Networks, place: &Place, rules: &ImportRules, service: &Arc<Service>) -> Self {
        let imported = import::imported(rules, service);
        let offer =
            imported.as_deref().map(|service| offer(networks, place, service, Asker::Plain)).unwrap_or_default();
        let conflicts = service.conflicts();
        let export = |(cluster, export): &(ClusterId, Arc<Export>)| ExportReport {
            cluster: cluster.to_string(),
            ready: export.ready(),
            endpoints: export.endpoints().count(),
            conflicts: conflicts.iter().map(|conflict| conflict.told(cluster)).collect(),
            not_imported: import::refuse(rules, &service.key, cluster).map(|rule| rule.to_string()),
        };
        Self {
            kind: service.kind.as_str(),
            addresses: service.vip.iter().flat_map(|vip| [vip.v4.to_string(), vip.v6.to_string()]).collect(),
            ports: service.ports.iter().map(ToString::to_string).collect(),
            exports: service.exports.iter().map(export).collect(),
            usable: offer.usable.len(),
            left_out: offer.left_out.iter().map(ToString::to_string).collect(),
            conflicts: conflicts.iter().map(ToString::to_string).collect(),
        }
    }
}
