//! An address counts once, however many slices it stands in. EndpointSlice controllers show an endpoint in two slices
//! while they move it, and an address is given to the next pod while the last one still terminates. The best health
//! wins. Pure, and the same whichever slice comes first.

use super::{Address, Endpoint, Port, Protocol, Slice};
use crate::locality::Network;
use std::{cell::OnceCell, collections::BTreeMap, rc::Rc};

/// An endpoint of a service, and everything that its slices say of where it listens.
#[derive(Clone, Debug, PartialEq)]
pub struct Member<'a> {
    /// The endpoint at its best health.
    pub endpoint: &'a Endpoint,
    listening: Rc<Listening<'a>>,
    /// Of other slices that hold it at that health.
    others: Vec<Rc<Listening<'a>>>,
}

/// Where the endpoints of one slice listen.
#[derive(Debug)]
pub(super) struct Listening<'a> {
    /// The ports of their cluster's Service.
    own: &'a [Port],
    slice: &'a Slice,
    /// What they have behind each number of these ports. It is asked for every port of every endpoint, so it is found out
    /// once for all endpoints of the slice.
    targets: OnceCell<BTreeMap<(Protocol, u16), Option<u16>>>,
}

// === impl Member ===

impl Member<'_> {
    /// The number on which it serves `port` of its service, if it serves it: what its own cluster has behind that number,
    /// whatever the port is called there. So nobody who dials a port that clusters contradict each other in is led to
    /// what one of them has behind another number.
    #[must_use]
    pub fn target(&self, port: &Port) -> Option<u16> {
        let dialled = (port.protocol, port.number);
        std::iter::once(&self.listening).chain(&self.others).find_map(|listening| listening.target(dialled))
    }
}

// === impl Listening ===

impl<'a> Listening<'a> {
    fn new(own: &'a [Port], slice: &'a Slice) -> Self {
        Self { own, slice, targets: OnceCell::new() }
    }

    fn target(&self, dialled: (Protocol, u16)) -> Option<u16> {
        self.targets.get_or_init(|| self.targets()).get(&dialled).copied().flatten()
    }

    /// Of two ports of one number, and of two targets of one name, the first counts.
    fn targets(&self) -> BTreeMap<(Protocol, u16), Option<u16>> {
        let mut named = BTreeMap::new();
        for target in &*self.slice.ports {
            named.entry((&target.name, target.protocol)).or_insert(target.number);
        }
        let mut targets = BTreeMap::new();
        for own in self.own {
            let target = named.get(&(&own.name, own.protocol)).copied();
            targets.entry((own.protocol, own.number)).or_insert(target);
        }
        targets
    }
}

/// Whether they are found out makes no difference.
impl PartialEq for Listening<'_> {
    fn eq(&self, other: &Self) -> bool {
        (self.own, self.slice) == (other.own, other.slice)
    }
}

/// The members that stand in these slices of a service with these ports. An address in two networks is two machines.
pub(super) fn members<'a>(
    own: &'a [Port],
    slices: impl Iterator<Item = &'a Slice>,
) -> impl Iterator<Item = Member<'a>> {
    let mut held: Vec<(&Endpoint, Rc<Listening<'a>>)> = Vec::new();
    for slice in slices {
        let listening = Rc::new(Listening::new(own, slice));
        held.extend(slice.endpoints.iter().map(|endpoint| (endpoint, listening.clone())));
    }
    // What they say decides between equals, and not what their slices are called.
    held.sort_by(|(a, x), (b, y)| {
        (place(a), a.health, a, &x.slice.ports).cmp(&(place(b), b.health, b, &y.slice.ports))
    });
    let mut members: Vec<Member<'a>> = Vec::with_capacity(held.len());
    for (endpoint, listening) in held {
        match members.last_mut().filter(|last| place(last.endpoint) == place(endpoint)) {
            Some(last) if last.endpoint.health == endpoint.health => last.others.push(listening),
            Some(_) => {}
            None => members.push(Member { endpoint, listening, others: Vec::new() }),
        }
    }
    members.into_iter()
}

