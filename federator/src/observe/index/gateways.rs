//! The east-west gateways of one cluster: the Services in front of them, the objects that say what they let through, and
//! those that are configured, together as the cluster's own word on them. Knows nothing of services and endpoints.

use crate::observe::convert::{
    gateway::{OnNodes, SourceEntrance, SourcePassage},
    node::Outside,
};
use model::{cluster::Meta, export::Address, gateway::Gateway};
use std::{collections::BTreeMap, sync::Arc};

/// Most nodes that are ways in to one gateway; every importer has an endpoint for each.
const MAX_NODES: usize = 16;

/// The gateways, by `namespace/name` of the objects they were read from.
#[derive(Debug, Default)]
pub(super) struct Gateways {
    entrances: BTreeMap<Arc<str>, Entrance>,
    passages: BTreeMap<Arc<str>, SourcePassage>,
    /// The nodes that are reached from outside.
    nodes: BTreeMap<Arc<str>, Outside>,
    /// Addresses and ports that count instead of what is found.
    configured: Vec<(Address, u16)>,
}

/// The Service in front of a gateway.
#[derive(Debug)]
struct Entrance {
    source: SourceEntrance,
    /// The ways in that it has, or had last.
    ways: Vec<Gateway>,
    /// Whether any pod behind it is ready; `None` where that is not known.
    ready: Option<bool>,
}

// === impl Gateways ===

impl Gateways {
    /// Sets those that count instead of what is found; none for what is found.
    pub(super) fn configure(&mut self, gateways: Vec<(Address, u16)>) {
        self.configured = gateways;
    }

    /// Takes note of the Service in front of a gateway, or that there is none.
    pub(super) fn set_entrance(&mut self, id: Arc<str>, source: Option<SourceEntrance>) {
        let Some(source) = source else {
            self.entrances.remove(&id);
            return;
        };
        let ways = self.entrances.remove(&id).map(|known| known.ways).unwrap_or_default();
        self.entrances.insert(id, Entrance { source, ways, ready: None });
    }

    /// Takes note whether any pod behind a gateway is ready.
    pub(super) fn set_ready(&mut self, id: &Arc<str>, ready: Option<bool>) {
        if let Some(entrance) = self.entrances.get_mut(id) {
            entrance.ready = ready;
        }
    }

    /// The Services in front of gateways.
    pub(super) fn entrances(&self) -> impl Iterator<Item = &Arc<str>> {
        self.entrances.keys()
    }

    /// Takes note of how a node is reached from outside, or that it is not; says whether that matters.
    pub(super) fn set_node(&mut self, name: &Arc<str>, node: Option<Outside>) -> bool {
        if self.nodes.get(name) == node.as_ref() {
            return false;
        }
        match node {
            Some(node) => self.nodes.insert(name.clone(), node),
            None => self.nodes.remove(name),
        };
        self.entrances.values().any(|entrance| entrance.source.nodes.is_some())
    }

    /// Whether there is the Service in front of a gateway.
    pub(super) fn has_entrance(&self, id: &Arc<str>) -> bool {
        self.entrances.contains_key(id)
    }

    /// Looks what ways in there are now; says of each Service what is wrong with it. A gateway that has lost its addresses
    /// keeps the last ones as long as its Service is there: whoever is to give it new ones may just be starting.
    pub(super) fn refresh(&mut self) -> Vec<(Arc<str>, Option<String>)> {
        let Self { entrances, nodes, .. } = &mut *self;
        let refreshed: Vec<_> = entrances
            .iter_mut()
            .map(|(id, entrance)| {
                let source = &entrance.source;
                let (mut ways, mut trouble) = (source.gateways.clone(), source.trouble.clone());
                if let Some(on) = &source.nodes {
                    let ports = on_nodes(on, nodes);
                    if ports.is_empty() && trouble.is_none() {
                        let network = &on.network;
                        trouble = Some(format!(
                            "leads into network {network}, and no node that it selects has an ExternalIP"
                        ));
                    }
                    ways.extend(ports);
                }
                ways.sort();
                ways.dedup();
                if !ways.is_empty() {
                    entrance.ways = ways;
                } else if !entrance.ways.is_empty() {
                    trouble = trouble.map(|trouble| format!("{trouble}; the last ones are used"));
                }
                (id.clone(), trouble)
            })
            .collect();
        let and_unready = |(id, trouble): (Arc<str>, Option<String>)| {
            let is_out = self.entrances.get(&id).is_some_and(|entrance| !self.is_offered(entrance));
            let unready = is_out.then(|| "no pod behind it is ready, and others are used instead".to_owned());
            let said: Vec<String> = trouble.into_iter().chain(unready).collect();
            (id, (!said.is_empty()).then(|| said.join("; ")))
        };
        refreshed.into_iter().map(and_unready).collect()
    }

