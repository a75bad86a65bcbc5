//! What is accepted, what is refused, and that no refusal tells a secret.

mod hostile;

use super::*;
use hostile::{CA, ISTIOCTL, table as hostile, written};
use proptest::prelude::*;

fn refusal(text: &str) -> String {
    match parse(text.as_bytes(), &Allowed::default()) {
        Ok(access) => panic!("accepted: {access:?}\n{text}"),
        Err(refused) => refused.to_string(),
    }
}

#[test]
fn hostile_kubeconfigs_are_refused_by_field() {
    for (expected, text) in hostile() {
        let message = refusal(&text);
        assert!(message.contains(expected), "{message}\ndoes not contain {expected}:\n{text}");
        for secret in ["s3cr3t", "0th3r", "czNjcjN0", "hunter2", "passwd"] {
            assert!(!message.contains(secret), "{message}");
        }
    }
    assert!(hostile().count() >= 80);
}

#[test]
fn what_istioctl_writes_is_accepted() {
    let access = parse(written(ISTIOCTL).as_bytes(), &Allowed::default()).unwrap();
    assert_eq!(access.server().to_string(), "https://10.0.0.2:6443/");
    assert_eq!(access.trust, Trust::Authority(CA.into()));
    assert_eq!(access.tls_server_name, None);
    assert_eq!(access.identity, Identity::Token(Hidden::new("s3cr3t")));
    assert_eq!(access, parse(written(ISTIOCTL).as_bytes(), &Allowed::default()).unwrap());
    let json = serde_json::to_string(&fields::read(written(ISTIOCTL).as_bytes()).unwrap()).unwrap();
    assert_eq!(access, parse(json.as_bytes(), &Allowed::default()).unwrap(), "YAML or JSON");
}

#[test]
fn what_says_nothing_is_no_harm() {
    let text = r#"
        kind: Config
        preferences: {colors: true}
        extensions: [{name: x, extension: {}}]
        clusters:
        - name: a
          cluster: {server: "https://10.0.0.2", certificate-authority-data: $CA, tls-server-name: kubernetes,
            insecure-skip-tls-verify: false, disable-compression: true, proxy-url: "", certificate-authority: null,
            extensions: [{name: x, extension: {last-update: now}}]}
        users: [{name: a, user: {username: admin, password: "s:3", exec: null, tokenFile: ""}}]
        contexts: [{name: a, context: {cluster: a, user: a, namespace: x, extensions: []}}]
        current-context: ""
    "#;
    let access = parse(written(text).as_bytes(), &Allowed::default()).unwrap();
    assert_eq!(access.tls_server_name.as_deref(), Some("kubernetes"));
    assert_eq!(access.identity, Identity::Password { username: Hidden::new("admin"), password: Hidden::new("s:3") });
}

#[test]
fn the_context_that_is_meant_is_taken() {
    let text = r#"
        clusters:
        - {name: a, cluster: {server: "https://10.0.0.1"}}
        - {name: b, cluster: {server: "https://10.0.0.2", certificate-authority-data: $CA}}
        users: [{name: a, user: {}}, {name: b, user: {token: s3cr3t}}]
        contexts: [{name: a, context: {cluster: a, user: a}}, {name: b, context: {cluster: b, user: b}}]
        current-context: b
    "#;
    let access = parse(written(text).as_bytes(), &Allowed::default()).unwrap();
    assert_eq!(access.server().host(), Some("10.0.0.2"));
}

#[test]
fn an_operator_allows_single_fields() {
    let insecure = r#"[{name: a, cluster: {server: "https://10.0.0.2", insecure-skip-tls-verify: true}}]"#;
    let local = r#"[{name: a, cluster: {server: "https://localhost", certificate-authority-data: $CA}}]"#;
    for (name, clusters) in Allowed::NAMES.into_iter().zip([insecure, local]) {
        let text = written(&format!("clusters: {clusters}\nusers: $USERS\ncontexts: $CONTEXTS"));
        assert!(parse(text.as_bytes(), &Allowed::default()).is_err());
        assert!(parse(text.as_bytes(), &Allowed::by_names([name]).unwrap()).is_ok(), "{name}");
        let other = Allowed::NAMES.into_iter().filter(|other| *other != name);
        assert!(parse(text.as_bytes(), &Allowed::by_names(other).unwrap()).is_err(), "{name}");
    }
    assert_eq!(Allowed::by_names(["exec"]), Err("exec"));
}

#[test]
fn size_depth_and_encoding_are_bounded() {
    let good = written(ISTIOCTL);
    let padded = format!("{good}{}", "#".repeat(MAX_BYTES - good.len()));
    assert!(parse(padded.as_bytes(), &Allowed::default()).is_ok());
    assert_eq!(
        refusal(&format!("{padded}#")),
        "it is larger than 256 KiB: leave one cluster, one user and one context in it"
    );
    assert_eq!(parse(b"\xff\xfe", &Allowed::default()), Err(Refused::NotText));
    for deep in ["[".repeat(200_000), "- ".repeat(100_000), "a: {".repeat(50_000), "? ".repeat(100_000)] {
        refusal(&deep);
    }
    assert!(refusal(&format!("extensions: [{}]", "a,".repeat(20_000))).contains("more values"));
}

#[test]
fn what_is_debugged_tells_no_secret() {
    let access = parse(written(ISTIOCTL).as_bytes(), &Allowed::default()).unwrap();
    let shown = format!("{access:?}");
    assert!(!shown.contains("s3cr3t") && !shown.contains("CERTIFICATE"), "{shown}");
}

/// Good and hostile kubeconfigs with a secret in each place that can hold one.
fn with_secret() -> impl Strategy<Value = (String, String)> {
    let all: Vec<String> = hostile().map(|(_, text)| text).chain([written(ISTIOCTL)]).collect();
    ("[a-z]{3}[0-9]{3}[a-z]{3}", prop::sample::select(all), any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(secret, text, at, whole)| {
            let words: Vec<_> = text.match_indices(|c: char| " {[:,\n".contains(c)).map(|(at, _)| at + 1).collect();
            let Some(at) = words.get(at.index(words.len().max(1))) else { return (text, secret) };
            let rest = &text[*at..];
            let end = rest.find(|c: char| " }]:,\n".contains(c)).filter(|_| whole).unwrap_or(0);
            (format!("{}{secret}{}", &text[..*at], &rest[end..]), secret)
        },
    )
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = parse(&bytes, &Allowed::default());
    }

    #[test]
    fn any_lines_are_survived(text in "([ \\-{}\\[\\]&*!|>'\"%@`?:,#\n]|[a-c]|---\n|users|clusters|: |- ){0,60}") {
        let _ = parse(text.as_bytes(), &Allowed::default());
    }

    #[test]
    fn no_refusal_tells_a_secret((text, secret) in with_secret()) {
        match parse(text.as_bytes(), &Allowed::default()) {
            Ok(access) => {
                let shown = format!("{:?} {:?}", access.identity, access.trust);
                prop_assert!(!shown.contains(&secret), "{shown}");
            }
            Err(refused) => {
                prop_assert!(!refused.to_string().contains(&secret), "{refused}\n{text}");
                prop_assert!(!format!("{refused:?}").contains(&secret), "{refused:?}\n{text}");
            }
        }
    }
}
