//! However Secrets come and go: an id has one holder, who keeps it while it names it; the roster at the end is that of
//! the Secrets that are there; and nothing leaves it because a list was short.

use super::*;
use proptest::prelude::*;

/// The Secrets that there are: of each when it was created, and its keys with the contents.
type World = BTreeMap<String, (i64, BTreeMap<&'static str, String>)>;

fn empty() -> Registrar<String> {
    let id = |text: &str| ClusterId::parse(text).expect("an id");
    let names = Names {
        home: id("home"),
        configured: BTreeSet::from([id("typed")]),
        aliases: BTreeMap::from([("arn".to_owned(), id("prod-eu"))]),
    };
    let parse = |bytes: &[u8]| match String::from_utf8_lossy(bytes) {
        text if text.starts_with("bad") => Err("`exec` is not allowed".to_owned()),
        text => Ok(text.into_owned()),
    };
    Registrar::new(names, Arc::new(parse), ["a".into(), "b".into()])
}

fn name(text: &str) -> SecretName {
    let (namespace, name) = text.split_once('/').expect("namespace/name");
    SecretName { namespace: namespace.into(), name: name.into() }
}

fn secret(text: &str, created: i64, data: &BTreeMap<&'static str, String>) -> RemoteSecret {
    let entry = |(key, content): (&&'static str, &String)| {
        ((*key).into(), Entry { id: (*key).into(), kubeconfig: content.clone().into_bytes() })
    };
    RemoteSecret { name: name(text), created, version: None, entries: data.iter().map(entry).collect() }
}

/// `a/s1: west=1 north=2`, created at 1.
fn read(text: &str) -> RemoteSecret {
    let (of, data) = text.split_once(':').expect("name: data");
    let pair = |pair: &'static str| pair.split_once('=').map(|(key, content)| (key, content.to_owned()));
    let created = of.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or_default();
    secret(of, created, &data.to_owned().leak().split_whitespace().filter_map(pair).collect())
}

/// One step: `begin a`, `list a/s1: west=1`, `done a`, `set a/s1: west=1`, `gone a/s1`, `confirm a/s1`,
/// `found a/s1: west=1`, `fail a`, `back`.
fn step(registrar: &mut Registrar<String>, text: &str) {
    let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
    let namespace: Arc<str> = rest.split('/').next().unwrap_or_default().into();
    match verb {
        "begin" => registrar.see(&namespace, Seen::Begin),
        "list" => registrar.see(&namespace, Seen::Listed(read(rest))),
        "done" => registrar.see(&namespace, Seen::Complete),
        "set" => registrar.see(&namespace, Seen::Changed(read(rest))),
        "gone" => registrar.see(&namespace, Seen::Gone(name(rest))),
        "fail" => registrar.see(&namespace, Seen::Trouble("403".to_owned())),
        "confirm" => registrar.confirm_gone(&name(rest)),
        "found" => registrar.found(read(rest)),
        "back" => registrar.went_back(),
        _ => panic!("{text}"),
    }
}

/// Members as `id=access@secret`, conditions as `of:Reason`.
fn shown(roster: &Roster<String>) -> String {
    let members = roster.members.iter().map(|(id, member)| format!("{id}={}@{}", member.access, member.secret));
    let conditions = roster.conditions.iter().flat_map(|(of, conditions)| {
        conditions.iter().map(move |(reason, _)| format!("{of}:{reason}")).collect::<Vec<_>>()
    });
    members.chain(conditions).collect::<Vec<_>>().join(" ")
}

/// After both namespaces were read and found empty, each step and the roster behind it.
#[track_caller]
fn check(steps: &[(&str, &str)]) {
    let mut registrar = empty();
    for start in ["begin a", "done a", "begin b", "done b"] {
        step(&mut registrar, start);
    }
    for (text, expected) in steps {
        step(&mut registrar, text);
        assert_eq!(shown(&registrar.roster()), *expected, "after {text}");
    }
}

#[test]
fn clusters_come_rotate_and_go() {
    check(&[
        ("set a/s1: west=1 home=1", "west=1@a/s1"),
        ("set a/s1: west=1 home=2", "west=1@a/s1"),
        ("set a/s1: west=2 north=1", "north=1@a/s1 west=2@a/s1"),
        ("set a/s1: north=1", "north=1@a/s1"),
        ("gone a/s1", ""),
    ]);
}

#[test]
fn a_kubeconfig_that_is_refused_takes_nothing_away() {
    check(&[
        ("set a/s1: west=bad", "west:KubeconfigRefused"),
        ("set a/s1: west=1", "west=1@a/s1"),
        ("set a/s1: west=bad", "west=1@a/s1 west:KubeconfigRefused"),
        ("set a/s1: west=bad2", "west=1@a/s1 west:KubeconfigRefused"),
        ("set a/s1: west=2", "west=2@a/s1"),
        ("gone a/s1", ""),
    ]);
}

#[test]
fn an_id_stays_with_who_named_it_first() {
    check(&[
        ("set a/s2: west=1", "west=1@a/s2"),
        ("set b/s1: west=2", "west=1@a/s2 west:DuplicateId"),
        ("set a/s2: west=3", "west=3@a/s2 west:DuplicateId"),
        // The other takes over in the same step.
        ("gone a/s2", "west=2@b/s1"),
        ("set a/s2: west=1", "west=2@b/s1 west:DuplicateId"),
        ("set b/s1:", "west=1@a/s2"),
        ("set b/s1: typed=1", "west=1@a/s2 typed:DuplicateId"),
    ]);
}

#[test]
fn what_is_no_id_needs_an_alias() {
    check(&[
        ("set a/s1: arn=1 UP=1 local=1", "prod-eu=1@a/s1 a/s1[UP]:IdRefused a/s1[local]:IdRefused"),
        ("set a/s1: arn=1 prod-eu=2", "prod-eu=1@a/s1 prod-eu:DuplicateId"),
    ]);
}

#[test]
fn a_short_list_removes_nobody() {
    check(&[
        ("set a/s1: west=1", "west=1@a/s1"),
        ("set b/s1: north=1", "north=1@b/s1 west=1@a/s1"),
        ("begin a", "north=1@b/s1 west=1@a/s1"),
        ("done a", "north=1@b/s1 west=1@a/s1 west:SecretMissing"),
        ("begin a", "north=1@b/s1 west=1@a/s1 west:SecretMissing"),
        ("list a/s1: west=1", "north=1@b/s1 west=1@a/s1"),
        ("done a", "north=1@b/s1 west=1@a/s1"),
        // One that is there cannot be confirmed to be gone: the answer is of an earlier time.
        ("confirm a/s1", "north=1@b/s1 west=1@a/s1"),
        ("begin a", "north=1@b/s1 west=1@a/s1"),
        ("done a", "north=1@b/s1 west=1@a/s1 west:SecretMissing"),
        ("found a/s1: west=2", "north=1@b/s1 west=2@a/s1"),
        ("begin a", "north=1@b/s1 west=2@a/s1"),
        ("done a", "north=1@b/s1 west=2@a/s1 west:SecretMissing"),
        ("set b/s2: west=3", "north=1@b/s1 west=2@a/s1 west:DuplicateId west:SecretMissing"),
        ("confirm a/s1", "north=1@b/s1 west=3@b/s2"),
        // What was deleted is not brought back by an answer that is older.
        ("found a/s1: west=2", "north=1@b/s1 west=3@b/s2"),
    ]);
}

#[test]
fn nothing_is_decided_before_every_namespace_was_read_or_cannot_be() {
    for last in ["done b", "fail b"] {
        let mut registrar = empty();
        for text in ["begin a", "list a/s2: west=2", "done a", "begin b", "list b/s1: west=1"] {
            step(&mut registrar, text);
            assert_eq!(shown(&registrar.roster()), "", "after {text}");
        }
        step(&mut registrar, last);
        let roster = registrar.roster();
        assert_eq!(shown(&roster), "west=1@b/s1 west:DuplicateId");
        assert_eq!((roster.complete, roster.troubles.len()), if last == "done b" { (true, 0) } else { (false, 1) });
    }
}

#[test]
fn conditions_say_who_and_why() {
    let mut registrar = empty();
    for text in ["done a", "done b", "set a/s1: west=1", "set b/s1: west=2 X=", "set a/s1: west=bad", "done a", "back"]
    {
        step(&mut registrar, text);
    }
    let roster = registrar.roster();
    let message = |of: &str, reason| roster.conditions[of].get(reason).expect("a condition").to_owned();
    assert_eq!(
        message("west", Reason::DuplicateId),
        "named also by b/s1[west], which is not used: a/s1[west] named it first"
    );
    let refused = "Secret a/s1: `exec` is not allowed; the one before is used on";
    assert_eq!(message("west", Reason::KubeconfigRefused), refused);
    assert!(message("west", Reason::SecretMissing).contains("create it again"));
    assert!(message("b/s1[X]", Reason::IdRefused).contains("membership.aliases"));
}

#[derive(Clone, Debug)]
enum Act {
    /// A Secret changes or goes, and the watch says so or is cut.
    Change { secret: usize, keys: Vec<(usize, u8)>, there: bool, told: bool },
    /// A list, whole or cut short by the next.
    List { namespace: &'static str, whole: bool, reversed: bool },
    /// What is missing is asked for.
    Ask,
}

const SECRETS: [&str; 4] = ["a/s1", "a/s2", "b/s1", "b/s3"];
const KEYS: [&str; 5] = ["west", "north", "home", "arn", "UP"];

fn act() -> impl Strategy<Value = Act> {
    let keys = prop::collection::vec((0..KEYS.len(), 0..4_u8), 0..4);
    let change = (0..SECRETS.len(), keys, prop::bool::weighted(0.7), any::<bool>());
    let namespace = prop_oneof![Just("a"), Just("b")];
    prop_oneof![
        4 => change.prop_map(|(secret, keys, there, told)| Act::Change { secret, keys, there, told }),
        2 => (namespace, any::<bool>(), any::<bool>())
            .prop_map(|(namespace, whole, reversed)| Act::List { namespace, whole, reversed }),
        1 => Just(Act::Ask),
    ]
}

fn list(registrar: &mut Registrar<String>, world: &World, namespace: &str, whole: bool, reversed: bool) {
    let mut there: Vec<_> = world.iter().filter(|(name, _)| name.starts_with(namespace)).collect();
    if reversed {
        there.reverse();
    }
    registrar.see(&namespace.into(), Seen::Begin);
    for (name, (created, data)) in there {
        registrar.see(&namespace.into(), Seen::Listed(secret(name, *created, data)));
    }
    if whole {
        registrar.see(&namespace.into(), Seen::Complete);
    }
}

fn ask(registrar: &mut Registrar<String>, world: &World) {
    for name in registrar.missing() {
        match world.get(&name.to_string()) {
            Some((created, data)) => registrar.found(secret(&name.to_string(), *created, data)),
            None => registrar.confirm_gone(&name),
        }
    }
}

fn perform(registrar: &mut Registrar<String>, world: &mut World, act: &Act) {
    match act {
        Act::Change { secret: n, keys, there, told } => {
            let text = SECRETS[*n];
            let namespace: Arc<str> = text[..1].into();
            let contents = ["bad", "1", "2", "3"];
            if *there {
                let data = keys.iter().map(|(key, content)| (KEYS[*key], contents[usize::from(*content)].to_owned()));
                let created = world.get(text).map_or(7, |(created, _)| *created);
                world.insert(text.to_owned(), (created, data.collect()));
                if *told {
                    let (created, data) = &world[text];
                    registrar.see(&namespace, Seen::Changed(secret(text, *created, data)));
                }
            } else if world.remove(text).is_some() && *told {
                registrar.see(&namespace, Seen::Gone(name(text)));
            }
        }
        Act::List { namespace, whole, reversed } => list(registrar, world, namespace, *whole, *reversed),
        Act::Ask => ask(registrar, world),
    }
}

/// Whether a Secret that the registrar knows names a cluster.
fn names(registrar: &Registrar<String>, secret: &SecretName, id: &ClusterId) -> bool {
    let known = registrar.secrets.get(secret);
    known.is_some_and(|known| known.claims.values().any(|claim| claim.id.as_ref() == Ok(id)))
}

proptest! {
    #[test]
    fn any_history_comes_to_the_secrets_that_are_there(acts in prop::collection::vec(act(), 0..40)) {
        let (mut registrar, mut world) = (empty(), World::new());
        list(&mut registrar, &world, "a", true, false);
        list(&mut registrar, &world, "b", true, false);
        for act in &acts {
            let before = registrar.roster();
            let known: Vec<_> = registrar.secrets.keys().cloned().collect();
            perform(&mut registrar, &mut world, act);
            let after = registrar.roster();
            for (id, member) in &before.members {
                if names(&registrar, &member.secret, id) {
                    prop_assert_eq!(after.members.get(id).map(|now| &now.secret), Some(&member.secret));
                } else if registrar.secrets.keys().any(|secret| names(&registrar, secret, id)) {
                    let whole = after.members.contains_key(id) || after.conditions.contains_key(id.as_str());
                    prop_assert!(whole, "who is next takes over, or it is said why not");
                }
            }
            let kept = known.iter().all(|name| registrar.secrets.contains_key(name));
            prop_assert!(kept || !matches!(act, Act::List { .. }), "a list takes nothing away");
            prop_assert!(after.changes(&after).is_empty());
        }
        for namespace in ["a", "b"] {
            list(&mut registrar, &world, namespace, true, false);
        }
        ask(&mut registrar, &world);
        let came = registrar.roster();
        prop_assert!(registrar.missing().is_empty() && came.complete);

        let mut fresh = empty();
        list(&mut fresh, &world, "b", true, true);
        list(&mut fresh, &world, "a", true, true);
        let fresh = fresh.roster();
        let reasons = |roster: &Roster<String>| -> Vec<String> {
            let all = roster.conditions.iter();
            let all = all.flat_map(|(of, all)| all.iter().map(move |(reason, _)| format!("{of}:{reason}")).collect::<Vec<_>>());
            all.filter(|text| !text.ends_with("KubeconfigRefused")).collect()
        };
        prop_assert_eq!(reasons(&came), reasons(&fresh));
        for (id, member) in &came.members {
            let key = if id.as_str() == "prod-eu" { "arn" } else { id.as_str() };
            let contents: Vec<_> = world.iter().filter_map(|(name, (_, data))| Some((name, data.get(key)?))).collect();
            prop_assert!(contents.iter().any(|(name, _)| member.secret.to_string() == **name), "its Secret names it");
            if let [(_, content)] = &contents[..] && *content != "bad" {
                prop_assert_eq!(Some(member), fresh.members.get(id));
            }
        }
        for id in fresh.members.keys() {
            prop_assert!(came.members.contains_key(id) || came.conditions.contains_key(id.as_str()));
        }
    }

    #[test]
    fn the_first_lists_may_come_in_any_order(
        secrets in prop::collection::btree_map(
            prop::sample::select(SECRETS.to_vec()).prop_map(str::to_owned),
            (0..3_i64, prop::collection::btree_map(prop::sample::select(KEYS.to_vec()), "(bad|1|2)", 0..4)),
            0..5,
        ),
    ) {
        let mut rosters = Vec::new();
        for (order, reversed) in [(["a", "b"], false), (["b", "a"], true), (["a", "b"], true)] {
            let mut registrar = empty();
            for namespace in order {
                list(&mut registrar, &secrets, namespace, true, reversed);
            }
            rosters.push(registrar.roster());
        }
        prop_assert_eq!(&rosters[0], &rosters[1]);
        prop_assert_eq!(&rosters[0], &rosters[2]);
    }
}
