//! Objects as YAML files in a directory, for GitOps and the demo: one file an object, replaced as a whole. Files that
//! others put there are left alone; ours carry our label.

use super::{
    Status,
    object::{Desired, MANAGED_BY, ObjectKey},
    plan::{Action, Actual, action},
};
use model::tracked::{Since, Tracked};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::watch;

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
    let mut actual = read(&directory)?;
    let mut dirty: BTreeSet<ObjectKey> = actual.keys().cloned().collect();
    let (mut seen, mut troubles) = (0, BTreeMap::new());
    // Nothing is desired until the first projection; deleting before it would be believing in emptiness.
    if desired.changed().await.is_err() {
        return Ok(());
    }
    loop {
        let now = desired.borrow_and_update().clone();
        match now.since(seen) {
            Since::Changes(changes) => dirty.extend(changes.into_iter().map(|(key, _)| key.clone())),
            Since::Everything => dirty.extend(
                now.iter()
                    .map(|(key, _)| key.clone())
                    .chain(actual.keys().cloned()),
            ),
        }
        seen = now.sequence();
        for key in std::mem::take(&mut dirty) {
            troubles.remove(&key.to_string());
            let outcome = match action(now.get(&key), actual.get(&key)) {
                Action::Nothing => continue,
                Action::Foreign => Err(io::Error::other("a file of this name is somebody else's")),
                Action::Delete => remove(&directory, &key, &mut actual),
                Action::Apply(object) => write(&directory, &key, &object, &mut actual),
            };
            let failed = outcome
                .map_err(|error| troubles.insert(key.to_string(), error.to_string()))
                .is_err();
            status.send_modify(|status| {
                status.writes += u64::from(!failed);
                status.failures += u64::from(failed);
            });
        }
        status.send_modify(|status| {
            status.in_place = now.len() - troubles.len().min(now.len());
            status.troubles = Arc::new(troubles.clone());
        });
        if desired.changed().await.is_err() {
            return Ok(());
        }
    }
}

fn file_name(key: &ObjectKey) -> String {
    // Neither part can contain an underscore.
    format!("{}_{}.yaml", key.namespace, key.name)
}

fn write(
    directory: &Path,
    key: &ObjectKey,
    desired: &Desired,
    actual: &mut BTreeMap<ObjectKey, Actual>,
) -> io::Result<()> {
    let text = serde_saphyr::to_string(&desired.object(key)).map_err(io::Error::other)?;
    let temporary = directory.join(format!(".{}.tmp", file_name(key)));
    fs::write(&temporary, text)?;
    fs::rename(&temporary, directory.join(file_name(key)))?;
    let labels = BTreeMap::from([(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned())]);
    actual.insert(
        key.clone(),
        Actual {
            labels,
            spec: desired.spec(),
        },
    );
    tracing::info!(object = %key, revision = desired.revision, "written");
    Ok(())
}

fn remove(directory: &Path, key: &ObjectKey, actual: &mut BTreeMap<ObjectKey, Actual>) -> io::Result<()> {
    fs::remove_file(directory.join(file_name(key)))?;
    actual.remove(key);
    tracing::info!(object = %key, "removed");
    Ok(())
}

/// What is there: files of the form we write. A file that cannot be read as an object is somebody else's.
fn read(directory: &Path) -> io::Result<BTreeMap<ObjectKey, Actual>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let Some((namespace, rest)) = name.split_once('_') else {
            continue;
        };
        let Some(name) = rest.strip_suffix(".yaml") else {
            continue;
        };
        let object: Value = fs::read_to_string(&path)
            .ok()
            .and_then(|text| serde_saphyr::from_str(&text).ok())
            .unwrap_or_default();
        let labels = object.pointer("/metadata/labels").cloned().unwrap_or_default();
        let actual = Actual {
            labels: serde_json::from_value(labels).unwrap_or_default(),
            spec: object.get("spec").cloned().unwrap_or_default(),
        };
        found.insert(
            ObjectKey {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            },
            actual,
        );
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
