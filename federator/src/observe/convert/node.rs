//! A Node: where it runs. Of Nodes only the metadata is ever read.

use super::text;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use model::locality::Locality;

/// What names the region, the old spelling last.
const REGION_LABELS: [&str; 2] = ["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"];
const ZONE_LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"];
const SUBZONE_LABELS: [&str; 1] = ["topology.istio.io/subzone"];

/// Where a node runs, from its labels.
#[must_use]
pub fn node(meta: &ObjectMeta) -> Locality {
    let first = |names: &[&str]| names.iter().find_map(|name| text(meta.labels.as_ref(), name)).unwrap_or_default();
    Locality::new(first(&REGION_LABELS), first(&ZONE_LABELS), first(&SUBZONE_LABELS))
}
