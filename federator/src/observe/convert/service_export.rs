//! A ServiceExport (`multicluster.x-k8s.io`), the MCS API's way to ask for a service to be exported: by its name, the
//! service's own. Nothing else of it is read here.

use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::Resource;
use serde::Deserialize;
use std::borrow::Cow;

/// The API group.
pub const GROUP: &str = "multicluster.x-k8s.io";

/// The versions it is served in. What is read of it is the same in all; the first is the one that every release of
/// the API serves.
pub const VERSIONS: [&str; 2] = ["v1alpha1", "v1beta1"];

/// A ServiceExport.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ServiceExport {
    /// Its metadata.
    pub metadata: ObjectMeta,
}

impl Resource for ServiceExport {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "ServiceExport".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        VERSIONS[0].into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "serviceexports".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
