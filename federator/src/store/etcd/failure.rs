//! What an error of etcd means: what a person should do about it, and whether another member might do better. Pure.
//!
//! etcd's own words are the only thing that tells a full disk from a request that is too large, so they are matched
//! here, and nowhere else; each was seen in an answer of a real one.

use crate::store::StoreError;
use etcd_client::Error;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) error: StoreError,
    pub(super) blame: Blame,
    /// Whether what opened etcd does not any more: it may have been replaced meanwhile, and a connection is made anew.
    pub(super) credentials: bool,
}

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// The request's or the whole cluster's: every member would say the same.
    Request,
    /// The member's; it may have done what was asked for.
    Member,
    /// The member's, and it has done nothing.
    MemberUnasked,
}

/// What etcd's words mean.
struct Saying {
    words: &'static str,
    meaning: Meaning,
    /// What to do, where it is not obvious.
    advice: &'static str,
}

#[derive(Clone, Copy)]
enum Meaning {
    Compacted,
    /// It will not do this request.
    Refused,
    /// It does not let this agent in.
    Shut,
    /// It let this agent in, and does not know of it any more.
    Forgotten,
    /// This member and this agent cannot agree on a connection.
    Handshake,
    /// It can do no such thing now, and no other member can.
    Unable,
    /// It did not get as far as being asked.
    Unasked,
    /// It went away.
    Gone,
}

/// How to give etcd room again, and keep it.
pub(super) const NO_ROOM: &str = "etcd has no room and takes no writes: compact it, `etcdctl defrag`, `etcdctl alarm disarm`; \
     and have it run with --auto-compaction-mode=periodic --auto-compaction-retention=10m and a larger --quota-backend-bytes";

/// A member that does not take a certificate says so in an alert, which is lost when it hangs up before it is read.
const GONE: &str =
    "if it does so every time, etcd does not take the certificate in store.etcd.tls.certFile, or asks for one";

/// Part of what the client says of an answer that is larger than it accepts.
pub(super) const TOO_MUCH: &str = "message length too large";

const SAYINGS: [Saying; 21] = [
    Saying { words: "has been compacted", meaning: Meaning::Compacted, advice: "" },
    Saying {
        words: "permission denied",
        meaning: Meaning::Shut,
        advice: "the user of this agent lacks a right in etcd; `federator etcd init` says which it needs",
    },
    Saying {
        words: "user name is empty",
        meaning: Meaning::Shut,
        advice: "etcd asks who this is: set store.etcd.tls.certFile and keyFile (the certificate's common name is the \
                 user), or store.etcd.username and passwordFile",
    },
    Saying {
        words: "invalid user ID or password",
        meaning: Meaning::Shut,
        advice: "check store.etcd.username and what store.etcd.passwordFile holds",
    },
    Saying {
        words: "authentication is not enabled",
        meaning: Meaning::Shut,
        advice: "etcd has no users: leave out store.etcd.username, or `etcdctl auth enable`",
    },
    Saying { words: "invalid auth token", meaning: Meaning::Forgotten, advice: "" },
    Saying { words: "lease not found", meaning: Meaning::Refused, advice: "" },
    Saying {
        words: "request is too large",
        meaning: Meaning::Refused,
        advice: "etcd must have --max-request-bytes=1572864, its default, or more",
    },
    Saying {
        words: "too many operations in txn",
        meaning: Meaning::Refused,
        advice: "etcd must have --max-txn-ops=128, its default, or more",
    },
    Saying { words: TOO_MUCH, meaning: Meaning::Refused, advice: "" },
    Saying { words: "space exceeded", meaning: Meaning::Unable, advice: NO_ROOM },
    Saying { words: "no leader", meaning: Meaning::Unasked, advice: "too few members of etcd run or reach each other" },
    Saying { words: "tcp connect error", meaning: Meaning::Unasked, advice: "" },
    Saying { words: "dns error", meaning: Meaning::Unasked, advice: "" },
    Saying {
        words: "invalid peer certificate",
        meaning: Meaning::Handshake,
        advice: "check that store.etcd.tls.caFile has the authority of etcd's certificates, and that these name what \
                 store.etcd.endpoints does",
    },
    Saying {
        words: "received fatal alert",
        meaning: Meaning::Handshake,
        advice: "etcd asks for a certificate of an authority that it trusts: check store.etcd.tls.certFile and keyFile",
    },
    Saying { words: "connection closed", meaning: Meaning::Gone, advice: GONE },
    Saying { words: "onnection reset", meaning: Meaning::Gone, advice: GONE },
    Saying { words: "roken pipe", meaning: Meaning::Gone, advice: GONE },
    Saying { words: "peer closed connection", meaning: Meaning::Gone, advice: GONE },
    Saying {
        words: "InvalidContentType",
        meaning: Meaning::Handshake,
        advice: "etcd does not speak TLS here: the endpoint begins with http://",
    },
];

