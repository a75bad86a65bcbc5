//! What is left of a kubeconfig once it was found good: an address, whom to trust and who to be, all of it inline.
//! Only [`parse`](super::parse) makes an [`Access`], so whoever holds one need not check it again. Secrets cannot be
//! printed: their type does not let them.

use http::Uri;
use std::fmt;

/// Whom to ask, whom to believe, and who to be. Cheap enough to clone; two are equal when nothing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    pub(in crate::kubernetes) server: Uri,
    pub(in crate::kubernetes) trust: Trust,
    pub(in crate::kubernetes) tls_server_name: Option<String>,
    pub(in crate::kubernetes) identity: Identity,
    /// What the server's name resolves to is held to the same rule as an address would have been.
    pub(in crate::kubernetes) loopback: bool,
}

/// Which servers are believed.
#[derive(Clone, PartialEq, Eq)]
pub enum Trust {
    /// Those with a certificate of this authority, in PEM.
    Authority(Vec<u8>),
    /// Any, because an operator allowed it.
    Anybody,
}

/// Who we are to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A bearer token.
    Token(Hidden),
    /// A client certificate and its key, both in PEM.
    Certificate {
        /// The certificate, and those that lead to its authority.
        certificate: Hidden,
        /// Its private key.
        key: Hidden,
    },
    /// A name and a password.
    Password {
        /// The name.
        username: Hidden,
        /// The password.
        password: Hidden,
    },
}

/// A text that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(String);

/// What an operator allows a kubeconfig of a Secret to say. Nothing, unless asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Servers whose certificate nobody vouches for: whoever answers gets the credentials.
    pub insecure_skip_tls_verify: bool,
    /// Servers on this machine.
    pub loopback: bool,
}

// === impl Access ===

impl Access {
    /// The server's address.
    #[must_use]
    pub fn server(&self) -> &Uri {
        &self.server
    }
}

// === impl Trust ===

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Authority(_) => "Authority(..)",
            Self::Anybody => "Anybody",
        })
    }
}

// === impl Hidden ===

impl Hidden {
    /// Hides a text.
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for who sends it.
    pub(in crate::kubernetes) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

// === impl Allowed ===

impl Allowed {
    /// The names under which [`Allowed::by_names`] knows what can be allowed.
    pub const NAMES: [&str; 2] = ["insecure-skip-tls-verify", "loopback"];

    /// Allows what is named.
    ///
    /// # Errors
    /// Gives back the name that is none of [`Allowed::NAMES`].
    pub fn by_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, &'a str> {
        let mut allowed = Self::default();
        for name in names {
            match name {
                "insecure-skip-tls-verify" => allowed.insecure_skip_tls_verify = true,
                "loopback" => allowed.loopback = true,
                other => return Err(other),
            }
        }
        Ok(allowed)
    }
}