    /// Gateways that are used though no pod behind them is ready, because there is no other: it may only look so from here,
    /// and nothing is lost that would not be lost anyway.
    pub(super) fn unready(&self) -> Option<String> {
        let used = |(_, entrance): &(_, &Entrance)| {
            entrance.ready == Some(false) && !entrance.ways.is_empty() && self.is_offered(entrance)
        };
        let ids: Vec<&str> = self.entrances.iter().filter(used).map(|(id, _)| &**id).collect();
        (!ids.is_empty() && self.configured.is_empty())
            .then(|| format!("no pod is ready behind {}, and there is no other gateway: it is used", ids.join(", ")))
    }

    /// Whether others are told of it: one without a ready pod is not named beside one that may have some.
    fn is_offered(&self, entrance: &Entrance) -> bool {
        let may_serve = |other: &Entrance| other.ready != Some(false) && !other.ways.is_empty();
        let network = |of: &Entrance| of.ways.first().map(|way| way.network.clone());
        let beside = |other: &Entrance| may_serve(other) && network(other) == network(entrance);
        may_serve(entrance) || !self.entrances.values().any(beside)
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
        let offered = || self.entrances.values().filter(|entrance| self.is_offered(entrance));
        let found = || offered().flat_map(|entrance| &entrance.ways);
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
                || offered().any(|entrance| !entrance.ways.is_empty() && passage.is_for(&entrance.source))
        };
        let passages = self.passages.values().filter(|_| !gateways.is_empty()).filter(counts);
        let mut passed: Vec<_> = passages.flat_map(|passage| passage.passed.iter().cloned()).collect();
        passed.sort();
        passed.dedup();
        (meta.gateways, meta.passed) = (gateways, passed);
    }
}

