//! A namespace of one name in every cluster, which one test has for itself.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use anyhow::Context;
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{Namespace as NamespaceObject, ServiceAccount};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};

use crate::{Cluster, Result, eventually};

/// The service account of a new namespace takes some milliseconds.
const ACCOUNT: Duration = Duration::from_secs(20);

/// The name of a namespace that exists in every cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace(String);

impl Namespace {
    /// Adds it to a cluster that came later.
    pub async fn add_to(&self, cluster: &Cluster) -> Result {
        add(cluster, &self.0).await
    }

    pub(crate) async fn make(name: String, clusters: &[Cluster]) -> Result<Self> {
        try_join_all(clusters.iter().map(|cluster| add(cluster, &name))).await?;
        Ok(Self(name))
    }
}

impl Deref for Namespace {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

async fn add(cluster: &Cluster, name: &str) -> Result {
    let namespace = NamespaceObject {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        ..NamespaceObject::default()
    };
    let what = || format!("namespace {name} in {}", cluster.name());
    let namespaces = Api::<NamespaceObject>::all(cluster.client());
    namespaces.create(&PostParams::default(), &namespace).await.with_context(what)?;
    // Until it has its default account, no pod can be made in it.
    let accounts = Api::<ServiceAccount>::namespaced(cluster.client(), name);
    eventually(ACCOUNT, &what(), async || {
        accounts.get("default").await?;
        Ok(())
    })
    .await
}
