//! What the API server's errors mean to an operator. Pure.

use std::time::Duration;

/// What kind of trouble an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The server does not know the kind: its CRD is not installed.
    UnknownKind,
    /// The server does not know who asks.
    Unauthorized,
    /// Who asks may not.
    Forbidden,
    /// There is no server, or no way to it.
    Unreachable,
    /// The server says so itself.
    Other,
}

/// What kind of trouble an error of the API server is.
#[must_use]
pub fn cause(error: &kube::Error) -> Cause {
    match error {
        kube::Error::Api(status) => match status.code {
            401 => Cause::Unauthorized,
            403 => Cause::Forbidden,
            404 => Cause::UnknownKind,
            _ => Cause::Other,
        },
        kube::Error::Service(_) | kube::Error::HyperError(_) | kube::Error::ReadEvents(_) => Cause::Unreachable,
        _ => Cause::Other,
    }
}

/// How long an API server asks to be left alone; no time at all when it does not.
#[must_use]
pub fn retry_after(error: &kube::Error) -> Duration {
    let seconds = match error {
        kube::Error::Api(status) => status.details.as_ref().map_or(0, |details| details.retry_after_seconds),
        _ => 0,
    };
    Duration::from_secs(seconds.into())
}

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
