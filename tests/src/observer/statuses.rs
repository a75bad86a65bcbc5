//! What an observer compares in what agents say of themselves. Pure: it is told who said what.
//!
//! In one life of an agent its revision never goes back. Two agents at one revision hold the same View. A cluster that
//! was removed from the fleet is in no View that is as new as its removal.

use std::collections::BTreeMap;

use serde_json::Value;

/// What was said so far.
#[derive(Debug, Default)]
pub(super) struct Statuses {
    /// The last revision by agent and life.
    revisions: BTreeMap<(usize, String), u64>,
    /// Who showed which View first, by revision.
    views: BTreeMap<u64, (String, String)>,
    pub(super) looked: usize,
}

// === impl Statuses ===

impl Statuses {
    /// What is wrong with what the agent with this number and label says. `removed` has clusters and the revision of
    /// their removal.
    pub(super) fn judge(
        &mut self,
        agent: usize,
        label: &str,
        status: &Value,
        removed: &BTreeMap<String, u64>,
    ) -> Vec<String> {
        self.looked += 1;
        let mut wrong = Vec::new();
        let (Some(revision), Some(life)) = (status["revision"].as_u64(), status["agent"].as_str()) else {
            return vec![format!("no revision or no agent in {status}")];
        };
        let last = self.revisions.entry((agent, life.to_owned())).or_default();
        if revision < *last {
            wrong.push(format!("its revision was {last} and is {revision}"));
        }
        *last = revision;
        // What an agent sees itself, and the store does not say, is nobody else's.
        if status["local"] == 0 {
            let digest = status["digest"].as_str().unwrap_or_default();
            let (first, known) =
                self.views.entry(revision).or_insert_with(|| (label.to_owned(), digest.to_owned())).clone();
            if known != digest {
                wrong.push(format!("at revision {revision} its View is {digest}, and that of {first} was {known}"));
            }
        }
        for (cluster, _) in removed.iter().filter(|(_, at)| **at <= revision) {
            let services = status["services"].as_object().into_iter().flatten();
            for (service, shown) in services {
                let exports = shown["exports"].as_array().into_iter().flatten();
                if exports.into_iter().any(|export| export["cluster"] == **cluster) {
                    wrong.push(format!("{service} is exported by {cluster}, which was removed"));
                }
            }
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(life: &str, revision: u64, local: u64, digest: &str) -> Value {
        let services = json!({"ns/web": {"exports": [{"cluster": "west"}]}});
        json!({"agent": life, "revision": revision, "local": local, "digest": digest, "services": services})
    }

    #[test]
    fn a_revision_goes_back_with_a_life_only() {
        let mut statuses = Statuses::default();
        let mut wrong = |agent, life, revision| {
            let status = status(life, revision, 1, "");
            statuses.judge(agent, "", &status, &BTreeMap::new()).len()
        };
        assert_eq!(wrong(0, "a-1", 5), 0);
        assert_eq!(wrong(0, "a-1", 5), 0);
        assert_eq!(wrong(1, "b-1", 3), 0);
        assert_eq!(wrong(0, "a-2", 1), 0);
        assert_eq!(wrong(1, "b-1", 2), 1);
    }

    #[test]
    fn one_revision_is_one_view() {
        let mut statuses = Statuses::default();
        let mut wrong = |agent, revision, local, digest| {
            statuses.judge(agent, "", &status("a", revision, local, digest), &BTreeMap::new()).len()
        };
        assert_eq!(wrong(0, 5, 0, "x"), 0);
        assert_eq!(wrong(1, 5, 0, "x"), 0);
        assert_eq!(wrong(1, 5, 1, "y"), 0);
        assert_eq!(wrong(1, 6, 0, "y"), 0);
        assert_eq!(wrong(2, 5, 0, "y"), 1);
    }

    #[test]
    fn a_removed_cluster_is_not_shown() {
        let mut statuses = Statuses::default();
        let removed = BTreeMap::from([("west".to_owned(), 6)]);
        assert_eq!(statuses.judge(0, "", &status("a", 5, 0, "x"), &removed).len(), 0);
        assert_eq!(statuses.judge(0, "", &status("a", 6, 0, "y"), &removed).len(), 1);
    }
}
