//! The registrar: what is seen of remote Secrets in, the roster out. Pure.
//!
//! * An id belongs to the Secret that named it first, and stays with it as long as that names it. Of those that are
//!   there from the start the one created first is the first, and of two created at once the one first by name; so a
//!   restart may hand an id to an older Secret that came to name it later.
//! * A kubeconfig that is refused changes nothing about a cluster that was reached by an earlier one of the same key.
//! * A Secret that a list lacks is missing, not gone: its clusters stay until somebody confirms that it is gone.

use super::{
    roster::{Member, Roster},
    secret::{Digest, Entry, RemoteSecret, SecretName},
};
use crate::condition::{Conditions, Reason};
use model::name::ClusterId;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

/// Makes an access of a kubeconfig, or says in words without any of its values why it is refused.
pub type Parse<A> = Arc<dyn Fn(&[u8]) -> Result<A, String> + Send + Sync>;

/// What ids mean here.
#[derive(Clone, Debug)]
pub struct Names {
    /// The agent's own cluster, which no Secret is needed for.
    pub home: ClusterId,
    /// Clusters that the configuration names.
    pub configured: BTreeSet<ClusterId>,
    /// Ids for what a Secret calls otherwise.
    pub aliases: BTreeMap<String, ClusterId>,
}

/// What is seen of the Secrets in one namespace.
#[derive(Debug)]
pub enum Seen {
    /// A list begins.
    Begin,
    /// A Secret of the list that began last.
    Listed(RemoteSecret),
    /// The list is complete: what it did not name is missing.
    Complete,
    /// A new or changed Secret.
    Changed(RemoteSecret),
    /// A Secret was deleted, or is a remote one no more.
    Gone(SecretName),
    /// They cannot be read.
    Trouble(String),
    /// The trouble is over.
    Quiet,
}

/// Keeps the roster.
pub struct Registrar<A> {
    names: Names,
    parse: Parse<A>,
    namespaces: BTreeMap<Arc<str>, Namespace>,
    secrets: BTreeMap<SecretName, Known<A>>,
    holders: BTreeMap<ClusterId, Place>,
    /// Whether every namespace was read once, or is known to be unreadable. Nothing is decided before: who is first
    /// must not depend on which answers sooner.
    decided: bool,
    /// Whether the API server's storage went back to an earlier state.
    went_back: bool,
}

/// How far the Secrets of a namespace are known.
#[derive(Default)]
struct Namespace {
    listed: bool,
    trouble: Option<String>,
    /// What the list in progress has named so far.
    listing: BTreeSet<SecretName>,
}

/// A Secret that was seen.
struct Known<A> {
    created: i64,
    missing: bool,
    claims: BTreeMap<Arc<str>, Claim<A>>,
}

/// Where a claim stands: a Secret and the key in it.
type Place = (SecretName, Arc<str>);

/// What one key of a Secret says.
struct Claim<A> {
    /// The cluster, or why there is none.
    id: Result<ClusterId, String>,
    /// Of the last content.
    digest: Digest,
    /// The last content that was good, and its digest.
    good: Option<(A, Digest)>,
    /// Why the last content is refused.
    refused: Option<String>,
}

// === impl Registrar ===

impl<A: Clone> Registrar<A> {
    /// Nothing seen yet of these namespaces.
    pub fn new(names: Names, parse: Parse<A>, namespaces: impl IntoIterator<Item = Arc<str>>) -> Self {
        Self {
            names,
            parse,
            namespaces: namespaces.into_iter().map(|namespace| (namespace, Namespace::default())).collect(),
            secrets: BTreeMap::new(),
            holders: BTreeMap::new(),
            decided: false,
            went_back: false,
        }
    }

    /// Takes note of what is seen in a namespace.
    pub fn see(&mut self, namespace: &Arc<str>, seen: Seen) {
        let known = self.namespaces.entry(namespace.clone()).or_default();
        match seen {
            Seen::Begin => known.listing.clear(),
            Seen::Listed(secret) => {
                known.listing.insert(secret.name.clone());
                self.note(secret);
            }
            Seen::Complete => {
                (known.listed, known.trouble) = (true, None);
                let named = std::mem::take(&mut known.listing);
                let lacking = |name: &SecretName| name.namespace == *namespace && !named.contains(name);
                for (_, secret) in self.secrets.iter_mut().filter(|(name, _)| lacking(name)) {
                    secret.missing = true;
                }
            }
            Seen::Changed(secret) => self.note(secret),
            Seen::Gone(name) => {
                self.secrets.remove(&name);
            }
            Seen::Trouble(reason) => known.trouble = Some(reason),
            Seen::Quiet => known.trouble = None,
        }
        self.settle();
    }

    /// Secrets that a list lacked and nobody has confirmed to be gone.
    #[must_use]
    pub fn missing(&self) -> Vec<SecretName> {
        self.secrets.iter().filter(|(_, secret)| secret.missing).map(|(name, _)| name.clone()).collect()
    }

    /// A missing Secret is gone for good, unless it came back meanwhile.
    pub fn confirm_gone(&mut self, name: &SecretName) {
        if self.secrets.get(name).is_some_and(|secret| secret.missing) {
            self.secrets.remove(name);
            self.settle();
        }
    }

    /// A missing Secret is there after all. One that is not missing has been heard of since it was asked for.
    pub fn found(&mut self, secret: RemoteSecret) {
        if self.secrets.get(&secret.name).is_some_and(|secret| secret.missing) {
            self.note(secret);
            self.settle();
        }
    }

    /// The API server's storage went back to an earlier state: absence says nothing any more.
    pub fn went_back(&mut self) {
        self.went_back = true;
    }

