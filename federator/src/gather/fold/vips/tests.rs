//! A pair that does not agree is used by nobody and shown, in whatever order its keys came; the others go on.

use super::*;
use crate::{
    store::{Batch, Entry, Snapshot},
    testing::{head, key},
};
use model::record::Record as _;
use proptest::prelude::*;
use std::collections::BTreeMap;

type Writes = Vec<(String, Option<Vec<u8>>)>;

/// The virtual addresses whose IPv4 one is `240.64.0.<n>`.
fn vip(n: u8) -> Vip {
    Vip { v4: [240, 64, 0, n].into(), v6: [0xfd66, 0, 0, 0, 0, 0, 0, n.into()].into() }
}

/// `host:n` is a host with addresses, `n:host` its IPv4 address and `6n:host` its IPv6 address; hosts are services of
/// `demo`, or have a dot. Nothing behind the colon is no key.
fn write(text: &str) -> (String, Option<Vec<u8>>) {
    let host = |name: &str| if name.contains('.') { name.to_owned() } else { format!("{name}.demo.global") };
    let (left, right) = text.split_once(':').expect("a colon");
    let by_host = || VipHost(host(right)).encode();
    let (key, value) = match (left.parse::<u8>(), left.strip_prefix('6').map(str::parse::<u8>)) {
        (_, Some(Ok(n))) => (format!("vips/addresses/{}", vip(n).v6), by_host()),
        (Ok(n), _) => (format!("vips/addresses/{}", vip(n).v4), by_host()),
        _ => (format!("vips/hosts/{}", host(left)), right.parse().map(|n| vip(n).encode()).unwrap_or_default()),
    };
    (key, (!right.is_empty()).then_some(value))
}

fn writes(text: &str) -> Writes {
    text.split_whitespace().map(write).collect()
}

/// A fold that knows the services `demo/a`, `demo/b` and `demo/c`.
fn fold() -> Fold {
    let mut fold = Fold::new(&"global".into());
    let heads = ["a", "b", "c"].map(|name| (format!("records/east/demo/{name}/head"), Some(head("http:80").encode())));
    apply(&mut fold, &heads);
    fold
}

fn entry(value: &[u8], modified: u64) -> Entry {
    Entry { value: value.to_vec(), created: modified, modified }
}

fn apply(fold: &mut Fold, writes: &[(String, Option<Vec<u8>>)]) {
    let revision = fold.position().unwrap_or_default() + 1;
    let change =
        |(key, value): &(String, Option<Vec<u8>>)| (key.clone(), value.as_ref().map(|value| entry(value, revision)));
    fold.apply(&Batch { revision, changes: writes.iter().map(change).collect() });
}

/// The services with a virtual address, and the keys that are set aside, without what all have in common.
fn shown(fold: &Fold) -> (String, String) {
    let services = fold.view().services().iter();
    let served = services.filter_map(|(key, service)| Some(format!("{}:{}", key.name, service.vip?.v4.octets()[3])));
    let short = |key: &String| key.replace("vips/", "").replace(".demo.global", "").replace("240.64.0.", "");
    let aside = fold.result().quarantined.keys().map(short).collect::<Vec<_>>().join(" ");
    (served.collect::<Vec<_>>().join(" "), aside)
}

#[test]
fn a_pair_is_used_where_both_keys_say_the_same() {
    let check = |text: &str, served: &str, aside: &str| {
        let mut fold = fold();
        apply(&mut fold, &writes(text));
        assert_eq!(shown(&fold), (served.to_owned(), aside.to_owned()), "{text}");
    };
    let a = "a:1 1:a 61:a";
    check(a, "a:1", "");
    // Two hosts say that they have it: it is whose the address says.
    check(&format!("{a} b:1"), "a:1", "hosts/b");
    // Each has one: that is none.
    check("a:1 b:1 1:a 61:b", "", "hosts/a hosts/b");
    // Half of it is nothing.
    check("a:1", "", "hosts/a");
    check("a:1 1:a", "", "hosts/a");
    check("1:a 61:a", "", "addresses/1 addresses/fd66::1");
    check("a:2 2:a 62:a 1:a", "a:2", "addresses/1");
    // An address is another zone's host's, or nobody knows whose.
    check("a:1 1:x.y.example 61:a", "", "hosts/a");
    check("a:x 1:a 61:a", "", "addresses/1 addresses/fd66::1 hosts/a");
    // What another zone's hosts have is for others to judge.
    check(&format!("{a} 2:x.y.example"), "a:1", "");
}