fn place(endpoint: &Endpoint) -> (&Address, Option<&Network>) {
    (&endpoint.address, endpoint.network.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::{Export, Head, Health, Protocol, TargetPort, Traits};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn port(name: &str, number: u16) -> Port {
        Port { name: name.into(), number, protocol: Protocol::Tcp, app_protocol: "".into() }
    }

    /// An export of these ports.
    fn export(ports: &[Port], slices: &[Slice]) -> Export {
        let named = slices.iter().enumerate().map(|(n, slice)| (format!("s{n}").into(), Arc::new(slice.clone())));
        Export { head: Arc::new(Head { ports: ports.into(), ..Head::default() }), slices: named.collect() }
    }

    fn slice(targets: &[(&str, u16)], endpoints: &[(&str, Health)]) -> Slice {
        let target = |(name, number): &(&str, u16)| TargetPort {
            name: (*name).into(),
            number: *number,
            protocol: Protocol::Tcp,
        };
        let endpoint = |(address, health): &(&str, Health)| {
            let (address, network) = address.split_once('@').unwrap_or((address, ""));
            Endpoint {
                address: Address::parse_ip(address).expect("an address"),
                health: *health,
                traits: Traits { network: (!network.is_empty()).then(|| Network::new(network)), ..Traits::default() }
                    .into(),
            }
        };
        Slice { ports: targets.iter().map(target).collect(), endpoints: endpoints.iter().map(endpoint).collect() }
    }

    /// Every member as `address health http admin`, from slices in this order of names.
    fn check(slices: &[Slice]) -> Vec<String> {
        let ports = [port("http", 80), port("admin", 90)];
        let shown = |member: Member<'_>| {
            let listens = |port| member.target(port).map_or_else(|| "-".to_owned(), |number| number.to_string());
            let Endpoint { address, health, .. } = member.endpoint;
            format!("{address} {health} {} {}", listens(&ports[0]), listens(&ports[1]))
        };
        export(&ports, slices).endpoints().map(shown).collect()
    }

    #[test]
    fn the_best_health_of_an_address_counts() {
        use Health::{Draining, NotReady, Ready};
        let old = slice(&[("http", 1)], &[("10.0.0.1", Draining), ("10.0.0.2", NotReady)]);
        let new = slice(&[("http", 2)], &[("10.0.0.1", Ready), ("10.0.0.2", NotReady)]);
        let expected = ["10.0.0.1 ready 2 -", "10.0.0.2 not-ready 1 -"];
        assert_eq!(check(&[old.clone(), new.clone()]), expected);
        assert_eq!(check(&[new, old]), expected);
        // Twice in one slice is possible too.
        assert_eq!(
            check(&[slice(&[("http", 1)], &[("10.0.0.1", NotReady), ("10.0.0.1", Ready)])]),
            ["10.0.0.1 ready 1 -"]
        );
    }

    #[test]
    fn slices_of_several_managers_complete_each_other() {
        let http = slice(&[("http", 1)], &[("10.0.0.1", Health::Ready)]);
        let admin = slice(&[("admin", 9)], &[("10.0.0.1", Health::Ready)]);
        assert_eq!(check(&[http, admin]), ["10.0.0.1 ready 1 9"]);
    }

    #[test]
    fn an_address_in_two_networks_is_two_machines() {
        let both = slice(&[("http", 1)], &[("10.0.0.1@n2", Health::Ready), ("10.0.0.1", Health::NotReady)]);
        assert_eq!(check(&[both]), ["10.0.0.1 not-ready 1 -", "10.0.0.1 ready 1 -"]);
    }

    #[test]
    fn a_number_is_what_is_dialled_whatever_it_is_called() {
        let ready = [("10.0.0.1", Health::Ready)];
        let listens = |own: &[Port], targets: &[(&str, u16)], dialled: &Port| {
            let export = export(own, &[slice(targets, &ready)]);
            export.endpoints().next().expect("an endpoint").target(dialled)
        };
        let http = port("http", 80);
        assert_eq!(listens(std::slice::from_ref(&http), &[("http", 8080)], &http), Some(8080));
        // Elsewhere the number has another name.
        assert_eq!(listens(&[port("web", 80)], &[("web", 8080)], &http), Some(8080));
        // Elsewhere the name is that of another number, which is not what was dialled.
        assert_eq!(listens(&[port("http", 81)], &[("http", 8081)], &http), None);
        let both = [port("http", 81), port("web", 80)];
        assert_eq!(listens(&both, &[("http", 8081), ("web", 8080)], &http), Some(8080));
        // A port that the cluster's Service has not, and one that these endpoints have not.
        assert_eq!(listens(&[], &[("http", 8080)], &http), None);
        assert_eq!(listens(std::slice::from_ref(&http), &[("admin", 9090)], &http), None);
    }

    proptest! {
        /// What is found out once for a slice is what its lists say, whatever they repeat and leave out.
        #[test]
        fn a_target_is_what_the_first_port_of_its_number_is_called(
            own in prop::collection::vec((0..3_usize, 80..83_u16), 0..4),
            targets in prop::collection::vec(prop::collection::vec((0..3_usize, 1..9_u16), 0..4), 1..3),
        ) {
            let named = |n: usize| ["", "http", "admin"][n];
            let own: Vec<Port> = own.into_iter().map(|(n, number)| port(named(n), number)).collect();
            let slices = targets.into_iter().map(|targets| {
                let targets: Vec<_> = targets.into_iter().map(|(n, number)| (named(n), number)).collect();
                slice(&targets, &[("10.0.0.1", Health::Ready)])
            });
            let export = export(&own, &slices.collect::<Vec<_>>());
            let member = export.endpoints().next().expect("an endpoint");
            // Of slices that say the same of an endpoint, the one of the smaller ports comes first.
            let mut by_ports: Vec<_> = export.slices.values().map(|slice| &slice.ports).collect();
            by_ports.sort();
            for number in 80..83 {
                let called = own.iter().find(|own| own.number == number).map(|own| &own.name);
                let said = called.and_then(|name| {
                    by_ports.iter().find_map(|ports| ports.iter().find(|target| target.name == *name))
                });
                prop_assert_eq!(member.target(&port("any", number)), said.map(|target| target.number));
            }
        }

        /// What is called how, and what comes first, makes no difference; no address is there twice.
        #[test]
        fn members_do_not_depend_on_the_order_of_slices(
            made in prop::collection::vec(
                (
                    prop::collection::vec((0..2_usize, 1..4_u16), 0..3),
                    prop::collection::vec((0..4_u8, 0..3_u8), 0..5),
                ),
                0..5,
            ),
            turn in 0..5_usize,
        ) {
            let health = [Health::Ready, Health::Draining, Health::NotReady];
            let slices: Vec<Slice> = made
                .iter()
                .map(|(targets, endpoints)| {
                    let targets: Vec<_> = targets.iter().map(|(n, number)| (["http", "admin"][*n], *number)).collect();
                    let texts: Vec<_> = endpoints.iter().map(|(n, h)| (format!("10.0.0.{n}"), usize::from(*h))).collect();
                    let endpoints: Vec<_> = texts.iter().map(|(text, h)| (text.as_str(), health[*h])).collect();
                    slice(&targets, &endpoints)
                })
                .collect();
            let mut turned: Vec<Slice> = slices.iter().rev().cloned().collect();
            turned.rotate_left(turn.min(slices.len()));
            let shown = check(&slices);
            prop_assert_eq!(&check(&turned), &shown);
            let mut addresses: Vec<&str> = shown.iter().filter_map(|text| text.split(' ').next()).collect();
            addresses.dedup();
            prop_assert_eq!(addresses.len(), shown.len());
            for (n, best) in (0..4_u8).map(|n| {
                let all = made.iter().flat_map(|(_, endpoints)| endpoints);
                (n, all.filter(|(address, _)| *address == n).map(|(_, h)| health[usize::from(*h)]).min())
            }) {
                let line = shown.iter().find(|text| text.starts_with(&format!("10.0.0.{n} ")));
                let counted = best.map(|best| format!("10.0.0.{n} {best} "));
                prop_assert_eq!(line.is_some(), counted.is_some());
                prop_assert!(line.zip(counted).is_none_or(|(line, start)| line.starts_with(&start)));
            }
        }
    }
}
