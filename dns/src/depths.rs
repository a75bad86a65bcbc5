//! How many labels the keys of a map have, and how many keys have so many: whoever looks for the longest that a name begins
//! with need not try the others. Does not know the keys.

/// The most labels first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Depths(Vec<(usize, usize)>);

// === impl Depths ===

impl Depths {
    /// A key of so many labels is there now.
    pub(crate) fn add(&mut self, labels: usize) {
        match self.0.binary_search_by(|(known, _)| labels.cmp(known)) {
            Ok(at) => self.0[at].1 += 1,
            Err(at) => self.0.insert(at, (labels, 1)),
        }
    }

    /// One is gone.
    pub(crate) fn remove(&mut self, labels: usize) {
        if let Some(depth) = self.0.iter_mut().find(|(known, _)| *known == labels) {
            depth.1 -= 1;
        }
        self.0.retain(|(_, keys)| *keys > 0);
    }

    /// The numbers of labels that some key has, the greatest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().map(|(labels, _)| *labels)
    }
}
