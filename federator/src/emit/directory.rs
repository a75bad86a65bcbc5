//! Objects as YAML files in a directory, for GitOps and the demo: one file an object, replaced as a whole. Files that
//! others put there are left alone; ours carry our label. What cannot be written is tried again. A file is looked at
//! when its object changes: what others do to ours in between is not noticed.

use super::{
    Status,
    object::{Desired, ObjectKey},
    plan::{Action, Actual, action},
};
use crate::backoff::Backoff;
use model::tracked::{Since, Tracked};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::watch;

/// Ends the name of a file that is being written; it begins with a dot.
const TEMPORARY: &str = ".tmp";

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
            match settle(&directory, &key, want) {
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
    // Neither part can contain an underscore.
    format!("{}_{}.yaml", key.namespace, key.name)
}

fn key_of(file_name: &str) -> Option<ObjectKey> {
    let (namespace, name) = file_name.strip_suffix(".yaml")?.split_once('_')?;
    Some(ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() })
}

/// Makes one file as it should be; says whether something was done.
fn settle(directory: &Path, key: &ObjectKey, desired: Option<&Desired>) -> io::Result<bool> {
    let path = directory.join(file_name(key));
    match action(desired, read(&path).as_ref()) {
        Action::Nothing => return Ok(false),
        Action::Foreign => return Err(io::Error::other("a file of this name is somebody else's")),
        Action::Delete => {
            fs::remove_file(&path)?;
            tracing::info!(object = %key, "removed");
        }
        Action::Apply(object) => {
            let text = serde_saphyr::to_string(&object.object(key)).map_err(io::Error::other)?;
            let temporary = directory.join(format!(".{}{TEMPORARY}", file_name(key)));
            fs::write(&temporary, text)
                .and_then(|()| fs::rename(&temporary, &path))
                .inspect_err(|_| drop(fs::remove_file(&temporary)))?;
            tracing::info!(object = %key, revision = object.revision, "written");
        }
    }
    Ok(true)
}

/// What a file is. One that cannot be read as an object is somebody else's.
fn read(path: &Path) -> Option<Actual> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(_) => return Some(Actual::default()),
    };
    let object: Value = serde_saphyr::from_str(&text).unwrap_or_default();
    let labels = object.pointer("/metadata/labels").cloned().unwrap_or_default();
    Some(Actual {
        labels: serde_json::from_value(labels).unwrap_or_default(),
        spec: object.get("spec").cloned().unwrap_or_default(),
    })
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
