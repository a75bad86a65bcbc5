//! What the API server noted of service accounts: one line for each request, when it came in.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde_json::Value;

use crate::Result;

/// The audit policy that every cluster has: requests of service accounts, which are somebody's [`Reader`](super::Reader)
/// here, and nothing of the bed's own parts, which are administrators.
pub(crate) const POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [ResponseStarted, ResponseComplete, Panic]
rules:
  - {level: Metadata, userGroups: [\"system:serviceaccounts\"]}
  - {level: None}
";

/// One request to an API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `get`, `list`, `watch`, …
    pub verb: String,
    /// `services`, or empty for a path that is no resource.
    pub resource: String,
    /// The path with its query.
    pub uri: String,
}

/// The requests of a user, in order.
pub(crate) fn requests(log: &Path, user: &str) -> Result<Vec<Request>> {
    let log = fs::read_to_string(log).with_context(|| log.display().to_string())?;
    // A line without an end is still being written.
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let mut found = Vec::new();
    for line in whole.lines().filter(|line| line.contains(user)) {
        let event: Value = serde_json::from_str(line).with_context(|| format!("not an event: {line}"))?;
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        if text("/user/username") == user {
            let (verb, resource, uri) = (text("/verb"), text("/objectRef/resource"), text("/requestURI"));
            found.push(Request { verb, resource, uri });
        }
    }
    Ok(found)
}
