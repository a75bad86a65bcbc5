//! A kubeconfig out of a Secret: untrusted input. Whoever may write a Secret may not run programs in the agent, read
//! its files or send its connections elsewhere, so only what is inline is taken, everything that is not known is
//! refused, and all users and clusters are held to that, not only those that are used. Pure: bytes in, an [`Access`]
//! out, or which field is wrong. No value of the file is ever in an error.

mod access;
pub(super) mod address;
mod fields;

pub use access::{Access, Allowed, Hidden, Identity, Trust};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use fields::Field;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};

/// Largest kubeconfig, in bytes. One cluster's has about four thousand; a Secret has at most a million.
pub const MAX_BYTES: usize = 256 << 10;

/// Why a kubeconfig is not used. The text names the field by its path, and nothing that the file says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// More bytes than [`MAX_BYTES`].
    #[error("it is larger than {} KiB: leave one cluster, one user and one context in it", MAX_BYTES >> 10)]
    TooLarge,
    /// Not text.
    #[error("it is not UTF-8 text")]
    NotText,
    /// There is no document, or an empty one.
    #[error("it is empty")]
    Empty,
    /// It cannot be read, or a document like this is not wanted.
    #[error("line {line}: {what}")]
    Document {
        /// Where, counting from one; zero when that is not known.
        line: u64,
        /// What is wrong.
        what: String,
    },
    /// A field says what is not allowed, or not what it should, or is missing.
    #[error("{path}: {what}")]
    Field {
        /// The field, like `users[0].user.exec`.
        path: String,
        /// What is wrong, and what to do.
        what: &'static str,
    },
}

struct Cluster<'a> {
    name: &'a str,
    field: Field<'a>,
    server: Option<Field<'a>>,
    authority: Option<Field<'a>>,
    tls_server_name: Option<Field<'a>>,
    insecure: bool,
}

struct User<'a> {
    name: &'a str,
    field: Field<'a>,
    token: Option<Field<'a>>,
    certificate: Option<Field<'a>>,
    key: Option<Field<'a>>,
    username: Option<Field<'a>>,
    password: Option<Field<'a>>,
}

struct Context<'a> {
    name: &'a str,
    field: Field<'a>,
    cluster: Option<Field<'a>>,
    user: Option<Field<'a>>,
}

/// Reads a kubeconfig.
///
/// # Errors
/// [`Refused`] names the first field that is not as it should be.
pub fn parse(bytes: &[u8], allowed: &Allowed) -> Result<Access, Refused> {
    let document = fields::read(bytes)?;
    let root = Field::root(&document);
    let (mut clusters, mut users, mut contexts, mut current) = (Vec::new(), Vec::new(), Vec::new(), None);
    for (name, field) in root.fields()? {
        match name {
            "apiVersion" if field.text()? == "v1" => {}
            "apiVersion" => return Err(field.refused("is not `v1`")),
            "kind" if field.text()? == "Config" => {}
            "kind" => return Err(field.refused("is not `Config`")),
            "clusters" => clusters = named(&field, "cluster", |name, field| cluster(name, field, *allowed))?,
            "users" => users = named(&field, "user", user)?,
            "contexts" => contexts = named(&field, "context", context)?,
            "current-context" => current = Some(field),
            // Of kubectl's own concern.
            "preferences" | "extensions" => {}
            _ => return Err(field.unknown()),
        }
    }
    unique(clusters.iter().map(|cluster| (cluster.name, &cluster.field)))?;
    unique(users.iter().map(|user| (user.name, &user.field)))?;
    unique(contexts.iter().map(|context| (context.name, &context.field)))?;

    let context = chosen(&root, current.as_ref(), &contexts)?;
    let name = required(context.cluster.as_ref(), &context.field, "cluster")?;
    let text = name.text()?;
    let cluster = clusters.iter().find(|cluster| cluster.name == text);
    let cluster = cluster.ok_or_else(|| name.refused("names no cluster of the file"))?;
    let name = required(context.user.as_ref(), &context.field, "user")?;
    let text = name.text()?;
    let user = users.iter().find(|user| user.name == text);
    let user = user.ok_or_else(|| name.refused("names no user of the file"))?;

    let server = required(cluster.server.as_ref(), &cluster.field, "server")?;
    Ok(Access {
        server: address::server(server.text()?, allowed.loopback).map_err(|what| server.refused(what))?,
        trust: cluster.trust()?,
        tls_server_name: cluster.server_name()?,
        identity: user.identity()?,
        loopback: allowed.loopback,
    })
}

