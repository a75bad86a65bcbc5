//! What the exports of a service contradict each other in: which value is used, whose it is and why, and who says what
//! instead. Made when somebody asks, because merging goes on at every change and people look seldom. Knows nothing of
//! where it is shown.

use super::Service;
use crate::{
    export::{Affinity, Export, Family, Head, Port, Texts},
    name::ClusterId,
};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
    sync::Arc,
};

/// Most of anything that a message names.
const MAX_NAMED: usize = 3;

/// A property in which not all exports of a service are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// What they differ in.
    pub kind: ConflictKind,
    /// What is used, and why.
    pub used: String,
    /// Who has something else, oldest first.
    pub differences: Vec<Difference>,
}

/// An export that is not as its service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Who exports it.
    pub cluster: ClusterId,
    /// What it has instead, or lacks: the rest of a sentence that begins with the cluster.
    pub says: String,
}

/// What exports can differ in; the names are the reasons of the MCS API's `Conflict` condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConflictKind {
    /// One is headless, the other is not.
    Type,
    /// Their ports differ.
    Port,
    /// One has session affinity, the other has not.
    SessionAffinity,
    /// Both have it, for times of their own.
    SessionAffinityConfig,
    /// One's traffic stays on its node, the other's does not.
    InternalTrafficPolicy,
    /// They prefer other endpoints.
    TrafficDistribution,
    /// Their exported labels differ.
    Labels,
    /// Their exported annotations differ.
    Annotations,
    /// One has addresses of a family that the other lacks.
    IpFamily,
}

/// What an export says of a property.
enum Word<'a> {
    /// One thing.
    Of(Cow<'a, str>),
    /// Labels or annotations.
    Texts(&'a Texts),
    /// Nothing that could be compared.
    None,
}

/// A port of the union, and the first to export it.
type Held<'a> = (&'a Port, &'a ClusterId);

impl Service {
    /// What its exports differ in. To be asked of a service as it was merged: what an importer refuses of it takes
    /// part in conflicts all the same.
    #[must_use]
    pub fn conflicts(&self) -> Vec<Conflict> {
        let Some(((oldest, first), others)) = self.exports.split_first() else {
            return Vec::new();
        };
        if others.iter().all(|(_, export)| is_alike(&export.head, &first.head)) && self.ports == first.head.ports {
            return Vec::new();
        }
        let conflicts = ConflictKind::ALL.into_iter().map(|kind| match kind {
            ConflictKind::Port => self.port_conflict(),
            ConflictKind::IpFamily => self.family_conflict(),
            _ => self.conflict_of_age(kind, oldest, &first.head),
        });
        conflicts.filter(|conflict| !conflict.differences.is_empty()).collect()
    }

    /// Whoever does not say what the oldest export says.
    fn conflict_of_age(&self, kind: ConflictKind, oldest: &ClusterId, used: &Head) -> Conflict {
        let used = word(kind, used);
        let says = |head: &Head| match (&used, word(kind, head)) {
            (Word::Of(used), Word::Of(own)) => (*used != own).then(|| format!("has {own}")),
            (Word::Texts(used), Word::Texts(own)) => other_texts(used, own),
            _ => None,
        };
        let differences = self.differences(says);
        let used = match &used {
            Word::Of(used) => format!("{} {used} of {oldest} is used", kind.property()),
            _ => format!("{} of {oldest} are used", kind.property()),
        };
        Conflict { kind, used: format!("{used}, which exported the service first"), differences }
    }

    /// What each export says that is not what is used.
    fn differences(&self, says: impl Fn(&Head) -> Option<String>) -> Vec<Difference> {
        let difference = |(cluster, export): &(ClusterId, Arc<Export>)| {
            Some(Difference { cluster: cluster.clone(), says: says(&export.head)? })
        };
        self.exports.iter().filter_map(difference).collect()
    }

    /// Whoever has not just the ports of the union.
    fn port_conflict(&self) -> Conflict {
        // Who is first to have a port as it is in the union is whose it is: whoever came before had none of its name
        // and number.
        let mut first: BTreeMap<&Port, &ClusterId> = BTreeMap::new();
        for (cluster, export) in &self.exports {
            for port in &*export.head.ports {
                first.entry(port).or_insert(cluster);
            }
        }
        let held: Vec<Held<'_>> = self.ports.iter().filter_map(|port| Some((port, *first.get(port)?))).collect();
        let by_name: BTreeMap<&str, Held<'_>> = held.iter().map(|held| (&*held.0.name, *held)).collect();
        let number = |port: &Port| (port.protocol, port.number);
        let by_number: BTreeMap<_, Held<'_>> = held.iter().map(|held| (number(held.0), *held)).collect();
        let says = |head: &Head| {
            let own = &head.ports;
            let mine: BTreeSet<&Port> = own.iter().collect();
            let names: BTreeSet<&str> = own.iter().map(|port| &*port.name).collect();
            let numbers: BTreeSet<_> = own.iter().map(number).collect();
            let lost = mine.iter().filter(|port| by_name.get(&*port.name).is_none_or(|(used, _)| used != *port));
            let lost = lost.filter_map(|port| {
                let taken = by_name.get(&*port.name).or_else(|| by_number.get(&number(port)))?;
                Some(format!("has {} where {} of {} is used", shown(port, taken.0), shown(taken.0, port), taken.1))
            });
            // What lost to another port is said already, and not again as one that is lacking.
            let lacking =
                held.iter().filter(|(used, _)| !names.contains(&*used.name) && !numbers.contains(&number(used)));
            let lacking = lacking.map(|(port, cluster)| format!("lacks {port} of {cluster}"));
            named(lost.chain(lacking), ", ")
        };
        Conflict {
            kind: ConflictKind::Port,
            used: "all ports are used, of each name and number that of who exported the service first".to_owned(),
            differences: self.differences(says),
        }
    }

    /// Whoever gets no traffic of a family. An export that does not say what it has is not spoken of.
    fn family_conflict(&self) -> Conflict {
        let lacks = |head: &Head| {
            let lacking = self
                .families
                .iter()
                .filter(|family: &Family| !head.families.has(*family))
                .map(|family: Family| family.to_string());
            let says = named(lacking, ", ").filter(|_| !head.families.is_unknown());
            says.map(|families| format!("has no {families}, and none of that traffic"))
        };
        Conflict {
            kind: ConflictKind::IpFamily,
            used: format!("{} are used, which is what all exports have together", self.families),
            differences: self.differences(lacks),
        }
    }
}

/// What a head says of a property that the oldest export decides.
fn word(kind: ConflictKind, head: &Head) -> Word<'_> {
    let traffic = &head.traffic;
    match (kind, traffic.affinity) {
        (ConflictKind::Type, _) => Word::Of(head.kind.as_str().into()),
        (ConflictKind::SessionAffinity, Affinity::None) => Word::Of("None".into()),
        (ConflictKind::SessionAffinity, Affinity::ClientIp { .. }) => Word::Of("ClientIP".into()),
        (ConflictKind::SessionAffinityConfig, Affinity::ClientIp { seconds }) => {
            Word::Of(format!("{seconds} s").into())
        }
        (ConflictKind::InternalTrafficPolicy, _) => {
            Word::Of(if traffic.node_local { "Local" } else { "Cluster" }.into())
        }
        (ConflictKind::TrafficDistribution, _) => Word::Of(traffic.distribution.as_deref().unwrap_or("none").into()),
        (ConflictKind::Labels, _) => Word::Texts(&head.exported.labels),
        (ConflictKind::Annotations, _) => Word::Texts(&head.exported.annotations),
        _ => Word::None,
    }
}

