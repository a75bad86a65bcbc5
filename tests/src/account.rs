//! A service account that a cluster has already: used from outside as a pod of its would use it, with a token for an
//! hour. What it may do is for whoever installed it; [`Reader`](crate::Reader) is for accounts that tests make.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::reader::requests;
use crate::{Cluster, Request, Result};

/// A service account with a token, and a kubeconfig of it.
#[derive(Debug)]
pub struct Account {
    user: String,
    kubeconfig: PathBuf,
    audit_log: &'static Path,
}

impl Cluster {
    /// Asks the cluster for a token of an account, as it would for a pod.
    pub fn account(&self, namespace: &str, name: &str) -> Result<Account> {
        let token = self.kubectl(["create", "token", name, "--namespace", namespace, "--duration", "1h"])?.done()?;
        let mut kubeconfig: Value = serde_saphyr::from_str(&fs::read_to_string(self.kubeconfig())?)?;
        kubeconfig["users"][0]["user"] = json!({"token": token.trim()});
        kubeconfig["contexts"][0]["context"]["namespace"] = json!(namespace);
        let file = self.kubeconfig().with_file_name(format!("kubeconfig-of-{namespace}-{name}"));
        fs::write(&file, serde_saphyr::to_string(&kubeconfig)?)?;
        let user = format!("system:serviceaccount:{namespace}:{name}");
        Ok(Account { user, kubeconfig: file, audit_log: &self.plane().audit_log })
    }
}

impl Account {
    /// As the API server knows it: `system:serviceaccount:…`.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// A file that opens the cluster as this account; its context is in the account's namespace.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Every request that was made as this account, in order.
    pub fn requests(&self) -> Result<Vec<Request>> {
        requests(self.audit_log, &self.user)
    }
}
