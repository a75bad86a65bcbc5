//! A cluster as a directory of manifests: for a laptop, a demo, and GitOps. Edits are picked up as the kernel tells
//! of them, and at the latest when it is looked at again. A file that cannot be read keeps what it last held, and so does
//! one that is being written; the others go on. Knows nothing of Kubernetes beyond the manifests.

use super::{
    Observed,
    index::{Index, Object, ObjectName},
    manifest::{MAX_FILE, Manifest},
};
use crate::{
    condition::Reason,
    config::{Place, rules::ExportRules},
};
use model::vip::VipRanges;
use notify::Watcher as _;
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

/// How often the directory is looked at without being told: not every file system tells of changes.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What changed so lately may be in the middle of it: editors empty a file and fill it, or take it away and put another
/// in its place.
const STANDS_STILL: Duration = Duration::from_millis(20);

/// Why a file is not believed that held something. Whoever writes it may take long.
const EMPTY: &str = "it is empty now; to take away what it held, remove it";

/// What one directory source needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory. Only files right in it are read, those that end in `.yaml`, `.yml` or `.json`.
    pub path: PathBuf,
    /// Where the cluster is, and how it is reached from other networks.
    pub place: Place,
    /// Which addresses cannot be the cluster's.
    pub vips: VipRanges,
    /// What is exported.
    pub rules: watch::Receiver<ExportRules>,
    /// The time of day, with which times of files are compared.
    pub clock: fn() -> SystemTime,
}

/// What a file held when it was last readable.
#[derive(Debug, Default)]
struct File {
    digest: [u8; 32],
    objects: BTreeSet<ObjectName>,
    cluster_uid: Option<String>,
}

/// What a file says about an object: it, or why it cannot be read.
type Said = Result<Object, String>;

/// The directory as it was last read.
struct Directory {
    config: Config,
    index: Index,
    files: BTreeMap<PathBuf, File>,
    /// What is said about an object, by all files that hold it. The last file by name counts, as it does for
    /// `kubectl apply`. So an object that moves from one file to another is there all the time.
    objects: BTreeMap<ObjectName, BTreeMap<PathBuf, Said>>,
    /// The files that cannot be read as they are, so that only a change makes them be tried again.
    unreadable: BTreeMap<PathBuf, [u8; 32]>,
    /// Whether something is being changed, and must be looked at again soon.
    unsettled: bool,
    looks: u64,
}

/// Observes the directory until nobody wants the result any more.
pub async fn run(config: Config, observed: watch::Sender<Observed>) {
    let changed = Arc::new(Notify::new());
    let mut rules = config.rules.clone();
    let mut directory = Directory::new(config);
    let mut watcher = None;
    loop {
        if let Some(seen) = directory.look() {
            observed.send_replace(seen);
        }
        if directory.in_trouble() {
            // A watch ends with its directory: one that comes back is watched anew.
            watcher = None;
        } else if watcher.is_none() {
            let path = &directory.config.path;
            let begun = watch_directory(path, changed.clone());
            if let Err(error) = &begun {
                tracing::warn!(path = %path.display(), %error, "changes are only seen by looking again");
            }
            watcher = Some(begun);
            // What changed before the watch began is seen by looking once more.
            continue;
        }
        tokio::select! {
            () = changed.notified() => {}
            // Not every file system tells of changes, and none that a file stands still.
            () = tokio::time::sleep(if directory.unsettled { STANDS_STILL } else { LOOK_AGAIN }) => {}
            Ok(()) = rules.changed() => {
                directory.index.set_rules(rules.borrow_and_update().clone());
                observed.send_replace(directory.index.flush());
            }
            () = observed.closed() => return,
        }
    }
}

