//! Secrets that make a cluster known to another, as `istioctl create-remote-secret` writes them.
//!
//! They stay until they are deleted, so put them into a namespace of the test's own.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, ObjectMeta, PostParams};

use crate::{Cluster, Result};

/// What marks them.
const LABEL: (&str, &str) = ("istio/multiCluster", "true");

/// Where istioctl says which cluster the only kubeconfig is for.
const CLUSTER: &str = "networking.istio.io/cluster";

/// A key that names no cluster: the annotation does, or else the Secret's name.
const ANY: &str = "config";

/// One Secret with kubeconfigs of clusters in it.
pub struct RemoteSecret {
    secrets: Api<Secret>,
    name: String,
}

impl Cluster {
    /// Makes clusters known here: `[("west", kubeconfig)]`.
    pub async fn remote_secret(&self, namespace: &str, name: &str, clusters: &[(&str, &str)]) -> Result<RemoteSecret> {
        let secret = RemoteSecret { secrets: Api::namespaced(self.client(), namespace), name: name.to_owned() };
        secret.create(clusters).await?;
        Ok(secret)
    }
}

impl RemoteSecret {
    /// Creates it again, after it was deleted.
    pub async fn create(&self, clusters: &[(&str, &str)]) -> Result {
        self.secrets.create(&PostParams::default(), &self.secret(clusters)).await?;
        Ok(())
    }

    /// Gives it exactly these clusters.
    pub async fn replace(&self, clusters: &[(&str, &str)]) -> Result {
        self.secrets.replace(&self.name, &PostParams::default(), &self.secret(clusters)).await?;
        Ok(())
    }

    /// Changes anything else of it: labels, annotations, data that is no kubeconfig.
    pub async fn change(&self, change: impl FnOnce(&mut Secret)) -> Result {
        let mut secret = self.secrets.get(&self.name).await?;
        change(&mut secret);
        self.secrets.replace(&self.name, &PostParams::default(), &secret).await?;
        Ok(())
    }

    /// Takes it away.
    pub async fn delete(&self) -> Result {
        self.secrets.delete(&self.name, &DeleteParams::default()).await?;
        Ok(())
    }

    fn secret(&self, clusters: &[(&str, &str)]) -> Secret {
        let annotation = match clusters {
            [(cluster, _)] if *cluster != ANY => Some([(CLUSTER.to_owned(), (*cluster).to_owned())].into()),
            _ => None,
        };
        let data = clusters.iter().map(|(id, kubeconfig)| ((*id).to_owned(), ByteString(kubeconfig.as_bytes().into())));
        Secret {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some([(LABEL.0.to_owned(), LABEL.1.to_owned())].into()),
                annotations: annotation,
                ..ObjectMeta::default()
            },
            data: Some(data.collect()),
            ..Secret::default()
        }
    }
}
