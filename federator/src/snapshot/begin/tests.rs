//! Proves which snapshot an agent begins with, and that it begins without one too.

use super::*;
use crate::{
    config,
    snapshot::{
        Stand,
        files::tests::{at_second, identity, whole},
    },
};
use std::{fs, net::Ipv4Addr, path::Path};

fn clock() -> SystemTime {
    at_second(1000)
}

async fn begun(directory: &Path, siblings: &[&str]) -> Begun {
    let config = config::Snapshot {
        directory: directory.to_owned(),
        max_age: Duration::from_secs(60),
        siblings: siblings.iter().map(|&sibling| sibling.to_owned()).collect(),
    };
    begin(Some(&config), identity(), (Ipv4Addr::LOCALHOST, 1).into(), clock).await
}

#[tokio::test]
async fn its_own_is_taken_first_and_what_is_wrong_is_said() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("snapshot").display().to_string();
    let Begun { loaded, kept, .. } = begun(home.path(), &[]).await;
    assert_eq!((loaded, kept.age()), (None, None));
    let status = kept.status.borrow().clone();
    assert_eq!(status, Status { stand: Stand::Waiting, ..Status::default() });

    let mut files = Files::new(home.path().to_owned(), identity());
    files.replace(&whole(5, "a=1").into(), at_second(970)).unwrap();
    drop(files);
    // Nobody is asked for what is here.
    let Begun { loaded, kept, .. } = begun(home.path(), &["nobody.invalid:1"]).await;
    assert_eq!(loaded.unwrap().position, 5);
    assert_eq!(kept.age(), Some(Duration::from_secs(30)));
    let status = kept.status.borrow().clone();
    assert_eq!((status.stand, status.position, status.began), (Stand::Kept, 5, Some(path.clone())));
    assert!(status.refused.is_empty() && status.bytes > 0);

    fs::write(&path, "cluster: east").unwrap();
    let Begun { loaded, kept, keeper, .. } = begun(home.path(), &["nobody.invalid:1"]).await;
    assert!(loaded.is_none() && keeper.is_some());
    let status = kept.status.borrow().clone();
    assert_eq!((status.stand, &*status.refused[&path]), (Stand::Waiting, "it is no snapshot"));
    assert!(status.refused["nobody.invalid:1"].starts_with("its name cannot be resolved"));
}

#[tokio::test]
async fn what_is_too_old_is_there_for_what_does_not_age() {
    let home = tempfile::tempdir().unwrap();
    let mut files = Files::new(home.path().to_owned(), identity());
    files.replace(&whole(5, "a=1").into(), at_second(900)).unwrap();
    drop(files);
    let Begun { loaded, outdated, kept, .. } = begun(home.path(), &[]).await;
    assert_eq!((loaded, outdated.map(|loaded| loaded.position)), (None, Some(5)));
    assert!(kept.status.borrow().refused.values().all(|why| why.starts_with("it is too old: 100 seconds")));
    assert_eq!(kept.status.borrow().refused.len(), 1);

    // Of what is of something else, nothing is.
    let mut foreign = identity();
    foreign.cluster = "foreign".to_owned();
    let mut files = Files::new(home.path().to_owned(), foreign);
    files.replace(&whole(5, "a=1").into(), at_second(900)).unwrap();
    drop(files);
    let Begun { loaded, outdated, .. } = begun(home.path(), &[]).await;
    assert_eq!((loaded, outdated), (None, None));
}

#[tokio::test]
async fn without_a_configuration_there_is_none() {
    let Begun { loaded, keeper, kept, .. } = begin(None, identity(), (Ipv4Addr::LOCALHOST, 1).into(), clock).await;
    assert!(loaded.is_none() && keeper.is_none() && kept.file.is_none());
    assert_eq!(kept.status.borrow().stand, Stand::Off);
}
