//! Who may write what in a shared etcd. Pure.
//!
//! etcd can keep members from writing what is others' own. It does not look at what they write, so this is one wall of
//! two: importers check that a record says what its key says, and what a member may say at all.

use crate::store::etcd::roles::{Grant, Role};
use model::{key::Key, name::ClusterId};
use std::collections::{BTreeMap, BTreeSet};

/// What roles protect, for people.
pub(super) const MEANING: &str = "\
The role of a cluster reads everything under the root and writes the keys of that cluster and of those that it
deputises for (clusters/<id>/, records/<id>/), and what all share: order/, vips/, generation.
It protects the records, the marker and the ownership of other clusters: who steals a cluster's certificate cannot
forge or delete them, nor remove a cluster from the fleet or readmit one (tombstones/ is the administrator's).
It does not protect what all share: a thief can take away virtual addresses and orders, and have agents believe that
etcd was restored. Nor does etcd look at values: that a record says what its key says, and whether its namespace and
its addresses may be believed, every importing agent checks by itself.
The administrator's role writes everything under the root: `federator cluster remove` and `readmit` need its user.
Other keys of the same etcd are not readable or writable by any of these roles.";

/// The clusters of a fleet, and who administers it.
#[derive(Debug)]
pub(super) struct Fleet {
    members: BTreeMap<ClusterId, Member>,
    admin: String,
}

/// What the agents of a cluster are to etcd.
#[derive(Debug)]
pub(super) struct Member {
    /// Their user.
    pub(super) user: String,
    /// Clusters that they may publish, beside their own.
    pub(super) deputises: BTreeSet<ClusterId>,
}

// === impl Fleet ===

impl Fleet {
    /// Every cluster's user has the cluster's id, and no cluster deputises for another.
    pub(super) fn new(clusters: impl IntoIterator<Item = ClusterId>, admin: &str) -> Self {
        let member = |id: ClusterId| (id.clone(), Member { user: id.to_string(), deputises: BTreeSet::new() });
        Self { members: clusters.into_iter().map(member).collect(), admin: admin.to_owned() }
    }

    pub(super) fn member(&mut self, cluster: &ClusterId) -> Option<&mut Member> {
        self.members.get_mut(cluster)
    }

    /// Whether no user has two roles: it would have the rights of both.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut users = BTreeSet::from([&*self.admin]);
        for Member { user, .. } in self.members.values() {
            if *user == self.admin {
                return Err(format!("the user `{user}` is both the administrator's and a cluster's"));
            }
            if !users.insert(user) {
                return Err(format!("two clusters have the user `{user}`"));
            }
        }
        Ok(())
    }

    /// The roles that are needed. Those of two fleets in one etcd have different names, as their roots have.
    pub(super) fn roles(&self, root: &str) -> Vec<Role> {
        let prefix = root.trim_matches('/').replace('/', "-");
        let all = |key: &str, write| Grant { key: key.to_owned(), prefix: true, write };
        let mut roles = Vec::new();
        for (cluster, Member { user, deputises }) in &self.members {
            let mut grants = vec![all("", false)];
            for id in [cluster].into_iter().chain(deputises.iter().filter(|id| *id != cluster)) {
                grants.extend([all(&Key::cluster(id), true), all(&Key::records_of(id), true)]);
            }
            let generation = Grant { key: Key::Generation.to_string(), prefix: false, write: true };
            grants.extend([all(Key::ORDERS, true), all(Key::VIPS, true), generation]);
            roles.push(Role { name: format!("{prefix}-{cluster}"), grants, users: vec![user.clone()] });
        }
        let admin =
            Role { name: format!("{prefix}.admin"), grants: vec![all("", true)], users: vec![self.admin.clone()] };
        roles.push(admin);
        roles
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::etcd::roles::{Existing, plan};

    #[test]
    fn a_cluster_writes_its_own_and_those_it_deputises_for() {
        let id = |id: &str| ClusterId::parse(id).expect(id);
        let mut fleet = Fleet::new([id("east"), id("west")], "boss");
        let west = fleet.member(&id("west")).expect("there");
        west.user = "agent-of-west".to_owned();
        west.deputises.insert(id("east"));
        let steps = plan("/prod/federator", &fleet.roles("/prod/federator"), &Existing::default());
        let said: Vec<_> = steps.iter().map(ToString::to_string).collect();
        assert_eq!(
            said.join("\n").replace("etcdctl ", "").replace("role grant-permission prod-federator", "grant"),
            "\
role add prod-federator-east
grant-east read /prod/federator/ --prefix=true
grant-east readwrite /prod/federator/clusters/east/ --prefix=true
grant-east readwrite /prod/federator/records/east/ --prefix=true
grant-east readwrite /prod/federator/order/ --prefix=true
grant-east readwrite /prod/federator/vips/ --prefix=true
grant-east readwrite /prod/federator/generation
user add east --no-password
user grant-role east prod-federator-east
role add prod-federator-west
grant-west read /prod/federator/ --prefix=true
grant-west readwrite /prod/federator/clusters/west/ --prefix=true
grant-west readwrite /prod/federator/records/west/ --prefix=true
grant-west readwrite /prod/federator/clusters/east/ --prefix=true
grant-west readwrite /prod/federator/records/east/ --prefix=true
grant-west readwrite /prod/federator/order/ --prefix=true
grant-west readwrite /prod/federator/vips/ --prefix=true
grant-west readwrite /prod/federator/generation
user add agent-of-west --no-password
user grant-role agent-of-west prod-federator-west
role add prod-federator.admin
grant.admin readwrite /prod/federator/ --prefix=true
user add boss --no-password
user grant-role boss prod-federator.admin"
        );
    }
}
