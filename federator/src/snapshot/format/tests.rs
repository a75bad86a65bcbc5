//! Proves that every snapshot comes back as it was written, that a cut leaves an earlier state or none, and that a
//! byte that changed is never believed.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

type State = BTreeMap<String, Entry>;
type Change = Vec<(String, Option<Entry>)>;

fn head() -> Head {
    let [cluster, zone, store] = ["east", "global", "embedded"].map(str::to_owned);
    Head { identity: Identity { cluster, zone, store }, position: 7, written: at(0) }
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn base(state: &State) -> (Vec<u8>, Mark) {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, &head()).unwrap();
    state.iter().try_for_each(|(key, entry)| writer.add(&Item::of(key, Some(entry)))).unwrap();
    let mark = writer.end().unwrap();
    assert_eq!(mark.length, bytes.len() as u64);
    (bytes, mark)
}

/// A base and its log, and every state that was written, each with where it ends.
fn written(state: &State, changes: &[Change]) -> (Vec<u8>, Vec<(usize, State)>) {
    let (mut bytes, mut mark) = base(state);
    let mut states = vec![(bytes.len(), state.clone())];
    let mut state = state.clone();
    for (n, change) in (1_u64..).zip(changes) {
        let (frame, after) = mark.batch(7 + n, at(n), change.iter().map(|(key, entry)| Item::of(key, entry.as_ref())));
        mark = after;
        bytes.extend(frame);
        apply(&mut state, change.iter().cloned());
        states.push((bytes.len(), state.clone()));
    }
    (bytes, states)
}

fn apply(state: &mut State, changes: impl Iterator<Item = (String, Option<Entry>)>) {
    for (key, entry) in changes {
        match entry {
            Some(entry) => _ = state.insert(key, entry),
            None => _ = state.remove(&key),
        }
    }
}

/// The state in bytes, whether something behind it was left aside, and how many batches came before.
fn read(bytes: &[u8]) -> Result<(State, bool, u64), ReadError> {
    let (mut reader, found) = Reader::open(bytes)?;
    assert_eq!(found, head());
    let mut state = State::new();
    let change = |item: Result<Item<'_>, ReadError>| item.map(|item| (item.key.to_owned(), item.to_entry()));
    while let Some(block) = reader.block()? {
        apply(&mut state, block.map(change).collect::<Result<Vec<_>, _>>()?.into_iter());
    }
    let mut batches = 0;
    while let Some(batch) = reader.batch()? {
        batches += 1;
        assert_eq!((batch.position, batch.written), (7 + batches, at(batches)));
        apply(&mut state, batch.items.map(change).collect::<Result<Vec<_>, _>>()?.into_iter());
    }
    assert!(reader.mark().length <= bytes.len() as u64);
    Ok((state, reader.is_torn(), batches))
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let value = prop_oneof![4 => proptest::collection::vec(any::<u8>(), 0..40), 1 => Just(vec![0; 9000])];
    (value, 1..99_u64, 0..9_u64).prop_map(|(value, created, more)| Entry { value, created, modified: created + more })
}

fn any_state() -> impl Strategy<Value = State> {
    proptest::collection::btree_map("[a-f]{1,3}", any_entry(), 0..12)
}

fn any_changes() -> impl Strategy<Value = Vec<Change>> {
    let change = ("[a-f]{1,2}", proptest::option::of(any_entry()));
    proptest::collection::vec(proptest::collection::vec(change, 0..4), 0..5)
}

