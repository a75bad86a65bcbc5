//! A directory of directories as clusters, and as the configuration of an agent that observes them all. Knows
//! nothing of what the manifests say. A wrong use is a `ConfigError`: one line, and the exit code for that.

use crate::config::{Config, ConfigError, file::File};
use model::{
    locality::Network,
    name::ClusterId,
    reach::{Mode, Place},
};
use serde_json::json;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Beside the manifests of a cluster: the name of its network.
const NETWORK_FILE: &str = "network";

/// The observer's complaints are shown by the demo itself.
const QUIET: &str = "warn,federator::observe=off";

/// All clusters, by id.
#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) clusters: Vec<Cluster>,
}

/// A cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) id: ClusterId,
    pub(super) network: Network,
    pub(super) directory: PathBuf,
}

// === impl Fleet ===

impl Fleet {
    /// The sub-directories of `root`, apart from hidden ones.
    pub(super) fn read(root: &Path) -> Result<Self, ConfigError> {
        let wrong = |path: &Path, reason: String| wrong(&format!("--dir {}", path.display()), reason);
        let because = |path: &Path, error: &io::Error| wrong(path, error.to_string());
        let mut clusters = Vec::new();
        for entry in fs::read_dir(root).map_err(|error| because(root, &error))? {
            let entry = entry.map_err(|error| because(root, &error))?;
            let (directory, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if name.starts_with('.') || !directory.is_dir() {
                continue;
            }
            let id = ClusterId::parse(&name).map_err(|error| wrong(&directory, error.to_string()))?;
            fs::read_dir(&directory).map_err(|error| because(&directory, &error))?;
            let file = directory.join(NETWORK_FILE);
            let network = match fs::read_to_string(&file) {
                Ok(text) => Network::new(text.trim()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Network::default(),
                Err(error) => return Err(because(&file, &error)),
            };
            clusters.push(Cluster { id, network, directory });
        }
        if clusters.is_empty() {
            let reason = "no sub-directory in it; make one for each cluster, named by the cluster's id";
            return Err(wrong(root, reason.to_owned()));
        }
        clusters.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(Self { clusters })
    }

    /// The place of a cluster; without a name, of the first.
    pub(super) fn place(&self, name: Option<&str>) -> Result<Place, ConfigError> {
        let found = match name {
            None => self.clusters.first(),
            Some(name) => self.clusters.iter().find(|cluster| cluster.id.as_str() == name),
        };
        let Some(cluster) = found else {
            let known: Vec<&str> = self.clusters.iter().map(|cluster| cluster.id.as_str()).collect();
            let place = format!("--as {}", name.unwrap_or_default());
            return Err(wrong(&place, format!("no such cluster; there are {}", known.join(", "))));
        };
        Ok(Place { cluster: cluster.id.clone(), network: cluster.network.clone(), mode: Mode::Auto })
    }

    /// An agent in that place that observes every cluster itself.
    pub(super) fn config(&self, place: &Place, verbose: bool) -> anyhow::Result<Config> {
        let cluster = |cluster: &Cluster| {
            json!({
                "id": cluster.id.as_str(),
                "network": cluster.network.as_str(),
                "directory": cluster.directory,
            })
        };
        let file: File = serde_json::from_value(json!({
            "cluster": place.cluster.as_str(),
            "agent": "demo",
            "clusters": self.clusters.iter().map(cluster).collect::<Vec<_>>(),
            // Who looks on is to see the endpoints of all clusters, and not those of the nearest alone.
            "dns": {"listeners": [{"address": "127.0.0.1:0"}], "minAnswers": 32},
            "admin": {"address": "127.0.0.1:0"},
            "log": {"format": "text", "filter": if verbose { "info" } else { QUIET }},
        }))?;
        Ok(Config::check(file)?)
    }
}

fn wrong(place: &str, reason: String) -> ConfigError {
    ConfigError::Parse { place: place.to_owned(), reason }
}
