//! A daemon on loopback with directories for clusters: starts it, asks it, ends it.

use harness::{RecordType, Resolver, SOON, eventually, federator};
use serde_json::Value;
use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

/// A directory of its own for one test, gone at its end.
pub(crate) struct Scene(tempfile::TempDir);

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A daemon that runs; killed when dropped.
pub(crate) struct Daemon {
    child: Option<Child>,
    log: PathBuf,
    dns: SocketAddr,
    admin: SocketAddr,
    runtime: tokio::runtime::Runtime,
}

/// Waits until a look at something succeeds.
pub(crate) fn wait<T>(what: &str, mut look: impl FnMut() -> anyhow::Result<T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(eventually(SOON, what, async || look())).unwrap()
}

// === impl Scene ===

impl Scene {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// A cluster's directory with these files.
    pub(crate) fn cluster(&self, id: &str, files: &[(&str, &str)]) -> PathBuf {
        let directory = self.path().join(id);
        fs::create_dir_all(&directory).unwrap();
        for (name, text) in files {
            fs::write(directory.join(name), text).unwrap();
        }
        directory
    }

    /// Runs the agent with this configuration until it ends by itself.
    pub(crate) fn run(&self, configuration: &str, arguments: &[&str]) -> Ended {
        let file = self.path().join("config.yaml");
        fs::write(&file, configuration).unwrap();
        self.command(&[&["agent", "--config", file.to_str().unwrap()], arguments].concat())
    }

    /// Runs the binary until it ends by itself.
    pub(crate) fn command(&self, arguments: &[&str]) -> Ended {
        let output = Command::new(federator().unwrap()).args(arguments).stdin(Stdio::null()).output().unwrap();
        Ended::new(&output)
    }
}

// === impl Ended ===

impl Ended {
    fn new(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

// === impl Daemon ===

impl Daemon {
    /// Starts an agent of cluster `east` on free ports, and waits until it says where they are.
    pub(crate) fn start(scene: &Scene, directory: &Path) -> Self {
        Self::start_with(scene, directory, "")
    }

    /// The same with more in its configuration.
    pub(crate) fn start_with(scene: &Scene, directory: &Path, more: &str) -> Self {
        Self::start_of(scene, &[("east", directory)], more)
    }

    /// The same of several clusters, the first of which is its own.
    pub(crate) fn start_of(scene: &Scene, clusters: &[(&str, &Path)], more: &str) -> Self {
        let (file, log) = (scene.path().join("config.yaml"), scene.path().join("log"));
        let all: Vec<_> = clusters
            .iter()
            .map(|(id, directory)| format!("{{id: {id}, directory: {}}}", directory.display()))
            .collect();
        let configuration = format!(
            "cluster: {}\nclusters: [{}]\n\
             dns: {{listeners: [{{address: '127.0.0.1:0'}}]}}\nadmin: {{address: '127.0.0.1:0'}}\n{more}",
            clusters[0].0,
            all.join(", ")
        );
        fs::write(&file, configuration).unwrap();
        let child = Command::new(federator().unwrap())
            .args(["agent", "--config", file.to_str().unwrap()])
            .stdin(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let started = runtime.block_on(eventually(SOON, "it says where it listens", async || {
            let text = fs::read_to_string(&log)?;
            let first = text.lines().next().unwrap_or_default();
            let event: Value = serde_json::from_str(first).map_err(|error| anyhow::anyhow!("{error}: {text}"))?;
            let text = |field: &str| event[field].as_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            Ok((text("dns").parse()?, text("admin").parse()?))
        }));
        let (dns, admin) = started.unwrap();
        Self { child: Some(child), log, dns, admin, runtime }
    }

    /// Waits until a name has exactly these addresses.
    pub(crate) fn answers(&self, name: &str, addresses: &[&str]) {
        let expected = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let what = format!("{name} is {addresses:?}");
        let look = eventually(SOON, &what, async || {
            let reply = Resolver::local(self.dns).udp(name, RecordType::A).await?;
            anyhow::ensure!(reply.addresses() == expected, "{reply}");
            Ok(())
        });
        self.runtime.block_on(look).unwrap();
    }

    /// Status code and body of a path of the admin port.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.get("/status").1).unwrap()
    }

    /// Waits until its status fulfils a condition, and returns that status.
    pub(crate) fn wait_until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        wait(what, || {
            let status = self.status();
            anyhow::ensure!(holds(&status), "its status is {status}");
            Ok(status)
        })
    }

    /// Its admin port.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn terminate(mut self) -> Ended {
        let mut child = self.child.take().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let code = child.wait().unwrap().code();
        Ended { code, stdout: String::new(), stderr: fs::read_to_string(&self.log).unwrap() }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