#[test]
fn a_pair_heals_when_its_counterpart_does() {
    let mut fold = fold();
    let mut step = |text: &str, served: &str, aside: &str| {
        apply(&mut fold, &writes(text));
        assert_eq!(shown(&fold), (served.to_owned(), aside.to_owned()), "{text}");
    };
    step("a:1 1:a 61:a", "a:1", "");
    step("1:b", "", "addresses/1 hosts/a");
    step("1:a", "a:1", "");
    step("b:1", "a:1", "hosts/b");
    step("b:2 2:b 62:b", "a:1 b:2", "");
    step("a:2", "b:2", "addresses/1 addresses/fd66::1 hosts/a");
    step("1: 61:", "b:2", "hosts/a");
    step("a:", "b:2", "");
    step("2: 62: b:", "", "");
}

#[test]
fn the_reason_says_which_key_lacks_what() {
    let mut fold = fold();
    apply(&mut fold, &writes("a:1 b:1 1:a 61:a 3:c"));
    let result = fold.result();
    assert_eq!(
        result.quarantined.iter().map(|(key, reason)| format!("{key}: {reason}")).collect::<Vec<_>>(),
        [
            "vips/addresses/240.64.0.3: vips/hosts/c.demo.global does not say so: the address is of nobody",
            "vips/hosts/b.demo.global: vips/addresses/240.64.0.1 does not say so: b.demo.global has no virtual address",
        ]
    );
}

proptest! {
    /// Whatever stands in the store: however its keys came, they are judged alike; and no two services share an address.
    #[test]
    fn the_order_of_arrival_does_not_matter(
        history in prop::collection::vec(("[abc]", 1..3_u8, 0..4_u8), 1..24),
        cuts in prop::collection::vec(1..4_usize, 24),
    ) {
        let text = |(name, n, kind): &(String, u8, u8)| match kind {
            0 => format!("{name}:{n}"),
            1 => format!("{n}:{name}"),
            2 => format!("6{n}:{name}"),
            _ => format!("{name}:"),
        };
        let history: Writes = history.iter().map(|said| write(&text(said))).collect();
        let last: BTreeMap<&String, &Option<Vec<u8>>> = history.iter().map(|(key, value)| (key, value)).collect();

        let mut at_once = fold();
        apply(&mut at_once, &history);
        let mut by_pieces = fold();
        let mut rest = &history[..];
        for cut in cuts {
            let (piece, others) = rest.split_at(cut.min(rest.len()));
            apply(&mut by_pieces, piece);
            rest = others;
        }
        apply(&mut by_pieces, rest);
        let mut anew = fold();
        let heads = ["a", "b", "c"].map(|name| (format!("records/east/demo/{name}/head"), entry(&head("http:80").encode(), 1)));
        let stands = last.iter().filter_map(|(key, value)| Some(((*key).clone(), entry(value.as_ref()?, 2))));
        anew.replace(&Snapshot { revision: 2, entries: stands.chain(heads).collect() });

        let expected = shown(&at_once);
        for other in [&by_pieces, &anew] {
            prop_assert_eq!(&shown(other), &expected);
            prop_assert_eq!(&other.result().quarantined, &at_once.result().quarantined);
        }
        for name in ["a", "b", "c"] {
            let says = |key: String| last.get(&key).and_then(|value| value.as_ref());
            let host = format!("{name}.demo.global");
            let vip = says(format!("vips/hosts/{host}")).and_then(|value| Vip::decode(value).ok());
            let is_its = |vip: &Vip| {
                let addresses = [vip.v4.to_string(), vip.v6.to_string()];
                addresses.iter().all(|at| says(format!("vips/addresses/{at}")) == Some(&VipHost(host.clone()).encode()))
            };
            let served = at_once.view().services().get(&key(&format!("demo/{name}"))).and_then(|service| service.vip);
            prop_assert_eq!(served, vip.filter(is_its));
        }
    }
}
