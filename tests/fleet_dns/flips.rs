//! Fifty thousand names that flip while fifty thousand questions a second are asked for them: no stream has an answer that
//! is wrong, of two times at once, or older than one that it had, and to none does the serial go back.
//!
//! The address of a pod is its number and how often it has flipped, and so is the port. Pods of one service flip together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use harness::{Place, Process, RecordType, Result, SOON, eventually};

use crate::bed::{AGENTS, Bed};
use crate::stream::{Heard, Question, Stream};

/// Headless services, and pods of each: all names.
const SERVICES: usize = 1000;
const PODS: usize = 50;

/// How often something flips, and into how many parts names are divided that do so in turn: for all of them at once an agent
/// takes two seconds under this load, and one that was built without optimisation twenty.
const FLIPS: usize = 10;
const PARTS: usize = 10;

/// Questions a second of all streams together, as far as the machine has time for them: a few more than fifty thousand, for
/// what is not asked in time is not asked at all.
const RATE: usize = 56_000;
const OVER_UDP: usize = 8;
const OVER_TCP: usize = 2;

/// Questions that a stream asks at once: those of all streams fit into the buffer of one socket.
const AT_ONCE: usize = 16;

/// What proves something, of all streams: some hundreds in each flip.
const ANSWERS: usize = 10_000;

/// The port of pods that have not flipped.
const PORT: u16 = 1000;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
enum Subject {
    /// The address of a pod.
    Pod(usize),
    /// Those of all pods of a service.
    Service(usize),
    /// The same with their ports, over TCP only: it is too long for a datagram.
    Ports(usize),
    Soa,
}

/// What one stream has seen, by which it judges the next answer.
struct Witness {
    flips: Vec<u8>,
    serial: Option<u32>,
}

/// The streams; they end with this.
struct Load {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
    skipped: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Result>>,
}

// === impl Subject ===

impl Subject {
    fn question(self) -> Question {
        match self {
            Self::Pod(pod) => Question::new(&format!("p{pod}.east.s{}.shop.global", pod / PODS), RecordType::A),
            Self::Service(service) => Question::new(&format!("s{service}.shop.global"), RecordType::A),
            Self::Ports(service) => Question::new(&format!("_port._tcp.s{service}.shop.global"), RecordType::SRV),
            Self::Soa => Question::new("global", RecordType::SOA),
        }
    }

    /// One of those that a stream asks for.
    fn any(random: &mut fastrand::Rng, over_tcp: bool) -> Self {
        match random.u8(..20) {
            0 | 1 => Self::Soa,
            2 => Self::Service(random.usize(..SERVICES)),
            3 if over_tcp => Self::Ports(random.usize(..SERVICES)),
            _ => Self::Pod(random.usize(..SERVICES * PODS)),
        }
    }
}

// === impl Witness ===

impl Witness {
    fn new() -> Self {
        Self { flips: vec![0; SERVICES], serial: None }
    }

    /// Judges an answer; how often what it is of has flipped.
    fn hear(&mut self, subject: Subject, heard: &mut Heard<'_>) -> Result<u8> {
        self.judge(subject, heard).with_context(|| format!("{subject:?}"))
    }

