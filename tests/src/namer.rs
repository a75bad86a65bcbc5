//! A name server of the world outside: a CoreDNS in a cluster's place that says of names what the test tells it to, changes
//! its mind, and dies.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::process::Process;
use crate::{Cluster, Result, eventually, http};

/// It reads nothing but a file.
const START: Duration = Duration::from_secs(20);

/// One name server; it ends when it is dropped.
#[derive(Debug)]
pub struct Namer {
    process: Process,
    names: PathBuf,
    address: SocketAddr,
}

impl Cluster {
    /// A name server that says that these names have these addresses, for a second, and that there are no others.
    pub async fn namer(&self, names: &[(&str, &str)]) -> Result<Namer> {
        let (place, lane) = (self.place(), self.lane());
        let [names_file, path] = ["names", "Corefile.outside"].map(|file| self.logs().join(file));
        let (port, bound, ready, file) =
            (lane.dns_outside(), place.address(), lane.outside_ready(), names_file.display());
        let server = format!("bind {bound}\n    errors\n    ready {ready}\n    hosts {file} {{");
        fs::write(&path, format!(".:{port} {{\n    {server}\n        ttl 1\n        reload 100ms\n    }}\n}}\n"))?;
        let arguments = ["-conf".into(), path.into_os_string()];
        let process = Process::new("coredns-outside", place, self.part("coredns")?, arguments, self.logs());
        let namer = Namer { process, names: names_file, address: place.port(port) };
        namer.say(names)?;
        namer.process.start()?;
        eventually(START, "the name server answers", async || http::get(place, ready, "/ready").await.map(|_| ()))
            .await?;
        Ok(namer)
    }
}

impl Namer {
    /// Where it is asked.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on these names have these addresses, and there are no others.
    pub fn say(&self, names: &[(&str, &str)]) -> Result {
        let lines: String = names.iter().map(|(name, address)| format!("{address} {name}\n")).collect();
        let next = self.names.with_extension("next");
        fs::write(&next, lines)?;
        fs::rename(next, &self.names)?;
        Ok(())
    }

    /// It does not answer any more.
    pub fn kill(&self) -> Result {
        self.process.kill()
    }
}