/// Whether nothing of two heads can be in conflict.
fn is_alike(a: &Head, b: &Head) -> bool {
    a.kind == b.kind
        && a.ports == b.ports
        && a.traffic == b.traffic
        && a.exported == b.exported
        && a.families == b.families
}

/// A port as it is shown beside another one: with what is spoken on it, where that is all they differ in.
fn shown(port: &Port, beside: &Port) -> String {
    if port.to_string() != beside.to_string() {
        return port.to_string();
    }
    let app = if port.app_protocol.is_empty() { "no appProtocol" } else { &*port.app_protocol };
    format!("{port} with {app}")
}

/// What of a set of labels or annotations is other than in the one that is used.
fn other_texts(used: &Texts, own: &Texts) -> Option<String> {
    let keys: BTreeSet<&Arc<str>> = used.keys().chain(own.keys()).collect();
    let differing = keys.into_iter().filter(|key| used.get(*key) != own.get(*key));
    named(differing.map(ToString::to_string), ", ").map(|keys| format!("differs in {keys}"))
}

/// The first few, and how many more there are; `None` when there are none.
fn named(all: impl Iterator<Item = String>, between: &str) -> Option<String> {
    let mut all = all.peekable();
    all.peek()?;
    let mut text = all.by_ref().take(MAX_NAMED).collect::<Vec<_>>().join(between);
    match all.count() {
        0 => {}
        more => _ = write!(text, "{between}and {more} more"),
    }
    Some(text)
}

// === impl Conflict ===

impl Conflict {
    /// What an exporter is told of it: what is used and why, and what it has instead itself; where it has nothing else,
    /// who has.
    #[must_use]
    pub fn told(&self, cluster: &ClusterId) -> String {
        let own = self.differences.iter().find(|difference| difference.cluster == *cluster);
        match own {
            Some(Difference { cluster, says }) => format!("{}: {}; {cluster} {says}", self.kind.reason(), self.used),
            None => self.to_string(),
        }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let differences = self.differences.iter().map(|Difference { cluster, says }| format!("{cluster} {says}"));
        let differences = named(differences, "; ").unwrap_or_default();
        write!(f, "{}: {}; {differences}", self.kind.reason(), self.used)
    }
}

// === impl ConflictKind ===

impl ConflictKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Type,
        Self::Port,
        Self::SessionAffinity,
        Self::SessionAffinityConfig,
        Self::InternalTrafficPolicy,
        Self::TrafficDistribution,
        Self::Labels,
        Self::Annotations,
        Self::IpFamily,
    ];

    /// As it is called where it is set: in a Service or a ServiceExport.
    fn property(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Port => "ports",
            Self::SessionAffinity => "sessionAffinity",
            Self::SessionAffinityConfig => "sessionAffinityConfig",
            Self::InternalTrafficPolicy => "internalTrafficPolicy",
            Self::TrafficDistribution => "trafficDistribution",
            Self::Labels => "exportedLabels",
            Self::Annotations => "exportedAnnotations",
            Self::IpFamily => "ipFamilies",
        }
    }

    /// The reason of the MCS API's `Conflict` condition.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Type => "TypeConflict",
            Self::Port => "PortConflict",
            Self::SessionAffinity => "SessionAffinityConflict",
            Self::SessionAffinityConfig => "SessionAffinityConfigConflict",
            Self::InternalTrafficPolicy => "InternalTrafficPolicyConflict",
            Self::TrafficDistribution => "TrafficDistributionConflict",
            Self::Labels => "LabelsConflict",
            Self::Annotations => "AnnotationsConflict",
            Self::IpFamily => "IPFamilyConflict",
        }
    }
}