fn watch_directory(path: &Path, changed: Arc<Notify>) -> notify::Result<notify::RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Our own reading is an access, and no change.
        if !matches!(event, Ok(notify::Event { kind: notify::EventKind::Access(_), .. })) {
            changed.notify_one();
        }
    })?;
    watcher.watch(path, notify::RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

// === impl Directory ===

impl Directory {
    fn new(config: Config) -> Self {
        let mut index = Index::new(Observed::default(), config.place.locality.clone());
        index.set_network(config.place.network.clone());
        index.set_vips(config.vips);
        index.set_root_namespace(&config.place.root_namespace);
        index.set_gateways(config.place.gateways.clone());
        index.set_trust_domain(config.place.trust_domain.clone());
        index.set_rules(config.rules.borrow().clone());
        Self {
            config,
            index,
            files: BTreeMap::new(),
            objects: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            unsettled: false,
            looks: 0,
        }
    }

    /// Reads what changed; `None` when nothing did.
    fn look(&mut self) -> Option<Observed> {
        let mut changed = !self.index.observed().synced;
        self.unsettled = false;
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
        let known = self.files.keys().chain(self.unreadable.keys());
        let mut gone: BTreeSet<PathBuf> = known.filter(|path| !found.contains(*path)).cloned().collect();
        if !gone.is_empty() && self.is_changing(&self.config.path) {
            self.unsettled = true;
            gone.clear();
        }
        // Files first, objects then: what moved from one to another is at no time in none.
        let mut touched = BTreeSet::new();
        for path in gone {
            self.complain_no_more(&path);
            touched.extend(self.replace(&path, None));
            changed = true;
        }
        for path in found {
            changed |= self.read(&path, &mut touched);
        }
        if !changed {
            return None;
        }
        touched.iter().for_each(|name| self.settle(name));
        self.looks += 1;
        let uid = self.files.values().find_map(|file| file.cluster_uid.clone()).unwrap_or_default();
        let partial = self.unreadable.keys().any(|path| !self.files.contains_key(path));
        let observed = self.index.observed();
        observed.meta.uid = uid.into();
        // Not a number: another process counts its own, and the two cannot be compared.
        observed.source_version = format!("look {}", self.looks).into();
        // A file that was never readable may hold anything.
        observed.partial = partial;
        observed.synced = true;
        Some(self.index.flush())
    }

    /// Whether a file or directory was changed just now. One of the future was not.
    fn is_changing(&self, path: &Path) -> bool {
        let changed = fs::metadata(path).and_then(|metadata| metadata.modified());
        let since = changed.ok().and_then(|changed| (self.config.clock)().duration_since(changed).ok());
        since.is_some_and(|since| since < STANDS_STILL)
    }

    fn in_trouble(&mut self) -> bool {
        self.index.observed().conditions.get(Reason::Unreachable).is_some()
    }

    fn set_trouble(&mut self, trouble: Option<String>) -> bool {
        let readable = trouble.is_none();
        if !self.index.observed().conditions.set(Reason::Unreachable, trouble) {
            return false;
        }
        let observed = self.index.observed();
        match observed.conditions.get(Reason::Unreachable) {
            Some(trouble) => tracing::error!("{trouble}; what it held is kept"),
            None => tracing::info!(path = %self.config.path.display(), "directory is readable again"),
        }
        observed.frozen_since = (!readable).then(Instant::now);
        true
    }

    /// Reads a file if it changed, and adds the objects that it touches; says whether there is news.
    fn read(&mut self, path: &Path, touched: &mut BTreeSet<ObjectName>) -> bool {
        let text = match read_limited(path) {
            Ok(text) => text,
            Err(error) => return self.complain(path, [0; 32], error.to_string()),
        };
        let digest: [u8; 32] = Sha256::digest(&text).into();
        if self.files.get(path).is_some_and(|file| file.digest == digest) {
            // It may have been unreadable in between.
            return self.complain_no_more(path);
        }
        if self.unreadable.get(path) == Some(&digest) {
            return false;
        }
        // What could not be read held something, too. A new file takes nothing away, whatever it lacks yet.
        let is_unreadable = self.unreadable.contains_key(path);
        let held = self.files.get(path).map_or(is_unreadable, |file| !file.objects.is_empty());
        if (is_unreadable || self.files.contains_key(path)) && self.is_changing(path) {
            self.unsettled = true;
            return false;
        }
        if held && text.trim().is_empty() {
            return self.complain(path, digest, EMPTY.to_owned());
        }
        let manifest = match Manifest::parse(&text) {
            Ok(manifest) => manifest,
            Err(error) => return self.complain(path, digest, error),
        };
        self.complain_no_more(path);
        let malformed = manifest.malformed.into_iter();
        let said: BTreeMap<ObjectName, Said> = malformed
            .map(|(name, reason)| (name, Err(reason)))
            .chain(manifest.objects.into_iter().map(|object| (object.name(), Ok(object))))
            .collect();
        let file = File { digest, objects: said.keys().cloned().collect(), cluster_uid: manifest.cluster_uid };
        touched.extend(file.objects.iter().cloned());
        touched.extend(self.replace(path, Some(file)));
        for (name, said) in said {
            self.objects.entry(name).or_default().insert(path.to_owned(), said);
        }
        true
    }

    /// Takes back what a file said, and puts another in its place; returns the objects that it said something about.
    fn replace(&mut self, path: &Path, file: Option<File>) -> BTreeSet<ObjectName> {
        let old = match file {
            Some(file) => self.files.insert(path.to_owned(), file),
            None => self.files.remove(path),
        };
        let names = old.unwrap_or_default().objects;
        for name in &names {
            if let Some(files) = self.objects.get_mut(name) {
                files.remove(path);
                self.index.note(&in_file(name, path), None);
            }
        }
        names
    }

    /// Brings the index up to date with what the files say about one object.
    fn settle(&mut self, name: &ObjectName) {
        let said = self.objects.get(name).and_then(|files| files.last_key_value());
        let Some((last, said)) = said else {
            self.objects.remove(name);
            self.index.delete(name);
            return;
        };
        match said {
            Ok(object) => self.index.apply(object),
            // What it was is kept: an object that cannot be read is not an object that is gone.
            Err(reason) => self.index.leave_out(name, Some(reason.clone())),
        }
        for path in self.objects[name].keys() {
            let reason = (path != last).then(|| format!("{} has it too, and counts", last.display()));
            self.index.note(&in_file(name, path), reason);
        }
    }

    /// Names a file that cannot be read; says whether that is news.
    fn complain(&mut self, path: &Path, digest: [u8; 32], reason: String) -> bool {
        let what = of_file(path);
        self.unreadable.insert(path.to_owned(), digest);
        let news = self.index.observed().left_out.get(&what) != Some(&reason);
        if news {
            tracing::error!("{what}: {reason}; it keeps what it last held");
            self.index.note(&what, Some(reason));
        }
        news
    }

    /// The file can be read; says whether that is news.
    fn complain_no_more(&mut self, path: &Path) -> bool {
        let what = of_file(path);
        self.unreadable.remove(path);
        let news = self.index.observed().left_out.contains_key(&what);
        self.index.note(&what, None);
        news
    }
}

fn of_file(path: &Path) -> String {
    format!("file {}", path.display())
}

fn in_file(name: &ObjectName, path: &Path) -> String {
    format!("{name} in file {}", path.display())
}

/// The manifest files in a directory, by name. Hidden ones are not: a mounted ConfigMap keeps its old state there.
fn manifests(directory: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        let ours = path.extension().is_some_and(|ending| ["yaml", "yml", "json"].iter().any(|e| ending == *e));
        if ours && !hidden && path.is_file() {
            found.insert(path);
        }
    }
    Ok(found)
}

fn read_limited(path: &Path) -> io::Result<String> {
    let size = fs::metadata(path)?.len();
    if size > MAX_FILE {
        return Err(io::Error::other(format!("{size} bytes; at most {MAX_FILE} are read")));
    }
    fs::read_to_string(path)
}

#[cfg(test)]
mod tests;
