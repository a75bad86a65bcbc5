//! Proves that host names of gateways become addresses, that these follow what DNS says, and that trouble takes none away.

use super::*;
use model::locality::Network;
use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio_util::task::AbortOnDropHandle;

const NAME: &str = "lb.example";

fn gateway(text: &str) -> Gateway {
    let address = Address::parse_ip(text).or_else(|| Address::parse_host(text)).expect("an address");
    Gateway { network: Network::new("n"), address, port: 15443 }
}

fn seen(gateways: &[&str]) -> Observed {
    let mut seen = Observed { synced: true, ..Observed::default() };
    seen.meta.gateways = gateways.iter().map(|text| gateway(text)).collect();
    seen
}

/// What is handed on: the gateways, and what is wrong.
fn shown(observed: &Observed) -> String {
    let mut all: Vec<String> = observed.meta.gateways.iter().map(|gateway| gateway.address.to_string()).collect();
    all.extend(observed.conditions.iter().map(|(reason, why)| format!("({reason}: {why})")));
    all.join(" ")
}

/// Addresses for so many seconds, `absent`, or a failure.
fn answer(text: &str) -> Answer {
    match text.split_once('|') {
        Some((addresses, ttl)) => {
            let addresses = addresses.split_whitespace().map(|text| text.parse().expect("an address")).collect();
            Answer::Addresses(addresses, Duration::from_secs(ttl.parse().expect("seconds")))
        }
        None if text == "absent" => Answer::Absent,
        None => Answer::Failed(text.to_owned()),
    }
}

