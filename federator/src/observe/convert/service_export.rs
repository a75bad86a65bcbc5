//! A ServiceExport (`multicluster.x-k8s.io`), the MCS API's way to ask for a service to be exported: by its name, the
//! service's own. It also says what is said of the service in other clusters, where the release of the API knows that.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use model::export::{Exported, ExportedError, Texts};
use serde::Deserialize;
use std::{collections::BTreeMap, sync::Arc};

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
    /// What it asks for.
    pub spec: Option<Spec>,
}

/// What a ServiceExport asks for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    exported_labels: Option<BTreeMap<String, String>>,
    exported_annotations: Option<BTreeMap<String, String>>,
}

/// Reads what is said of its service in other clusters, and why nothing is, where that is more than an object there can
/// have: a service is exported all the same.
pub fn exported(export: &ServiceExport) -> (Arc<Exported>, Option<ExportedError>) {
    let texts = |texts: &Option<BTreeMap<String, String>>| -> Texts {
        texts.iter().flatten().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect()
    };
    let Some(Spec { exported_labels, exported_annotations }) = &export.spec else {
        return (Exported::none(), None);
    };
    let exported = Exported { labels: texts(exported_labels), annotations: texts(exported_annotations) };
    match exported.check() {
        Ok(()) if exported.is_empty() => (Exported::none(), None),
        Ok(()) => (Arc::new(exported), None),
        Err(error) => (Exported::none(), Some(error)),
    }
}

custom_resource!(ServiceExport, GROUP, VERSIONS[0], "serviceexports");
