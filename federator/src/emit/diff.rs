//! What an agent would do to a cluster, for people: its own decisions, and the lines of what an object says that would
//! come and go. Pure.

use super::{
    object::ObjectKey,
    plan::{Action, Actual, decide},
};
use serde_json::Value;
use similar::TextDiff;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

/// What would be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// A unified diff for each object that would be written or deleted, and a remark on each that is left alone.
    pub text: String,
    /// Whether anything would be.
    pub differs: bool,
}

/// Compares what should be with what is, in the order of the keys.
#[must_use]
pub fn diff(desired: &BTreeMap<ObjectKey, Value>, found: &BTreeMap<ObjectKey, (Actual, Value)>) -> Diff {
    let mut diff = Diff::default();
    for key in desired.keys().chain(found.keys()).collect::<BTreeSet<_>>() {
        let (want, is) = (desired.get(key), found.get(key));
        let action = decide(want.map(|spec| || spec.clone()), is.map(|(actual, _)| actual));
        match action {
            Action::Nothing => continue,
            Action::Foreign => {
                // Writing to a String cannot fail.
                let _ = writeln!(diff.text, "# {key}: an object of this name is somebody else's; it is left alone");
                continue;
            }
            Action::Apply | Action::Delete => diff.differs = true,
        }
        let (old, new) = (lines(is.map(|(_, spec)| spec)), lines(want));
        let head = |there: bool, whose: &str| if there { format!("{key} {whose}") } else { "/dev/null".to_owned() };
        let (from, to) = (head(is.is_some(), "(cluster)"), head(want.is_some(), "(agent)"));
        let changes = TextDiff::from_lines(&old, &new);
        let _ = write!(diff.text, "{}", changes.unified_diff().header(&from, &to));
    }
    diff
}

/// What an object says, a value a line; nothing where there is none.
fn lines(spec: Option<&Value>) -> String {
    // Strings, numbers and maps with text keys: nothing in it can fail to serialize.
    spec.map(|spec| serde_saphyr::to_string(spec).unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emit::object::{Kind, MANAGED_BY};
    use serde_json::json;

    fn key(name: &str) -> ObjectKey {
        ObjectKey { kind: Kind::ServiceEntry, namespace: "demo".into(), name: name.into() }
    }

    fn found(spec: &Value, managed_by: &str) -> (Actual, Value) {
        (Actual::new([(MANAGED_BY.0, managed_by)].into_iter(), spec), spec.clone())
    }

    #[test]
    fn it_says_what_would_be_done_and_nothing_of_what_is_right() {
        let spec = |address: &str| json!({"hosts": ["h"], "endpoints": [{"address": address, "ports": {"http": 80}}]});
        let (a, b) = (spec("10.0.0.1"), spec("10.0.0.2"));
        let (ours, theirs) = ("federator", "Helm");
        let check = |want: &[(&str, &Value)], is: &[(&str, &Value, &str)], expected: &str, differs: bool| {
            let want = want.iter().map(|(name, spec)| (key(name), (*spec).clone())).collect();
            let is = is.iter().map(|(name, spec, managed_by)| (key(name), found(spec, managed_by))).collect();
            assert_eq!(diff(&want, &is), Diff { text: expected.to_owned(), differs });
        };
        check(&[], &[], "", false);
        check(&[("a", &a)], &[("a", &a, ours), ("foreign", &b, theirs)], "", false);
        check(
            &[("a", &a), ("b", &b)],
            &[("a", &b, theirs), ("b", &b, ours)],
            "# ServiceEntry demo/a: an object of this name is somebody else's; it is left alone\n",
            false,
        );
        check(
            &[("a", &a)],
            &[("a", &b, ours)],
            "--- ServiceEntry demo/a (cluster)\n+++ ServiceEntry demo/a (agent)\n@@ -1,5 +1,5 @@\n endpoints:\n\
             -- address: \"10.0.0.2\"\n+- address: \"10.0.0.1\"\n   ports:\n     http: 80\n hosts:\n",
            true,
        );
        let small = json!({"hosts": ["h"]});
        check(
            &[("a", &small)],
            &[("b", &small, ours)],
            "--- /dev/null\n+++ ServiceEntry demo/a (agent)\n@@ -0,0 +1,2 @@\n+hosts:\n+- h\n\
             --- ServiceEntry demo/b (cluster)\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-hosts:\n-- h\n",
            true,
        );
    }
}
