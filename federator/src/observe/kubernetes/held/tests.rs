//! What is believed when: of an API server that goes on as usual, and of one whose storage went back.

use super::*;

fn name(name: &str) -> ObjectName {
    ObjectName { kind: Kind::Service, namespace: "shop".into(), name: name.into() }
}

fn held(objects: &[(&str, u64)]) -> Held {
    let mut held = Held::default();
    held.begin(Kind::Service);
    for (object, version) in objects {
        assert!(held.see(&name(object), *version, Via::List));
    }
    held
}

#[test]
fn only_what_is_newer_is_news() {
    let mut held = held(&[("a", 10)]);
    assert!(!held.see(&name("a"), 10, Via::List));
    assert!(!held.see(&name("a"), 9, Via::Watch));
    assert!(held.see(&name("a"), 11, Via::Watch));
    assert!(held.see(&name("a"), 0, Via::Watch), "what cannot be compared is believed");
    assert_eq!(held.highest(Kind::Service), 11);
}

#[test]
fn what_a_list_does_not_name_is_missing() {
    let mut held = held(&[("a", 10), ("b", 11)]);
    held.begin(Kind::Service);
    held.see(&name("b"), 11, Via::List);
    assert_eq!(held.missing(Kind::Service), HashSet::from([name("a")]));
    held.see(&name("c"), 12, Via::Watch);
    assert_eq!(held.missing(Kind::Service), HashSet::from([name("a")]));
}

#[test]
fn a_deletion_that_came_late_is_of_something_else() {
    let mut held = held(&[("a", 10)]);
    assert!(!held.gone(&name("a"), 9));
    assert!(held.gone(&name("a"), 12));
    assert!(!held.gone(&name("a"), 13), "it is gone already");
}

#[test]
fn after_a_roll_back_only_the_new_world_is_believed() {
    let mut held = held(&[("lost", 50), ("reverted", 60), ("same", 10), ("changed", 20)]);
    held.roll_back(40);
    held.lists_lie(true);
    assert_eq!(held.remembered(), 4);
    // The old world is still listed.
    assert!(!held.see(&name("lost"), 50, Via::List));
    assert_eq!(held.remembered(), 4);
    // Gets tell what stands there: an earlier state, the same, and something new.
    assert!(!held.see(&name("reverted"), 30, Via::Get));
    assert!(!held.see(&name("same"), 10, Via::Get));
    assert!(held.see(&name("changed"), 41, Via::Get));
    assert_eq!(held.remembered(), 2);
    assert!(held.is_remembered(&name("lost")) && held.is_remembered(&name("reverted")));
    // The new world is listed, and lacks what was lost.
    held.lists_lie(false);
    held.begin(Kind::Service);
    for (object, version) in [("reverted", 30), ("same", 10), ("changed", 42)] {
        held.see(&name(object), version, Via::List);
    }
    assert_eq!(held.missing(Kind::Service), HashSet::new(), "that it is missing proves nothing");
    let mut remembered: Vec<_> = held.remembered_names().map(|name| &*name.name).collect();
    remembered.sort_unstable();
    assert_eq!(remembered, ["lost", "reverted"]);
    // Made again, it is of the new world, and may go again.
    assert!(held.see(&name("lost"), 45, Via::Watch));
    assert!(!held.gone(&name("reverted"), 30));
    assert!(held.gone(&name("reverted"), 46));
    assert_eq!(held.remembered(), 0);
}

#[test]
fn the_newest_are_known() {
    let mut held = Held::default();
    for n in 1..=40 {
        held.see(&name(&format!("s{n}")), n, Via::Watch);
    }
    held.see(&name("s30"), 41, Via::Watch);
    held.gone(&name("s40"), 42);
    let newest: Vec<_> = held.newest().take(3).map(|name| &*name.name).collect();
    assert_eq!(newest, ["s30", "s39", "s38"]);
}
