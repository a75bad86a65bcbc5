//! One child process in a place: started, paused, killed and started again by its test.
//!
//! It is addressed by its own process id, never by a name, and its output goes to one log file that grows over
//! all its lives. It is a plain child without any tie to an async runtime, because the processes of the bed
//! outlive the runtime of the test that happened to start them.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::place::Place;
use crate::{Result, eventually};

/// Lines of a log that a failure shows.
const TAIL: usize = 25;

/// A program with its arguments in a place, and its present life if it has one.
#[derive(Debug)]
pub struct Process {
    name: String,
    place: Place,
    program: PathBuf,
    arguments: Vec<OsString>,
    log: PathBuf,
    child: Mutex<Option<Child>>,
}

impl Process {
    /// Describes a process whose log goes to `logs/NAME.log`; nothing runs yet.
    pub fn new<A: Into<OsString>>(
        name: &str,
        place: Place,
        program: PathBuf,
        arguments: impl IntoIterator<Item = A>,
        logs: &Path,
    ) -> Self {
        Self {
            name: name.to_owned(),
            place,
            program,
            arguments: arguments.into_iter().map(Into::into).collect(),
            log: logs.join(format!("{name}.log")),
            child: Mutex::new(None),
        }
    }

    /// `kube-apiserver`, `etcd`, …
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts it. Whether it has become useful is for whoever knows its protocol to find out.
    pub fn start(&self) -> Result {
        let mut child = self.lock();
        if let Some(running) = child.as_mut()
            && running.try_wait()?.is_none()
        {
            bail!("{} runs already in {}", self.name, self.place.name());
        }
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = self.place.command(&self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        *child = Some(command.spawn().with_context(|| format!("cannot start {}", self.name))?);
        Ok(())
    }

    /// Ends it at once (SIGKILL), as a crash or a power cut would. Nothing happens if it does not run.
    pub fn kill(&self) -> Result {
        if let Some(mut child) = self.lock().take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub async fn terminate(&self, within: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        eventually(within, &format!("{} ends after SIGTERM", self.name), async || {
            self.exited()?.context("it still runs")
        })
        .await
    }

    /// Stops it where it stands (SIGSTOP): connections to it stay open, and nothing answers.
    pub fn pause(&self) -> Result {
        self.signal(Signal::STOP)
    }

    /// Lets a paused process go on (SIGCONT).
    pub fn resume(&self) -> Result {
        self.signal(Signal::CONT)
    }

    /// Whether it has been started and has not ended; a paused process runs.
    pub fn is_running(&self) -> bool {
        let mut child = self.lock();
        child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Its number, to look at it in `/proc`.
    pub(crate) fn pid(&self) -> Result<u32> {
        if let Some(child) = self.lock().as_mut()
            && child.try_wait()?.is_none()
        {
            return Ok(child.id());
        }
        bail!("{} does not run in {}", self.name, self.place.name())
    }

    /// How it ended, if it did so by itself.
    pub(crate) fn exited(&self) -> Result<Option<ExitStatus>> {
        let mut child = self.lock();
        let child = child.as_mut().with_context(|| format!("{} was never started", self.name))?;
        Ok(child.try_wait()?)
    }

    /// Everything it has written in all its lives.
    pub fn logs(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The end of its log, under a headline: what a failure shows.
    pub(crate) fn tail(&self) -> String {
        tail(&self.log)
    }

    fn signal(&self, signal: Signal) -> Result {
        let mut child = self.lock();
        // Only a child that has not been waited for: the number of one that has may be another's by now.
        if let Some(child) = child.as_mut()
            && child.try_wait()?.is_none()
            && let Some(pid) = Pid::from_raw(i32::try_from(child.id())?)
        {
            return kill_process(pid, signal).with_context(|| format!("signal {}", self.name));
        }
        bail!("{} does not run in {}", self.name, self.place.name())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Child>> {
        // A test that panicked while it held the lock leaves a child that is as good as before.
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nobody is left to hear of a failure, and the sandbox ends whatever remains.
        let _ = self.kill();
    }
}

/// The last lines of a log file, under a headline.
pub(crate) fn tail(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(TAIL)..].join("\n");
    let name = log.file_name().unwrap_or_default().to_string_lossy();
    format!("--- {name}, last lines of {}\n{last}\n", lines.len())
}
