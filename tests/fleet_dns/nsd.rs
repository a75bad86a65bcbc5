//! Ours beside NSD: a hundred thousand questions of all kinds, to which both answer alike. What is different is meant to
//! be, and stands here:
//!
//! - ANY is answered with one RRset (RFC 8482), and NSD gives all.
//! - A truncated reply is empty, where NSD puts in what fits.
//! - An extended error says why, and the OPT record has the size that we recommend.
//! - NSD adds addresses of targets only where there is room in the smallest message; we do where there is room.
//! - Opcodes are not asked with: NOTIFY and UPDATE are refused, what we do not know is NOTIMP, and NSD does not answer some of it.
//! - The DO bit of a query in an unknown version of EDNS is copied (RFC 3225), and NSD does not.
//! - Class CH is asked for other things, and of a class that nobody has NSD does not say the question again.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use dns::{Apex, Bound, Limits, Metrics, Name, Node, Responder, Srv, Zone, Zones};
use fastrand::Rng;
use harness::{Nsd, Parts, Result, eventually, require_sandbox};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{DNSClass, Record, RecordType};
use tokio_util::sync::CancellationToken;

/// How many questions, and how many of them are on their way at once: a socket holds them all.
const QUESTIONS: usize = 100_000;
const AT_ONCE: usize = 64;

/// Another run has others: the number is in the failure.
const SEED: u64 = 20;

/// So many differences are shown.
const SHOWN: usize = 3;

/// More than an answer on the loopback takes.
const PATIENCE: Duration = Duration::from_secs(5);

/// Services, each with an address or some, a port or two, and endpoints with names.
const SERVICES: u16 = 400;

/// Names as nobody gives them.
const ODD: u8 = 60;

/// Types of which there is something, and others.
const KINDS: [u16; 19] = [1, 28, 33, 16, 6, 2, 1, 28, 33, 5, 12, 15, 35, 43, 46, 48, 64, 65, 257];

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

/// A zone of all that there can be, and the names in it.
fn zone(random: &mut Rng) -> (Zone, Vec<Name>) {
    let apex = Apex {
        name: name("global."),
        primary: name("ns.global."),
        mailbox: name("hostmaster.global."),
        servers: vec![name("ns.global.")],
        ttl: 30,
        refresh: 3600,
        retry: 600,
        expire: 86_400,
        negative_ttl: 5,
    };
    let mut zone = Zone::new(apex).unwrap();
    let mut names = vec![name("global."), name("ns.global.")];
    zone.set(&names[1], Node { ttl: 5, a: vec![[127, 0, 0, 1].into()], ..Node::default() }).unwrap();
    for number in 0..SERVICES {
        let owner = format!("s{number}.n{}.global.", number % 20);
        let many = [1, 1, 2, 3, 20, 60][random.usize(..6)];
        let mut nodes = Vec::new();
        let address = |at: u16| [10, (number >> 8) as u8, number as u8, at as u8].into();
        let host = |at: u16| name(&format!("h{at}.east.{owner}"));
        let own = Node { ttl: 5, a: (0..many).map(address).collect(), ..Node::default() };
        let own = match number % 4 {
            0 => Node { aaaa: (0..many).map(|at| [0xfd00, 0, 0, 0, 0, 0, number, at].into()).collect(), ..own },
            1 => Node { a: vec![], aaaa: vec!["fd00::1".parse().unwrap()], ..own },
            _ => own,
        };
        nodes.push((name(&owner), own));
        let headless = number % 3 == 0;
        let target = |at| if headless { host(at) } else { name(&owner) };
        let srv =
            (0..if headless { many } else { 1 }).map(|at| Srv { priority: 0, weight: 1, port: 80, target: target(at) });
        nodes.push((name(&format!("_http._tcp.{owner}")), Node { ttl: 5, srv: srv.collect(), ..Node::default() }));
        if headless {
            nodes.extend((0..many).map(|at| (host(at), Node { ttl: 5, a: vec![address(at)], ..Node::default() })));
        }
        if number % 7 == 0 {
            let txt = vec![format!("revision={number}"), "x".repeat(usize::from(number % 250) + 1)];
            nodes.push((name(&format!("_info.{owner}")), Node { ttl: 0, txt, ..Node::default() }));
        }
        names.extend(nodes.iter().map(|(name, _)| name.clone()));
        let (_, errors) = zone.set_all(&name(&owner), nodes).unwrap();
        assert_eq!(errors, []);
    }
    for number in 0..ODD {
        let owner = odd_name(random, number);
        let a = vec![[10, 255, 0, number].into()];
        zone.set(&owner, Node { ttl: 5, a, ..Node::default() }).unwrap();
        names.push(owner);
    }
    zone.set_serial(7);
    zone.set_complete(true);
    (zone, names)
}