/// The ports of nodes that are ways in: of the nodes that are meant those in order, or all where none is.
fn on_nodes(on: &OnNodes, nodes: &BTreeMap<Arc<str>, Outside>) -> Vec<Gateway> {
    let is_meant = |node: &&Outside| on.selector.iter().all(|(name, value)| node.labels.get(name) == Some(value));
    let meant: Vec<&Outside> = nodes.values().filter(is_meant).collect();
    let any_ready = meant.iter().any(|node| node.ready);
    let counts = meant.into_iter().filter(|node| node.ready || !any_ready);
    let way =
        |node: &Outside| Gateway { network: on.network.clone(), address: Address::Ip(node.address), port: on.port };
    let mut ways: Vec<Gateway> = counts.map(way).collect();
    ways.sort();
    ways.dedup();
    ways.truncate(MAX_NODES);
    ways
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{gateway::Passed, locality::Network};

    fn entrance(address: &str, trouble: Option<&str>) -> SourceEntrance {
        let gateway = |address| Gateway { network: Network::new("n1"), address, port: 15443 };
        SourceEntrance {
            gateways: Address::parse_ip(address).map(gateway).into_iter().collect(),
            nodes: None,
            selector: [("istio".to_owned(), "gw".to_owned())].into(),
            trouble: trouble.map(str::to_owned),
        }
    }

    fn passage(selector: &str, host: &str) -> SourcePassage {
        SourcePassage { selector: [("istio".to_owned(), selector.to_owned())].into(), passed: vec![Passed::new(host)] }
    }

    /// Sets a Service, and says what is wrong with it.
    fn set(gateways: &mut Gateways, id: &str, source: Option<SourceEntrance>) -> Option<String> {
        gateways.set_entrance(id.into(), source);
        gateways.refresh().into_iter().find(|(of, _)| &**of == id).and_then(|(_, trouble)| trouble)
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
        assert_eq!(set(&mut gateways, "i/gw", Some(entrance("192.0.2.1", None))), None);
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
        assert_eq!(set(&mut gateways, "i/gw", none()).as_deref(), Some("no address yet"));
        set(&mut gateways, "i/gw", Some(entrance("192.0.2.1", None)));
        let told = set(&mut gateways, "i/gw", none());
        assert_eq!(told.as_deref(), Some("no address yet; the last ones are used"));
        assert_eq!(said(&gateways), "192.0.2.1:15443");
        set(&mut gateways, "i/gw", Some(entrance("192.0.2.2", None)));
        assert_eq!(said(&gateways), "192.0.2.2:15443");
        set(&mut gateways, "i/gw", None);
        assert_eq!(said(&gateways), "");
    }

    #[test]
    fn a_gateway_without_a_ready_pod_is_not_named_beside_another() {
        let mut gateways = Gateways::default();
        for (id, address) in [("i/a", "192.0.2.1"), ("i/b", "192.0.2.2")] {
            set(&mut gateways, id, Some(entrance(address, None)));
        }
        let mut other = entrance("192.0.2.3", None);
        other.gateways[0].network = Network::new("n2");
        set(&mut gateways, "i/c", Some(other));
        let mut check = |ready: [Option<bool>; 3], expected: &str, out: &[&str], unready: Option<&str>| {
            for (id, ready) in ["i/a", "i/b", "i/c"].into_iter().zip(ready) {
                gateways.set_ready(&id.into(), ready);
            }
            let troubles = gateways.refresh();
            assert_eq!(said(&gateways), expected);
            assert_eq!(
                troubles.iter().filter(|(_, said)| said.is_some()).map(|(id, _)| &**id).collect::<Vec<_>>(),
                out
            );
            let text = |ids| format!("no pod is ready behind {ids}, and there is no other gateway: it is used");
            assert_eq!(gateways.unready(), unready.map(text));
        };
        let all = "192.0.2.1:15443 192.0.2.2:15443 192.0.2.3:15443";
        check([None, None, None], all, &[], None);
        check([Some(true), Some(true), Some(true)], all, &[], None);
        check([Some(true), Some(false), Some(true)], "192.0.2.1:15443 192.0.2.3:15443", &["i/b"], None);
        check([None, Some(false), Some(true)], "192.0.2.1:15443 192.0.2.3:15443", &["i/b"], None);
        check([Some(false), Some(false), Some(true)], all, &[], Some("i/a, i/b"));
        // What leads into another network is no other way into this one.
        check([Some(true), Some(true), Some(false)], all, &[], Some("i/c"));
        gateways.configure(vec![(Address::parse_ip("192.0.2.9").expect("an address"), 15443)]);
        assert_eq!(gateways.unready(), None, "what is found is not used");
    }

    #[test]
    fn nodes_are_ways_in_as_they_come_and_go() {
        let mut gateways = Gateways::default();
        let selector = [("edge".to_owned(), "yes".to_owned())].into();
        let on = OnNodes { network: Network::new("n1"), selector, port: 30443 };
        let source = || SourceEntrance { nodes: Some(on.clone()), ..entrance("", None) };
        let node = |address: &str, edge: &str, ready| Outside {
            address: address.parse().expect("an address"),
            labels: [("edge".to_owned(), edge.to_owned())].into(),
            ready,
        };
        let none = "leads into network n1, and no node that it selects has an ExternalIP";
        assert_eq!(set(&mut gateways, "i/gw", Some(source())).as_deref(), Some(none));
        let mut check = |name: &str, node: Option<Outside>, matters, expected: &str| {
            assert_eq!(gateways.set_node(&name.into(), node), matters, "{name}");
            gateways.refresh();
            assert_eq!(said(&gateways), expected);
        };
        check("a", Some(node("192.0.2.1", "yes", true)), true, "192.0.2.1:30443");
        check("a", Some(node("192.0.2.1", "yes", true)), false, "192.0.2.1:30443");
        check("b", Some(node("192.0.2.2", "no", true)), true, "192.0.2.1:30443");
        check("c", Some(node("192.0.2.3", "yes", false)), true, "192.0.2.1:30443");
        // Where none is in order, all are better than nothing.
        check("a", Some(node("192.0.2.1", "yes", false)), true, "192.0.2.1:30443 192.0.2.3:30443");
        check("c", Some(node("192.0.2.3", "yes", true)), true, "192.0.2.3:30443");
        check("c", None, true, "192.0.2.1:30443");
        // The last one is kept until there is another.
        check("a", None, true, "192.0.2.1:30443");
        check("d", Some(node("192.0.2.4", "yes", true)), true, "192.0.2.4:30443");
        for number in 0..200 {
            gateways.set_node(&format!("n{number}").into(), Some(node(&format!("192.0.2.{number}"), "yes", true)));
        }
        gateways.refresh();
        assert_eq!(said(&gateways).split(' ').count(), MAX_NODES);
        set(&mut gateways, "i/gw", None);
        assert_eq!(said(&gateways), "");
        assert!(!gateways.set_node(&"d".into(), None), "nobody asks");
    }
}
