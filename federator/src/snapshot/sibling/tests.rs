//! Proves that a snapshot is taken of a sibling that has a good one, and that the others cost a reason and little time.

use super::*;
use crate::snapshot::files::{
    Files,
    tests::{at_second, identity, terms, whole},
};
use axum::{Router, routing::get};
use std::path::PathBuf;
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinSet};

/// Where this agent is said to be.
const OWN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

/// Admin ports, which serve until this is dropped.
struct Siblings(JoinSet<io::Result<()>>);

impl Siblings {
    /// The address of one more, which gives this file.
    async fn add(&mut self, file: Option<PathBuf>) -> String {
        let router = Router::new().route("/snapshot", get(async move || give(file.as_deref()).await));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        self.0.spawn(async { axum::serve(listener, router).await });
        address
    }
}

/// A directory with the file of a snapshot, and its files.
fn kept() -> (TempDir, Files) {
    let home = tempfile::tempdir().unwrap();
    let mut files = Files::new(home.path().to_owned(), identity());
    let mut state = whole(5, "a=1");
    // More than is read at once, on either side.
    let large = crate::store::Entry { value: vec![7; 2 * CHUNK], created: 1, modified: 1 };
    state.entries.insert("b".to_owned(), large);
    files.replace(&state.into(), at_second(1000)).unwrap();
    (home, files)
}

async fn asked(siblings: &[String]) -> (Option<Taken>, BTreeMap<String, String>) {
    let mut refused = BTreeMap::new();
    let taken = ask(siblings, OWN, &terms(), &mut refused).await;
    (taken, refused)
}

#[tokio::test]
async fn the_one_that_has_a_good_one_is_found_among_others() {
    let mut siblings = Siblings(JoinSet::new());
    let (_home, files) = kept();
    let bytes = std::fs::read(files.path()).unwrap();
    let other = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        std::fs::write(other.path().join(name), bytes).unwrap();
        Some(other.path().join(name))
    };
    let torn = siblings.add(file("torn", &bytes[..bytes.len() / 2])).await;
    let mut damaged = bytes.clone();
    damaged[CHUNK] ^= 1;
    let broken = siblings.add(file("broken", &damaged)).await;
    let nothing = siblings.add(None).await;
    let not_yet = siblings.add(Some(other.path().join("none"))).await;
    let bad = [torn.clone(), broken.clone(), nothing.clone(), not_yet.clone(), "127.0.0.1:1".to_owned()];
    let (taken, refused) = asked(&bad).await;
    assert!(taken.is_none());
    let says = |who: &str, what: &str| assert!(refused[who].contains(what), "{refused:?}");
    says(&torn, "it is torn");
    says(&broken, "it is broken at byte");
    says(&nothing, "404 Not Found: no snapshot is kept here");
    says(&not_yet, "404 Not Found: no snapshot is written yet");
    // That is where this agent is itself.
    assert_eq!(refused.len(), 4, "{refused:?}");

    // What is being written behind the last whole frame is not taken over.
    let lengthened = [&bytes[..], &[7; 9]].concat();
    let good = siblings.add(file("good", &lengthened)).await;
    let (taken, _) = asked(&[&bad[..], std::slice::from_ref(&good)].concat()).await;
    let Taken { from, loaded, given } = taken.unwrap();
    assert_eq!((from, loaded.position, loaded.entries.len()), (good, 5, 2));
    assert_eq!(loaded.entries[1].1.value.len(), 2 * CHUNK);
    let here = tempfile::tempdir().unwrap();
    let mut own = Files::new(here.path().to_owned(), identity());
    own.adopt(&given).unwrap();
    assert!(own.is_current());
    assert_eq!(std::fs::read(own.path()).unwrap(), bytes);
}

#[tokio::test]
async fn what_would_be_refused_here_is_refused_of_a_sibling() {
    let (_home, files) = kept();
    let mut siblings = Siblings(JoinSet::new());
    let sibling = siblings.add(Some(files.path())).await;
    let mut refused = BTreeMap::new();
    let mut foreign = terms();
    foreign.identity.zone = "mesh".to_owned();
    assert!(ask(std::slice::from_ref(&sibling), OWN, &foreign, &mut refused).await.is_none());
    assert!(refused[&sibling].starts_with("it is foreign"), "{refused:?}");
}

#[tokio::test]
async fn one_that_cannot_be_reached_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let (taken, refused) = asked(&[address.clone(), "nobody.invalid:1".to_owned()]).await;
    assert!(taken.is_none());
    assert!(refused[&address].starts_with("it cannot be reached"), "{refused:?}");
    assert!(refused["nobody.invalid:1"].starts_with("its name cannot be resolved"), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn one_that_does_not_answer_is_not_waited_for() {
    // Its kernel takes connections, and nobody reads them.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (taken, refused) = asked(std::slice::from_ref(&address)).await;
    assert!(taken.is_none());
    assert_eq!(refused[&address], "no snapshot within 2 seconds");
}