/// The entries of a list of named things: a name, and one field that holds the thing.
fn named<'a, T>(
    list: &Field<'a>,
    what: &'static str,
    read: impl Fn(&'a str, Field<'a>) -> Result<T, Refused>,
) -> Result<Vec<T>, Refused> {
    let mut things = Vec::new();
    for item in list.items()? {
        let (mut name, mut thing) = (None, None);
        for (key, field) in item.fields()? {
            match key {
                "name" => name = Some(field.text()?),
                _ if key == what => thing = Some(field),
                _ => return Err(field.unknown()),
            }
        }
        let name = name.ok_or_else(|| item.missing("name"))?;
        let thing = thing.ok_or_else(|| item.missing(what))?;
        things.push(read(name, thing)?);
    }
    Ok(things)
}

fn cluster<'a>(name: &'a str, field: Field<'a>, allowed: Allowed) -> Result<Cluster<'a>, Refused> {
    let (mut server, mut authority, mut tls_server_name, mut insecure) = (None, None, None, false);
    for (name, field) in field.fields()? {
        match name {
            "server" => {
                address::server(field.text()?, allowed.loopback).map_err(|what| field.refused(what))?;
                server = Some(field);
            }
            "certificate-authority-data" => authority = Some(field),
            "tls-server-name" => tls_server_name = Some(field),
            "insecure-skip-tls-verify" => {
                insecure = field.flag()?;
                if insecure && !allowed.insecure_skip_tls_verify {
                    return Err(field.refused(
                        "would take any server for the right one: remove it and give certificate-authority-data",
                    ));
                }
            }
            "certificate-authority" => {
                return Err(field.refused("would read a file of the agent: give certificate-authority-data instead"));
            }
            "proxy-url" => return Err(field.refused("would send connections elsewhere: remove it")),
            "disable-compression" => {
                field.flag()?;
            }
            "extensions" => {}
            _ => return Err(field.unknown()),
        }
    }
    Ok(Cluster { name, field, server, authority, tls_server_name, insecure })
}

fn user<'a>(name: &'a str, field: Field<'a>) -> Result<User<'a>, Refused> {
    let (mut token, mut certificate, mut key, mut username, mut password) = (None, None, None, None, None);
    for (name, field) in field.fields()? {
        match name {
            "token" => token = Some(field),
            "client-certificate-data" => certificate = Some(field),
            "client-key-data" => key = Some(field),
            "username" => username = Some(field),
            "password" => password = Some(field),
            "exec" => return Err(field.refused("would run a program in the agent: use a token")),
            "auth-provider" => {
                return Err(field.refused("would run a program or ask a service for credentials: use a token"));
            }
            "tokenFile" => {
                return Err(field.refused("would read a file of the agent: give the token itself, as `token`"));
            }
            "client-certificate" => {
                return Err(field.refused("would read a file of the agent: give client-certificate-data instead"));
            }
            "client-key" => return Err(field.refused("would read a file of the agent: give client-key-data instead")),
            "as" | "as-uid" | "as-groups" | "as-user-extra" => {
                return Err(field.refused("would act as somebody else: remove it, and give the user what it may do"));
            }
            "extensions" => {}
            _ => return Err(field.unknown()),
        }
    }
    Ok(User { name, field, token, certificate, key, username, password })
}

fn context<'a>(name: &'a str, field: Field<'a>) -> Result<Context<'a>, Refused> {
    let (mut cluster, mut user) = (None, None);
    for (name, field) in field.fields()? {
        match name {
            "cluster" => cluster = Some(field),
            "user" => user = Some(field),
            "namespace" => {
                field.text()?;
            }
            "extensions" => {}
            _ => return Err(field.unknown()),
        }
    }
    Ok(Context { name, field, cluster, user })
}

/// Readers of kubeconfigs do not agree on which of two entries of one name counts.
fn unique<'a>(entries: impl Iterator<Item = (&'a str, &'a Field<'a>)>) -> Result<(), Refused> {
    let mut seen = std::collections::HashSet::new();
    for (name, field) in entries {
        if !seen.insert(name) {
            return Err(field.refused("has the name of an earlier entry: leave one of them"));
        }
    }
    Ok(())
}

