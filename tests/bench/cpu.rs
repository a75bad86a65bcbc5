//! CPU time of a process and of everything it has forked, from `/proc`.

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
    let is_in_tree = |pid: u32| {
        // No family is deeper than the number of processes.
        let ancestors = std::iter::successors(Some(pid), |pid| Some(processes.get(pid)?.parent));
        ancestors.take(processes.len()).any(|ancestor| ancestor == root)
    };
    let tree = processes.iter().filter(|(pid, _)| is_in_tree(**pid));
    Ok(TICK * tree.map(|(_, stat)| stat.ticks).sum::<u32>())
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
