//! The roster: the clusters that remote Secrets name, how each is reached, and what is wrong with any; and what
//! changed from one roster to the next, for the audit log. Pure. Knows nothing of how Secrets are followed.

use super::secret::{Digest, SecretName};
use crate::condition::{Conditions, Reason};
use model::name::ClusterId;
use std::collections::BTreeMap;

/// The clusters that remote Secrets name.
#[derive(Clone, Debug, PartialEq)]
pub struct Roster<A> {
    /// The clusters that can be used.
    pub members: BTreeMap<ClusterId, Member<A>>,
    /// What is wrong, by cluster id; where there is no valid one, by `namespace/name[key]` of the Secret.
    pub conditions: BTreeMap<String, Conditions>,
    /// Namespaces whose Secrets cannot be read at the moment, with the reason.
    pub troubles: BTreeMap<String, String>,
    /// Whether every namespace was read at least once: only then does absence mean something.
    pub complete: bool,
}

/// A cluster that a Secret names.
#[derive(Clone, Debug, PartialEq)]
pub struct Member<A> {
    /// How it is reached.
    pub access: A,
    /// The Secret that says so.
    pub secret: SecretName,
    /// Of the kubeconfig: another one means that the access is to be made anew.
    pub digest: Digest,
}

/// What changed, for the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its kind.
    pub kind: ChangeKind,
    /// The cluster id, or the place of what has no valid one.
    pub of: String,
    /// The Secret, while there is one.
    pub secret: Option<SecretName>,
    /// The digest of the kubeconfig, while there is one.
    pub digest: Option<Digest>,
    /// More, for people.
    pub message: String,
}

/// The kind of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// A cluster is there that was not.
    Added,
    /// A cluster is reached by another kubeconfig.
    Rotated,
    /// A cluster is there no more.
    Removed,
    /// A cluster stays though its Secret is missing.
    Held,
    /// Something of a Secret is not used.
    Refused,
    /// What was held or refused is well again.
    Cleared,
}

// === impl Roster ===

impl<A> Default for Roster<A> {
    fn default() -> Self {
        Self { members: BTreeMap::new(), conditions: BTreeMap::new(), troubles: BTreeMap::new(), complete: false }
    }
}

impl<A> Roster<A> {
    /// What changed since an earlier roster.
    #[must_use]
    pub fn changes(&self, before: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (id, member) in &self.members {
            let change = |kind, message| Change {
                kind,
                of: id.to_string(),
                secret: Some(member.secret.clone()),
                digest: Some(member.digest),
                message,
            };
            match before.members.get(id) {
                None => changes.push(change(ChangeKind::Added, String::new())),
                Some(old) if old.secret != member.secret => {
                    changes.push(change(ChangeKind::Rotated, format!("taken over from {}", old.secret)));
                }
                Some(old) if old.digest != member.digest => changes.push(change(ChangeKind::Rotated, String::new())),
                Some(_) => {}
            }
        }
        for (id, member) in before.members.iter().filter(|(id, _)| !self.members.contains_key(*id)) {
            let (kind, of) = (ChangeKind::Removed, id.to_string());
            let (secret, digest) = (Some(member.secret.clone()), Some(member.digest));
            changes.push(Change { kind, of, secret, digest, message: String::new() });
        }
        changes.extend(self.changed_conditions(before));
        changes
    }

    fn changed_conditions(&self, before: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut change = |kind, of: &String, message: String| {
            changes.push(Change { kind, of: of.clone(), secret: None, digest: None, message });
        };
        let of = |roster: &Self, of: &String, reason| {
            roster.conditions.get(of).and_then(|conditions| conditions.get(reason)).map(str::to_owned)
        };
        for (what, conditions) in &self.conditions {
            for (reason, message) in conditions.iter() {
                if of(before, what, reason).as_deref() != Some(message) {
                    let kind = if reason == Reason::SecretMissing { ChangeKind::Held } else { ChangeKind::Refused };
                    change(kind, what, format!("{reason}: {message}"));
                }
            }
        }
        for (what, conditions) in &before.conditions {
            for (reason, _) in conditions.iter() {
                if of(self, what, reason).is_none() {
                    change(ChangeKind::Cleared, what, reason.to_string());
                }
            }
        }
        changes
    }
}

// === impl ChangeKind ===

impl ChangeKind {
    /// Its name in the audit log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Rotated => "rotated",
            Self::Removed => "removed",
            Self::Held => "held",
            Self::Refused => "refused",
            Self::Cleared => "cleared",
        }
    }
}
