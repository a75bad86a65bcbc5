//! Objects as YAML files in a directory, for GitOps and the demo: one file an object, replaced as a whole. Files that
//! others put there are left alone; ours carry our label. What cannot be written is tried again. A file is looked at
//! when its object changes: what others do to ours in between is not noticed. It is read only when it is not as we left
//! it, by its size and the time of its last change.

use super::{
    Status,
    object::{Desired, Kind, ObjectKey},
    plan::{Action, Actual, action},
    yaml,
};
use crate::backoff::Backoff;
use model::tracked::{Since, Tracked};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};
use tokio::sync::watch;

/// Ends the name of a file that is being written; it begins with a dot.
const TEMPORARY: &str = ".tmp";

/// A directory, and the files that are as we left them.
struct Home {
    directory: PathBuf,
    left: HashMap<ObjectKey, Left>,
}

/// A file as we left it.
#[derive(Clone, Copy, PartialEq)]
struct Left {
    /// The hash of what was desired.
    hash: u64,
    stamp: Stamp,
}

/// Size and time of the last change.
type Stamp = (u64, SystemTime);

/// Keeps the directory equal to what is desired, until there is nothing to desire any more.
///
/// # Errors
/// When the directory cannot be listed or made at the start.
pub async fn run(
    directory: PathBuf,
    mut desired: watch::Receiver<Tracked<ObjectKey, Desired>>,
    status: watch::Sender<Status>,
) -> io::Result<()> {
    fs::create_dir_all(&directory)?;
    let mut held = held(&directory)?;
    let mut home = Home { directory, left: HashMap::new() };
    let mut dirty = held.clone();
    let (mut seen, mut troubles, mut backoff) = (0, BTreeMap::new(), Backoff::default());
    // Nothing is desired until the first projection; deleting before it would be believing in emptiness.
    if desired.changed().await.is_err() {
        return Ok(());
    }
    loop {
        let now = desired.borrow_and_update().clone();
        match now.since(seen) {
            Since::Changes(changes) => dirty.extend(changes.into_iter().map(|(key, _)| key.clone())),
            Since::Everything => {
                dirty.extend(now.iter().map(|(key, _)| key).chain(&held).cloned());
            }
        }
        seen = now.sequence();
        for key in std::mem::take(&mut dirty) {
            let want = now.get(&key);
            match home.settle(&key, want) {
                Ok(done) => {
                    troubles.remove(&key.to_string());
                    status.send_modify(|status| status.writes += u64::from(done));
                    if want.is_some() {
                        held.insert(key);
                    } else {
                        held.remove(&key);
                    }
                }
                Err(error) => {
                    let reason = error.to_string();
                    if troubles.insert(key.to_string(), reason.clone()).as_ref() != Some(&reason) {
                        tracing::error!(object = %key, reason, "not as it should be");
                        status.send_modify(|status| status.failures += 1);
                    }
                    dirty.insert(key);
                }
            }
        }
        status.send_modify(|status| {
            status.in_place = now.len() - troubles.len().min(now.len());
            status.troubles = Arc::new(troubles.clone());
        });
        if dirty.is_empty() {
            backoff.reset();
        }
        tokio::select! {
            changed = desired.changed() => if changed.is_err() {
                return Ok(());
            },
            () = backoff.wait(), if !dirty.is_empty() => {}
        }
    }
}

fn file_name(key: &ObjectKey) -> String {
    // No part can contain an underscore.
    format!("{}_{}_{}.yaml", key.kind.as_str().to_ascii_lowercase(), key.namespace, key.name)
}

fn key_of(file_name: &str) -> Option<ObjectKey> {
    let (kind, rest) = file_name.strip_suffix(".yaml")?.split_once('_')?;
    let (namespace, name) = rest.split_once('_')?;
    let kind = Kind::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(kind))?;
    Some(ObjectKey { kind, namespace: namespace.into(), name: name.into() })
}

// === impl Home ===

impl Home {
    /// Makes one file as it should be; says whether something was done.
    fn settle(&mut self, key: &ObjectKey, desired: Option<&Desired>) -> io::Result<bool> {
        let path = self.directory.join(file_name(key));
        let left = self.left.remove(key).filter(|left| stamp(&path).is_ok_and(|stamp| stamp == left.stamp));
        let todo = match (left, desired) {
            (Some(left), Some(desired)) if left.hash == desired.hash() => Action::Nothing,
            (Some(_), Some(_)) => Action::Apply,
            (Some(_), None) => Action::Delete,
            (None, desired) => action(desired, read(&path).as_ref()),
        };
        match (todo, desired) {
            (Action::Foreign, _) => return Err(io::Error::other("a file of this name is somebody else's")),
            (Action::Delete, _) => {
                fs::remove_file(&path)?;
                tracing::info!(object = %key, "removed");
                return Ok(true);
            }
            (Action::Apply, Some(desired)) => {
                let stamp = self.write(key, desired, &path)?;
                tracing::info!(object = %key, revision = desired.revision, "written");
                self.left.insert(key.clone(), Left { hash: desired.hash(), stamp });
                return Ok(true);
            }
            _ => {}
        }
        if let Some(left) = left {
            self.left.insert(key.clone(), left);
        }
        Ok(false)
    }

    fn write(&self, key: &ObjectKey, desired: &Desired, path: &Path) -> io::Result<Stamp> {
        let text = yaml::text(key, desired);
        let temporary = self.directory.join(format!(".{}{TEMPORARY}", file_name(key)));
        let written = File::create(&temporary).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            let metadata = file.metadata()?;
            fs::rename(&temporary, path)?;
            Ok((metadata.len(), metadata.modified()?))
        });
        written.inspect_err(|_| drop(fs::remove_file(&temporary)))
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.len(), metadata.modified()?))
}

/// What a file is. One that cannot be read as an object is somebody else's.
fn read(path: &Path) -> Option<Actual> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(_) => return Some(Actual::default()),
    };
    let object: Value = serde_saphyr::from_str(&text).unwrap_or_default();
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
    let labels = labels.filter_map(|(key, value)| Some((&**key, value.as_str()?)));
    Some(Actual::new(labels, &object["spec"]))
}

/// The objects of which there is a file of the form we write. Removes what we had begun to write when we died.
fn held(directory: &Path) -> io::Result<BTreeSet<ObjectKey>> {
    let mut held = BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if let Some(name) = name.strip_prefix('.') {
            if name.strip_suffix(TEMPORARY).and_then(key_of).is_some() {
                fs::remove_file(&path)?;
            }
            continue;
        }
        held.extend(key_of(&name));
    }
    Ok(held)
}

#[cfg(test)]
mod tests;
