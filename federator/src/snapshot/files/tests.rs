//! Proves that whatever fails, and wherever a file is cut, there is a state that was there, or a refusal.

use super::*;
use crate::store::Snapshot;
use proptest::prelude::*;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};
use tempfile::TempDir;

/// What a volume still has room for, in bytes.
#[derive(Clone, Debug)]
pub(in crate::snapshot) struct Room(Arc<AtomicU64>);

impl Room {
    pub(in crate::snapshot) fn set(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn limit<'a>(&self, bytes: &'a [u8]) -> io::Result<&'a [u8]> {
        let room = self.0.load(Ordering::Relaxed);
        if room == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let fits = &bytes[..bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
        self.0.fetch_sub(fits.len() as u64, Ordering::Relaxed);
        Ok(fits)
    }
}

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(u64::MAX)))
    }
}

type Map = BTreeMap<String, Option<Entry>>;

/// What is done to files, and the room that there is for it.
#[derive(Clone, Debug)]
enum Act {
    Replace(Map),
    Append(Map),
    Merge,
}

pub(in crate::snapshot) fn identity() -> Identity {
    let [cluster, zone, store] = ["east", "global", "embedded"].map(str::to_owned);
    Identity { cluster, zone, store }
}

pub(in crate::snapshot) fn terms() -> Terms {
    Terms { identity: identity(), max_age: Duration::from_secs(100), now: at_second(1000) }
}

pub(in crate::snapshot) fn at_second(second: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(second)
}

pub(in crate::snapshot) fn entry(text: &str) -> Entry {
    Entry { value: text.into(), created: 1, modified: 2 }
}

/// `key=value` puts and `key` deletes.
fn map(text: &str) -> Map {
    let change = |change: &str| match change.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(entry(value))),
        None => (change.to_owned(), None),
    };
    text.split_whitespace().map(change).collect()
}

pub(in crate::snapshot) fn whole(revision: u64, text: &str) -> Snapshot {
    Snapshot { revision, entries: map(text).into_iter().filter_map(|(key, entry)| Some((key, entry?))).collect() }
}

/// What somebody else reads in a directory, as `key=value`, with its position in front.
pub(in crate::snapshot) fn shown(directory: &Path) -> Result<Option<String>, SnapshotError> {
    Ok(Files::new(directory.to_owned(), identity()).load(&terms())?.map(|loaded| show(&loaded)))
}

fn show(loaded: &Loaded) -> String {
    let entries = loaded.entries.iter();
    let entries = entries.map(|(key, entry)| format!(" {key}={}", String::from_utf8_lossy(&entry.value)));
    format!("{}:{}", loaded.position, entries.collect::<String>())
}

fn is(directory: &Path, expected: &str) {
    assert_eq!(shown(directory).unwrap().as_deref(), Some(expected));
}

fn files(home: &TempDir) -> Files {
    Files::new(home.path().join("snapshots"), identity())
}

fn any_act() -> impl Strategy<Value = (Act, Option<u64>)> {
    let map = || {
        let value = proptest::option::of("[a-z]{0,30}".prop_map(|text| entry(&text)));
        proptest::collection::btree_map("[a-d]", value, 0..5)
    };
    let act = prop_oneof![
        map().prop_map(Act::Replace),
        map().prop_map(Act::Append),
        map().prop_map(Act::Append),
        Just(Act::Merge)
    ];
    (act, proptest::option::of(0..400_u64))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_fails_the_last_state_that_was_written_is_there(acts in proptest::collection::vec(any_act(), 1..10)) {
        let home = tempfile::tempdir().unwrap();
        let mut files = files(&home);
        files.merge_above = 0;
        let directory = files.directory.clone();
        let mut state: Option<(u64, Map)> = None;
        for (position, (act, room)) in (1..).zip(acts) {
            files.room.set(room.unwrap_or(u64::MAX));
            let follows = files.is_current();
            let outcome = match &act {
                Act::Replace(entries) => {
                    let entries = entries.iter().filter_map(|(key, entry)| Some((key.clone(), entry.clone()?))).collect();
                    files.replace(&Snapshot { revision: position, entries }.into(), at_second(1000))
                }
                Act::Append(changes) => files.append(position, at_second(1000), changes),
                Act::Merge => files.merge(),
            };
            prop_assert!(outcome.is_ok() || room.is_some() || !follows, "{outcome:?}");
            match (outcome, act) {
                (Ok(()), Act::Replace(entries)) => state = Some((position, entries)),
                (Ok(()), Act::Append(changes)) => {
                    let (at, entries) = state.as_mut().unwrap();
                    entries.extend(changes);
                    *at = position;
                }
                // Without a base to stand on nothing can be appended.
                (Err(_), Act::Append(_) | Act::Merge) => prop_assert_eq!(files.is_current(), follows),
                (Err(_), Act::Replace(_)) => prop_assert!(!files.is_current()),
                (Ok(()), Act::Merge) => {}
            }
            let expected = state.as_ref().map(|(position, entries)| {
                let entries = entries.iter().filter_map(|(key, entry)| Some((key.clone(), entry.clone()?)));
                show(&Loaded { position: *position, written: UNIX_EPOCH, entries: entries.collect() })
            });
            prop_assert_eq!(shown(&directory).unwrap(), expected);
        }
    }
}

