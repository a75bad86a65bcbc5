//! Runs the demo with a directory for temporary files of its own, in which it must leave nothing behind.

use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};
use tempfile::TempDir;

/// Much longer than anything takes: slow is not what these tests are to find.
const SOON: Duration = Duration::from_secs(30);

/// A demo to be run.
pub(crate) struct Demo {
    command: Command,
    temporary: TempDir,
}

/// A demo that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A demo that runs; it is killed when dropped.
pub(crate) struct Live {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    temporary: TempDir,
}

impl Demo {
    pub(crate) fn new(args: &[&str]) -> Self {
        let binary = std::env::var_os("FEDERATOR_BIN").map(PathBuf::from);
        let binary = binary.expect("FEDERATOR_BIN is not set: run me through `cargo xtask test`");
        let temporary = tempfile::tempdir().unwrap();
        let mut command = Command::new(binary);
        command.arg("demo").args(args).env("TMPDIR", temporary.path()).stdin(Stdio::null());
        Self { command, temporary }
    }

    /// With manifests of one's own.
    pub(crate) fn of(manifests: &Path, args: &[&str]) -> Self {
        let mut demo = Self::new(args);
        demo.command.arg("--dir").arg(manifests);
        demo
    }

    /// Runs it to its end.
    pub(crate) fn output(mut self) -> Ended {
        let output = self.command.output().unwrap();
        assert_empty(&self.temporary);
        let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        Ended { code: output.status.code(), stdout, stderr }
    }

    pub(crate) fn spawn(mut self) -> Live {
        let mut child = self.command.stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        // Ends with the output, that is with the process.
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Live { child, lines, seen: Vec::new(), temporary: self.temporary }
    }
}

impl Live {
    pub(crate) fn of(manifests: &Path, args: &[&str]) -> Self {
        Demo::of(manifests, args).spawn()
    }

    /// Waits for a line that contains this.
    pub(crate) fn line_with(&mut self, part: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(SOON);
            let line = line.unwrap_or_else(|error| panic!("no line with `{part}`: {error}; got {:#?}", self.seen));
            self.seen.push(line.clone());
            if line.contains(part) {
                return line;
            }
        }
    }

    /// Ctrl-C; returns the exit code.
    pub(crate) fn interrupt(mut self) -> Option<i32> {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        let status = self.child.wait().unwrap();
        assert_empty(&self.temporary);
        status.code()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // It has ended already, unless the test failed; then nobody is left to hear of a second failure.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn assert_empty(temporary: &TempDir) {
    let left = std::fs::read_dir(temporary.path()).unwrap().count();
    assert_eq!(left, 0, "something was left behind in its directory for temporary files");
}
