//! `federator render` of an agent whose clusters are directories: what it prints, and what it says when it cannot. The
//! objects in `rendered.yaml` are rewritten by `UPDATE_GOLDEN=1`.

use crate::{
    WEB, api,
    daemon::{Daemon, Ended, Scene, wait},
};
use std::{fs, path::Path};

/// What an agent prints that emits into a directory of its own.
fn rendered(scene: &Scene, daemon: &Daemon) -> String {
    let ended = wait("it knows what it emits", || {
        let ended = render(scene, daemon);
        anyhow::ensure!(ended.code == Some(0), "{ended:?}");
        Ok(ended)
    });
    ended.stdout
}

fn render(scene: &Scene, daemon: &Daemon) -> Ended {
    scene.command(&["render", "--agent", &format!("http://{}", daemon.admin())])
}

#[test]
fn one_fleet_is_one_text() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("daemon/rendered.yaml");
    let scene = Scene::new();
    let east = scene.cluster("east", &[("web.yaml", WEB)]);
    let west = scene.cluster("west", &[("web.yaml", &WEB.replace("10.1.0.1", "10.2.0.1")), ("api.yaml", &api())]);
    let out = scene.path().join("out");
    let emit = format!("emit: {{directory: {}}}\n", out.display());
    let texts: Vec<String> = (0..2)
        .map(|_| {
            let daemon = Daemon::start_of(&scene, &[("east", &east), ("west", &west)], &emit);
            daemon.answers("web.demo.global", &["10.1.0.1", "10.2.0.1"]);
            let text = rendered(&scene, &daemon);
            assert_eq!(text, rendered(&scene, &daemon));
            daemon.terminate();
            text
        })
        .collect();
    assert_eq!(texts[0], texts[1], "another process that has seen the same");

    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, &texts[0]).unwrap();
    }
    let written = fs::read_to_string(&golden).unwrap_or_default();
    assert_eq!(texts[0], written, "if it is meant, rewrite it: UPDATE_GOLDEN=1 cargo xtask test --only plain");

    // The same as in the files, but for since when.
    let mut files: Vec<_> =
        fs::read_dir(&out).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect();
    let since = |line: &&str| !line.contains("annotations:") && !line.contains("federator.io/revision");
    for file in &mut files {
        *file = file.lines().filter(since).map(|line| format!("{line}\n")).collect();
    }
    files.sort();
    let mut documents: Vec<_> = texts[0].split("---\n").collect();
    documents.sort_unstable();
    assert_eq!(documents, files);
}

#[test]
fn what_cannot_be_rendered_is_one_line() {
    let scene = Scene::new();
    let east = scene.cluster("east", &[("web.yaml", WEB)]);
    let daemon = Daemon::start(&scene, &east);
    daemon.answers("web.demo.global", &["10.1.0.1"]);
    let nothing = render(&scene, &daemon);
    assert_eq!((nothing.code, nothing.stdout.as_str()), (Some(1), ""), "{nothing:?}");
    assert!(nothing.stderr.contains("this agent emits nothing: set `emit.kubernetes`"), "{nothing:?}");
    daemon.terminate();

    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let unreachable = scene.command(&["render", "--agent", &format!("http://{free}")]);
    assert_eq!(unreachable.code, Some(1), "{unreachable:?}");
    assert!(unreachable.stderr.contains("the agent cannot be reached"), "{unreachable:?}");
    for typed in ["localhost:9153", "https://localhost:9153", "http://"] {
        let misuse = scene.command(&["render", "--agent", typed]);
        assert_eq!(misuse.code, Some(2), "{misuse:?}");
        assert_eq!(misuse.stderr.lines().count(), 1, "{misuse:?}");
        assert!(misuse.stderr.contains("--agent"), "{misuse:?}");
    }
}

#[test]
fn it_does_not_render_before_everything_was_seen() {
    let scene = Scene::new();
    let (east, west) =
        (scene.cluster("east", &[("web.yaml", WEB)]), scene.cluster("west", &[("web.yaml", "kind: [\n")]));
    let emit = format!("emit: {{directory: {}}}\n", scene.path().join("out").display());
    let daemon = Daemon::start_of(&scene, &[("east", &east), ("west", &west)], &emit);
    let too_early = wait("the store was read", || {
        let ended = render(&scene, &daemon);
        anyhow::ensure!(!ended.stderr.contains("store") && !ended.stderr.contains("east"), "{ended:?}");
        Ok(ended)
    });
    assert_eq!((too_early.code, too_early.stdout.as_str()), (Some(1), ""), "{too_early:?}");
    assert!(too_early.stderr.contains("cluster west was not seen whole yet"), "{too_early:?}");
    fs::write(west.join("web.yaml"), WEB.replace("10.1.0.1", "10.2.0.1")).unwrap();
    assert!(rendered(&scene, &daemon).contains("10.2.0.1"));
}