    fn judge(&mut self, subject: Subject, heard: &mut Heard<'_>) -> Result<u8> {
        let records = heard.records()?;
        let addresses: Vec<(u8, usize)> = records
            .iter()
            .filter_map(|record| heard.address(record))
            .map(|address| (address[1], pod(address)))
            .collect();
        let flips = addresses.first().map_or(0, |(flips, _)| *flips);
        ensure!(addresses.iter().all(|address| address.0 == flips), "of two times: {addresses:?}");
        let mut pods: Vec<usize> = addresses.iter().map(|address| address.1).collect();
        pods.sort_unstable();
        let service = match subject {
            Subject::Soa => {
                let [record] = &records[..] else { bail!("{} records", records.len()) };
                let serial = heard.serial(record).context("no SOA")?;
                // RFC 1982: what is later is less than half of all numbers ahead.
                let back = self.serial.filter(|before| serial.wrapping_sub(*before) >= 1 << 31);
                ensure!(back.is_none(), "{serial} after {back:?}");
                self.serial = Some(serial);
                return Ok(0);
            }
            Subject::Pod(pod) => {
                ensure!(pods == [pod] && records.len() == 1, "{addresses:?}");
                pod / PODS
            }
            Subject::Service(service) => {
                ensure!(pods.iter().copied().eq(service * PODS..(service + 1) * PODS), "{addresses:?}");
                ensure!(records.len() == PODS, "{} records", records.len());
                service
            }
            Subject::Ports(service) => {
                ensure!(pods.iter().copied().eq(service * PODS..(service + 1) * PODS), "{addresses:?}");
                ensure!(records.len() == 2 * PODS, "{} records", records.len());
                for record in &records {
                    let (label, pod) = match (heard.service(record), heard.address(record)) {
                        (Some((port, target)), _) => {
                            ensure!(port == PORT + u16::from(flips), "port {port} beside {addresses:?}");
                            (target, None)
                        }
                        (_, Some(address)) => (heard.owner(record), Some(pod(address))),
                        _ => bail!("another record"),
                    };
                    let number: usize = std::str::from_utf8(label)?.trim_start_matches('p').parse()?;
                    ensure!(number / PODS == service && pod.is_none_or(|pod| pod == number), "p{number} is {pod:?}");
                }
                service
            }
        };
        ensure!(flips >= self.flips[service], "{flips} after {}", self.flips[service]);
        self.flips[service] = flips;
        Ok(flips)
    }
}

/// The address of a pod, and back.
fn address(pod: usize, flips: usize) -> String {
    format!("10.{flips}.{}.{}", pod >> 8, pod & 255)
}

const fn pod(address: [u8; 4]) -> usize {
    (address[2] as usize) << 8 | address[3] as usize
}

