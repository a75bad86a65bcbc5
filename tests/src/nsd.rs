//! NSD with one zone on the loopback: what a name server that only serves zone files makes of the same records.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context;

use crate::{Parts, Result};

/// A server in the foreground; it is killed when dropped.
#[derive(Debug)]
pub struct Nsd {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
}

// === impl Nsd ===

impl Nsd {
    /// Starts it with as many workers as are said; `zone` is a zone file. What differs by default and would compare apples
    /// with pears is set: the rate limit is off, and nothing is added to positive answers that nobody needs.
    pub fn start(parts: &Parts, directory: &Path, port: u16, workers: usize, name: &str, zone: &str) -> Result<Self> {
        fs::create_dir_all(directory)?;
        fs::write(directory.join("zone"), zone)?;
        let at = directory.display();
        let config = format!(
            r#"server:
  ip-address: 127.0.0.1@{port}
  server-count: {workers}
  reuseport: yes
  minimal-responses: yes
  rrl-ratelimit: 0
  rrl-whitelist-ratelimit: 0
  username: ""
  database: ""
  zonesdir: "{at}"
  pidfile: "{at}/nsd.pid"
  xfrdfile: "{at}/xfrd.state"
  xfrdir: "{at}"
  zonelistfile: "{at}/zone.list"
  verbosity: 0
remote-control:
  control-enable: no
zone:
  name: {name}
  zonefile: zone
"#
        );
        let (file, log) = (directory.join("nsd.conf"), directory.join("log"));
        fs::write(&file, config)?;
        let output = File::create(&log)?;
        let child = Command::new(parts.bin("nsd")?)
            .args(["-d".as_ref(), "-c".as_ref(), file.as_os_str()])
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start nsd")?;
        Ok(Self { child, address: (Ipv4Addr::LOCALHOST, port).into(), log })
    }

    /// Where it answers.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process whose descendants are the server.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has to say.
    pub fn log(&self) -> &Path {
        &self.log
    }
}

impl Drop for Nsd {
    fn drop(&mut self) {
        // What it has forked ends with the sandbox.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
