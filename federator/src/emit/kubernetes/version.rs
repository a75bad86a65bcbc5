//! In which version a cluster serves Istio's ServiceEntry. Their fields are the same in all; which there are depends on how
//! old its CRDs are. Knows nothing of what is written.

use crate::{
    backoff::Backoff,
    kubernetes::explain::{Cause, cause, explain},
};
use kube::{Client, api::ApiResource, core::GroupVersionKind};
use std::time::Duration;

/// The group of Istio's networking objects.
const GROUP: &str = "networking.istio.io";

/// The resource of ServiceEntries.
const PLURAL: &str = "serviceentries";

/// How often it is asked for where there is none: Istio is not installed many times a day.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What can be used, best first.
const VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha3"];

/// Finds out which one the cluster serves, for as long as it takes; says why it takes so long.
pub(super) async fn served(client: Client, trouble: impl Fn(String)) -> ApiResource {
    let mut backoff = Backoff::default();
    loop {
        match look(&client).await {
            Ok(Some(version)) => {
                tracing::info!(version, "writing ServiceEntries");
                return ApiResource::from_gvk_with_plural(
                    &GroupVersionKind::gvk(GROUP, version, "ServiceEntry"),
                    PLURAL,
                );
            }
            Ok(None) => {
                let versions = VERSIONS.join(", ");
                trouble(format!("the cluster serves no ServiceEntry of {GROUP} in {versions}: install Istio's CRDs"));
                // Nothing tells of it: a new kind can only be asked for.
                tokio::time::sleep(LOOK_AGAIN).await;
                continue;
            }
            Err(error) => {
                trouble(format!("cannot find out which ServiceEntries the cluster serves: {}", explain(&error)));
            }
        }
        backoff.wait().await;
    }
}

/// The best version that is served; `None` when none is.
async fn look(client: &Client) -> Result<Option<&'static str>, kube::Error> {
    for version in VERSIONS {
        match client.list_api_group_resources(&format!("{GROUP}/{version}")).await {
            Ok(list) if list.resources.iter().any(|resource| resource.name == PLURAL) => return Ok(Some(version)),
            Ok(_) => {}
            Err(error) if cause(&error) == Cause::UnknownKind => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
