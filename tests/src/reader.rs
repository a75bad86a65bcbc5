//! A credential that reads one cluster from another: a service account with its rights and its token.
//!
//! It is what `istioctl create-remote-secret` makes, with the rights as data, so that a test can take some away.
//! Rights are known to hold when a method returns; a token is not, see [`Reader::revoke`].

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::control_plane::ControlPlane;
use crate::{Cluster, Result, SOON, credentials, eventually, manifest};

mod audit;

pub(crate) use audit::POLICY as AUDIT_POLICY;
pub use audit::Request;
pub(crate) use audit::requests;

/// Where the account and its token are, and where it may renew leases.
const NAMESPACE: &str = "istio-system";

/// The API server keeps to a token for ten seconds after it was deleted.
const FORGOTTEN: Duration = Duration::from_secs(30);

/// What an agent needs: everywhere to read, and in one namespace to renew leases.
const RULES: [(&str, &[&str]); 6] = [
    ("", &["services", "pods", "nodes", "namespaces"]),
    ("discovery.k8s.io", &["endpointslices"]),
    ("networking.istio.io", &["workloadentries", "gateways"]),
    ("multicluster.x-k8s.io", &["serviceexports"]),
    ("apiextensions.k8s.io", &["customresourcedefinitions"]),
    ("coordination.k8s.io", &["leases"]),
];

/// What may be done with one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The API group; empty for the first one.
    pub group: String,
    /// The plural: `services`.
    pub resource: String,
    /// `get`, `list`, …
    pub verbs: Vec<String>,
    /// The only namespace that it holds for; everywhere without.
    pub namespace: Option<String>,
}

/// A service account of a cluster with a token, for somebody elsewhere.
pub struct Reader {
    client: Client,
    cluster: &'static str,
    server: String,
    plane: &'static ControlPlane,
    /// Unique in the fleet, for roles belong to no namespace.
    name: String,
    rules: Vec<Rule>,
    token: String,
}

// === impl Rule ===

impl Rule {
    /// A rule that holds in every namespace.
    pub fn everywhere(group: &str, resource: &str, verbs: &[&str]) -> Self {
        let verbs = verbs.iter().map(|verb| (*verb).to_owned()).collect();
        Self { group: group.to_owned(), resource: resource.to_owned(), verbs, namespace: None }
    }

