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
    /// How many of them there are, and how many labels.
    len: u8,
    labels: u8,
}

// === impl Path ===

impl Path {
    /// No label at all.
    pub(crate) const fn root() -> Self {
        Self { octets: [0; MAX_OCTETS], len: 0, labels: 0 }
    }

    /// The labels of `name` without the topmost `above`.
    pub(crate) fn new(name: &Name, above: usize) -> Self {
        let mut path = Self::root();
        name.iter().rev().skip(above).for_each(|label| path.push(label));
        path
    }

    /// Becomes the uncompressed name that a message has here, and says how many octets it takes; `None` for anything else. It
    /// is a large thing, which is why it is not made here.
    pub(crate) fn read(&mut self, message: &[u8]) -> Option<usize> {
        let mut begins = [0_u8; MAX_LABELS];
        let (mut end, mut labels) = (0_u8, 0_u8);
        loop {
            let at = usize::from(end);
            let len = *message.get(at)?;
            if len == 0 {
                break;
            }
            if usize::from(len) > MAX_LABEL || at + 1 + usize::from(len) > MAX_OCTETS {
                return None;
            }
            begins[usize::from(labels)] = end;
            (end, labels) = (end + 1 + len, labels + 1);
        }
        let (mut at, mut above) = (0, usize::from(end));
        for begin in begins[..usize::from(labels)].iter().rev().map(|begin| usize::from(*begin)) {
            let label = message.get(begin..above)?;
            self.octets[at..at + label.len()].copy_from_slice(label);
            (at, above) = (at + label.len(), begin);
        }
        // No length is a letter.
        self.octets[..at].make_ascii_lowercase();
        (self.len, self.labels) = (end, labels);
        Some(at + 1)
    }

    /// What `relative` is below the topmost `labels` of this; `None` when that is too long for a name.
    pub(crate) fn below(&self, labels: usize, relative: &[u8]) -> Option<Self> {
        let above = self.above(labels);
        let len = above.len() + relative.len();
        let mut path = Self::root();
        path.octets[..above.len()].copy_from_slice(above);
        path.octets.get_mut(above.len()..len)?.copy_from_slice(relative);
        path.len = u8::try_from(len).ok()?;
        path.labels = u8::try_from(labels + each_label(relative).count()).ok()?;
        Some(path)
    }

    /// Adds a label at the lower end. What does not fit into a name is left out: names come from where they were checked.
    fn push(&mut self, label: &[u8]) {
        let at = usize::from(self.len);
        let end = at + 1 + label.len();
        if label.len() > MAX_LABEL || end > MAX_OCTETS {
            return;
        }
        // Both are below 256, as was just seen.
        self.octets[at] = u8::try_from(label.len()).unwrap_or_default();
        self.octets[at + 1..end].copy_from_slice(label);
        self.octets[at + 1..end].make_ascii_lowercase();
        self.labels += 1;
        self.len = u8::try_from(end).unwrap_or_default();
    }

    /// All labels.
    pub(crate) fn octets(&self) -> &[u8] {
        &self.octets[..usize::from(self.len)]
    }

    /// How many labels there are.
    pub(crate) fn labels(&self) -> usize {
        self.labels.into()
    }

    /// The topmost `labels`, or all where there are not so many.
    pub(crate) fn above(&self, labels: usize) -> &[u8] {
        topmost(self.octets(), labels).unwrap_or_else(|| self.octets())
    }

    /// The same as a name, absolute.
    pub(crate) fn to_name(self) -> Name {
        let labels: Vec<&[u8]> = each_label(self.octets()).collect();
        // What is not too long for a path is not for a name.
        Name::from_labels(labels.into_iter().rev()).unwrap_or_default()
    }

    /// Writes it as an absolute name, uncompressed.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        out.resize(begin + self.octets().len() + 1, 0);
        // From its end on, before the root.
        let (mut at, mut rest) = (out.len() - 1, self.octets());
        while let Some(label) = topmost(rest, 1).filter(|label| !label.is_empty()) {
            out[at - label.len()..at].copy_from_slice(label);
            (at, rest) = (at - label.len(), &rest[label.len()..]);
        }
    }
}

/// The topmost `labels` of a path's octets; `None` where there are not so many.
pub(crate) fn topmost(path: &[u8], labels: usize) -> Option<&[u8]> {
    let mut end = 0;
    for _ in 0..labels {
        end += 1 + usize::from(*path.get(end)?);
    }
    path.get(..end)
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
            // Whatever it was before.
            let mut path = Path::new(&n("some.other.name.altogether."), 0);
            let ours = path.read(&message);
            prop_assert_eq!(ours, theirs.as_ref().map(|_| decoder.index()));
            if let Some(name) = theirs {
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
        assert_eq!((topmost(path.octets(), 3), topmost(path.octets(), 4)), (Some(path.octets()), None));
        let long = n(&format!("{0}.{0}.{0}.", "a".repeat(62)));
        assert!(Path::new(&long, 0).below(3, &[62; 63]).is_some() && Path::new(&long, 0).below(3, &[65; 66]).is_none());
    }
}
