//! Proves that what is noted is on the disk soon, that nothing is written behind a gap, and that a disk in trouble is
//! said and outlived.

use super::*;
use crate::snapshot::{
    Found,
    files::tests::{Room, at_second, entry, identity, shown, terms, whole},
};
use std::path::PathBuf;
use tempfile::TempDir;
use tokio::task::JoinSet;

/// A keeper that runs on a directory of its own.
struct Kept {
    _home: TempDir,
    directory: PathBuf,
    room: Room,
    notes: Notes,
    status: watch::Receiver<Status>,
    stop: CancellationToken,
    task: JoinSet<io::Result<()>>,
}

fn clock() -> SystemTime {
    at_second(1000)
}

fn batch(revision: u64, key: &str, value: &str) -> Batch {
    Batch { revision, changes: vec![(key.to_owned(), Some(entry(value)))] }
}

/// A keeper that found nothing.
fn start() -> Kept {
    let home = tempfile::tempdir().unwrap();
    start_in(home, |_| {})
}

/// A keeper that goes on with what `prepare` left.
fn start_in(home: TempDir, prepare: impl FnOnce(&mut Files)) -> Kept {
    let directory = home.path().to_owned();
    let mut files = Files::new(directory.clone(), identity());
    prepare(&mut files);
    let room = files.room.clone();
    let begin =
        Status { position: files.load(&terms()).unwrap().map_or(0, |loaded| loaded.position), ..Status::default() };
    let (keeper, notes, status) = Keeper::new(files, None, begin, clock);
    let stop = CancellationToken::new();
    let mut task = JoinSet::new();
    task.spawn(keeper.run(stop.clone()));
    Kept { _home: home, directory, room, notes, status, stop, task }
}

// === impl Kept ===

impl Kept {
    async fn until(&mut self, what: impl Fn(&Status) -> bool) -> Status {
        self.status.wait_for(|status| what(status)).await.unwrap().clone()
    }

    async fn at(&mut self, position: u64) {
        self.until(|status| status.position == position && status.stand == Stand::Kept).await;
    }

    fn is(&self, expected: &str) {
        assert_eq!(shown(&self.directory).unwrap().unwrap_or_default(), expected);
    }

