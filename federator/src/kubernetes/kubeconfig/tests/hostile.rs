//! The table of hostile kubeconfigs, written out. The fuzzer, which is another program, begins with them too.

use base64::{Engine as _, engine::general_purpose::STANDARD};

const TABLE: &str = include_str!("hostile.txt");

/// A certificate authority.
pub(crate) const CA: &str = include_str!("../ca.pem");

const CLUSTERS: &str = r#"[{name: a, cluster: {server: "https://10.0.0.2:6443", certificate-authority-data: $CA}}]"#;
const USERS: &str = "[{name: a, user: {token: s3cr3t}}]";
const CONTEXTS: &str = "[{name: a, context: {cluster: a, user: a}}]";

/// What `istioctl create-remote-secret --name west` puts into the Secret.
pub(crate) const ISTIOCTL: &str = "\
apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: $CA
    server: https://10.0.0.2:6443
  name: west
contexts:
- context:
    cluster: west
    user: west
  name: west
current-context: west
kind: Config
preferences: {}
users:
- name: west
  user:
    token: s3cr3t
";

/// The table: what the refusal must contain, and the kubeconfig.
pub(crate) fn table() -> impl Iterator<Item = (&'static str, String)> {
    let cases = TABLE.split("\n>>> ").skip(1);
    cases.map(|case| case.split_once('\n').unwrap_or((case, ""))).map(|(expected, text)| (expected, written(text)))
}

/// A text with its placeholders filled in.
pub(crate) fn written(text: &str) -> String {
    let text = text.replace("$CLUSTERS", CLUSTERS).replace("$USERS", USERS).replace("$CONTEXTS", CONTEXTS);
    text.replace("$CA", &STANDARD.encode(CA))
}