/// A name of any octets, dots and spaces and upper case among them, and as long as a name can be.
fn odd_name(random: &mut Rng, number: u8) -> Name {
    let mut label = |len| (0..len).map(|_| random.u8(..)).collect::<Vec<_>>();
    // With a length before each label, and the root's behind: 255 octets with `global.`, or fewer.
    let labels = match number % 3 {
        0 => vec![label(63), label(63), label(63), label(54)],
        1 => vec![label(1), label(63)],
        _ => vec![vec![b'.', b'A' + number % 26, b' ', b'\\'], vec![b'*', b'*'], label(8)],
    };
    Name::from_labels(labels.into_iter().chain([b"global".to_vec()])).unwrap()
}

/// The zone as a file: texts in quotes, and of odd names every octet as a number.
fn zone_file(zone: &Zone, names: &[Name]) -> String {
    let odd: BTreeMap<String, &Name> = names.iter().map(|name| (name.to_lowercase().to_string(), name)).collect();
    let line = |line: &str| match (line.split_once(" TXT "), line.split_once(" 5 IN A 10.255.")) {
        (Some((head, text)), _) => format!("{head} TXT \"{text}\"\n"),
        (_, Some((owner, last))) => {
            let octets = odd[owner].iter().map(|label| label.iter().map(|octet| format!("\\{octet:03}")).collect());
            format!("{}. 5 IN A 10.255.{last}\n", octets.collect::<Vec<String>>().join("."))
        }
        (None, None) => format!("{line}\n"),
    };
    zone.to_string().lines().map(line).collect()
}

/// A name that is there, is not, or is somewhere around, in any case.
fn some_name(random: &mut Rng, names: &[Name]) -> Name {
    let known = &names[random.usize(..names.len())];
    let name = match random.u8(..10) {
        0..5 => known.clone(),
        5 => known.prepend_label("x").unwrap_or_else(|_| known.clone()),
        6 => known.base_name(),
        7 => known.base_name().base_name(),
        8 => name(&format!("s{}.n{}.global.", random.u16(..2 * SERVICES), random.u8(..30))),
        _ => name(["example.com.", ".", "xglobal.", "com.global.example.", "*.n1.global."][random.usize(..5)]),
    };
    let mut cased = |octet: &u8| if random.bool() { octet.to_ascii_uppercase() } else { octet.to_ascii_lowercase() };
    let labels = name.iter().map(|label| label.iter().map(&mut cased).collect::<Vec<_>>());
    Name::from_labels(labels.collect::<Vec<_>>()).unwrap()
}

fn some_query(random: &mut Rng, id: u16, names: &[Name]) -> Message {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = random.bool();
    message.metadata.checking_disabled = random.bool();
    message.metadata.authentic_data = random.bool();
    let mut query = Query::query(some_name(random, names), KINDS[random.usize(..KINDS.len())].into());
    if random.u8(..100) == 0 {
        query.set_query_class(DNSClass::HS);
    }
    message.add_query(query);
    if random.u8(..3) > 0 {
        let mut edns = Edns::new();
        edns.set_max_payload([0, 100, 512, 513, 1232, 4096, u16::MAX][random.usize(..7)]);
        edns.set_dnssec_ok(random.bool());
        edns.set_version(if random.u8(..50) == 0 { random.u8(1..) } else { 0 });
        for (code, data) in [(8, &[0, 1, 24, 0, 192, 0, 2][..]), (12, &[0; 20]), (65_001, b"what"), (10, &[7; 8])] {
            if random.u8(..8) == 0 {
                edns.options_mut().insert(EdnsOption::Unknown(code, data.to_vec()));
            }
        }
        message.set_edns(edns);
    }
    message
}