/// The stage at work, over answers that are given one after the other, the last one for ever.
struct Bench {
    source: watch::Sender<Observed>,
    observed: watch::Receiver<Observed>,
    known: watch::Sender<Vec<Gateway>>,
    asked: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl Bench {
    fn new(answers: &[&str], before: &[&str]) -> Self {
        let (source, seen) = watch::channel(Observed::default());
        let (handed, observed) = watch::channel(Observed::default());
        let asked = Arc::new(AtomicUsize::new(0));
        let answers = Mutex::new(answers.iter().map(|text| answer(text)).collect::<VecDeque<_>>());
        let count = asked.clone();
        let ask = move |host: Arc<str>| {
            assert_eq!(&*host, NAME);
            count.fetch_add(1, Ordering::Relaxed);
            let mut answers = answers.lock().expect("nobody panics");
            let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
            std::future::ready(answer.expect("an answer"))
        };
        let known = watch::Sender::new(before.iter().map(|text| gateway(text)).collect::<Vec<_>>());
        let stage = run(ask, known.subscribe(), Clone::clone, seen, handed);
        #[expect(clippy::disallowed_methods, reason = "a test's own runtime ends with it")]
        let task = AbortOnDropHandle::new(tokio::spawn(stage));
        Self { source, observed, known, asked, _task: task }
    }

    fn see(&self, gateways: &[&str]) {
        self.source.send_replace(seen(gateways));
    }

    /// After so many seconds, that much was asked and this is shown.
    async fn check(&self, after: u64, asked: usize, expected: &str) {
        // A moment later than what is due then.
        tokio::time::sleep(Duration::from_millis(after * 1000 + 1)).await;
        assert_eq!((shown(&self.observed.borrow()).as_str(), self.asked.load(Ordering::Relaxed)), (expected, asked));
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_is_asked_again_when_its_answer_is_too_old() {
    let bench = Bench::new(&["192.0.2.2 192.0.2.1|60", "192.0.2.3|0", "192.0.2.4|9999", "192.0.2.5|60"], &[]);
    bench.see(&[NAME, "198.51.100.1"]);
    bench.check(0, 1, "192.0.2.1 192.0.2.2 198.51.100.1").await;
    bench.check(59, 1, "192.0.2.1 192.0.2.2 198.51.100.1").await;
    bench.check(1, 2, "192.0.2.3 198.51.100.1").await;
    // Never more often than every five seconds, nor less often than every five minutes.
    bench.check(4, 2, "192.0.2.3 198.51.100.1").await;
    bench.check(1, 3, "192.0.2.4 198.51.100.1").await;
    bench.check(298, 3, "192.0.2.4 198.51.100.1").await;
    bench.check(2, 4, "192.0.2.5 198.51.100.1").await;
    // Nobody asks for what is no gateway any more.
    bench.see(&["198.51.100.1"]);
    bench.check(600, 4, "198.51.100.1").await;
}

#[tokio::test(start_paused = true)]
async fn trouble_takes_no_address_away() {
    let bench = Bench::new(&["192.0.2.1|5", "timed out", "|60", "127.0.0.1|60", "192.0.2.2 0.0.0.0|60"], &[]);
    bench.see(&[NAME]);
    bench.check(0, 1, "192.0.2.1").await;
    let kept = |why: &str| format!("192.0.2.1 (GatewayUnresolved: lb.example: {why}; the last addresses are used)");
    bench.check(5, 2, &kept("timed out")).await;
    bench.check(5, 3, &kept("it has no address")).await;
    // It is asked less and less often.
    bench.check(5, 3, &kept("it has no address")).await;
    bench.check(5, 4, &kept("no endpoint can have the address 127.0.0.1")).await;
    bench.check(20, 5, "192.0.2.2 (GatewayUnresolved: lb.example: no endpoint can have the address 0.0.0.0)").await;
}

#[tokio::test(start_paused = true)]
async fn a_name_that_does_not_exist_leads_nowhere() {
    let bench = Bench::new(&["timed out", "192.0.2.1|5", "absent", "192.0.2.2|5"], &[]);
    bench.see(&[NAME]);
    bench.check(0, 1, "lb.example (GatewayUnresolved: lb.example: timed out)").await;
    bench.check(5, 2, "192.0.2.1").await;
    bench.check(5, 3, "lb.example (GatewayUnresolved: lb.example: there is no such name)").await;
    bench.check(5, 4, "192.0.2.2").await;
}

#[tokio::test(start_paused = true)]
async fn what_was_known_before_counts_until_there_is_an_answer() {
    let bench = Bench::new(&["timed out", "timed out", "192.0.2.2|60"], &["192.0.2.1", "198.51.100.1", NAME]);
    // What has an address of its own is not what the name meant.
    bench.see(&[NAME, "198.51.100.1"]);
    let kept = "192.0.2.1 198.51.100.1 (GatewayUnresolved: lb.example: timed out; the last addresses are used)";
    bench.check(0, 1, kept).await;
    bench.check(5, 2, kept).await;
    bench.check(10, 3, "192.0.2.2 198.51.100.1").await;
}

#[tokio::test(start_paused = true)]
async fn what_was_known_before_may_be_told_late() {
    let bench = Bench::new(&["timed out"], &[]);
    bench.see(&[NAME]);
    bench.check(0, 1, "lb.example (GatewayUnresolved: lb.example: timed out)").await;
    bench.known.send_replace(vec![gateway("192.0.2.1")]);
    let kept = "192.0.2.1 (GatewayUnresolved: lb.example: timed out; the last addresses are used)";
    bench.check(0, 1, kept).await;
    // By then it is our own word.
    bench.known.send_replace(vec![gateway("192.0.2.9")]);
    bench.check(1, 1, kept).await;
}

#[tokio::test(start_paused = true)]
async fn who_has_not_seen_everything_is_in_no_condition() {
    let bench = Bench::new(&["timed out"], &[]);
    bench.source.send_replace(Observed { synced: false, ..seen(&[NAME]) });
    bench.check(0, 1, "lb.example").await;
    bench.see(&[NAME]);
    bench.check(0, 1, "lb.example (GatewayUnresolved: lb.example: timed out)").await;
}
