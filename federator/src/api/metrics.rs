//! Metrics, in OpenMetrics text. Gauges are read from the stages when asked for, so no stage knows of metrics.

use super::{Own, Sources};
use crate::project::service_entry;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// Reads the stages when the registry is encoded.
#[derive(Debug)]
pub struct Stages(pub Sources);

/// Reads one number of a cluster's stages.
type ReadOwn = fn(&Own) -> i64;

impl Collector for Stages {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Sources { gathered, ready, unconfirmed, own, emitted, snapshot, .. } = &self.0;
        let (gathered, emitted) = (gathered.borrow().clone(), emitted.borrow().clone());
        let view = &gathered.view;
        let unconfirmed = unconfirmed.borrow().map_or(0, |since| count(since.elapsed().as_secs()));
        let gauges: [(&str, &str, i64); 10] = [
            ("revision", "Largest store revision in the View", count(view.revision())),
            ("local_revision", "Changes taken from own observation, not from the store", count(gathered.local)),
            ("ready", "Whether what is asked for is answered", i64::from(*ready.borrow())),
            ("complete", "Whether absent names can be said not to exist", i64::from(gathered.complete)),
            (
                "unconfirmed_seconds",
                "Time for which nobody has confirmed that what is known is the store's",
                unconfirmed,
            ),
            ("clusters", "Clusters in the View", size(view.clusters().len())),
            ("services", "Services in the View", size(view.services().len())),
            ("quarantined_records", "Records that cannot be used", size(gathered.quarantined.len())),
            ("emitted_objects", "Emitted objects that are as they should be", size(emitted.in_place)),
            ("emit_writer", "Whether this agent is the one that writes into its cluster", i64::from(emitted.is_writer)),
        ];
        let kept = [
            ("snapshot_bytes", "Size of the snapshot", count(snapshot.status.borrow().bytes)),
            (
                "snapshot_age_seconds",
                "Time since the snapshot was known to be the state of the store",
                snapshot.age().map_or(0, |age| count(age.as_secs())),
            ),
        ];
        // Where there is none, there is nothing to alert about.
        let kept = kept.into_iter().filter(|_| snapshot.age().is_some());
        for (name, help, value) in gauges.into_iter().chain(kept) {
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        let counters = [
            ("emit_writes", "Writes and deletes of emitted objects", emitted.writes),
            ("emit_failures", "Failed writes and deletes of emitted objects", emitted.failures),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(metric)?;
        }
        let per_cluster: [(&str, &str, ReadOwn); 5] = [
            ("observed", "Whether a cluster was seen whole", |own| i64::from(own.observed.borrow().synced)),
            ("owner", "Whether this agent publishes a cluster", |own| i64::from(own.published.borrow().owner)),
            ("left_out_objects", "Objects of a cluster that are left out", |own| {
                size(own.observed.borrow().left_out.len())
            }),
            ("cluster_frozen", "Whether nothing of a cluster is taken away at the moment", |own| {
                i64::from(own.observed.borrow().frozen_since.is_some())
            }),
            ("remembered_objects", "Objects of a cluster that its restored storage does not confirm", |own| {
                size(own.observed.borrow().remembered)
            }),
        ];
        for (name, help, read) in per_cluster {
            let shape = ConstGauge::new(0_i64);
            let mut family = encoder.encode_descriptor(name, help, None, shape.metric_type())?;
            for (id, own) in &*own.borrow() {
                let labels = [("cluster", id.as_str())];
                ConstGauge::new(read(own)).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Endpoints of a cluster that are kept though its source does not name them any more";
        let shape = ConstGauge::new(0_i64);
        let mut family = encoder.encode_descriptor("cluster_held_endpoints", help, None, shape.metric_type())?;
        for (id, cluster) in view.clusters() {
            let held = cluster.hold.as_ref().map_or(0, |hold| count(hold.endpoints));
            ConstGauge::new(held).encode(family.encode_family(&[("cluster", id.as_str())])?)?;
        }
        self.upkeep(&mut encoder)?;
        self.left_out(&mut encoder)?;
        self.conditions(&mut encoder)
    }
}

// === impl Stages ===

impl Stages {
    /// How a shared store is looked after; nothing where there is none, or it did not say.
    fn upkeep(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(upkeep) = self.0.upkeep.borrow().clone() else { return Ok(()) };
        let failing = upkeep.members.values().filter(|member| member.is_some()).count();
        let gauges: [(&str, &str, Option<u64>); 6] = [
            ("store_db_bytes", "Size of the largest etcd member's database", Some(upkeep.db_bytes)),
            ("store_db_in_use_bytes", "How much of it holds something", Some(upkeep.db_in_use_bytes)),
            ("store_quota_bytes", "How large it may become, where etcd says so", upkeep.quota_bytes),
            ("store_kept_revisions", "Revisions that etcd has not forgotten", upkeep.kept_revisions),
            ("store_failing_members", "Members of etcd that do not serve this agent", u64::try_from(failing).ok()),
            ("store_advice", "Sentences in /status on what etcd needs", u64::try_from(upkeep.advice.len()).ok()),
        ];
        for (name, help, value) in gauges {
            let Some(value) = value else { continue };
            let gauge = ConstGauge::new(count(value));
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        Ok(())
    }

    /// Of how many services something is missing in what is emitted, by the reason.
    fn left_out(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut services: BTreeMap<service_entry::Reason, usize> = BTreeMap::new();
        for (_, missing) in self.0.entry_conditions.borrow().iter() {
            let reasons: BTreeSet<_> = missing.iter().map(|condition| condition.reason).collect();
            reasons.into_iter().for_each(|reason| *services.entry(reason).or_default() += 1);
        }
        let help = "Services of which something is missing in what is emitted";
        let shape = ConstGauge::new(0_i64);
        let mut family = encoder.encode_descriptor("emit_left_out_services", help, None, shape.metric_type())?;
        for (reason, services) in services {
            ConstGauge::new(size(services)).encode(family.encode_family(&[("reason", reason.as_str())])?)?;
        }
        Ok(())
    }

    /// One for each condition that holds, so that an alert needs to know none of them.
    fn conditions(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let shape = ConstGauge::new(1_i64);
        let help = "What is wrong with a cluster";
        let mut family = encoder.encode_descriptor("cluster_condition", help, None, shape.metric_type())?;
        for (cluster, conditions) in self.0.conditions() {
            for (reason, _) in conditions.iter() {
                let labels = [("cluster", cluster.as_str()), ("reason", reason.as_str())];
                shape.encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

fn size(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
