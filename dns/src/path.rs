//! A name as its labels from the top down, in lower case, each behind its length octet: the octets of a name begin with
//! those of whatever is above it, and in their order descendants follow their ancestor. A path does not know what it is
//! relative to; whoever has one does.

use hickory_proto::rr::Name;

/// Most octets of a path: a name has 255, and its root's is left out (RFC 1035, section 2.3.4).
const MAX_OCTETS: usize = 254;

/// Most labels that fit.
const MAX_LABELS: usize = MAX_OCTETS / 2;

/// Most octets of a label.
const MAX_LABEL: usize = 63;

/// The labels of a name, or of the lower part of one.
#[derive(Clone, Copy)]
pub(crate) struct Path {
    octets: [u8; MAX_OCTETS],
    /// Where each label ends; zero stands before the first.
    ends: [u8; MAX_LABELS + 1],
    labels: usize,
}

// === impl Path ===

impl Path {
    /// No label at all.
    pub(crate) const fn root() -> Self {
        Self { octets: [0; MAX_OCTETS], ends: [0; MAX_LABELS + 1], labels: 0 }
    }

    /// The labels of `name` without the topmost `above`.
    pub(crate) fn new(name: &Name, above: usize) -> Self {
        let mut path = Self::root();
        name.iter().rev().skip(above).for_each(|label| path.push(label));
        path
    }

    /// The uncompressed name that a message has here, and how many octets it takes; `None` for anything else.
    pub(crate) fn read(message: &[u8]) -> Option<(Self, usize)> {
        let mut begins = [0; MAX_LABELS];
        let (mut at, mut labels) = (0, 0);
        loop {
            let len = usize::from(*message.get(at)?);
            if len == 0 {
                break;
            }
            if len > MAX_LABEL || at + 1 + len > MAX_OCTETS {
                return None;
            }
            begins[labels] = at;
            labels += 1;
            at += 1 + len;
        }
        let name = message.get(..at)?;
        let mut path = Self::root();
        let mut end = at;
        for begin in begins[..labels].iter().rev() {
            let label = &name[begin + 1..end];
            path.push(label);
            end = *begin;
        }
        Some((path, at + 1))
    }

    /// What `relative` is below the topmost `labels` of this; `None` when that is too long for a name.
    pub(crate) fn below(&self, labels: usize, relative: &[u8]) -> Option<Self> {
        let mut path = *self;
        path.labels = labels.min(self.labels);
        if path.octets().len() + relative.len() > MAX_OCTETS {
            return None;
        }
        each_label(relative).for_each(|label| path.push(label));
        Some(path)
    }

    /// Adds a label at the lower end. What does not fit into a name is left out: names come from where they were checked.
    fn push(&mut self, label: &[u8]) {
        let at = usize::from(self.ends[self.labels]);
        let end = at + 1 + label.len();
        if label.len() > MAX_LABEL || end > MAX_OCTETS {
            return;
        }
        // Both are below 256, as was just seen.
        self.octets[at] = u8::try_from(label.len()).unwrap_or_default();
        self.octets[at + 1..end].copy_from_slice(label);
        self.octets[at + 1..end].make_ascii_lowercase();
        self.labels += 1;
        self.ends[self.labels] = u8::try_from(end).unwrap_or_default();
    }

    /// All labels.
    pub(crate) fn octets(&self) -> &[u8] {
        self.above(self.labels)
    }

    /// How many labels there are.
    pub(crate) fn labels(&self) -> usize {
        self.labels
    }

    /// The topmost `labels`.
    pub(crate) fn above(&self, labels: usize) -> &[u8] {
        &self.octets[..usize::from(self.ends[labels])]
    }

    /// The same as a name, absolute.
    pub(crate) fn to_name(self) -> Name {
        let labels: Vec<&[u8]> = each_label(self.octets()).collect();
        // What is not too long for a path is not for a name.
        Name::from_labels(labels.into_iter().rev()).unwrap_or_default()
    }

    /// Writes it as an absolute name, uncompressed.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        for label in self.ends[..=self.labels].windows(2).rev() {
            out.extend_from_slice(&self.octets[usize::from(label[0])..usize::from(label[1])]);
        }
        out.push(0);
    }
}

/// The labels of a path's octets, from the top down, without their lengths.
fn each_label(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = path;
    std::iter::from_fn(move || {
        let (len, behind) = rest.split_first()?;
        let (label, behind) = behind.split_at_checked(usize::from(*len))?;
        rest = behind;
        Some(label)
    })
}

/// Where a path's own octets and those of all that is above it end, the root's first.
pub(crate) fn ends(path: &[u8]) -> Vec<usize> {
    let ends = each_label(path).scan(0, |at, label| {
        *at += 1 + label.len();
        Some(*at)
    });
    std::iter::once(0).chain(ends).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::n;
    use proptest::prelude::*;

    proptest! {
        /// What hickory reads as a name is read here as the same, in lower case, and written again; nothing else is.
        #[test]
        fn names_are_those_of_hickory(message in prop::collection::vec(prop_oneof![0..6_u8, any::<u8>()], 0..300)) {
            use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder};
            let mut decoder = BinDecoder::new(&message);
            let theirs = Name::read(&mut decoder).ok();
            let compressed = |name: &Name| name.iter().map(|label| 1 + label.len()).sum::<usize>() + 1 != decoder.index();
            let theirs = theirs.filter(|name| !compressed(name));
            let ours = Path::read(&message);
            prop_assert_eq!(ours.map(|(_, octets)| octets), theirs.as_ref().map(|_| decoder.index()));
            if let Some(((path, _), name)) = ours.zip(theirs) {
                let expected = Path::new(&name, 0);
                prop_assert_eq!(path.octets(), expected.octets());
                let mut written = Vec::new();
                path.write(&mut written);
                prop_assert_eq!(written, message[..decoder.index()].to_ascii_lowercase());
            }
        }
    }

    #[test]
    fn from_the_top_down_and_in_lower_case() {
        let path = Path::new(&n("Web.demo.GLOBAL."), 0);
        assert_eq!(path.octets(), b"\x06global\x04demo\x03web");
        assert_eq!((path.labels(), path.above(1)), (3, &b"\x06global"[..]));
        assert_eq!(Path::new(&n("Web.demo.GLOBAL."), 1).octets(), b"\x04demo\x03web");
        let host = path.below(2, b"\x01a\x01b").map(|path| path.octets().to_vec());
        assert_eq!(host.as_deref(), Some(&b"\x06global\x04demo\x01a\x01b"[..]));
        assert_eq!(ends(path.octets()), [0, 7, 12, 16]);
        let long = n(&format!("{0}.{0}.{0}.", "a".repeat(62)));
        assert!(Path::new(&long, 0).below(3, &[62; 63]).is_some() && Path::new(&long, 0).below(3, &[65; 66]).is_none());
    }
}