    async fn stop(mut self) -> TempDir {
        self.stop.cancel();
        self.task.join_next().await.unwrap().unwrap().unwrap();
        self._home
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_noted_is_written() {
    let mut kept = start();
    assert_eq!(kept.status.borrow().stand, Stand::Waiting);
    kept.notes.wanted().await;
    // Changes of nobody knows what are of no use.
    kept.notes.changed(batch(1, "a", "0"));
    kept.notes.replaced(whole(2, "a=1"));
    kept.notes.changed(batch(3, "b", "2"));
    kept.at(3).await;
    kept.is("3: a=1 b=2");
    let before = kept.status.borrow().bytes;
    for revision in 4..100 {
        kept.notes.changed(batch(revision, "b", "3"));
    }
    kept.at(99).await;
    kept.is("99: a=1 b=3");
    let status = kept.status.borrow().clone();
    assert!(status.bytes < before + 100, "only the last change of a key is written: {status:?}");
    assert_eq!((status.written, status.trouble), (Some(clock()), None));
}

#[tokio::test(start_paused = true)]
async fn a_stop_writes_what_is_left_and_the_next_start_goes_on_there() {
    let mut kept = start();
    kept.notes.replaced(whole(1, "a=1"));
    kept.at(1).await;
    kept.notes.changed(batch(2, "b", "2"));
    let home = kept.stop().await;
    let mut kept = start_in(home, |_| {});
    kept.is("2: a=1 b=2");
    assert_eq!(kept.status.borrow().stand, Stand::Kept);
    kept.notes.changed(batch(3, "c", "3"));
    kept.at(3).await;
    kept.is("3: a=1 b=2 c=3");
}

#[tokio::test(start_paused = true)]
async fn a_state_that_stays_is_confirmed_while_the_store_is_followed() {
    let mut kept = start();
    kept.notes.replaced(whole(1, "a=1"));
    kept.notes.followed(true);
    kept.at(1).await;
    let first = kept.status.borrow().bytes;
    let second = kept.until(|status| status.bytes > first).await.bytes;
    kept.until(|status| status.bytes > second).await;
    kept.notes.followed(false);
    // What may be on its way is written before this is.
    kept.notes.changed(batch(2, "b", "2"));
    kept.at(2).await;
    let last = kept.status.borrow().bytes;
    tokio::time::sleep(10 * CONFIRM).await;
    assert_eq!(kept.status.borrow().bytes, last);
    kept.is("2: a=1 b=2");
}

#[tokio::test(start_paused = true)]
async fn too_much_is_let_go_and_a_whole_state_asked_for() {
    let mut kept = start();
    kept.notes.replaced(whole(1, "a=1"));
    kept.at(1).await;
    let large = "x".repeat(1 << 20);
    for revision in 2..100 {
        kept.notes.changed(batch(revision, &format!("k{revision}"), &large));
    }
    kept.notes.wanted().await;
    kept.until(|status| status.stand == Stand::Behind).await;
    kept.notes.changed(batch(100, "late", "1"));
    kept.is("1: a=1");
    kept.notes.replaced(whole(101, "a=2"));
    kept.notes.changed(batch(102, "b", "3"));
    kept.at(102).await;
    kept.is("102: a=2 b=3");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_has_room_again_is_written_to_again() {
    let mut kept = start();
    kept.notes.replaced(whole(1, "a=1"));
    kept.at(1).await;
    // Some of a frame, and none of the next: neither is ever seen.
    kept.room.set(20);
    kept.notes.changed(batch(2, "b", "2"));
    let status = kept.until(|status| status.stand == Stand::Failing).await;
    assert!(status.trouble.is_some_and(|why| why.contains("/snapshot: no storage space")));
    assert_eq!(status.position, 1);
    kept.is("1: a=1");
    kept.notes.changed(batch(3, "c", "3"));
    tokio::time::sleep(3 * PAUSE_IN_TROUBLE).await;
    assert_eq!(kept.status.borrow().position, 1);
    kept.room.set(u64::MAX);
    kept.at(3).await;
    assert_eq!(kept.status.borrow().trouble, None);
    kept.is("3: a=1 b=2 c=3");
}

#[tokio::test(start_paused = true)]
async fn a_whole_state_that_could_not_be_written_is_asked_for_again() {
    let mut kept = start();
    kept.notes.replaced(whole(1, "a=1"));
    kept.at(1).await;
    kept.room.set(100);
    kept.notes.replaced(whole(2, "a=2"));
    kept.until(|status| status.stand == Stand::Failing).await;
    kept.is("1: a=1");
    kept.notes.changed(batch(3, "b", "3"));
    kept.room.set(u64::MAX);
    kept.notes.wanted().await;
    kept.is("1: a=1");
    kept.notes.replaced(whole(4, "a=2 b=3"));
    kept.at(4).await;
    kept.is("4: a=2 b=3");
}

#[tokio::test(start_paused = true)]
async fn where_another_process_writes_this_one_waits_for_its_turn() {
    let home = tempfile::tempdir().unwrap();
    let mut other = Files::new(home.path().to_owned(), identity());
    other.replace(&whole(1, "a=1").into(), clock()).unwrap();
    let mut kept = start_in(home, |_| {});
    kept.notes.wanted().await;
    kept.notes.replaced(whole(2, "a=2"));
    let status = kept.until(|status| status.stand == Stand::Failing).await;
    assert!(status.trouble.is_some_and(|why| why.contains("another agent")));
    kept.is("1: a=1");
    drop(other);
    kept.notes.wanted().await;
    kept.notes.replaced(whole(3, "a=3"));
    kept.at(3).await;
    kept.is("3: a=3");
}

#[tokio::test(start_paused = true)]
async fn notes_that_nobody_keeps_cost_nothing() {
    let notes = Notes::default();
    notes.replaced(whole(1, "a=1"));
    notes.changed(batch(2, "b", "2"));
    notes.followed(true);
    assert!(tokio::time::timeout(PAUSE, notes.wanted()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_was_given_is_written_as_it_came_and_followed_by_what_comes() {
    let other = tempfile::tempdir().unwrap();
    let mut theirs = Files::new(other.path().to_owned(), identity());
    theirs.replace(&whole(5, "a=1").into(), at_second(950)).unwrap();
    let Found { loaded, base, end, .. } = Found::open(&theirs.path()).unwrap();
    let given = Given { bytes: std::fs::read(theirs.path()).unwrap().into(), base, end };
    let home = tempfile::tempdir().unwrap();
    let files = Files::new(home.path().to_owned(), identity());
    let begin = Status { position: 5, written: Some(loaded.written), ..Status::default() };
    let (keeper, notes, mut status) = Keeper::new(files, Some(given), begin, clock);
    assert_eq!(status.borrow().stand, Stand::Waiting);
    let mut task = JoinSet::new();
    task.spawn(keeper.run(CancellationToken::new()));
    // It is no younger for having been copied.
    let first = status.wait_for(|status| status.stand == Stand::Kept).await.unwrap().clone();
    assert_eq!((first.position, first.written), (5, Some(at_second(950))));
    notes.changed(batch(6, "b", "2"));
    let second = status.wait_for(|status| status.position == 6).await.unwrap().clone();
    assert_eq!(second.written, Some(clock()));
    assert_eq!(shown(home.path()).unwrap().unwrap(), "6: a=1 b=2");
}

#[tokio::test(start_paused = true)]
async fn what_is_written_stays_while_what_comes_is_not_used() {
    let mut kept = start();
    kept.notes.replaced(whole(9, "a=1"));
    kept.at(9).await;
    kept.notes.followed(true);
    kept.notes.changed(batch(1, "a", "0"));
    kept.notes.interrupted();
    kept.notes.changed(batch(2, "a", "0"));
    kept.notes.wanted().await;
    kept.until(|status| status.stand == Stand::Behind).await;
    tokio::time::sleep(2 * CONFIRM).await;
    kept.is("9: a=1");
    kept.notes.replaced(whole(12, "a=1 b=2"));
    kept.at(12).await;
    kept.is("12: a=1 b=2");
}
