//! Accepting a withdrawal: an operator says that the endpoints which a cluster's owner holds are gone, or that a cluster
//! whose API server went back for good may be published by who sees less than there was. One transaction on the hold as
//! it was read, because its owner writes there too; what follows from it is the owner's to do.

use crate::store::{Committed, Guard, Store, StoreError, Txn};
use model::{cluster::Hold, key::Key, name::ClusterId, record::Record as _};

/// How often it is tried against an owner that writes at the same time.
const TRIES: usize = 20;

/// How it is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct How {
    /// Only say what would be done.
    pub dry_run: bool,
    /// Accept in advance, where nothing is held.
    pub force: bool,
}

/// Why it is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WithdrawalError {
    /// There is nothing to accept.
    #[error(
        "nothing of cluster `{0}` is held; where its API server shows an earlier state for good, --force lets it be \
         published as it is seen now"
    )]
    NothingHeld(ClusterId),
    /// The store has no records of such a cluster.
    #[error("the store knows no cluster `{0}`")]
    Unknown(ClusterId),
    /// Its owner writes again and again at the same time.
    #[error("what is held of cluster `{0}` changes too fast: run this again")]
    Contended(ClusterId),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Accepts what is held of a cluster now; says what that is. Of no endpoints where it was accepted in advance.
///
/// # Errors
/// [`WithdrawalError`]; nothing was done then.
pub async fn accept(store: &dyn Store, id: &ClusterId, how: How) -> Result<Hold, WithdrawalError> {
    let key = Key::Hold(id.clone()).to_string();
    for _ in 0..TRIES {
        let entry = store.read(&key).await?.entries.remove(&key);
        let modified = entry.as_ref().map_or(0, |entry| entry.modified);
        let found = entry.and_then(|entry| Hold::decode(&entry.value).ok());
        let hold = match found {
            Some(hold) => Hold { accepted: true, ..hold },
            None if !how.force => return Err(WithdrawalError::NothingHeld(id.clone())),
            None => in_advance(store, id).await?,
        };
        if how.dry_run {
            return Ok(hold);
        }
        let guards = vec![Guard::modified(&key, modified)];
        let writes = vec![(key.clone(), Some(hold.encode()))];
        if let Committed::Done(_) = store.commit(&Txn { guards, writes, ..Txn::default() }).await? {
            return Ok(hold);
        }
    }
    Err(WithdrawalError::Contended(id.clone()))
}

/// A hold of no endpoints. Of a cluster that nobody published there is nothing to be withdrawn.
async fn in_advance(store: &dyn Store, id: &ClusterId) -> Result<Hold, WithdrawalError> {
    let marker = Key::Synced(id.clone()).to_string();
    if !store.read(&marker).await?.entries.contains_key(&marker) {
        return Err(WithdrawalError::Unknown(id.clone()));
    }
    Ok(Hold { reason: "accepted in advance".into(), accepted: true, ..Hold::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        store::embedded::Embedded,
        testing::{id, now},
    };

    fn write(store: &Embedded, key: &str, value: Vec<u8>) {
        let writes = vec![(key.to_owned(), Some(value))];
        now(store.commit(&Txn { writes, ..Txn::default() })).expect("it is there");
    }

    fn stands(store: &Embedded) -> Option<Hold> {
        let entries = now(store.read("clusters/east/hold")).expect("it is there").entries;
        entries.values().next().map(|entry| Hold::decode(&entry.value).expect("a hold"))
    }

    #[test]
    fn what_is_held_is_accepted_as_it_stands() {
        let store = Embedded::new();
        let hold = Hold { since: 5, endpoints: 40, reason: "so".into(), ..Hold::default() };
        write(&store, "clusters/east/hold", hold.encode());
        let accepted = Hold { accepted: true, ..hold.clone() };
        let dry = How { dry_run: true, force: false };
        assert_eq!(now(accept(&store, &id("east"), dry)), Ok(accepted.clone()));
        assert_eq!(stands(&store), Some(hold));
        assert_eq!(now(accept(&store, &id("east"), How::default())), Ok(accepted.clone()));
        assert_eq!(stands(&store), Some(accepted));
    }

    #[test]
    fn nothing_is_accepted_in_advance_but_by_force_and_of_a_cluster_that_is_known() {
        let (store, force) = (Embedded::new(), How { dry_run: false, force: true });
        let nothing = Err(WithdrawalError::NothingHeld(id("east")));
        assert_eq!(now(accept(&store, &id("east"), How::default())), nothing);
        assert_eq!(now(accept(&store, &id("east"), force)), Err(WithdrawalError::Unknown(id("east"))));
        write(&store, "clusters/east/synced", vec![]);
        assert_eq!(now(accept(&store, &id("east"), How::default())), nothing);
        assert_eq!(now(accept(&store, &id("east"), force)).map(|hold| hold.endpoints), Ok(0));
        assert!(stands(&store).is_some_and(|hold| hold.accepted));
    }
}