/// What a reply comes to, without what is meant to be different.
fn shown(reply: &Message, with_question: bool) -> String {
    let meta = &reply.metadata;
    let set = |records: &[Record]| {
        let mut all: Vec<String> = records.iter().map(|record| record.to_string().to_ascii_lowercase()).collect();
        all.sort_unstable();
        all.join("\n  ")
    };
    let sections = match meta.truncation {
        true => String::new(),
        false => format!("{}\n / {}", set(&reply.answers), set(&reply.authorities)),
    };
    let is_bad_version = u16::from(meta.response_code) == 16;
    let edns = reply.edns.as_ref().map(|edns| (edns.version(), edns.flags().dnssec_ok || is_bad_version));
    // With EDNS the code has more bits in the OPT record.
    let rcode = u16::from(meta.response_code);
    let question: Vec<String> = reply.queries.iter().filter(|_| with_question).map(ToString::to_string).collect();
    format!(
        "rcode {rcode} aa {} tc {} rd {} ra {} {edns:?} {question:?}\n  {sections}",
        meta.authoritative, meta.truncation, meta.recursion_desired, meta.recursion_available
    )
}

/// Asks all at once, and waits for the answers.
fn ask(server: SocketAddr, queries: &[Message]) -> Result<BTreeMap<u16, Message>> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    for query in queries {
        socket.send(&query.to_vec()?)?;
    }
    let mut replies = BTreeMap::new();
    let mut octets = [0; 65_535];
    while replies.len() < queries.len() {
        let Ok(len) = socket.recv(&mut octets) else {
            let left = queries.iter().find(|query| !replies.contains_key(&query.metadata.id)).context("one")?;
            bail!("{server} does not answer {left}");
        };
        let reply = Message::from_vec(&octets[..len])?;
        replies.insert(reply.metadata.id, reply);
    }
    Ok(replies)
}

/// A port that is free over UDP.
fn free_port() -> Result<u16> {
    Ok(UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_answer_alike() -> Result {
    require_sandbox()?;
    let mut random = Rng::with_seed(SEED);
    let (zone, names) = zone(&mut random);
    let directory = tempfile::TempDir::new()?;
    let file = zone_file(&zone, &names);
    let nsd = Nsd::start(&Parts::from_environment()?, directory.path(), free_port()?, 1, "global", &file)?;
    let probe = || {
        let mut message = Message::new(1, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(name("global."), RecordType::SOA));
        message
    };
    eventually(PATIENCE, &format!("nsd answers: see {}", nsd.log().display()), async || {
        let replies = tokio::task::block_in_place(|| ask(nsd.address(), &[probe()]))?;
        ensure!(replies.values().all(|reply| reply.metadata.response_code == ResponseCode::NoError), "{replies:?}");
        Ok(())
    })
    .await?;

    let bound = Bound::bind(&["127.0.0.1:0".parse()?])?;
    let ours = bound.local_addr().context("an address")?;
    let zones = Arc::new(arc_swap::ArcSwap::from_pointee(Zones::new([Arc::new(zone)])));
    let shutdown = CancellationToken::new();
    let responder = Responder {
        zones,
        policy: Arc::default(),
        elsewhere: None,
        throw: || 0,
        metrics: Metrics::default(),
        logs: false,
    };
    let serving = tokio::spawn(bound.serve(responder, Limits::default(), shutdown.clone()));

    let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
    let mut differences = Vec::new();
    for round in 0..QUESTIONS.div_ceil(AT_ONCE) {
        let queries: Vec<Message> = (0..AT_ONCE).map(|id| some_query(&mut random, id as u16, &names)).collect();
        let (ours, theirs) = tokio::task::block_in_place(|| {
            Ok::<_, anyhow::Error>((ask(ours, &queries)?, ask(nsd.address(), &queries)?))
        })?;
        for query in &queries {
            let (ours, theirs) = (&ours[&query.metadata.id], &theirs[&query.metadata.id]);
            let with_question = !theirs.queries.is_empty();
            if shown(ours, with_question) != shown(theirs, with_question) {
                differences.push(format!("round {round}: {query}\nours: {ours}\nNSD's: {theirs}"));
            }
            *counts.entry(ours.metadata.response_code.into()).or_default() += 1;
        }
    }
    let some = differences.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("\n");
    ensure!(differences.is_empty(), "seed {SEED}: {} answers differ, so these:\n{some}", differences.len());
    // Not all of one kind.
    for rcode in [ResponseCode::NoError, ResponseCode::NXDomain, ResponseCode::Refused, ResponseCode::BADSIG] {
        ensure!(counts.get(&rcode.into()).is_some_and(|count| *count > 500), "{counts:?}");
    }
    shutdown.cancel();
    serving.await??;
    Ok(())
}