#[test]
fn a_long_log_becomes_part_of_the_base() {
    let home = tempfile::tempdir().unwrap();
    let mut files = files(&home);
    files.merge_above = 2000;
    files.replace(&whole(1, "b=1 d=2 e=3").into(), at_second(1000)).unwrap();
    files.append(2, at_second(1000), &map("a=0 d c=4 f=5")).unwrap();
    files.merge().unwrap();
    assert_eq!(files.bytes(), fs::metadata(files.path()).unwrap().len());
    let before = files.bytes();
    for position in 3..300 {
        files.append(position, at_second(1000), &map(&format!("b={position}"))).unwrap();
        files.merge().unwrap();
        assert!(files.bytes() < before + 3000, "at {position}: {}", files.bytes());
    }
    is(&files.directory, "299: a=0 b=299 c=4 e=3 f=5");
    assert!(!files.directory.join(NEXT).exists());
}

#[test]
fn a_cut_log_goes_on_where_it_was_cut() {
    let home = tempfile::tempdir().unwrap();
    let mut first = files(&home);
    first.replace(&whole(1, "a=1").into(), at_second(1000)).unwrap();
    first.append(2, at_second(1000), &map("b=2")).unwrap();
    let (end, path, directory) = (first.bytes(), first.path(), first.directory.clone());
    first.append(3, at_second(1000), &map("c=3")).unwrap();
    drop(first);
    File::options().write(true).open(&path).unwrap().set_len(end + 20).unwrap();
    let mut second = files(&home);
    assert_eq!(show(&second.load(&terms()).unwrap().unwrap()), "2: a=1 b=2");
    second.append(4, at_second(1000), &map("d=4")).unwrap();
    is(&directory, "4: a=1 b=2 d=4");
}

#[test]
fn what_is_refused_stays_until_there_is_something_better() {
    let home = tempfile::tempdir().unwrap();
    let mut files = files(&home);
    assert!(files.load(&terms()).unwrap().is_none());
    files.replace(&whole(1, "a=1").into(), at_second(1000)).unwrap();
    let directory = files.directory.clone();
    let refused = |terms: &Terms, says: &str| {
        let mut other = Files::new(directory.clone(), identity());
        assert_eq!(other.load(terms).unwrap_err().to_string(), says);
        assert!(!other.is_current());
    };
    let mut foreign = terms();
    foreign.identity.cluster = "west".to_owned();
    refused(&foreign, "it is foreign: its cluster is `east`, and this agent's is `west`");
    refused(
        &Terms { now: at_second(1101), ..terms() },
        "it is too old: 101 seconds, and snapshot.maxAgeSeconds is 100",
    );
    refused(&Terms { now: at_second(899), ..terms() }, "it is from the future, by 101 seconds: compare the clocks");
    for fine in [900, 1100] {
        let mut other = Files::new(directory.clone(), identity());
        assert!(other.load(&Terms { now: at_second(fine), ..terms() }).is_ok());
    }
    // Its age is that of the last thing that was written.
    files.append(1, at_second(1050), &Map::new()).unwrap();
    let mut other = Files::new(directory.clone(), identity());
    assert!(other.load(&Terms { now: at_second(1149), ..terms() }).is_ok());
    let bytes = fs::read(files.path()).unwrap();
    fs::write(files.path(), &bytes[..40]).unwrap();
    refused(&terms(), "it is torn: it ends at byte 12, within its base");
    files.replace(&whole(2, "b=2").into(), at_second(1000)).unwrap();
    is(&directory, "2: b=2");
}

#[test]
fn one_process_writes_and_others_read() {
    let home = tempfile::tempdir().unwrap();
    let mut first = files(&home);
    first.replace(&whole(1, "a=1").into(), at_second(1000)).unwrap();
    let mut second = files(&home);
    assert_eq!(show(&second.load(&terms()).unwrap().unwrap()), "1: a=1");
    assert!(!second.is_current());
    let error = second.replace(&whole(2, "b=2").into(), at_second(1000)).unwrap_err().to_string();
    assert!(error.contains("/lock: another agent writes its snapshot there"), "{error}");
    drop(first);
    second.replace(&whole(2, "b=2").into(), at_second(1000)).unwrap();
    is(&second.directory, "2: b=2");
}

#[test]
fn nothing_is_written_where_nobody_would_read_it() {
    let home = tempfile::tempdir().unwrap();
    let mut files = files(&home);
    files.replace(&whole(1, "a=1").into(), at_second(1000)).unwrap();
    fs::remove_file(files.path()).unwrap();
    let error = files.append(2, at_second(1000), &map("b=2")).unwrap_err().to_string();
    assert!(error.ends_with("snapshot: somebody took the snapshot away") && !files.is_current(), "{error}");
    files.replace(&whole(2, "a=1 b=2").into(), at_second(1000)).unwrap();
    is(&files.directory, "2: a=1 b=2");
}

#[test]
fn a_directory_that_cannot_be_had_is_named() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("file");
    fs::write(&path, "").unwrap();
    let mut files = Files::new(path.clone(), identity());
    let error = files.replace(&whole(1, "a=1").into(), at_second(1000)).unwrap_err().to_string();
    assert!(error.starts_with(&path.display().to_string()), "{error}");
    assert!(Files::new(path.join("below"), identity()).load(&terms()).is_err());
}
