//! What a cluster grants to agents that observe it from elsewhere: who they are there, and the least that they may do.
//! Pure: names in, objects out. Nothing else in this repository says what an agent may do in a remote cluster.

use serde_json::{Value, json};

/// What observing a kind of object takes.
const OBSERVE: [&str; 3] = [
    "get",   // one object, asked for by its name: what a list says of it is not believed alone
    "list",  // everything there is, when an agent starts and when its place is lost
    "watch", // every change after that
];

/// What learning of changes takes, of objects that nobody asks for one by one.
const FOLLOW: [&str; 2] = ["list", "watch"];

/// What is read, by API group, how, and what for.
const READ_BY_GROUP: [(&str, &[&str], &[&str]); 5] = [
    (
        "",
        &[
            "services",   // what is federated, its ports and how it is spread
            "nodes",      // region and zone of endpoints
            "pods",       // network and version of endpoints
            "namespaces", // the cluster's identity, and which namespaces take part
        ],
        &OBSERVE,
    ),
    // The endpoints of services.
    ("discovery.k8s.io", &["endpointslices"], &OBSERVE),
    // Endpoints outside of Kubernetes, and what east-west gateways let through.
    ("networking.istio.io", &["workloadentries", "gateways"], &OBSERVE),
    // What is exported by the standard of multi-cluster services.
    ("multicluster.x-k8s.io", &["serviceexports"], &OBSERVE),
    // Which of the kinds above the cluster has, to begin following one on the day it is installed.
    ("apiextensions.k8s.io", &["customresourcedefinitions"], &FOLLOW),
];

/// The group of the lease that an agent writes in order to see its own write come back, in the namespace of its
/// account only: a cluster whose watches deliver nothing looks like one in which nothing happens.
const CANARY_GROUP: &str = "coordination.k8s.io";
const CANARY: [&str; 5] = [
    "create", // once
    "get",    // what the lease says that an agent before this one has left
    "update", // the heartbeat
    "list",   // where the watch begins
    "watch",  // whether the heartbeat comes back
];

/// Labels of everything that is made, so that it can be found and removed.
const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "federator");

/// An account in a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The namespace it is in.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Account {
    /// The name of its token's Secret.
    #[must_use]
    pub fn token(&self) -> String {
        format!("{}-token", self.name)
    }

    /// What has to be in the cluster, in the order in which it can be made, the namespace left out.
    #[must_use]
    pub fn objects(&self) -> Vec<Value> {
        // Accounts of one name in two namespaces must not take each other's binding.
        let wide = format!("{}-{}", self.name, self.namespace);
        let subjects = json!([{"kind": "ServiceAccount", "name": self.name, "namespace": self.namespace}]);
        let read: Vec<_> =
            READ_BY_GROUP.iter().map(|(group, resources, verbs)| rule(group, resources, verbs)).collect();
        let canary = rule(CANARY_GROUP, &["leases"], &CANARY);
        let role =
            |kind: &str, name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name});
        vec![
            object("v1", "ServiceAccount", &self.name, Some(&self.namespace), json!({})),
            object(RBAC, "ClusterRole", &wide, None, json!({"rules": read})),
            object(
                RBAC,
                "ClusterRoleBinding",
                &wide,
                None,
                json!({"roleRef": role("ClusterRole", &wide), "subjects": subjects}),
            ),
            object(RBAC, "Role", &self.name, Some(&self.namespace), json!({"rules": [canary]})),
            object(
                RBAC,
                "RoleBinding",
                &self.name,
                Some(&self.namespace),
                json!({"roleRef": role("Role", &self.name), "subjects": subjects}),
            ),
            self.token_secret(),
        ]
    }

    /// The Secret that the cluster fills with a token that does not expire.
    fn token_secret(&self) -> Value {
        let kind = json!({"type": "kubernetes.io/service-account-token"});
        let mut secret = object("v1", "Secret", &self.token(), Some(&self.namespace), kind);
        secret["metadata"]["annotations"] = json!({"kubernetes.io/service-account.name": self.name});
        secret
    }
}

const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// The namespace of that name.
pub(super) fn namespace(name: &str) -> Value {
    object("v1", "Namespace", name, None, json!({}))
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
}

fn object(api_version: &str, kind: &str, name: &str, namespace: Option<&str>, more: Value) -> Value {
    let mut object = json!({
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, "labels": {MANAGED_BY.0: MANAGED_BY.1}},
    });
    if let Some(namespace) = namespace {
        object["metadata"]["namespace"] = namespace.into();
    }
    if let Value::Object(more) = more {
        for (field, value) in more {
            object[field] = value;
        }
    }
    object
}
