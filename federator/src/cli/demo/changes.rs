//! What changed between two Views, a line a service, for people. Pure.

use super::overview::ready;
use model::{
    export::{Address, Health},
    merge::Service,
    name::ClusterId,
    tracked::Since,
    view::View,
};
use std::collections::BTreeMap;

/// Endpoints that are named of one change.
const MAX_NAMED: usize = 6;

/// The services that changed, and what of them did.
pub(super) fn between(before: &View, now: &View) -> Vec<String> {
    let Since::Changes(changes) = now.services().since(before.services().sequence()) else {
        return vec!["too much has changed to list".to_owned()];
    };
    let line = |(key, service): (&_, Option<&std::sync::Arc<Service>>)| {
        let what = match (before.services().get(key), service) {
            (None, None) => return None,
            (None, Some(service)) => format!("new, ready: {}", ready(service)),
            (Some(_), None) => "gone".to_owned(),
            (Some(before), Some(service)) => difference(before, service),
        };
        Some(format!("{key} {what}"))
    };
    changes.into_iter().filter_map(line).collect()
}

fn difference(before: &Service, now: &Service) -> String {
    let (old, new) = (endpoints(before), endpoints(now));
    let mut named: Vec<String> = Vec::new();
    for ((cluster, address), health) in &new {
        match old.get(&(*cluster, address.clone())) {
            None => named.push(format!("{cluster} +{address} {health}")),
            Some(was) if was != health => named.push(format!("{cluster} {address} is {health}")),
            Some(_) => {}
        }
    }
    let gone = old.keys().filter(|at| !new.contains_key(*at));
    named.extend(gone.map(|(cluster, address)| format!("{cluster} -{address}")));
    if named.is_empty() {
        return "has other ports, settings or places of endpoints".to_owned();
    }
    match named.len().saturating_sub(MAX_NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named[..MAX_NAMED].join(", ")),
    }
}

fn endpoints(service: &Service) -> BTreeMap<(&ClusterId, Address), Health> {
    let of = |(cluster, export)| {
        let export: &std::sync::Arc<model::export::Export> = export;
        export.endpoints().map(move |member| ((cluster, member.endpoint.address.clone()), member.endpoint.health))
    };
    service.exports.iter().map(|(cluster, export)| (cluster, export)).flat_map(of).collect()
}
