//! Manifests into a cluster, as `kubectl apply --server-side` does it: any kind that the cluster serves.

use anyhow::{Context, ensure};
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{self, Scope};

use crate::Result;

/// Owner of the fields that tests set.
const MANAGER: &str = "harness";

/// Applies every object of `manifests`; one that is namespaced and names no namespace goes to `namespace`.
pub(crate) async fn apply(client: &Client, namespace: &str, manifests: &str) -> Result {
    let objects: Vec<DynamicObject> = serde_saphyr::from_multiple(manifests).context("not a manifest")?;
    ensure!(!objects.is_empty(), "no object in the manifest");
    for object in objects {
        let types = object.types.clone().context("an object without apiVersion and kind")?;
        let name = object.metadata.name.clone().context("an object without a name")?;
        let what = || format!("apply {} {name}", types.kind);
        let kind = GroupVersionKind::try_from(types.clone())?;
        let (resource, capabilities) = discovery::pinned_kind(client, &kind).await.with_context(what)?;
        let api: Api<DynamicObject> = match (capabilities.scope, &object.metadata.namespace) {
            (Scope::Cluster, _) => Api::all_with(client.clone(), &resource),
            (Scope::Namespaced, own) => {
                Api::namespaced_with(client.clone(), own.as_deref().unwrap_or(namespace), &resource)
            }
        };
        let params = PatchParams::apply(MANAGER).force();
        api.patch(&name, &params, &Patch::Apply(&object)).await.with_context(what)?;
    }
    Ok(())
}