    /// The roster as it stands.
    #[must_use]
    pub fn roster(&self) -> Roster<A> {
        let mut roster =
            Roster { complete: self.namespaces.values().all(|namespace| namespace.listed), ..Roster::default() };
        for (namespace, known) in &self.namespaces {
            if let Some(trouble) = &known.trouble {
                roster.troubles.insert(namespace.to_string(), trouble.clone());
            }
        }
        if !self.decided {
            return roster;
        }
        let mut duplicates: BTreeMap<&ClusterId, Vec<String>> = BTreeMap::new();
        for (name, secret) in &self.secrets {
            for (key, claim) in &secret.claims {
                let place = shown(name, key);
                match &claim.id {
                    Err(reason) => set(&mut roster.conditions, place, Reason::IdRefused, reason.clone()),
                    Ok(id) if self.holds(id, name, key) => self.enrol(&mut roster, id, name, secret, claim),
                    Ok(id) => duplicates.entry(id).or_default().push(place),
                }
            }
        }
        for (id, places) in duplicates {
            let first = match self.holders.get(id) {
                Some((name, key)) => format!("{} named it first", shown(name, key)),
                None => "the configuration names it".to_owned(),
            };
            let message = format!("named also by {}, which is not used: {first}", places.join(", "));
            set(&mut roster.conditions, id.to_string(), Reason::DuplicateId, message);
        }
        roster
    }

    /// Puts the holder of an id onto the roster.
    fn enrol(&self, roster: &mut Roster<A>, id: &ClusterId, name: &SecretName, secret: &Known<A>, claim: &Claim<A>) {
        if let Some((access, digest)) = &claim.good {
            let member = Member { access: access.clone(), secret: name.clone(), digest: *digest };
            roster.members.insert(id.clone(), member);
        }
        if let Some(reason) = &claim.refused {
            let now = if claim.good.is_some() { "the one before is used on" } else { "the cluster is not used" };
            let message = format!("Secret {name}: {reason}; {now}");
            set(&mut roster.conditions, id.to_string(), Reason::KubeconfigRefused, message);
        }
        if secret.missing {
            let message = if self.went_back {
                format!(
                    "Secret {name} is missing since the API server went back to an earlier state of its storage: create \
                     it again, and delete it then if the cluster is to go"
                )
            } else {
                format!("Secret {name} is missing from a list; the cluster stays until that is confirmed")
            };
            set(&mut roster.conditions, id.to_string(), Reason::SecretMissing, message);
        }
    }

    fn note(&mut self, secret: RemoteSecret) {
        let RemoteSecret { name, created, entries, .. } = secret;
        let mut before = self.secrets.remove(&name).map(|known| known.claims).unwrap_or_default();
        let mut claims = BTreeMap::new();
        for (key, entry) in entries {
            let id = self.names.read(&entry.id);
            if id.as_ref() != Ok(&self.names.home) {
                let claim = Claim::of(id, &entry, before.remove(&key), &self.parse);
                claims.insert(key, claim);
            }
        }
        self.secrets.insert(name, Known { created, missing: false, claims });
    }

    /// Decides whose an id is.
    fn settle(&mut self) {
        self.decided |= self.namespaces.values().all(|namespace| namespace.listed || namespace.trouble.is_some());
        let secrets = &self.secrets;
        let names = |(name, key): &Place, id: &ClusterId| {
            secrets.get(name).and_then(|secret| secret.claims.get(key)).is_some_and(|claim| claim.id.as_ref() == Ok(id))
        };
        self.holders.retain(|id, place| names(place, id));
        if !self.decided {
            return;
        }
        let mut in_order: Vec<_> = self.secrets.iter().collect();
        in_order.sort_by_key(|(name, secret)| (secret.created, *name));
        for (name, secret) in in_order {
            for (key, claim) in &secret.claims {
                if let Ok(id) = &claim.id
                    && !self.names.configured.contains(id)
                {
                    self.holders.entry(id.clone()).or_insert_with(|| (name.clone(), key.clone()));
                }
            }
        }
    }

    fn holds(&self, id: &ClusterId, name: &SecretName, key: &Arc<str>) -> bool {
        self.holders.get(id).is_some_and(|(holder, at)| holder == name && at == key)
    }
}

impl<A> fmt::Debug for Registrar<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registrar").field("holders", &self.holders).finish_non_exhaustive()
    }
}

// === impl Names ===

impl Names {
    /// The cluster that a text in a Secret names.
    fn read(&self, text: &str) -> Result<ClusterId, String> {
        match self.aliases.get(text) {
            Some(id) => Ok(id.clone()),
            None => {
                ClusterId::parse(text).map_err(|error| format!("{error}; or give it an alias in `membership.aliases`"))
            }
        }
    }
}

// === impl Claim ===

impl<A> Claim<A> {
    fn of(id: Result<ClusterId, String>, entry: &Entry, before: Option<Self>, parse: &Parse<A>) -> Self {
        let digest = entry.digest();
        // Under another id, what was good before is another cluster's.
        let before = before.filter(|before| before.id == id);
        match before {
            Some(before) if before.digest == digest => before,
            before => match parse(&entry.kubeconfig) {
                Ok(access) => Self { id, digest, good: Some((access, digest)), refused: None },
                Err(reason) => Self { id, digest, good: before.and_then(|before| before.good), refused: Some(reason) },
            },
        }
    }
}

fn shown(name: &SecretName, key: &str) -> String {
    format!("{name}[{key}]")
}

fn set(conditions: &mut BTreeMap<String, Conditions>, of: String, reason: Reason, message: String) {
    conditions.entry(of).or_default().set(reason, Some(message));
}

#[cfg(test)]
mod tests;
