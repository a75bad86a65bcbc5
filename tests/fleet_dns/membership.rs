//! Where clients go: by the connections that a hundred of glibc and a hundred of hickory-resolver make to what listens
//! on the addresses of endpoints, behind the CoreDNS of the manual with its cache and without. Each client is new, and
//! takes the first address that its resolver gives it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context as _, ensure};
use federator::lookup::names;
use harness::{Backend, Process, RecordType, Result, SOON, eventually};
use tokio::runtime;

use crate::bed::{AGENTS, Bed, RESOLVER, service};
use crate::coredns;

const CLIENTS: usize = 100;

/// Where endpoints listen.
const PORT: u16 = 8080;

/// The same CoreDNS without its cache.
const UNCACHED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 54);

/// A service whose endpoints are in another network than clients are.
const AWAY: &str = "away.shop.global";

/// The same, but clients have an address in their network: of the IPv4 addresses in an answer glibc takes the one that
/// has the longest prefix in common with its own (RFC 6724, rule 9), and asks nobody for their order.
const AMONG: &str = "among.shop.global";
const IN_COMMON: Ipv4Addr = Ipv4Addr::new(10, 1, 3, 1);

/// Each has endpoints .2 to .13, of which an answer has four where it is told to: those from any one on.
const ENDPOINTS: usize = 12;
const SOME: &str = "dns.maxAnswers=4";

/// A hundred that go to one of twelve at random miss three of them with a chance below C(12, 3) · (9/12)¹⁰⁰ = 8·10⁻¹¹.
const REACHED: usize = 10;

/// One of the twelve has more of them with a chance of 12 · P(B(100, 1/12) > 30) = 9·10⁻¹⁰.
const BUSIEST: usize = 30;

/// With .1 glibc takes .2 or .3 where they are among four in a row, else one of .4 to .7, else any: .2 and .3 have the most,
/// each a share of 2.5/12, and more than this many of a hundred with a chance of 2 · P(B(100, 2.5/12) > 50) = 10⁻¹⁰. The four that
/// have the most are in less than 0.7 of all, so that no others are reached has a chance below C(12, 4) · 0.7¹⁰⁰ = 2·10⁻¹³.
const NEAR_REACHED: usize = 5;
const NEAR_BUSIEST: usize = 50;

/// Clients of glibc, each a process of its own: bash asks `getaddrinfo`, connects, and says what answers.
const CONNECT: &str = r#"for _ in $(seq "$1"); do
    bash -c 'exec 3<>"/dev/tcp/$0/$1" && printf "GET / HTTP/1.1\r\nConnection: close\r\n\r\n" >&3 && cat <&3' "$2" "$3"
    echo
done"#;

/// How many clients each endpoint had.
type Tally = BTreeMap<IpAddr, usize>;

/// A place with CoreDNS twice; what runs there ends with this.
struct Clients {
    bed: Bed,
    _agents: [Process; 2],
    _coredns: Process,
}

// === impl Clients ===

impl Clients {
    async fn new(bed: Bed, settings: &[&str]) -> Result<Self> {
        let agents = [bed.agent(AGENTS[0], settings).await?, bed.agent(AGENTS[1], settings).await?];
        let [documented, uncached, ..] = coredns::stanzas(false)?;
        let bind = |stanza: &str, address| stanza.replace("    errors\n", &format!("    errors\n    bind {address}\n"));
        let corefile = bed.write("Corefile", &(bind(&documented, RESOLVER) + &bind(&uncached, UNCACHED)))?;
        let coredns = bed.start("coredns", ["-conf".as_ref(), corefile.as_os_str()]).await?;
        Ok(Self { bed, _agents: agents, _coredns: coredns })
    }

    /// Has something listen on these addresses, in a network that clients reach from their address `from`.
    fn listen(&self, network: &str, from: Ipv4Addr, addresses: &[String]) -> Result<Vec<Backend>> {
        let route = format!("route add local {network} dev lo src {from}");
        self.bed.place().run(Path::new("ip"), route.split(' '))?.done()?;
        addresses.iter().map(|address| self.bed.place().serve((address.parse::<IpAddr>()?, PORT).into())).collect()
    }

