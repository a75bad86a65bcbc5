//! What an agent means its cluster to have, where all clusters of its fleet are directories: the daemon as a process that
//! lives until it has said so. Any number of them run beside each other, on ports that nobody has to know.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, bail};
use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::process::Process;
use crate::{Cluster, Result, SOON, eventually, http, parts};

impl Cluster {
    /// What an agent with this configuration means its cluster to have, once it has seen all of its fleet. It runs in this
    /// cluster's place, and keeps its files in a directory of its own.
    pub async fn sketch(&self, directory: &Path, mut config: Value) -> Result<Vec<DynamicObject>> {
        fs::create_dir_all(directory)?;
        config["admin"] = json!({"address": "127.0.0.1:0"});
        config["emit"]["directory"] = json!(directory.join("objects"));
        let file = directory.join("config.json");
        fs::write(&file, config.to_string())?;
        let arguments = ["agent".into(), "--config".into(), file.into_os_string()];
        let agent = Process::new("agent", self.place(), parts::federator()?, arguments, directory);
        agent.start()?;
        let asked = eventually(SOON, "an agent of directories says what it would write", async || {
            if let Some(status) = agent.exited()? {
                return Ok(Err(status));
            }
            Ok(Ok(http::get(self.place(), admin(&agent.logs())?, "/objects").await?))
        });
        let objects = match asked.await.with_context(|| agent.tail())? {
            Ok(objects) => objects,
            Err(status) => bail!("the agent ended: {status}: {}", agent.tail()),
        };
        // Of a service without a cluster there is none.
        if objects.trim().is_empty() {
            return Ok(Vec::new());
        }
        serde_saphyr::from_multiple(&objects).context("what an agent would write is not YAML")
    }
}

/// Where its admin port is, which is the first thing that an agent logs.
fn admin(log: &str) -> Result<SocketAddr> {
    let first = log.lines().next().context("it has not said anything")?;
    let event: Value = serde_json::from_str(first)?;
    Ok(event["admin"].as_str().context("it does not say where its admin port is")?.parse()?)
}
