//! Addresses of the cluster, of its Services and Pods, that lie inside the ranges of virtual ones: a name would be answered
//! with what is somebody else's here. Told from what there is, because no API has all ranges: Pods get theirs from
//! whatever network there is. The Service `default/kubernetes` has the first address of the Services' range.

use super::{Index, Object, ObjectName};
use model::vip::VipRanges;
use std::{collections::BTreeMap, net::IpAddr};

/// What lies inside the ranges.
#[derive(Debug, Default)]
pub(super) struct Inside {
    ranges: Option<VipRanges>,
    /// One address of each object.
    found: BTreeMap<ObjectName, IpAddr>,
}

// === impl Index ===

impl Index {
    /// Sets the ranges of virtual addresses, before anything is seen.
    pub fn set_vips(&mut self, ranges: VipRanges) {
        self.inside.ranges = Some(ranges);
    }

    /// Looks whether an object has an address inside the ranges; an object that is gone has none.
    pub(super) fn look_inside(&mut self, name: &ObjectName, object: Option<&Object>) {
        let Some(ranges) = self.inside.ranges else { return };
        match object.and_then(|object| addresses(object).find(|address| ranges.contains(*address))) {
            Some(address) => _ = self.inside.found.insert(name.clone(), address),
            None if self.inside.found.is_empty() => {}
            None => _ = self.inside.found.remove(name),
        }
    }

    /// What is wrong with the ranges, and what to do.
    pub(super) fn overlap(&self) -> Option<String> {
        let (name, address) = self.inside.found.first_key_value()?;
        Some(format!(
            "{name} has {address}, which lies inside `vips`: choose `vips.ipv4` and `vips.ipv6` outside of the addresses of \
             Services and Pods of all clusters, the same in all agents"
        ))
    }
}

/// The addresses of a Service, and those of Pods.
fn addresses(object: &Object) -> Box<dyn Iterator<Item = IpAddr> + '_> {
    match object {
        Object::Service(service) => {
            let spec = service.spec.iter();
            let only = |ip: &&String| *ip != "None";
            let ips = spec.flat_map(|spec| spec.cluster_ips.as_deref().unwrap_or(spec.cluster_ip.as_slice()));
            Box::new(ips.filter(only).filter_map(|ip| ip.parse().ok()))
        }
        Object::EndpointSlice(slice) => {
            let is_pod = |kind: Option<&str>| kind == Some("Pod");
            let pods = slice
                .endpoints
                .iter()
                .filter(move |endpoint| is_pod(endpoint.target_ref.as_ref().and_then(|target| target.kind.as_deref())));
            Box::new(pods.flat_map(|endpoint| &endpoint.addresses).filter_map(|address| address.parse().ok()))
        }
        _ => Box::new(std::iter::empty()),
    }
}
