//! CPU time and memory of a process and of everything it has forked, from `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::Context;
use harness::Result;

/// The kernel shows times in hundredths of a second on every architecture that we run on (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// One process as `/proc/PID/stat` shows it.
struct Stat {
    parent: u32,
    ticks: u32,
}

/// User and system time of a process and its living descendants, all threads included.
pub(crate) fn of_tree(root: u32) -> Result<Duration> {
    let processes = processes()?;
    Ok(TICK * tree(root, &processes).map(|(_, stat)| stat.ticks).sum::<u32>())
}

/// All there are.
fn processes() -> Result<BTreeMap<u32, Stat>> {
    let mut processes = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process may end between the two looks.
        if let Ok(stat) = fs::read_to_string(entry.path().join("stat")) {
            processes.insert(pid, Stat::parse(&stat)?);
        }
    }
    Ok(processes)
}

/// Memory of a process and its living descendants, in bytes; what several of them share counts once (`Pss`).
pub(crate) fn memory_of_tree(root: u32) -> Result<u64> {
    let mut kib = 0;
    for pid in tree(root, &processes()?).map(|(pid, _)| pid) {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        let pss = pss.and_then(|rest| rest.split_whitespace().next());
        kib += pss.map_or(Ok(0), str::parse::<u64>)?;
    }
    Ok(kib << 10)
}

/// A process and its descendants.
fn tree(root: u32, processes: &BTreeMap<u32, Stat>) -> impl Iterator<Item = (u32, &Stat)> {
    let is_in_tree = move |pid: u32| {
        // No family is deeper than the number of processes.
        let ancestors = std::iter::successors(Some(pid), |pid| Some(processes.get(pid)?.parent));
        ancestors.take(processes.len()).any(|ancestor| ancestor == root)
    };
    processes.iter().map(|(pid, stat)| (*pid, stat)).filter(move |(pid, _)| is_in_tree(*pid))
}

// === impl Stat ===

impl Stat {
    fn parse(line: &str) -> Result<Self> {
        // The name of a process may hold spaces and parentheses; fields are counted from the last one on.
        let (_, fields) = line.rsplit_once(')').context("no name in /proc/PID/stat")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let field = |number: usize| -> Result<u32> {
            // proc(5) counts from 1, and the third field is the first after the name.
            let field = fields.get(number - 3).context("a short /proc/PID/stat")?;
            Ok(field.parse()?)
        };
        Ok(Self { parent: field(4)?, ticks: field(14)? + field(15)? })
    }
}