// === impl Failure ===

impl Failure {
    /// Says nothing, or nothing that can be understood.
    pub(super) fn of_member(reason: impl Into<String>) -> Self {
        Self { error: StoreError::Unavailable(reason.into()), blame: Blame::Member, credentials: false }
    }

    pub(super) fn of(error: &Error) -> Self {
        match error {
            Error::GRpcStatus(status) => Self::said(&chain(status.message(), status)),
            Error::InvalidArgs(text) | Error::EndpointError(text) => {
                Self { error: StoreError::Refused(text.clone()), blame: Blame::Request, credentials: false }
            }
            Error::WatchError(text) => Self::said(text),
            Error::TransportError(error) => Self::said(&chain(&error.to_string(), error)),
            other => Self::of_member(other.to_string()),
        }
    }

    /// What follows of etcd's words.
    pub(super) fn said(text: &str) -> Self {
        let Some(saying) = SAYINGS.iter().find(|saying| text.contains(saying.words)) else {
            return Self::of_member(text);
        };
        let text = if saying.advice.is_empty() { text.to_owned() } else { format!("{text}: {}", saying.advice) };
        let (error, blame) = match saying.meaning {
            Meaning::Compacted => (StoreError::Compacted(0), Blame::Request),
            Meaning::Refused | Meaning::Shut => (StoreError::Refused(text), Blame::Request),
            Meaning::Handshake => (StoreError::Refused(text), Blame::MemberUnasked),
            Meaning::Unable => (StoreError::Unavailable(text), Blame::Request),
            Meaning::Gone => (StoreError::Unavailable(text), Blame::Member),
            Meaning::Forgotten | Meaning::Unasked => (StoreError::Unavailable(text), Blame::MemberUnasked),
        };
        Self {
            error,
            blame,
            credentials: matches!(saying.meaning, Meaning::Shut | Meaning::Forgotten | Meaning::Handshake),
        }
    }
}

/// An error with what caused it, without saying anything twice.
fn chain(text: &str, error: &dyn std::error::Error) -> String {
    let mut said = text.to_owned();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_said = cause.to_string();
        if !said.contains(&cause_said) {
            said = format!("{said}: {cause_said}");
        }
        source = cause.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcds_words_become_what_to_do() {
        let check = |words: &str, blame: Blame, credentials: bool, expected: &str| {
            let failure = Failure::said(words);
            assert_eq!((failure.blame, failure.credentials), (blame, credentials), "{words}");
            assert!(failure.error.to_string().contains(expected), "{}", failure.error);
        };
        check(
            "etcdserver: permission denied",
            Blame::Request,
            true,
            "refuses: etcdserver: permission denied: the user",
        );
        check("etcdserver: user name is empty", Blame::Request, true, "store.etcd.tls.certFile");
        check("etcdserver: authentication failed, invalid user ID or password", Blame::Request, true, "passwordFile");
        check("etcdserver: authentication is not enabled", Blame::Request, true, "leave out store.etcd.username");
        check("etcdserver: mvcc: database space exceeded", Blame::Request, false, "unavailable: etcdserver: mvcc");
        check("etcdserver: mvcc: database space exceeded", Blame::Request, false, "--quota-backend-bytes");
        check("etcdserver: request is too large", Blame::Request, false, "--max-request-bytes");
        check("etcdserver: too many operations in txn request", Blame::Request, false, "--max-txn-ops");
        check("etcdserver: requested lease not found", Blame::Request, false, "refuses: ");
        check("etcdserver: mvcc: required revision has been compacted", Blame::Request, false, "are compacted");
        check("etcdserver: invalid auth token", Blame::MemberUnasked, true, "unavailable: ");
        check("Error, decoded message length too large: found 9 bytes", Blame::Request, false, "refuses: ");
        check("etcdserver: no leader", Blame::MemberUnasked, false, "unavailable: ");
        check("etcdserver: request timed out", Blame::Member, false, "unavailable: etcdserver: request timed out");
        check("tcp connect error: Connection refused (os error 111)", Blame::MemberUnasked, false, "unavailable: ");
        check("invalid peer certificate: UnknownIssuer", Blame::MemberUnasked, true, "store.etcd.tls.caFile");
        check("received fatal alert: CertificateRequired", Blame::MemberUnasked, true, "store.etcd.tls.certFile");
        for gone in [
            "transport error: connection closed",
            "connection error: stream closed because of a broken pipe",
            "Connection reset by peer (os error 104)",
            "connection error: peer closed connection without sending TLS close_notify",
        ] {
            check(gone, Blame::Member, false, "store.etcd.tls.certFile");
        }
        check("h2 protocol error", Blame::Member, false, "unavailable: ");
    }
}