    /// The two services with twelve endpoints.
    async fn twelve(&self) -> Result<(BTreeSet<IpAddr>, BTreeSet<IpAddr>, Vec<Backend>)> {
        let mut backends = Vec::new();
        let mut services = Vec::new();
        for (name, network, from) in [(AWAY, "10.1.2", RESOLVER), (AMONG, "10.1.3", IN_COMMON)] {
            let addresses: Vec<String> = (2..2 + ENDPOINTS).map(|last| format!("{network}.{last}")).collect();
            backends.extend(self.listen(&format!("{network}.0/24"), from, &addresses)?);
            let service = service(name.split('.').next().unwrap(), "", &addresses);
            self.bed.write(&format!("east/{name}.yaml"), &service)?;
            let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
            self.among(name, &addresses).await?;
            services.push(addresses);
        }
        let [away, among] = <[BTreeSet<IpAddr>; 2]>::try_from(services).unwrap();
        Ok((away, among, backends))
    }

    /// Waits until both agents and both caches answer addresses of these only.
    async fn among(&self, name: &str, addresses: &BTreeSet<IpAddr>) -> Result {
        let place = self.bed.place();
        let agents = AGENTS.map(|address| self.bed.agent_dns(address));
        let coredns = [UNCACHED, RESOLVER].map(|address| place.resolver((address, 53).into()));
        for resolver in agents.into_iter().chain(coredns) {
            eventually(SOON, &format!("{name} has these addresses"), async || {
                let reply = resolver.udp(name, RecordType::A).await?;
                let seen = reply.addresses();
                ensure!(!seen.is_empty() && seen.is_subset(addresses), "{reply}");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Where clients of glibc go.
    fn glibc(&self, server: Ipv4Addr, name: &str) -> Result<Tally> {
        let (clients, name, port) = (CLIENTS.to_string(), format!("{name}."), PORT.to_string());
        let command = ["bash", "-c", CONNECT, "connect", &clients, &name, &port];
        let said = self.bed.with_resolv_conf(&format!("nameserver {server}\n"), &command)?;
        let tally = tally(said.lines().filter_map(|line| line.strip_suffix(":8080")?.parse().ok()));
        ensure!(tally.values().sum::<usize>() == CLIENTS, "{tally:?}: {said}");
        Ok(tally)
    }

    /// Where clients of hickory-resolver go.
    async fn hickory(&self, server: Ipv4Addr, name: &str) -> Result<Tally> {
        let mut reached = Vec::new();
        for _ in 0..CLIENTS {
            reached.push(self.hickory_goes((server, 53).into(), name).await?);
        }
        Ok(tally(reached))
    }

    /// Where one goes, which knows nothing of what others were told.
    async fn hickory_goes(&self, server: SocketAddr, name: &str) -> Result<IpAddr> {
        let place = self.bed.place();
        // Its sockets are made where its runtime is.
        let first = place.enter(|| {
            runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
                let resolver = names::resolver(&[server])?;
                resolver.lookup_ip(format!("{name}.")).await?.iter().next().context("no address")
            })
        })??;
        let answers = place.question(name, (first, PORT).into()).ask().await?;
        Ok(answers.strip_suffix(":8080").context("another port")?.parse()?)
    }
}

fn bed(name: &'static str) -> Result<Bed> {
    Bed::with(name, &[&AGENTS[..], &[UNCACHED, IN_COMMON]].concat())
}

fn tally(reached: impl IntoIterator<Item = IpAddr>) -> Tally {
    let mut tally = Tally::new();
    for address in reached {
        *tally.entry(address).or_default() += 1;
    }
    tally
}

/// Fails where clients went elsewhere, to too few, or too many of them to one.
fn spread(tally: &Tally, allowed: &BTreeSet<IpAddr>, reached: usize, busiest: usize) -> Result {
    ensure!(tally.keys().all(|address| allowed.contains(address)), "{tally:?}");
    ensure!(tally.len() >= reached && tally.values().all(|count| *count <= busiest), "{tally:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_go_to_all_endpoints_of_which_answers_have_some() -> Result {
    let clients = Clients::new(bed("some")?, &[SOME]).await?;
    let (away, among, _backends) = clients.twelve().await?;
    spread(&clients.glibc(UNCACHED, AWAY)?, &away, REACHED, BUSIEST)?;
    spread(&clients.hickory(UNCACHED, AWAY).await?, &away, REACHED, BUSIEST)?;
    spread(&clients.hickory(UNCACHED, AMONG).await?, &among, REACHED, BUSIEST)?;
    spread(&clients.glibc(UNCACHED, AMONG)?, &among, NEAR_REACHED, NEAR_BUSIEST)?;

    // Who asks within the second in which CoreDNS has an answer goes where others go, and elsewhere afterwards.
    spread(&clients.glibc(RESOLVER, AWAY)?, &away, 1, CLIENTS)?;
    spread(&clients.hickory(RESOLVER, AWAY).await?, &away, 1, CLIENTS)?;
    let mut reached = BTreeSet::new();
    eventually(SOON, "clients go elsewhere later", async || {
        reached.insert(clients.hickory_goes((RESOLVER, 53).into(), AWAY).await?);
        ensure!(reached.len() >= 5 && reached.is_subset(&away), "{reached:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_go_to_all_endpoints_of_which_answers_have_all() -> Result {
    let clients = Clients::new(bed("all")?, &[]).await?;
    let (away, among, _backends) = clients.twelve().await?;
    // .2 and .3 have the same prefix in common with .1, and one of two is missed with a chance of 2 · (1/2)¹⁰⁰.
    let nearest = among.iter().copied().take(2).collect();
    for server in [UNCACHED, RESOLVER] {
        spread(&clients.glibc(server, AWAY)?, &away, REACHED, BUSIEST)?;
        spread(&clients.hickory(server, AWAY).await?, &away, REACHED, BUSIEST)?;
        spread(&clients.hickory(server, AMONG).await?, &among, REACHED, BUSIEST)?;
        spread(&clients.glibc(server, AMONG)?, &nearest, 2, CLIENTS)?;
    }
    // So does an agent for whoever asks it without CoreDNS.
    let mut reached = Vec::new();
    for _ in 0..CLIENTS {
        reached.push(clients.hickory_goes((AGENTS[0], 5353).into(), AWAY).await?);
    }
    spread(&tally(reached), &away, REACHED, BUSIEST)
}

/// Three clusters, two of them in one region, with three endpoints each, of which some are ready; all of them listen.
#[tokio::test(flavor = "multi_thread")]
async fn clients_go_to_the_nearest_clusters_that_have_enough() -> Result {
    let bed = bed("levels")?;
    let places = [("east", "eu/a"), ("near", "eu/b"), ("far", "us/a")];
    let cluster = |(id, locality): (&str, &str)| {
        format!("{{id: {id}, network: n1, locality: {locality}, directory: {}}}", bed.path(id).display())
    };
    let clusters = format!("clusters=[{}]", places.map(cluster).join(", "));
    for (id, _) in places {
        fs::create_dir_all(bed.path(id))?;
    }
    let clients = Clients::new(bed, &[&clusters, "dns.maxAnswers=2"]).await?;
    // All addresses are others in each round, so an answer that has none of those before is of this one.
    let address = |round, number| format!("10.1.2.{}", 1 + 9 * round + number);
    let rounds = [
        ([3, 3, 3], &[0, 1, 2][..]),
        ([2, 3, 3], &[0, 1]),
        ([1, 3, 3], &[0, 3, 4, 5]),
        ([0, 3, 3], &[3, 4, 5]),
        ([0, 1, 3], &[3, 6, 7, 8]),
        ([0, 0, 3], &[6, 7, 8]),
        ([3, 0, 3], &[0, 1, 2]),
    ];
    let all: Vec<String> =
        (0..rounds.len()).flat_map(|round| (0..9).map(move |number| address(round, number))).collect();
    let _backends = clients.listen("10.1.2.0/24", RESOLVER, &all)?;
    for (round, (ready, expected)) in rounds.into_iter().enumerate() {
        for (cluster, ((id, _), ready)) in places.into_iter().zip(ready).enumerate() {
            let addresses: Vec<String> = (0..3).map(|number| address(round, 3 * cluster + number)).collect();
            let manifest = addresses[ready..].iter().fold(service("away", "", &addresses), |text, address| {
                text.replace(&format!("[{address}],"), &format!("[{address}], conditions: {{ready: false}},"))
            });
            clients.bed.write(&format!("{id}/away.yaml"), &manifest)?;
        }
        let expected = expected.iter().map(|number| address(round, *number).parse().unwrap()).collect::<BTreeSet<_>>();
        clients.among(AWAY, &expected).await?;
        // Of four at random one is missed with a chance below 4 · (3/4)¹⁰⁰ = 2·10⁻¹².
        for (server, reached) in [(UNCACHED, expected.len()), (RESOLVER, 1)] {
            spread(&clients.glibc(server, AWAY)?, &expected, reached, CLIENTS)?;
            spread(&clients.hickory(server, AWAY).await?, &expected, reached, CLIENTS)?;
        }
    }
    Ok(())
}
