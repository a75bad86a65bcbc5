//! A cluster as a directory of manifests: for a laptop, a demo, and GitOps. Edits are picked up as the kernel tells
//! of them, and at the latest when it is looked at again. A file that cannot be read keeps what it last held, and
//! the others go on. Knows nothing of Kubernetes beyond the manifests.

use super::{
    Observed,
    index::{Index, ObjectName},
    manifest::{MAX_FILE, Manifest},
};
use model::{locality::Locality, locality::Network};
use notify::Watcher as _;
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::sync::{Notify, watch};

/// How often the directory is looked at without being told: not every file system tells of changes.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What one directory source needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory. Only files right in it are read, those that end in `.yaml`, `.yml` or `.json`.
    pub path: PathBuf,
    /// The network of the cluster.
    pub network: Network,
    /// Where endpoints run of which nothing better is known.
    pub default_locality: Locality,
}

/// What a file held when it was last readable.
#[derive(Debug, Default)]
struct File {
    digest: [u8; 32],
    objects: BTreeSet<ObjectName>,
    malformed: Vec<String>,
    cluster_uid: Option<String>,
}

/// The directory as it was last read.
struct Directory {
    config: Config,
    index: Index,
    files: BTreeMap<PathBuf, File>,
    looks: u64,
}

/// Observes the directory until nobody wants the result any more.
pub async fn run(config: Config, observed: watch::Sender<Observed>) {
    let changed = Arc::new(Notify::new());
    let watcher = watch_directory(&config.path, changed.clone());
    if let Err(error) = &watcher {
        tracing::warn!(path = %config.path.display(), %error, "changes are only seen by looking again");
    }
    let mut directory = Directory::new(config);
    loop {
        if let Some(seen) = directory.look() {
            observed.send_replace(seen);
        }
        tokio::select! {
            () = changed.notified() => {}
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = observed.closed() => return,
        }
    }
}

fn watch_directory(path: &Path, changed: Arc<Notify>) -> notify::Result<notify::RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Our own reading is an access, and no change.
        if !matches!(
            event,
            Ok(notify::Event {
                kind: notify::EventKind::Access(_),
                ..
            })
        ) {
            changed.notify_one();
        }
    })?;
    watcher.watch(path, notify::RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

// === impl Directory ===

impl Directory {
    fn new(config: Config) -> Self {
        let mut index = Index::new(Observed::default(), config.default_locality.clone());
        index.observed().meta.network = config.network.clone();
        Self {
            config,
            index,
            files: BTreeMap::new(),
            looks: 0,
        }
    }

    /// Reads what changed; `None` when nothing did.
    fn look(&mut self) -> Option<Observed> {
        let mut changed = !self.index.observed().synced;
        let found = match manifests(&self.config.path) {
            Ok(found) => {
                changed |= self.set_trouble(None);
                found
            }
            Err(error) => {
                // A directory that cannot be listed says nothing about what is in it.
                let trouble = format!("directory {}: {error}", self.config.path.display());
                return self.set_trouble(Some(trouble)).then(|| self.index.flush());
            }
        };
        let gone: Vec<PathBuf> = self
            .files
            .keys()
            .filter(|path| !found.contains(*path))
            .cloned()
            .collect();
        for path in gone {
            self.forget(&path);
            changed = true;
        }
        for path in found {
            changed |= self.read(path);
        }
        if !changed {
            return None;
        }
        self.looks += 1;
        let uid = self
            .files
            .values()
            .find_map(|file| file.cluster_uid.clone())
            .unwrap_or_default();
        let observed = self.index.observed();
        observed.meta.uid = uid.into();
        observed.source_version = self.looks.to_string().into();
        observed.synced = true;
        Some(self.index.flush())
    }

    fn set_trouble(&mut self, trouble: Option<String>) -> bool {
        let held = &mut self.index.observed().trouble;
        if held.as_deref() == trouble.as_deref() {
            return false;
        }
        if let Some(trouble) = &trouble {
            tracing::error!("{trouble}; what it held is kept");
        }
        *held = trouble.map(Into::into);
        true
    }

    /// Reads a file if it changed; says whether it did.
    fn read(&mut self, path: PathBuf) -> bool {
        let what = format!("file {}", path.display());
        let text = match read_limited(&path) {
            Ok(text) => text,
            Err(error) => return self.complain(&what, error.to_string()),
        };
        let digest: [u8; 32] = Sha256::digest(&text).into();
        let known = self.files.get(&path);
        if known.is_some_and(|file| file.digest == digest) {
            return false;
        }
        let manifest = match Manifest::parse(&text) {
            Ok(manifest) => manifest,
            Err(error) => return self.complain(&what, error),
        };
        self.index.leave_out(&what, None);
        let objects: BTreeSet<ObjectName> = manifest.names().collect();
        for name in known
            .into_iter()
            .flat_map(|file| &file.objects)
            .filter(|name| !objects.contains(name))
        {
            self.index.delete(name);
        }
        for object in &manifest.objects {
            self.index.apply(object);
        }
        for name in known.into_iter().flat_map(|file| &file.malformed) {
            self.index.leave_out(name, None);
        }
        let malformed = manifest.malformed.iter().map(|(name, _)| name.clone()).collect();
        for (name, reason) in manifest.malformed {
            self.index.leave_out(&name, Some(reason));
        }
        self.files.insert(
            path,
            File {
                digest,
                objects,
                malformed,
                cluster_uid: manifest.cluster_uid,
            },
        );
        true
    }

    /// Names a file that cannot be read; says whether that is news.
    fn complain(&mut self, what: &str, reason: String) -> bool {
        let news = self.index.observed().left_out.get(what) != Some(&reason);
        if news {
            tracing::error!("{what}: {reason}; it keeps what it last held");
            self.index.leave_out(what, Some(reason));
        }
        news
    }

    fn forget(&mut self, path: &Path) {
        self.index.leave_out(&format!("file {}", path.display()), None);
        let Some(file) = self.files.remove(path) else {
            return;
        };
        for name in &file.objects {
            self.index.delete(name);
        }
        for name in &file.malformed {
            self.index.leave_out(name, None);
        }
    }
}

/// The manifest files in a directory, by name. Hidden ones are not: a mounted ConfigMap keeps its old state there.
fn manifests(directory: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_none_or(|name| name.to_string_lossy().starts_with('.'));
        let ours = path
            .extension()
            .is_some_and(|ending| ["yaml", "yml", "json"].iter().any(|e| ending == *e));
        if ours && !hidden && path.is_file() {
            found.insert(path);
        }
    }
    Ok(found)
}

fn read_limited(path: &Path) -> io::Result<String> {
    let size = fs::metadata(path)?.len();
    if size > MAX_FILE {
        return Err(io::Error::other(format!(
            "{size} bytes; at most {MAX_FILE} are read"
        )));
    }
    fs::read_to_string(path)
}

#[cfg(test)]
mod tests;
