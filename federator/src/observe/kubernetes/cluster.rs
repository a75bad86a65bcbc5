//! The state of one cluster as it is observed: its objects, how far they were read, and what of it can be believed.
//! Pure but for the clock: what an API server said goes in, and what is to be done about it comes out.

use super::{
    candidate::Whole,
    held::{Held, Via},
    kinds::Seen,
    questions::{Told, Untold, Why},
};
use crate::{
    condition::{Conditions, Reason},
    config::rules::ExportRules,
    kubernetes::{
        explain::Cause,
        follow::{Event, Trouble},
    },
    observe::{
        Observed,
        index::{Index, Kind, ObjectName},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};
use tokio::time::Instant;

/// Objects whose gets are compared with lists before a frozen cluster thaws.
const SAMPLE: usize = 8;

/// Names of remembered objects that are shown.
const SHOWN: usize = 100;

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Todo {
    Nothing,
    /// Nobody answers: the sentinel is to look.
    Probe,
    /// The storage is older than what was seen of it.
    WentBack,
    /// There are objects to be asked for.
    Ask,
}

/// What can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Everything.
    Live,
    /// That something is there, not that it is not. Nothing is taken away, until lists and gets agree.
    Frozen,
    /// Lists again, and everything is listed anew.
    Thawing,
}

/// One cluster.
pub(super) struct Cluster {
    index: Index,
    held: Held,
    /// How far each kind was read.
    positions: HashMap<Kind, String>,
    /// The largest version of all.
    reached: u64,
    /// The kinds that were listed at least once.
    listed: HashSet<Kind>,
    /// The kinds that are to be listed before a thawing cluster is live.
    unlisted: HashSet<Kind>,
    trouble: BTreeMap<Kind, Trouble>,
    /// The kinds of which no single object may be asked for, with the one that was, and why not.
    untold: BTreeMap<Kind, (ObjectName, String)>,
    standing: Standing,
    asking: Vec<(ObjectName, Why)>,
    /// What is missing and was asked for in vain; it is asked for again at the next beat.
    unanswered: Vec<ObjectName>,
    /// What is to be asked for because the store has something of it that is not seen; and of that, what was.
    doubted: Arc<BTreeSet<ObjectName>>,
    confirmed: Arc<BTreeSet<ObjectName>>,
    /// What a get has told and the watch has not, and until when it may.
    late: Option<(ObjectName, Option<u64>, Instant)>,
    /// The object that is asked for as a sample, and how it was held then.
    sample: Option<(ObjectName, u64)>,
    /// What is wrong with the whole cluster; each kind may have trouble of its own.
    conditions: Conditions,
    frozen_since: Option<Instant>,
    /// The version of the last renewal of the canary.
    renewed: Option<u64>,
}

// === impl Cluster ===

impl Cluster {
    pub(super) fn new(index: Index) -> Self {
        Self {
            index,
            held: Held::default(),
            positions: HashMap::new(),
            reached: 0,
            listed: HashSet::new(),
            unlisted: HashSet::new(),
            trouble: BTreeMap::new(),
            untold: BTreeMap::new(),
            standing: Standing::Live,
            asking: Vec::new(),
            unanswered: Vec::new(),
            doubted: Arc::default(),
            confirmed: Arc::default(),
            late: None,
            sample: None,
            conditions: Conditions::default(),
            frozen_since: None,
            renewed: None,
        }
    }

    pub(super) fn observed(&mut self) -> &mut Observed {
        self.index.observed()
    }

    pub(super) fn set_rules(&mut self, rules: ExportRules) {
        self.index.set_rules(rules);
    }

    pub(super) fn held(&self) -> &Held {
        &self.held
    }

    /// All watches begin anew: what was wrong with the old ones does not matter any more.
    pub(super) fn begin_anew(&mut self) {
        self.trouble.clear();
    }

    /// How far each kind was read.
    pub(super) fn positions(&self) -> &HashMap<Kind, String> {
        &self.positions
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.standing == Standing::Frozen
    }