    /// The same rule in one namespace only.
    #[must_use]
    pub fn within(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// What an agent needs of a cluster that it observes.
    pub fn of_an_agent() -> Vec<Self> {
        let rule = |group, resource| match resource {
            "leases" => {
                Self::everywhere(group, resource, &["create", "get", "list", "watch", "update"]).within(NAMESPACE)
            }
            _ => Self::everywhere(group, resource, &["get", "list", "watch"]),
        };
        RULES
            .iter()
            .flat_map(|(group, resources)| resources.iter().map(move |resource| rule(group, resource)))
            .collect()
    }

    /// Waits until the API server of a cluster allows a user one of the verbs, or does not.
    pub async fn holds(&self, cluster: &Cluster, user: &str, verb: &str, allowed: bool) -> Result {
        self.review(&cluster.client(), user, verb, allowed).await
    }

    fn json(&self) -> Value {
        json!({"apiGroups": [self.group], "resources": [self.resource], "verbs": self.verbs})
    }

    async fn review(&self, client: &Client, user: &str, verb: &str, allowed: bool) -> Result {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.to_owned()),
                resource_attributes: Some(ResourceAttributes {
                    group: Some(self.group.clone()),
                    resource: Some(self.resource.clone()),
                    verb: Some(verb.to_owned()),
                    namespace: self.namespace.clone(),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let reviews = Api::<SubjectAccessReview>::all(client.clone());
        let what = format!("{user} may {verb} {}: {allowed}", self.resource);
        eventually(SOON, &what, async || {
            let reviewed = reviews.create(&PostParams::default(), &review).await?;
            ensure!(reviewed.status.is_some_and(|status| status.allowed == allowed), "not yet");
            Ok(())
        })
        .await
    }
}

// === impl Cluster ===

impl Cluster {
    /// A credential with the rights that an agent needs.
    pub async fn reader(&self, name: &str) -> Result<Reader> {
        self.reader_with(name, Rule::of_an_agent()).await
    }

    /// A credential with other rights.
    pub async fn reader_with(&self, name: &str, rules: Vec<Rule>) -> Result<Reader> {
        let mut reader = Reader {
            client: self.client(),
            cluster: self.name(),
            server: format!("https://{}", self.place().port(6443)),
            plane: self.plane(),
            name: format!("{name}-{}", self.number()),
            rules,
            token: String::new(),
        };
        reader.renew().await?;
        Ok(reader)
    }
}

// === impl Reader ===

impl Reader {
    /// A kubeconfig with its present token and the cluster's present authority, all inline.
    pub fn kubeconfig(&self) -> Result<String> {
        self.kubeconfig_at(&self.server)
    }

    /// The same with another way to the API server, a [`Proxy`](crate::Proxy) for example.
    pub fn kubeconfig_at(&self, server: &str) -> Result<String> {
        credentials::kubeconfig(self.cluster, server, self.plane.credentials.authority(), self.cluster, &self.token)
    }

    /// The kubeconfig in a file.
    pub fn kubeconfig_file(&self) -> Result<PathBuf> {
        let file = self.plane.credentials.kubeconfig.with_file_name(format!("kubeconfig-of-{}", self.name));
        std::fs::write(&file, self.kubeconfig()?)?;
        Ok(file)
    }

    /// A client of the test's own runtime that has its rights.
    pub async fn client(&self) -> Result<Client> {
        self.client_at(&self.server).await
    }

    /// The same by another way.
    pub async fn client_at(&self, server: &str) -> Result<Client> {
        self.plane.client_of(&self.kubeconfig_at(server)?).await
    }

    /// As the API server knows it: `system:serviceaccount:…`.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{NAMESPACE}:{}", self.name)
    }

    /// Every request that was made with it, in order; those that were not recognised as its are not among them.
    pub fn requests(&self) -> Result<Vec<Request>> {
        requests(&self.plane.audit_log, &self.user())
    }

    /// Deletes its token. The API server goes on accepting it for about ten seconds ([`Reader::refused`] waits for the
    /// end of that), and watches that are open stay so, whatever happens to token, rights and account.
    pub async fn revoke(&self) -> Result {
        self.secrets().delete(&self.name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Waits until its token is refused.
    pub async fn refused(&self) -> Result {
        let client = self.client().await?;
        eventually(FORGOTTEN, &format!("the token of {} is refused", self.name), async || {
            let outcome = client.apiserver_version().await;
            let refused = matches!(&outcome, Err(kube::Error::Api(status)) if status.code == 401);
            ensure!(refused, "{outcome:?}");
            Ok(())
        })
        .await
    }

    /// Makes all of it that is not there, and a token that is new: what held the old kubeconfig needs the new one.
    pub async fn renew(&mut self) -> Result {
        match self.revoke().await {
            Err(error) if !is_absent(&error) => return Err(error),
            _ => {}
        }
        manifest::apply(&self.client, NAMESPACE, &documents(&self.account())).await?;
        self.grant(&self.rules).await?;
        for rule in &self.rules {
            rule.review(&self.client, &self.user(), &rule.verbs[0], true).await?;
        }
        let secrets = self.secrets();
        self.token = eventually(SOON, &format!("{} has a token", self.name), async || {
            let data = secrets.get(&self.name).await?.data.context("no data yet")?;
            Ok(String::from_utf8(data.get("token").context("no token yet")?.0.clone())?)
        })
        .await?;
        Ok(())
    }

    /// Takes one verb away from one resource; returns when the API server keeps to it.
    pub async fn without(&self, verb: &str, resource: &str) -> Result {
        let mut rules = self.rules.clone();
        let mut lost = Vec::new();
        for rule in rules.iter_mut().filter(|rule| rule.resource == resource) {
            if rule.verbs.iter().any(|had| had == verb) {
                rule.verbs.retain(|had| had != verb);
                lost.push(rule.clone());
            }
        }
        ensure!(!lost.is_empty(), "{} never had {verb} of {resource}", self.name);
        rules.retain(|rule| !rule.verbs.is_empty());
        self.grant(&rules).await?;
        for rule in lost {
            rule.review(&self.client, &self.user(), verb, false).await?;
        }
        Ok(())
    }

    /// Gives back what [`Reader::without`] took; returns when the API server keeps to it.
    pub async fn restore(&self) -> Result {
        self.grant(&self.rules).await?;
        for rule in &self.rules {
            for verb in &rule.verbs {
                rule.review(&self.client, &self.user(), verb, true).await?;
            }
        }
        Ok(())
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// The namespace, the account and the Secret that its token comes into.
    fn account(&self) -> [Value; 3] {
        let name = &self.name;
        [
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}),
            json!({
                "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
                "metadata": {"name": name, "annotations": {"kubernetes.io/service-account.name": name}},
            }),
        ]
    }

    /// Gives it exactly these rights.
    async fn grant(&self, rules: &[Rule]) -> Result {
        let mut objects = Vec::new();
        // A namespace of which it has lost everything keeps a role, without rules.
        let namespaces: BTreeSet<_> = self.rules.iter().map(|rule| &rule.namespace).collect();
        for namespace in namespaces {
            let of_namespace = rules.iter().filter(|rule| rule.namespace == *namespace);
            let granted: Vec<Value> = of_namespace.map(Rule::json).collect();
            let kind = if namespace.is_some() { "Role" } else { "ClusterRole" };
            let mut metadata = json!({"name": self.name});
            if let Some(namespace) = namespace {
                metadata["namespace"] = json!(namespace);
            }
            let (api, group) = ("rbac.authorization.k8s.io/v1", "rbac.authorization.k8s.io");
            objects.push(json!({"apiVersion": api, "kind": kind, "metadata": metadata, "rules": granted}));
            objects.push(json!({
                "apiVersion": api, "kind": format!("{kind}Binding"), "metadata": metadata,
                "roleRef": {"apiGroup": group, "kind": kind, "name": self.name},
                "subjects": [{"kind": "ServiceAccount", "name": self.name, "namespace": NAMESPACE}],
            }));
        }
        manifest::apply(&self.client, NAMESPACE, &documents(&objects)).await
    }
}

/// JSON is YAML.
fn documents(objects: &[Value]) -> String {
    objects.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n")
}

fn is_absent(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(kube::Error::Api(status)) if status.code == 404)
}
