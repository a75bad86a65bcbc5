//! Load on one server by dnsperf, what it costs the server, and how long a client beside it waits meanwhile.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use harness::{Parts, Result};
use tokio::process::Command;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::server::Server;
use super::zone;
use crate::ask::Asker;
use crate::cpu;
use crate::report::Durations;

/// Sixteen clients that together wait for up to a hundred answers: enough to keep a server busy, and less than its
/// socket holds, so that nothing is lost.
pub(super) const ARGUMENTS: [&str; 6] = ["-c", "16", "-T", "1", "-q", "100"];

/// What dnsperf may take beyond the time it was given.
const SLACK: Duration = Duration::from_secs(15);

/// From an answer to the next question of the client that is timed.
const PAUSE: Duration = Duration::from_millis(1);

/// The generator, and its questions.
pub(super) struct Load {
    program: PathBuf,
    queries: PathBuf,
}

/// One server under load.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Measured {
    pub(super) lost: u64,
    answered: u64,
    cpu: Duration,
    seconds: u32,
    /// What 99 of 100 answers over UDP took at most, in milliseconds.
    pub(super) p99: f64,
}

// === impl Load ===

impl Load {
    pub(super) fn new(parts: &Parts, queries: &Path) -> Result<Self> {
        Ok(Self { program: parts.bin("dnsperf")?, queries: queries.to_owned() })
    }

    /// Asks over `transport`, so many questions a second or as fast as the server answers.
    pub(super) async fn put_on(
        &self,
        server: &Server,
        transport: &str,
        rate: Option<u32>,
        seconds: u32,
    ) -> Result<Measured> {
        let (address, port) = (server.address.ip(), server.address.port());
        let mut command = Command::new(&self.program);
        command
            .args(ARGUMENTS)
            .args(["-m", transport])
            .args(rate.into_iter().flat_map(|rate| ["-Q".to_owned(), rate.to_string()]))
            .args(["-s", &address.to_string(), "-p", &port.to_string(), "-l", &seconds.to_string()])
            .arg("-d")
            .arg(&self.queries)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let (asker, ended) = (Asker::new(server.address, &zone::name(0))?, Arc::new(AtomicBool::new(false)));
        let has_ended = ended.clone();
        let timed = spawn_blocking(move || waits(&asker, &has_ended));
        let before = cpu::of_tree(server.pid())?;
        let limit = Duration::from_secs(seconds.into()) + SLACK;
        let output = timeout(limit, command.output()).await.context("dnsperf does not end")??;
        let cpu = cpu::of_tree(server.pid())? - before;
        ended.store(true, Ordering::Relaxed);
        let p99 = timed.await?.percentile(99);

        let said = String::from_utf8_lossy(&output.stdout);
        let what = || format!("dnsperf on {}: {said}{}", server.name, String::from_utf8_lossy(&output.stderr));
        let number = |key| number_after(&said, key).with_context(what);
        let answered = number("Queries completed:")?;
        let good = number("NOERROR")? + number("NXDOMAIN")?;
        ensure!(answered > 0 && answered == good, "not every answer is good: {}", what());
        Ok(Measured { lost: number("Queries lost:")?, answered, cpu, seconds, p99 })
    }
}

/// How long one question at a time is answered, until it ends. A lost one took as long as it was waited for.
fn waits(asker: &Asker, ended: &AtomicBool) -> Durations {
    let mut waited = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        let asked = Instant::now();
        _ = asker.has(zone::v4(0));
        waited.push(asked.elapsed());
        std::thread::sleep(PAUSE);
    }
    waited.into_iter().collect()
}

// === impl Measured ===

impl Measured {
    /// Microseconds of CPU time a query.
    #[expect(clippy::cast_precision_loss, reason = "counts of seconds of load are far below 2^52")]
    pub(super) fn micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.answered as f64
    }

    /// Queries a second.
    #[expect(clippy::cast_precision_loss, reason = "counts of seconds of load are far below 2^52")]
    pub(super) fn rate(&self) -> f64 {
        self.answered as f64 / f64::from(self.seconds)
    }
}

/// The number that follows `key` in dnsperf's statistics.
fn number_after(statistics: &str, key: &str) -> Option<u64> {
    let (_, rest) = statistics.split_once(key)?;
    rest.split_whitespace().next()?.parse().ok()
}