    /// Takes one step of a watch.
    pub(super) fn take(&mut self, kind: Kind, event: Event<Seen>) -> Todo {
        match event {
            Event::Begin => self.held.begin(kind),
            Event::Listed(seen) => self.keep(seen, Via::List),
            Event::Complete(version) => {
                self.trouble.remove(&kind);
                return self.complete(kind, version);
            }
            Event::Changed(seen) => {
                self.trouble.remove(&kind);
                self.read_up_to(kind, seen.version);
                self.keep(seen, Via::Watch);
            }
            Event::Gone(seen) => {
                self.trouble.remove(&kind);
                self.read_up_to(kind, seen.version);
                if self.held.gone(&seen.name, seen.version) {
                    self.index.delete(&seen.name);
                }
            }
            Event::At(version) => {
                self.reach(version.parse().unwrap_or_default());
                self.positions.insert(kind, version);
            }
            Event::Quiet => {
                self.trouble.remove(&kind);
            }
            Event::Trouble(trouble) => {
                if self.trouble.get(&kind).map(|known| &known.reason) != Some(&trouble.reason) {
                    tracing::error!(?kind, reason = trouble.reason, "API server; what is known is kept");
                }
                let unreachable = trouble.cause == Cause::Unreachable;
                self.trouble.insert(kind, trouble);
                return if unreachable { Todo::Probe } else { Todo::Nothing };
            }
        }
        Todo::Nothing
    }

    /// What was asked for in vain is asked for again.
    pub(super) fn ask_again(&mut self) -> Todo {
        let again = std::mem::take(&mut self.unanswered).into_iter();
        self.asking.extend(again.map(|name| (name, Why::Missing)));
        self.ask_doubted();
        if self.asking.is_empty() { Todo::Nothing } else { Todo::Ask }
    }

    /// These objects are to be asked for, and no others.
    pub(super) fn doubt(&mut self, doubted: Arc<BTreeSet<ObjectName>>) -> Todo {
        if !self.confirmed.is_empty() {
            self.confirmed = Arc::new(&*self.confirmed & &*doubted);
        }
        self.doubted = doubted;
        self.ask_doubted();
        if self.asking.is_empty() { Todo::Nothing } else { Todo::Ask }
    }

    fn ask_doubted(&mut self) {
        if self.may_take_away() {
            let open = self.doubted.difference(&self.confirmed);
            self.asking.extend(open.map(|name| (name.clone(), Why::Doubted)));
        }
    }

    /// What the questions are that [`Todo::Ask`] is about.
    pub(super) fn asking(&mut self) -> impl Iterator<Item = (ObjectName, Why)> {
        std::mem::take(&mut self.asking).into_iter()
    }

    /// Takes an answer.
    pub(super) fn told(&mut self, name: &ObjectName, why: Why, told: Told, late: Instant) -> Todo {
        match &told {
            Ok(_) => _ = self.untold.remove(&name.kind),
            Err(Untold::Forbidden(reason)) => _ = self.untold.insert(name.kind, (name.clone(), reason.clone())),
            Err(Untold::Nothing) => {}
        }
        let seen = match told {
            Ok(seen) => seen,
            // What is missing stays until something is known of it.
            Err(_) if why == Why::Missing => {
                self.unanswered.push(name.clone());
                return Todo::Nothing;
            }
            Err(_) => return Todo::Nothing,
        };
        match (why, seen) {
            (Why::Sample, seen) => return self.sampled(name, seen.map(|seen| seen.version), late),
            (Why::Doubted, seen) => self.confirm(name, seen),
            (Why::Missing | Why::Remembered, Some(seen)) => self.keep(seen, Via::Get),
            (Why::Missing, None) if self.may_take_away() && self.held.is_missing(name) => self.delete(name),
            (Why::Missing | Why::Remembered, None) => {}
        }
        Todo::Nothing
    }

    /// What a get says of a doubted object counts as long as the API server can be believed; and not what says nothing
    /// that can be read.
    fn confirm(&mut self, name: &ObjectName, seen: Option<Seen>) {
        let tells = seen.as_ref().is_none_or(|seen| seen.object.is_ok());
        if let Some(seen) = seen {
            self.keep(seen, Via::Get);
        }
        if tells && self.may_take_away() && self.doubted.contains(name) && !self.held.is_remembered(name) {
            Arc::make_mut(&mut self.confirmed).insert(name.clone());
        }
    }

    /// The object of which a get is most telling now: what changed last.
    pub(super) fn sample(&mut self) -> Option<ObjectName> {
        let name = self.held.newest().find(|name| !self.held.is_remembered(name))?.clone();
        self.sample = self.held.version(&name).map(|version| (name.clone(), version));
        Some(name)
    }

    /// The objects by which lists are compared with gets.
    pub(super) fn telling(&self) -> Vec<ObjectName> {
        let mut names: Vec<&ObjectName> = self.held.remembered_names().collect();
        names.sort_unstable_by_key(|name| std::cmp::Reverse(self.held.version(name)));
        names.into_iter().take(SAMPLE).chain(self.held.newest().take(SAMPLE)).cloned().collect()
    }

