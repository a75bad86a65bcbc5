//! The shared store as it was typed becomes how to reach it: endpoints of one kind, and what opens them. Opens nothing
//! itself.

use super::{ConfigError, field, file};
use crate::store::etcd::{Settings, Tls, User};
use http::Uri;

/// # Errors
/// [`ConfigError::Field`] names the first field that cannot be.
pub(super) fn check(typed: file::Etcd) -> Result<Settings, ConfigError> {
    if typed.endpoints.is_empty() {
        return Err(field("store.etcd.endpoints", "give at least one, like http://etcd:2379"));
    }
    for (n, endpoint) in typed.endpoints.iter().enumerate() {
        let at = || format!("store.etcd.endpoints[{n}]");
        check_endpoint(endpoint, typed.tls.is_some())
            .map_err(|reason| field(at(), format!("`{endpoint}` {reason}")))?;
        if typed.endpoints[..n].contains(endpoint) {
            return Err(field(at(), format!("`{endpoint}` is there twice")));
        }
    }
    let tls = match typed.tls {
        None => None,
        Some(file::EtcdTls { ca_file: ca, cert_file: None, key_file: None }) => Some(Tls { ca, identity: None }),
        Some(file::EtcdTls { ca_file: ca, cert_file: Some(certificate), key_file: Some(key) }) => {
            Some(Tls { ca, identity: Some((certificate, key)) })
        }
        Some(_) => return Err(field("store.etcd.tls", "give both `certFile` and `keyFile`, or neither")),
    };
    let user = match (typed.username, typed.password_file) {
        (None, None) => None,
        (Some(name), Some(password)) if !name.is_empty() => Some(User { name, password }),
        _ => return Err(field("store.etcd", "give both `username` and `passwordFile`, or neither")),
    };
    if typed.lease_seconds == 0 {
        return Err(field("store.etcd.leaseSeconds", "give at least 1"));
    }
    let Some(root) = Some(typed.root).filter(|root| !root.trim_matches('/').is_empty()) else {
        return Err(field("store.etcd.root", "give a prefix that etcd's other users do not have, like /federator"));
    };
    Ok(Settings { endpoints: typed.endpoints, root, lease_seconds: typed.lease_seconds.into(), tls, user })
}

fn check_endpoint(endpoint: &str, tls: bool) -> Result<(), &'static str> {
    let shape = "is not a URL like http://etcd:2379 or https://etcd:2379";
    let uri = endpoint.parse::<Uri>().map_err(|_| shape)?;
    if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) || uri.path() != "/" {
        return Err(shape);
    }
    match uri.scheme_str() {
        Some("http") if tls => Err("is without TLS, and `store.etcd.tls` is given: write https://, or leave `tls` out"),
        Some("https") if !tls => Err("needs `store.etcd.tls.caFile`: who vouches for etcd's certificates"),
        Some("http" | "https") => Ok(()),
        _ => Err(shape),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(etcd: &str) -> Result<Settings, String> {
        check(serde_saphyr::from_str(etcd).expect(etcd)).map_err(|error| error.to_string())
    }

    #[test]
    fn endpoints_are_urls_of_one_kind() {
        assert!(read("{endpoints: ['http://a:2379', 'http://b:2379']}").is_ok_and(|settings| settings.tls.is_none()));
        let tls = read("{endpoints: ['https://a:2379', 'https://[::1]:2379'], tls: {caFile: ca}}").unwrap();
        assert_eq!(tls.tls, Some(Tls { ca: "ca".into(), identity: None }));
        for (typed, expected) in [
            ("{endpoints: []}", "field `store.etcd.endpoints`: give at least one"),
            ("{endpoints: ['etcd:2379']}", "field `store.etcd.endpoints[0]`: `etcd:2379` is not a URL"),
            ("{endpoints: ['http://a:1', 'unix:///x']}", "field `store.etcd.endpoints[1]`: `unix:///x` is not a URL"),
            ("{endpoints: ['http://a:1/path']}", "is not a URL"),
            ("{endpoints: ['http://root:secret@a:1']}", "is not a URL"),
            (
                "{endpoints: ['http://a:1', 'http://a:1']}",
                "field `store.etcd.endpoints[1]`: `http://a:1` is there twice",
            ),
            ("{endpoints: ['https://a:1']}", "`https://a:1` needs `store.etcd.tls.caFile`"),
            ("{endpoints: ['http://a:1'], tls: {caFile: ca}}", "is without TLS"),
        ] {
            let error = read(typed).expect_err(typed);
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn what_opens_it_is_given_in_pairs() {
        let whole = "{endpoints: ['https://a:1'], root: /r, leaseSeconds: 7, username: u, passwordFile: p,
                      tls: {caFile: ca, certFile: cert, keyFile: key}}";
        let expected = Settings {
            endpoints: vec!["https://a:1".to_owned()],
            root: "/r".to_owned(),
            lease_seconds: 7,
            tls: Some(Tls { ca: "ca".into(), identity: Some(("cert".into(), "key".into())) }),
            user: Some(User { name: "u".to_owned(), password: "p".into() }),
        };
        assert_eq!(read(whole).unwrap(), expected);
        for (field, said) in [
            ("username: u", "`username` and `passwordFile`"),
            ("passwordFile: p", "`username` and `passwordFile`"),
            ("username: '', passwordFile: p", "`username` and `passwordFile`"),
            ("tls: {caFile: ca, certFile: c}", "`certFile` and `keyFile`"),
            ("tls: {caFile: ca, keyFile: k}", "`certFile` and `keyFile`"),
            ("leaseSeconds: 0", "field `store.etcd.leaseSeconds`"),
            ("root: /", "field `store.etcd.root`"),
        ] {
            let endpoint = if field.starts_with("tls") { "https://a:1" } else { "http://a:1" };
            let error = read(&format!("{{endpoints: ['{endpoint}'], {field}}}")).expect_err(field);
            assert!(error.contains(said), "{error}");
        }
    }
}