/// Writes a service that has flipped so often.
fn write(bed: &Bed, service: usize, flips: usize) -> Result {
    let endpoint = |pod| format!("- {{addresses: [{}], hostname: p{pod}}}\n", address(pod, flips));
    let endpoints: String = (service * PODS..(service + 1) * PODS).map(endpoint).collect();
    let port = usize::from(PORT) + flips;
    let manifest = format!(
        "\
apiVersion: v1
kind: Service
metadata: {{name: s{service}, namespace: shop}}
spec: {{clusterIP: None, ports: [{{name: port, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: s{service}-1, namespace: shop, labels: {{kubernetes.io/service-name: s{service}}}}}
addressType: IPv4
ports: [{{name: port, port: {port}}}]
endpoints:
{endpoints}"
    );
    bed.write(&format!("east/s{service}.yaml"), &manifest)?;
    Ok(())
}

// === impl Load ===

impl Load {
    fn start(place: Place) -> Result<Self> {
        let mut load =
            Self { stop: Arc::default(), answers: Arc::default(), skipped: Arc::default(), threads: Vec::new() };
        let server = (AGENTS[0], 5353).into();
        for number in 0..OVER_UDP + OVER_TCP {
            let over_tcp = number >= OVER_UDP;
            let stream = if over_tcp { Stream::tcp(place, server) } else { Stream::udp(place, server) }?;
            let (stop, answers, skipped) = (load.stop.clone(), load.answers.clone(), load.skipped.clone());
            let random = fastrand::Rng::with_seed(number as u64);
            load.threads.push(thread::spawn(move || put(stream, random, over_tcp, &stop, &answers, &skipped)));
        }
        Ok(load)
    }

    /// Ends it, and says how many were right; all were, or this is an error.
    fn stop(mut self) -> Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(self.answers.load(Ordering::Relaxed))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Asks some questions at a time, at its share of the rate; what there is no time for is skipped.
fn put(
    mut stream: Stream,
    mut random: fastrand::Rng,
    over_tcp: bool,
    stop: &AtomicBool,
    answers: &AtomicUsize,
    skipped: &AtomicUsize,
) -> Result {
    let period = Duration::from_secs(1) * u32::try_from(AT_ONCE * (OVER_UDP + OVER_TCP))? / u32::try_from(RATE)?;
    let mut due = Instant::now();
    let mut witness = Witness::new();
    while !stop.load(Ordering::Relaxed) {
        let subjects: [Subject; AT_ONCE] = std::array::from_fn(|_| Subject::any(&mut random, over_tcp));
        let questions = subjects.iter().map(|subject| subject.question()).collect::<Vec<_>>();
        stream.ask(&questions.iter().collect::<Vec<_>>(), |number, heard| {
            witness.hear(subjects[number], heard).map(drop)
        })?;
        answers.fetch_add(AT_ONCE, Ordering::Relaxed);
        due += period;
        while due + period < Instant::now() {
            due += period;
            skipped.fetch_add(AT_ONCE, Ordering::Relaxed);
        }
        // The pace of a load, and no wait for anything.
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// Waits until these services have flipped so often.
async fn have_flipped(stream: &mut Stream, services: &[usize], flips: usize, agent: &Process) -> Result {
    let mut rest = services;
    let look = eventually(SOON * 4, "all have flipped", async || {
        while let Some((service, others)) = rest.split_first() {
            let subject = Subject::Service(*service);
            let mut seen = 0;
            stream.ask(&[&subject.question()], |_, heard| {
                seen = Witness::new().hear(subject, heard)?;
                Ok(())
            })?;
            ensure!(usize::from(seen) == flips, "{subject:?} has flipped {seen} times of {flips}");
            rest = others;
        }
        Ok(())
    });
    look.await.with_context(|| agent.logs())
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "how fast it was is for who wants to know, and for no assertion")]
async fn names_flip_under_load_and_no_answer_is_wrong() -> Result {
    let bed = Bed::new("flips")?;
    (0..SERVICES).try_for_each(|service| write(&bed, service, 0))?;
    let agent = bed.launch(AGENTS[0], 5353, &[])?;
    bed.answers(bed.agent_dns(AGENTS[0]), &agent).await?;
    let mut stream = Stream::tcp(bed.place(), (AGENTS[0], 5353).into())?;
    let all: Vec<usize> = (0..SERVICES).collect();
    have_flipped(&mut stream, &all, 0, &agent).await?;

    let load = Load::start(bed.place())?;
    let begin = Instant::now();
    let mut took = Vec::new();
    for flip in 0..FLIPS {
        let flipping: Vec<usize> = (flip % PARTS..SERVICES).step_by(PARTS).collect();
        let flips = flip / PARTS + 1;
        let begin = Instant::now();
        flipping.iter().try_for_each(|service| write(&bed, *service, flips))?;
        have_flipped(&mut stream, &flipping, flips, &agent).await?;
        took.push(begin.elapsed().as_millis());
    }
    let elapsed = begin.elapsed();
    let skipped = load.skipped.load(Ordering::Relaxed);
    let answers = load.stop()?;
    println!(
        "{answers} answers in {elapsed:.1?}, {:.0} a second of {RATE} ({skipped} not asked); {FLIPS} flips of {} names took {took:?} ms",
        answers as f64 / elapsed.as_secs_f64(),
        SERVICES * PODS / PARTS
    );
    ensure!(answers >= ANSWERS, "{answers} are too few to prove anything");

    // And all of them, one by one.
    let mut witness = Witness::new();
    for pods in (0..SERVICES * PODS).collect::<Vec<_>>().chunks(100) {
        let questions = pods.iter().map(|pod| Subject::Pod(*pod).question()).collect::<Vec<_>>();
        stream.ask(&questions.iter().collect::<Vec<_>>(), |number, heard| {
            let flips = witness.hear(Subject::Pod(pods[number]), heard)?;
            ensure!(usize::from(flips) == FLIPS / PARTS, "p{} has flipped {flips} times", pods[number]);
            Ok(())
        })?;
    }
    Ok(())
}
