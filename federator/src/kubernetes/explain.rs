//! What the API server's errors mean to an operator. Pure.

/// What an error of the API server means, and what to do about it.
#[must_use]
pub fn explain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 401 => {
            "it refuses the credentials (401 Unauthorized): renew the token or certificate in the kubeconfig".to_owned()
        }
        kube::Error::Api(status) if status.code == 403 => {
            format!("it refuses this (403 Forbidden): {}: bind the ClusterRole of the manifests", status.message)
        }
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => chain(other),
    }
}

/// An error with its causes: the outermost alone seldom says what happened.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