/// The context that is meant.
fn chosen<'a, 'b>(
    root: &Field<'a>,
    current: Option<&Field<'a>>,
    contexts: &'b [Context<'a>],
) -> Result<&'b Context<'a>, Refused> {
    match (current, contexts) {
        (Some(field), contexts) => {
            let text = field.text()?;
            let named = contexts.iter().find(|context| context.name == text);
            named.ok_or_else(|| field.refused("names no context of the file"))
        }
        (None, [context]) => Ok(context),
        (None, []) => Err(root.missing("contexts")),
        (None, _) => Err(root.missing("current-context")),
    }
}

fn required<'b, 'a>(
    field: Option<&'b Field<'a>>,
    parent: &Field<'a>,
    name: &'static str,
) -> Result<&'b Field<'a>, Refused> {
    field.ok_or_else(|| parent.missing(name))
}

/// What a field holds in base64, which may be broken into lines.
fn decoded(field: &Field<'_>) -> Result<Vec<u8>, Refused> {
    let text: String = field.text()?.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
    STANDARD.decode(text).map_err(|_| field.refused("is not base64"))
}

/// The PEM that a field holds in base64, and the certificates in it.
fn certificates(field: &Field<'_>) -> Result<(Vec<u8>, Vec<CertificateDer<'static>>), Refused> {
    let what = "holds no certificate in PEM, encoded in base64";
    let pem = decoded(field)?;
    let all = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|_| field.refused(what))?;
    if all.is_empty() { Err(field.refused(what)) } else { Ok((pem, all)) }
}

// === impl Cluster ===

impl Cluster<'_> {
    fn trust(&self) -> Result<Trust, Refused> {
        if self.insecure {
            return Ok(Trust::Anybody);
        }
        let field = self.authority.as_ref().ok_or_else(|| {
            let what = "is missing: an API server's certificate is never trusted because the system trusts it";
            self.field.at("certificate-authority-data").refused(what)
        })?;
        let (pem, all) = certificates(field)?;
        let mut roots = RootCertStore::empty();
        for certificate in all {
            roots.add(certificate).map_err(|_| field.refused("holds a certificate that cannot be read"))?;
        }
        Ok(Trust::Authority(pem))
    }

    fn server_name(&self) -> Result<Option<String>, Refused> {
        let Some(field) = &self.tls_server_name else { return Ok(None) };
        let name = field.text()?;
        ServerName::try_from(name).map_err(|_| field.refused("is neither a DNS name nor an IP address"))?;
        Ok(Some(name.to_owned()))
    }
}

// === impl User ===

impl User<'_> {
    fn identity(&self) -> Result<Identity, Refused> {
        let certificate = self.certificate.is_some() || self.key.is_some();
        let password = self.username.is_some() || self.password.is_some();
        match (&self.token, certificate, password) {
            (Some(field), false, false) => self.token(field),
            (None, true, false) => self.certificate(),
            (None, false, true) => self.password(),
            (None, false, false) => Err(self
                .field
                .refused("has no credentials: give `token`, or client-certificate-data and client-key-data")),
            _ => Err(self.field.refused("has several kinds of credentials: leave one of them")),
        }
    }

    fn token(&self, field: &Field<'_>) -> Result<Identity, Refused> {
        let token = field.text()?;
        // It becomes part of a header.
        if !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(field.refused("has a character that a token cannot have, like a blank or the end of a line"));
        }
        Ok(Identity::Token(Hidden::new(token)))
    }

    fn certificate(&self) -> Result<Identity, Refused> {
        let field = required(self.certificate.as_ref(), &self.field, "client-certificate-data")?;
        let (pem, _) = certificates(field)?;
        let certificate = String::from_utf8(pem).map_err(|_| field.refused("is not text"))?;
        let field = required(self.key.as_ref(), &self.field, "client-key-data")?;
        let key = String::from_utf8(decoded(field)?).map_err(|_| field.refused("is not text"))?;
        PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|_| field.refused("holds no private key in PEM, encoded in base64"))?;
        Ok(Identity::Certificate { certificate: Hidden::new(certificate), key: Hidden::new(key) })
    }

    fn password(&self) -> Result<Identity, Refused> {
        let field = required(self.username.as_ref(), &self.field, "username")?;
        let username = field.text()?;
        // What comes after the first colon is the password (RFC 7617, section 2).
        if username.contains(':') {
            return Err(field.refused("has a colon, which a user's name cannot have"));
        }
        let password = required(self.password.as_ref(), &self.field, "password")?.text()?;
        Ok(Identity::Password { username: Hidden::new(username), password: Hidden::new(password) })
    }
}

#[cfg(test)]
mod tests;