    /// Objects to ask for again: those that could not be, and while lists lie some of the remembered ones, of all of them
    /// one part a round. From an API server that tells the truth, watches tell what becomes of them.
    pub(super) fn to_recheck(&self, round: usize, most: usize) -> Vec<ObjectName> {
        let remembered = if self.is_frozen() { self.held.remembered() } else { 0 };
        let part = round % remembered.div_ceil(most).max(1);
        let remembered = self.held.remembered_names().take(remembered).skip(part * most).take(most);
        remembered.chain(self.untold.values().map(|(name, _)| name)).cloned().collect()
    }

    /// Whether the watch owes something for too long.
    pub(super) fn is_late(&mut self, now: Instant) -> bool {
        let Some((name, version, until)) = &self.late else { return false };
        let held = self.held.version(name);
        if version.map_or(held.is_none(), |version| held.is_some_and(|held| held >= version)) {
            self.late = None;
            return false;
        }
        now >= *until
    }

    /// Says that the canary may not be written, and why; or that it may.
    pub(super) fn no_canary(&mut self, (namespace, name): &(String, String), why: Option<String>) {
        let why = why.map(|why| format!("the canary cannot be renewed; newest objects are asked for instead: {why}"));
        self.index.note(&format!("Lease {namespace}/{name}"), why);
    }

    /// Sets or clears what is wrong with the whole cluster.
    pub(super) fn condition(&mut self, reason: Reason, message: Option<String>) {
        if self.conditions.get(reason).is_some() == message.is_some() {
            self.conditions.set(reason, message);
            return;
        }
        match &message {
            Some(message) => tracing::error!(%reason, message, "what is known is kept"),
            None => tracing::info!(%reason, "over"),
        }
        self.conditions.set(reason, message);
    }

    /// It cannot be reached: what is known is all there is.
    pub(super) fn unreachable(&mut self, message: String, now: Instant) {
        self.condition(Reason::Unreachable, Some(message));
        self.frozen_since.get_or_insert(now);
    }

    /// It can be reached.
    pub(super) fn reached(&mut self) {
        self.condition(Reason::Unreachable, None);
        if self.standing == Standing::Live {
            self.condition(Reason::CredentialsRefused, None);
            self.frozen_since = None;
        }
    }

    /// Nothing is taken away any more.
    pub(super) fn freeze(&mut self, reason: Reason, message: String, now: Instant) {
        self.condition(reason, Some(message));
        self.standing = Standing::Frozen;
        self.late = None;
        self.asking.clear();
        self.unanswered.clear();
        self.confirmed = Arc::default();
        self.frozen_since.get_or_insert(now);
    }

    /// The storage went back; what has a version from `floor` on is of the restored world. Without one, the last renewal
    /// of the canary is taken: it was a while ago that the storage went back, or it would not be found out this way.
    pub(super) fn roll_back(&mut self, floor: Option<u64>, now: Instant) {
        self.held.roll_back(floor.or(self.renewed).unwrap_or(u64::MAX));
        self.held.lists_lie(true);
        let message = "its storage is older than what was seen of it: restored from a backup, or wiped".to_owned();
        self.freeze(Reason::RolledBack, message, now);
    }

    /// Whether the storage is known to have gone back.
    pub(super) fn is_rolled_back(&self) -> bool {
        self.conditions.get(Reason::RolledBack).is_some()
    }

    /// The canary was renewed at this version.
    pub(super) fn renewed(&mut self, version: Option<u64>) {
        self.renewed = version;
        if let Some(version) = version
            && self.is_rolled_back()
        {
            self.held.lower_floor(version);
        }
    }

    /// Lists and gets agree: everything is to be listed anew.
    pub(super) fn thaw(&mut self) {
        tracing::info!("lists and gets agree; everything is listed anew");
        self.standing = Standing::Thawing;
        self.held.lists_lie(false);
        self.positions.clear();
        self.unlisted = Kind::ALL.into();
    }

    /// Takes over what new credentials have shown.
    pub(super) fn adopt(&mut self, whole: Whole) {
        for kind in Kind::ALL {
            self.held.begin(kind);
        }
        for seen in whole.news {
            self.keep(seen, Via::List);
        }
        for name in &whole.named {
            let version = self.held.version(name).unwrap_or_default();
            // Only to mark it as named: what is held is as new.
            if version != 0 {
                self.held.see(name, version, Via::List);
            }
        }
        for (name, version) in whole.gone {
            if self.held.gone(&name, version) {
                self.index.delete(&name);
            }
        }
        self.positions = whole.positions;
        self.trouble.clear();
        self.listed = Kind::ALL.into();
        for kind in Kind::ALL {
            self.sweep(kind);
        }
    }

