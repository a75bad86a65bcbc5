//! Who may answer for a service: `subjectAltNames` of its entry, in full. Without them a sidecar takes any workload of the
//! mesh for it. Of all that take mutual TLS or of none: one that is not named is refused (tried with istiod 1.31).

use model::{merge::Service, reach::Networks};
use std::collections::BTreeSet;

/// The identities of a service's endpoints, in order; none where those of one are not known.
pub(super) fn identities(networks: &Networks, service: &Service) -> Vec<String> {
    let mut all = BTreeSet::new();
    for (cluster, export) in &service.exports {
        let domain = networks.trust_domain(cluster);
        // Whatever their health: an endpoint may become ready before anybody is told whose it is.
        let mut accounts: BTreeSet<&str> = BTreeSet::new();
        for member in export.endpoints() {
            let workload = &member.endpoint.workload;
            if workload.takes_mutual_tls() {
                accounts.insert(&workload.service_account);
            }
        }
        for account in accounts {
            match domain.and_then(|domain| domain.identity(&service.key.namespace, account)) {
                Some(identity) => all.insert(identity),
                None => return Vec::new(),
            };
        }
    }
    all.into_iter().collect()
}
