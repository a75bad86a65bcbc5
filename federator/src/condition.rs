//! Conditions: what is wrong with a cluster, each under a name that scripts and alerts can rely on, with a message for
//! people. A cluster in any condition goes on as well as it can, and the other clusters do not notice.

use std::{collections::BTreeMap, fmt, sync::Arc};

/// What is wrong with a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// What a Secret calls a cluster cannot be a cluster id.
    IdRefused,
    /// A kubeconfig of a Secret cannot be used: it is unreadable, or says what is not allowed.
    KubeconfigRefused,
    /// Two Secrets name one cluster id; the one that did first is used.
    DuplicateId,
    /// Another cluster id leads to the same cluster; the id that did first is used.
    SameCluster,
    /// What answers is not the cluster that was known by this id.
    AnotherCluster,
    /// The Secret is gone from a list that cannot be believed.
    SecretMissing,
    /// An administrator removed the cluster from the fleet.
    Removed,
    /// The API server cannot be reached, or does not answer.
    Unreachable,
    /// The API server refuses the credentials.
    CredentialsRefused,
    /// The API server refuses to show some kind of object.
    Forbidden,
    /// The API server's watches deliver nothing, though it answers.
    Deaf,
    /// The API server went back to an earlier state of its storage.
    RolledBack,
    /// The API server shows an earlier state than the store knows of.
    Behind,
    /// Nobody sees the cluster since the store was lost.
    Unattended,
    /// Endpoints that a comparison of everything would withdraw are held.
    WithdrawalHeld,
    /// It uses addresses that are to be virtual ones.
    VipsOverlap,
    /// Namespaces with exported services are in Istio's ambient mode.
    AmbientUnsupported,
    /// No network is set for the cluster, though others have one.
    NetworkUnset,
    /// No pod behind its east-west gateways is ready.
    GatewayNotReady,
    /// Host names of its east-west gateways cannot be looked up.
    GatewayUnresolved,
}

/// All that is wrong with one cluster. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions(Arc<BTreeMap<Reason, String>>);

// === impl Conditions ===

impl Conditions {
    /// Sets or clears a condition; says whether that changed anything.
    pub fn set(&mut self, reason: Reason, message: Option<String>) -> bool {
        if self.0.get(&reason) == message.as_ref() {
            return false;
        }
        let held = Arc::make_mut(&mut self.0);
        match message {
            Some(message) => held.insert(reason, message),
            None => held.remove(&reason),
        };
        true
    }

    /// The message of a condition.
    #[must_use]
    pub fn get(&self, reason: Reason) -> Option<&str> {
        self.0.get(&reason).map(String::as_str)
    }

    /// All of them, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, &str)> {
        self.0.iter().map(|(reason, message)| (*reason, message.as_str()))
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These and those; where both have one, these count.
    #[must_use]
    pub fn and(mut self, others: &Self) -> Self {
        for (reason, message) in others.iter() {
            if self.get(reason).is_none() {
                self.set(reason, Some(message.to_owned()));
            }
        }
        self
    }
}

// === impl Reason ===

impl Reason {
    /// Its name in `/status` and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IdRefused => "IdRefused",
            Self::KubeconfigRefused => "KubeconfigRefused",
            Self::DuplicateId => "DuplicateId",
            Self::SameCluster => "SameCluster",
            Self::AnotherCluster => "AnotherCluster",
            Self::SecretMissing => "SecretMissing",
            Self::Removed => "Removed",
            Self::Unreachable => "Unreachable",
            Self::CredentialsRefused => "CredentialsRefused",
            Self::Forbidden => "Forbidden",
            Self::Deaf => "Deaf",
            Self::RolledBack => "RolledBack",
            Self::Unattended => "Unattended",
            Self::Behind => "Behind",
            Self::WithdrawalHeld => "WithdrawalHeld",
            Self::VipsOverlap => "VipsOverlap",
            Self::AmbientUnsupported => "AmbientUnsupported",
            Self::NetworkUnset => "NetworkUnset",
            Self::GatewayNotReady => "GatewayNotReady",
            Self::GatewayUnresolved => "GatewayUnresolved",
        }
    }

    /// Whether it may be why a cluster cannot be looked at, so that waiting for a first look makes no sense.
    #[must_use]
    pub fn is_of_sight(self) -> bool {
        match self {
            Self::IdRefused
            | Self::KubeconfigRefused
            | Self::DuplicateId
            | Self::SameCluster
            | Self::AnotherCluster
            | Self::SecretMissing
            | Self::Removed
            | Self::Unreachable
            | Self::CredentialsRefused
            | Self::Forbidden
            | Self::Deaf
            | Self::RolledBack
            | Self::Behind => true,
            Self::Unattended
            | Self::WithdrawalHeld
            | Self::VipsOverlap
            | Self::AmbientUnsupported
            | Self::NetworkUnset
            | Self::GatewayNotReady
            | Self::GatewayUnresolved => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_says_the_same_changes_nothing() {
        let mut conditions = Conditions::default();
        assert!(conditions.set(Reason::Deaf, Some("nothing for 10 s".to_owned())));
        assert!(!conditions.set(Reason::Deaf, Some("nothing for 10 s".to_owned())));
        assert!(conditions.set(Reason::Deaf, None));
        assert!(!conditions.set(Reason::Deaf, None));
        assert!(conditions.is_empty());
    }

    #[test]
    fn of_two_that_say_something_the_first_counts() {
        let (mut ours, mut theirs) = (Conditions::default(), Conditions::default());
        ours.set(Reason::Deaf, Some("ours".to_owned()));
        theirs.set(Reason::Deaf, Some("theirs".to_owned()));
        theirs.set(Reason::Removed, Some("theirs".to_owned()));
        let all: Vec<_> = ours.and(&theirs).iter().map(|(r, m)| format!("{r}: {m}")).collect();
        assert_eq!(all, ["Removed: theirs", "Deaf: ours"]);
    }
}