    /// What is seen now.
    pub(super) fn result(&mut self) -> Observed {
        let mut conditions = self.conditions.clone();
        for (kind, trouble) in &self.trouble {
            let reason = match trouble.cause {
                Cause::Unauthorized => Reason::CredentialsRefused,
                Cause::Forbidden => Reason::Forbidden,
                Cause::Unreachable | Cause::UnknownKind | Cause::Other => Reason::Unreachable,
            };
            if conditions.get(reason).is_none() {
                conditions.set(reason, Some(format!("{kind:?}: {}", trouble.reason)));
            }
        }
        for (kind, (_, reason)) in &self.untold {
            if conditions.get(Reason::Forbidden).is_none() {
                conditions.set(Reason::Forbidden, Some(format!("{kind:?}: {reason}")));
            }
        }
        let remembered = self.held.remembered_names().take(SHOWN).map(ToString::to_string).collect();
        let observed = self.index.observed();
        observed.synced = Kind::ALL.iter().all(|kind| self.listed.contains(kind));
        observed.conditions = conditions;
        observed.frozen_since = self.frozen_since;
        observed.confirmed = self.confirmed.clone();
        observed.remembered = self.held.remembered();
        if *observed.remembered_names != remembered {
            observed.remembered_names = Arc::new(remembered);
        }
        self.index.flush()
    }

    fn complete(&mut self, kind: Kind, version: String) -> Todo {
        let number: u64 = version.parse().unwrap_or_default();
        if number != 0 && number < self.held.highest(kind) && self.standing == Standing::Live {
            return Todo::WentBack;
        }
        if self.standing == Standing::Thawing {
            // What is written from here on is surely of this world.
            self.held.lower_floor(number.max(self.held.highest(kind)) + 1);
        }
        if number == 0 {
            self.positions.remove(&kind);
        } else {
            self.reach(number);
            self.positions.insert(kind, version);
        }
        self.listed.insert(kind);
        self.unlisted.remove(&kind);
        if self.standing == Standing::Thawing && self.unlisted.is_empty() {
            self.standing = Standing::Live;
            self.frozen_since = None;
            for reason in [Reason::Deaf, Reason::RolledBack, Reason::CredentialsRefused, Reason::AnotherCluster] {
                self.condition(reason, None);
            }
            tracing::info!(remembered = self.held.remembered(), "everything was listed anew");
            Kind::ALL.into_iter().for_each(|kind| self.sweep(kind));
        } else {
            self.sweep(kind);
        }
        if self.asking.is_empty() { Todo::Nothing } else { Todo::Ask }
    }

    /// What a list did not name is gone, once a get says so too: a list that lacks half of everything is no proof.
    /// What changes no answer by being gone is believed to be.
    fn sweep(&mut self, kind: Kind) {
        if !self.may_take_away() {
            return;
        }
        for name in self.held.missing(kind) {
            match kind {
                Kind::Node | Kind::Pod | Kind::Namespace => self.delete(&name),
                _ => self.asking.push((name, Why::Missing)),
            }
        }
    }

    fn may_take_away(&self) -> bool {
        self.standing == Standing::Live
    }

    fn delete(&mut self, name: &ObjectName) {
        self.held.forget(name);
        self.index.delete(name);
    }

    /// Takes over an object. One that cannot be read is not one that is gone: what it was is kept.
    fn keep(&mut self, seen: Seen, via: Via) {
        if !self.held.see(&seen.name, seen.version, via) {
            return;
        }
        match seen.object {
            Ok(object) => self.index.apply(&object),
            Err(reason) => self.index.leave_out(&seen.name, Some(reason)),
        }
        self.reach(seen.version);
    }

    /// Takes note of how far the API server is: of all that was seen the largest, also of what was deleted and of lists
    /// themselves, because whoever lists later sees nothing else of it.
    fn reach(&mut self, version: u64) {
        if version > self.reached {
            self.reached = version;
            self.index.observed().source_version = version.to_string().into();
        }
    }

    fn read_up_to(&mut self, kind: Kind, version: u64) {
        self.reach(version);
        if version != 0 {
            self.positions.insert(kind, version.to_string());
        }
    }

    /// A get of what was held: older means that the storage went back, newer that the watch is to tell soon.
    fn sampled(&mut self, name: &ObjectName, version: Option<u64>, late: Instant) -> Todo {
        let Some((_, then)) = self.sample.take().filter(|(sample, _)| sample == name) else { return Todo::Nothing };
        match version {
            Some(version) if version == then => Todo::Nothing,
            Some(version) if version < then && version != 0 && self.standing == Standing::Live => Todo::WentBack,
            newer => {
                self.late.get_or_insert_with(|| (name.clone(), newer, late));
                Todo::Nothing
            }
        }
    }
}
