//! Users and roles of etcd: what must be done so that there are those that are wanted. The plan is pure, and its steps
//! read as commands of etcdctl; doing them needs a user with etcd's own role `root`. Knows nothing of what keys mean.

use super::{CALL_TIMEOUT, Etcd, prefix_end};
use crate::store::StoreError;
use etcd_client::{Client, Error, Permission, PermissionType, RoleRevokePermissionOptions, UserAddOptions};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    future::Future,
};

/// A role, and who has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// What it may do; nothing else.
    pub grants: Vec<Grant>,
    /// Users that have it, perhaps beside others.
    pub users: Vec<String>,
}

/// That a key may be read, and perhaps written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The key, relative to the root.
    pub key: String,
    /// Whether all keys that begin so are meant.
    pub prefix: bool,
    /// Whether it may be written, too.
    pub write: bool,
}

/// Something to be done. Printed, it is a command line of etcdctl.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A new role, without rights.
    AddRole(String),
    /// A right more, or another one on the same keys.
    Grant {
        /// The role.
        role: String,
        /// The right, with the whole key.
        grant: Grant,
    },
    /// A right less.
    Revoke {
        /// The role.
        role: String,
        /// The first key.
        key: Vec<u8>,
        /// The end of the range; empty for a single key.
        end: Vec<u8>,
    },
    /// A new user, who proves with a certificate who it is.
    AddUser(String),
    /// A role more for a user.
    GiveRole {
        /// The user.
        user: String,
        /// The role.
        role: String,
    },
}

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Existing {
    /// By role and range: the kind of right, as etcd numbers it.
    roles: BTreeMap<String, BTreeMap<Range, i32>>,
    /// The roles of each user.
    users: BTreeMap<String, BTreeSet<String>>,
}

/// A first key, and the end of the range; empty for a single key.
type Range = (Vec<u8>, Vec<u8>);

/// What leads from what there is to what is wanted. Roles and users of other names are left alone.
#[must_use]
pub fn plan(root: &str, wanted: &[Role], existing: &Existing) -> Vec<Step> {
    let mut steps = Vec::new();
    for Role { name: role, grants, users } in wanted {
        let mut had = existing.roles.get(role).cloned().unwrap_or_default();
        if !existing.roles.contains_key(role) {
            steps.push(Step::AddRole(role.clone()));
        }
        for grant in grants {
            let grant = Grant { key: format!("{}/{}", root.trim_end_matches('/'), grant.key), ..grant.clone() };
            if had.remove(&grant.range()) != Some(grant.kind() as i32) {
                steps.push(Step::Grant { role: role.clone(), grant });
            }
        }
        steps.extend(had.into_keys().map(|(key, end)| Step::Revoke { role: role.clone(), key, end }));
        for user in users {
            if !existing.users.contains_key(user) {
                steps.push(Step::AddUser(user.clone()));
            }
            if !existing.users.get(user).is_some_and(|roles| roles.contains(role)) {
                steps.push(Step::GiveRole { user: user.clone(), role: role.clone() });
            }
        }
    }
    steps
}

impl Etcd {
    /// Makes roles and users as they are wanted, and returns what had to be done. What is interrupted is done again by
    /// the next call.
    ///
    /// # Errors
    /// [`StoreError`]; what came before it was done.
    pub async fn grant(&self, wanted: &[Role]) -> Result<Vec<Step>, StoreError> {
        let steps = plan(&self.root, wanted, &self.existing().await?);
        for step in &steps {
            self.administer(|client| step.take(client)).await?;
        }
        Ok(steps)
    }

    async fn existing(&self) -> Result<Existing, StoreError> {
        let mut existing = Existing::default();
        let roles = self.administer(async |mut client: Client| client.role_list().await).await?;
        for role in roles.roles() {
            let found = self.administer(async |mut client: Client| client.role_get(role.as_str()).await).await?;
            let range = |right: &Permission| ((right.key().to_vec(), right.range_end().to_vec()), right.get_type());
            existing.roles.insert(role.clone(), found.permissions().iter().map(range).collect());
        }
        let users = self.administer(async |mut client: Client| client.user_list().await).await?;
        for user in users.users() {
            let found = self.administer(async |mut client: Client| client.user_get(user.as_str()).await).await?;
            existing.users.insert(user.clone(), found.roles().iter().cloned().collect());
        }
        Ok(existing)
    }

    async fn administer<T, F, R>(&self, ask: F) -> Result<T, StoreError>
    where
        F: Fn(Client) -> R + Send + Sync,
        R: Future<Output = Result<T, Error>> + Send,
    {
        let member = self.members.current();
        match self.members.ask(member, CALL_TIMEOUT, ask).await {
            Ok(answer) => Ok(answer),
            Err(failure) => Err(self.members.failed(member, failure).await),
        }
    }
}