proptest! {
    #[test]
    fn what_is_written_comes_back(state in any_state(), changes in any_changes()) {
        let (bytes, states) = written(&state, &changes);
        let (found, torn, batches) = read(&bytes).unwrap();
        prop_assert_eq!((&found, torn, batches), (&states.last().unwrap().1, false, changes.len() as u64));
    }

    #[test]
    fn a_cut_leaves_the_last_state_before_it(state in any_state(), changes in any_changes(), cut in any::<prop::sample::Index>()) {
        let (bytes, states) = written(&state, &changes);
        let cut = cut.index(bytes.len());
        for lengthened in [false, true] {
            // As a file is that was lengthened and not written before the machine went down; what was to be zeros is.
            let zeros = if lengthened { bytes[cut..].iter().take_while(|byte| **byte == 0).count() } else { 0 };
            let (cut, mut bytes) = (cut + zeros, bytes[..cut + zeros].to_vec());
            if lengthened {
                bytes.resize(cut + 5000, 0);
            }
            let whole = states.iter().rev().find(|(end, _)| *end <= cut);
            match (read(&bytes), whole) {
                (Ok((found, torn, _)), Some((end, state))) => {
                    prop_assert_eq!(&found, state);
                    prop_assert_eq!(torn, lengthened || *end < cut);
                }
                (Err(_), None) => {}
                (found, expected) => prop_assert!(false, "{found:?} instead of {expected:?}"),
            }
        }
    }

    #[test]
    fn a_byte_that_changed_is_not_believed(
        state in any_state(), changes in any_changes(), place in any::<prop::sample::Index>(), flip in 1..=255_u8,
    ) {
        let (mut bytes, states) = written(&state, &changes);
        let place = place.index(bytes.len());
        bytes[place] ^= flip;
        // Nobody can tell a last frame that broke from one that was not written to its end.
        let last = states.len().checked_sub(2).map(|n| &states[n]).filter(|(end, _)| *end <= place);
        match (read(&bytes), last) {
            (Ok((found, torn, _)), Some((_, state))) => prop_assert!(torn && found == *state),
            (Ok(found), None) => prop_assert!(false, "{found:?}"),
            (Err(_), _) => {}
        }
    }

    #[test]
    fn noise_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), behind in any::<bool>()) {
        let (mut all, _) = base(&State::new());
        let front = if behind { all.len() - 30 } else { 0 };
        all.truncate(front);
        all.extend(&bytes);
        prop_assert!(read(&all).is_err());
    }
}

#[test]
fn a_large_base_has_many_blocks() {
    let entry = |n: u64| Entry { value: vec![7; 3000], created: n, modified: n };
    let state: State = (0..400).map(|n| (format!("key{n:04}"), entry(n))).collect();
    let (mut bytes, _) = base(&state);
    assert_eq!(read(&bytes).unwrap().0, state);
    // Two whole blocks in each other's place have good checksums of their own, but not there.
    let frame = |at: usize| FRAME + u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let start = 12 + frame(12);
    let block = frame(start);
    let (first, second) = (start..start + block, start + block..start + 2 * block);
    let swapped = [&bytes[second.clone()], &bytes[first.clone()]].concat();
    bytes[first.start..second.end].copy_from_slice(&swapped);
    let refused = read(&bytes).unwrap_err();
    assert_eq!(refused.to_string(), format!("it is broken at byte {start}: a checksum"));
}

#[test]
fn a_refusal_says_what_is_wrong() {
    let check = |bytes: &[u8], says: &str| assert_eq!(read(bytes).unwrap_err().to_string(), says);
    let state = State::from([("k".to_owned(), Entry { value: vec![1], created: 2, modified: 3 })]);
    let (bytes, states) = written(&state, &[vec![("k".to_owned(), None)], vec![]]);
    let end = states[0].0;
    check(b"", "it is no snapshot");
    check(b"apiVersion: v1\nkind: List\n", "it is no snapshot");
    let mut other = bytes.clone();
    other[8] = 2;
    check(&other, "it is of version 2 of the format, and this federator reads version 1");
    check(&bytes[..end - 1], "it is torn: it ends at byte 110, within its base");
    let mut broken = bytes.clone();
    broken[end] ^= 1;
    check(&broken, "it is broken at byte 131: a length");
    let mut broken = bytes.clone();
    broken[end + FRAME] ^= 1;
    check(&broken, "it is broken at byte 131: a checksum");
    // What was checked and still cannot be was written so.
    let mark = base(&state).1;
    let frame = |payload: &[u8]| [&bytes[..end], &mark.frame(payload).0, payload].concat();
    check(&frame(b"X"), "it is broken at byte 131: the kind of a frame");
    check(&frame(b"C123"), "it is broken at byte 131: a batch");
    let batch = [&b"C"[..], &8_u64.to_le_bytes(), &1000_u64.to_le_bytes(), b"xyz"].concat();
    check(&frame(&batch), "it is broken at byte 131: an entry");
}

/// What is on disks cannot be taken back: whoever changes these bytes changes `VERSION`.
#[test]
fn the_form_stays() {
    let state = State::from([("k".to_owned(), Entry { value: vec![1], created: 2, modified: 3 })]);
    let (bytes, _) = written(&state, &[vec![("k".to_owned(), None)]]);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [
        "666564736e61700a01000000",
        "2f000000d0ffffff9677c4f2",
        "48070000000000000000000000000000000400000065617374",
        "06000000676c6f62616c08000000656d626564646564",
        "1b000000e4ffffff1aacc511",
        "420100000001000000020000000000000003000000000000006b01",
        "09000000f6ffffff4609052c",
        "450100000000000000",
        "2a000000d5ffffff634f3c01",
        "430800000000000000e803000000000000",
        "01000000ffffffff000000000000000000000000000000006b",
    ];
    assert_eq!(hex, parts.concat());
}
