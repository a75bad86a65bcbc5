//! The east-west gateways of one cluster: the Services in front of them, the objects that say what they let through, and
//! those that are configured, together as the cluster's own word on them. Knows nothing of services and endpoints.

use crate::observe::convert::gateway::{SourceEntrance, SourcePassage};
use model::{cluster::Meta, export::Address, gateway::Gateway};
use std::{collections::BTreeMap, sync::Arc};

/// The gateways, by `namespace/name` of the objects they were read from.
#[derive(Debug, Default)]
pub(super) struct Gateways {
    entrances: BTreeMap<Arc<str>, SourceEntrance>,
    passages: BTreeMap<Arc<str>, SourcePassage>,
    /// Addresses and ports that count instead of what is found.
    configured: Vec<(Address, u16)>,
}

// === impl Gateways ===

impl Gateways {
    /// Sets those that count instead of what is found; none for what is found.
    pub(super) fn configure(&mut self, gateways: Vec<(Address, u16)>) {
        self.configured = gateways;
    }

    /// Takes note of the Service in front of a gateway, or that there is none; says what is wrong with it. A gateway that
    /// has lost its addresses keeps the last ones as long as its Service is there: whoever is to give it new ones may just
    /// be starting.
    pub(super) fn set_entrance(&mut self, id: Arc<str>, entrance: Option<SourceEntrance>) -> Option<String> {
        let Some(mut entrance) = entrance else {
            self.entrances.remove(&id);
            return None;
        };
        let mut trouble = entrance.trouble.clone();
        if let Some(known) = self.entrances.get(&id)
            && entrance.gateways.is_empty()
            && !known.gateways.is_empty()
        {
            entrance.gateways.clone_from(&known.gateways);
            trouble = trouble.map(|trouble| format!("{trouble}; the last ones are used"));
        }
        self.entrances.insert(id, entrance);
        trouble
    }

    /// Whether there is the Service in front of a gateway.
    pub(super) fn has_entrance(&self, id: &Arc<str>) -> bool {
        self.entrances.contains_key(id)
    }

    /// The objects that let something through.
    pub(super) fn passages(&self) -> impl Iterator<Item = &Arc<str>> {
        self.passages.keys()
    }

    /// Takes note of what an object lets through, or that it lets nothing.
    pub(super) fn set_passage(&mut self, id: Arc<str>, passage: Option<SourcePassage>) {
        match passage {
            Some(passage) => self.passages.insert(id, passage),
            None => self.passages.remove(&id),
        };
    }

    /// The cluster's word on them. Without a gateway it does not matter what would be let through.
    pub(super) fn settle(&self, meta: &mut Meta) {
        let found = || self.entrances.values().flat_map(|entrance| &entrance.gateways);
        let network = &meta.network;
        let made = |(address, port): &(Address, u16)| Gateway {
            network: network.clone(),
            address: address.clone(),
            port: *port,
        };
        let mut gateways: Vec<Gateway> = match self.configured.as_slice() {
            [] => found().cloned().collect(),
            configured => configured.iter().map(made).collect(),
        };
        gateways.sort();
        gateways.dedup();
        let counts = |passage: &&SourcePassage| {
            // What is in front of a configured gateway is not known.
            !self.configured.is_empty()
                || self.entrances.values().any(|entrance| !entrance.gateways.is_empty() && passage.is_for(entrance))
        };
        let passages = self.passages.values().filter(|_| !gateways.is_empty()).filter(counts);
        let mut passed: Vec<_> = passages.flat_map(|passage| passage.passed.iter().cloned()).collect();
        passed.sort();
        passed.dedup();
        (meta.gateways, meta.passed) = (gateways, passed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{gateway::Passed, locality::Network};

    fn entrance(address: &str, trouble: Option<&str>) -> SourceEntrance {
        let gateway = |address| Gateway { network: Network::new("n1"), address, port: 15443 };
        SourceEntrance {
            gateways: Address::parse_ip(address).map(gateway).into_iter().collect(),
            selector: [("istio".to_owned(), "gw".to_owned())].into(),
            trouble: trouble.map(str::to_owned),
        }
    }

    fn passage(selector: &str, host: &str) -> SourcePassage {
        SourcePassage { selector: [("istio".to_owned(), selector.to_owned())].into(), passed: vec![Passed::new(host)] }
    }

    fn said(gateways: &Gateways) -> String {
        let mut meta = Meta { network: Network::new("n1"), ..Meta::default() };
        gateways.settle(&mut meta);
        let addresses = meta.gateways.iter().map(|gateway| format!("{}:{}", gateway.address, gateway.port));
        let passed = meta.passed.iter().map(|passed| passed.as_str().to_owned());
        addresses.chain(passed).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_gateway_is_its_service_and_what_is_let_through() {
        let mut gateways = Gateways::default();
        gateways.set_passage("i/mine".into(), Some(passage("gw", "*.global")));
        assert_eq!(said(&gateways), "", "nothing is let through where there is no gateway");
        assert_eq!(gateways.set_entrance("i/gw".into(), Some(entrance("192.0.2.1", None))), None);
        gateways.set_passage("i/other".into(), Some(passage("other", "*.local")));
        assert_eq!(said(&gateways), "192.0.2.1:15443 *.global");
        gateways.set_passage("i/mine".into(), None);
        assert_eq!(said(&gateways), "192.0.2.1:15443");
        let host = Address::parse_host("gw.example").expect("a host");
        gateways.configure(vec![(host, 443)]);
        assert_eq!(said(&gateways), "gw.example:443 *.local");
    }

    #[test]
    fn the_last_addresses_stay_as_long_as_the_service_is_there() {
        let mut gateways = Gateways::default();
        let none = || Some(entrance("", Some("no address yet")));
        assert_eq!(gateways.set_entrance("i/gw".into(), none()).as_deref(), Some("no address yet"));
        gateways.set_entrance("i/gw".into(), Some(entrance("192.0.2.1", None)));
        let told = gateways.set_entrance("i/gw".into(), none());
        assert_eq!(told.as_deref(), Some("no address yet; the last ones are used"));
        assert_eq!(said(&gateways), "192.0.2.1:15443");
        gateways.set_entrance("i/gw".into(), Some(entrance("192.0.2.2", None)));
        assert_eq!(said(&gateways), "192.0.2.2:15443");
        gateways.set_entrance("i/gw".into(), None);
        assert_eq!(said(&gateways), "");
    }
}