// === impl Grant ===

impl Grant {
    fn kind(&self) -> PermissionType {
        if self.write { PermissionType::Readwrite } else { PermissionType::Read }
    }

    fn range(&self) -> Range {
        let key = self.key.as_bytes().to_vec();
        let end = if self.prefix { prefix_end(&key) } else { Vec::new() };
        (key, end)
    }
}

// === impl Step ===

impl Step {
    async fn take(&self, mut client: Client) -> Result<(), Error> {
        match self {
            Self::AddRole(role) => client.role_add(role.as_str()).await.map(drop),
            Self::Grant { role, grant } => {
                let (key, end) = grant.range();
                let right = Permission::new(grant.kind(), key).with_range_end(end);
                client.role_grant_permission(role.as_str(), right).await.map(drop)
            }
            Self::Revoke { role, key, end } => {
                let range = RoleRevokePermissionOptions::new().with_range_end(end.clone());
                client.role_revoke_permission(role.as_str(), key.clone(), Some(range)).await.map(drop)
            }
            Self::AddUser(user) => {
                let by_certificate = UserAddOptions::new().with_no_pwd();
                client.user_add(user.as_str(), "", Some(by_certificate)).await.map(drop)
            }
            Self::GiveRole { user, role } => client.user_grant_role(user.as_str(), role.as_str()).await.map(drop),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddRole(role) => write!(f, "etcdctl role add {role}"),
            Self::Grant { role, grant } => {
                let kind = if grant.write { "readwrite" } else { "read" };
                let prefix = if grant.prefix { " --prefix=true" } else { "" };
                write!(f, "etcdctl role grant-permission {role} {kind} {}{prefix}", grant.key)
            }
            Self::Revoke { role, key, end } => {
                let (key, end) = (String::from_utf8_lossy(key), String::from_utf8_lossy(end));
                write!(f, "{}", format!("etcdctl role revoke-permission {role} {key} {end}").trim_end())
            }
            Self::AddUser(user) => write!(f, "etcdctl user add {user} --no-password"),
            Self::GiveRole { user, role } => write!(f, "etcdctl user grant-role {user} {role}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(grants: &[(&str, bool, bool)]) -> Role {
        let grant = |&(key, prefix, write): &(&str, bool, bool)| Grant { key: key.to_owned(), prefix, write };
        Role { name: "r".to_owned(), grants: grants.iter().map(grant).collect(), users: vec!["u".to_owned()] }
    }

    #[test]
    fn what_is_there_is_not_done_again_and_what_is_too_much_is_taken_away() {
        let wanted = role(&[("", true, false), ("a/", true, true), ("b", false, true)]);
        let check = |existing: &Existing, expected: &[&str]| {
            let steps = plan("/x/", std::slice::from_ref(&wanted), existing);
            assert_eq!(steps.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
        };
        check(
            &Existing::default(),
            &[
                "etcdctl role add r",
                "etcdctl role grant-permission r read /x/ --prefix=true",
                "etcdctl role grant-permission r readwrite /x/a/ --prefix=true",
                "etcdctl role grant-permission r readwrite /x/b",
                "etcdctl user add u --no-password",
                "etcdctl user grant-role u r",
            ],
        );
        let range = |key: &str, end: &str, kind: PermissionType| ((key.into(), end.into()), kind as i32);
        let whole = [
            range("/x/", "/x0", PermissionType::Read),
            range("/x/a/", "/x/a0", PermissionType::Readwrite),
            range("/x/b", "", PermissionType::Readwrite),
        ];
        let users = |roles: &[&str]| BTreeMap::from([("u".to_owned(), roles.iter().map(|&r| r.to_owned()).collect())]);
        let there = |ranges: Vec<(Range, i32)>, users| Existing {
            roles: BTreeMap::from([("r".to_owned(), ranges.into_iter().collect())]),
            users,
        };
        check(&there(whole.to_vec(), users(&["other", "r"])), &[]);
        let mut more = whole.to_vec();
        more[0].1 = PermissionType::Readwrite as i32;
        more[2].0.1 = b"/x/c".to_vec();
        check(
            &there(more, users(&["other"])),
            &[
                "etcdctl role grant-permission r read /x/ --prefix=true",
                "etcdctl role grant-permission r readwrite /x/b",
                "etcdctl role revoke-permission r /x/b /x/c",
                "etcdctl user grant-role u r",
            ],
        );
    }
}
