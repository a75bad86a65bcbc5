//! `federator demo` as its users meet it: the real executable, its output, its exit codes, and what it leaves behind.
//! The transcript in `once.txt` is rewritten by `UPDATE_GOLDEN=1`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod run;

use run::{Demo, Live};
use std::{fs, path::Path};

#[test]
fn once_shows_everything_and_is_right() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/once.txt");
    let ended = Demo::new(&["--once"]).output();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{}", ended.stdout);
    let transcript = redacted(&ended.stdout);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, &transcript).unwrap();
    }
    let written = fs::read_to_string(&golden).unwrap_or_default();
    assert_eq!(transcript, written, "if it is meant, rewrite it: UPDATE_GOLDEN=1 cargo xtask test --only plain");
}

#[test]
fn every_place_has_its_own_answers() {
    for (place, moves, silent) in [
        ("east", "cart.shop.global in west", "nothing: 2 endpoints of south: on network n2"),
        ("west", "cart.shop.global in east", "nothing: 2 endpoints of south: on network n2"),
        ("south", "payments.shop.global in south", "nothing: 2 endpoints of east: on network n1"),
    ] {
        let ended = Demo::new(&["--once", "--as", place]).output();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        for part in [moves, silent, &format!("answered as in {place}.")] {
            assert!(ended.stdout.contains(part), "{part} in {}", ended.stdout);
        }
    }
}

#[test]
fn an_endpoint_moves_until_ctrl_c() {
    let mut demo = Demo::new(&[]).spawn();
    let first = demo.line_with("cart.shop.global in west 10.20.1.11 -> 10.20.1.100, answered after");
    let second = demo.line_with("cart.shop.global in west 10.20.1.100 -> 10.20.1.101, answered after");
    assert_ne!(first.split(':').next(), second.split(':').next(), "each change has a revision of its own");
    assert_eq!(demo.interrupt(), Some(0), "and nothing is left behind");
}

#[test]
fn manifests_of_ones_own_are_edited() {
    let manifests = manifests();
    let directory = manifests.path();
    let mut demo = Live::of(directory, &["--as", "west"]);
    demo.line_with("Edit the manifests");
    let cart = directory.join("east/cart-endpoints.yaml");
    put(&cart, &fs::read_to_string(&cart).unwrap().replace("10.10.1.11", "10.10.1.77"));
    demo.line_with(": shop/cart east +10.10.1.77 ready, east -10.10.1.11");
    put(&cart, "broken: [");
    demo.line_with("cart-endpoints.yaml: ");
    put(&cart, "# nothing any more");
    demo.line_with(": shop/cart east -10.10.1.77, east -10.10.2.11");
    fs::remove_file(directory.join("south/payments.yaml")).unwrap();
    demo.line_with(": shop/payments gone");
    assert_eq!(demo.interrupt(), Some(0));
    assert!(directory.join("west/catalog.yaml").exists(), "what is the user's stays");
}

#[test]
fn a_broken_file_is_named_and_the_others_go_on() {
    let manifests = manifests();
    fs::write(manifests.path().join("west/broken.yaml"), "kind: Service\n  name: [").unwrap();
    let ended = Demo::of(manifests.path(), &["--once"]).output();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{}", ended.stdout);
    let named: Vec<&str> = ended.stdout.lines().filter(|line| line.starts_with("left out: ")).collect();
    assert!(named.len() == 1 && named[0].contains("west/broken.yaml: ") && named[0].contains("line "), "{named:?}");
    assert!(ended.stdout.contains("10.10.1.11 10.10.2.11 10.20.1.11 10.20.2.11"), "{}", ended.stdout);
}

#[test]
fn clusters_that_name_no_network_share_one() {
    let manifests = manifests();
    for cluster in ["east", "south", "west"] {
        fs::remove_file(manifests.path().join(cluster).join("network")).unwrap();
    }
    let ended = Demo::of(manifests.path(), &["--once"]).output();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.starts_with("Clusters: east, south, west. ") && !ended.stdout.contains("nothing: "));
}

#[test]
fn a_wrong_use_is_one_line() {
    let (empty, strange) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(strange.path().join("Not_An_Id")).unwrap();
    let file = empty.path().join("..").join("absent");
    for (args, says) in [
        (&["--dir", file.to_str().unwrap()][..], "No such file or directory"),
        (&["--dir", "/dev/null"], "Not a directory"),
        (&["--dir", empty.path().to_str().unwrap()], "no sub-directory in it"),
        (&["--dir", strange.path().to_str().unwrap()], "`Not_An_Id` is not a DNS label"),
        (&["--as", "nowhere"], "--as nowhere: no such cluster; there are east, south, west"),
    ] {
        let ended = Demo::new(args).output();
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(says) && ended.stderr.lines().count() == 1, "{args:?}: {}", ended.stderr);
    }
}

/// The manifests that the demo brings along, in a directory to edit.
fn manifests() -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../federator/demo");
    for cluster in fs::read_dir(source).unwrap().map(Result::unwrap) {
        let to = copy.path().join(cluster.file_name());
        fs::create_dir(&to).unwrap();
        for file in fs::read_dir(cluster.path()).unwrap().map(Result::unwrap) {
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
    copy
}

/// Replaces a file as a whole, as an editor does.
fn put(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

/// Numbers that differ from run to run, by what stands before them.
fn redacted(text: &str) -> String {
    let mut text = text.to_owned();
    for before in [" -p ", "127.0.0.1:", "revision ", "answered after "] {
        let mut parts = text.split(before);
        let mut clean = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let rest = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '+');
            clean += before;
            clean += if rest.len() < part.len() { "N" } else { "" };
            clean += rest;
        }
        text = clean;
    }
    text
}
