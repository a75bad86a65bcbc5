//! The slices of an export, by name. Most exports have one, and a fleet has very many exports: they are held in no more
//! room than they take, and clones share them.

use super::Slice;
use std::{collections::BTreeMap, iter, slice, sync::Arc};

/// Slices in the order of their names, each name once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slices(Arc<[Named]>);

type Named = (Arc<str>, Arc<Slice>);

/// Goes through names and slices.
type Iter<'a> = iter::Map<slice::Iter<'a, Named>, fn(&'a Named) -> (&'a Arc<str>, &'a Arc<Slice>)>;

// === impl Slices ===

impl Slices {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The slice of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Slice>> {
        self.find(name).ok().map(|at| &self.0[at].1)
    }

    /// All of them, by name.
    pub fn iter(&self) -> Iter<'_> {
        self.0.iter().map(|(name, slice)| (name, slice))
    }

    /// All of them, without their names.
    pub fn values(&self) -> impl Iterator<Item = &Arc<Slice>> {
        self.0.iter().map(|(_, slice)| slice)
    }

    /// Puts a slice in the place of the one of its name, or beside the others. Costs their number.
    pub fn insert(&mut self, name: Arc<str>, slice: Arc<Slice>) {
        match self.find(&name) {
            Ok(at) => Arc::make_mut(&mut self.0)[at].1 = slice,
            Err(at) => {
                let (before, after) = self.0.split_at(at);
                self.0 = before.iter().cloned().chain([(name, slice)]).chain(after.iter().cloned()).collect();
            }
        }
    }

    /// Takes the slice of that name away. Costs their number.
    pub fn remove(&mut self, name: &str) {
        if let Ok(at) = self.find(name) {
            self.0 = self.0[..at].iter().chain(&self.0[at + 1..]).cloned().collect();
        }
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| (**known).cmp(name))
    }
}

impl<'a> IntoIterator for &'a Slices {
    type Item = (&'a Arc<str>, &'a Arc<Slice>);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Of several slices of one name the last counts.
impl FromIterator<Named> for Slices {
    fn from_iter<I: IntoIterator<Item = Named>>(slices: I) -> Self {
        let sorted: BTreeMap<_, _> = slices.into_iter().collect();
        Self(sorted.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::{Protocol, TargetPort};
    use proptest::prelude::*;

    proptest! {
        /// They hold what a map holds.
        #[test]
        fn slices_are_a_map(steps in prop::collection::vec(("[a-e]", prop::option::of(0..3_usize)), 0..30)) {
            let port = |number| TargetPort { name: "".into(), number, protocol: Protocol::Tcp };
            let slices = [0, 1, 2].map(|n| Arc::new(Slice { ports: [port(n)].into(), ..Slice::default() }));
            let (mut held, mut model) = (Slices::default(), BTreeMap::<Arc<str>, Arc<Slice>>::new());
            for (name, slice) in steps {
                let before = held.clone();
                let as_before: Slices = model.clone().into_iter().collect();
                match slice.map(|slice| slices[slice].clone()) {
                    Some(slice) => {
                        held.insert(name.as_str().into(), slice.clone());
                        model.insert(name.as_str().into(), slice);
                    }
                    None => {
                        held.remove(&name);
                        model.remove(name.as_str());
                    }
                }
                prop_assert_eq!(before, as_before, "a clone stays as it is");
                prop_assert!(held.iter().eq(model.iter()));
                prop_assert!(held.values().eq(model.values()));
                prop_assert_eq!(held.get(&name).is_some(), model.contains_key(name.as_str()));
                prop_assert_eq!(held.is_empty(), model.is_empty());
            }
        }
    }
}
