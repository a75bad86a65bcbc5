//! A ServiceEntry as YAML, the same that its JSON says. Written by hand, because a serializer for everything that YAML
//! can be takes a third of all that a change in a service of a thousand endpoints costs an agent. Every text is quoted
//! as in JSON, which YAML takes as it is.

use super::object::{API_VERSION, Desired, Endpoint, MANAGED_BY, ObjectKey, Port, REVISION_ANNOTATION};
use std::fmt::{self, Display, Write as _};

/// The whole object.
#[must_use]
pub fn text(at: &ObjectKey, desired: &Desired) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut text, at, desired);
    text
}

fn write(out: &mut String, at: &ObjectKey, desired: &Desired) -> fmt::Result {
    let entry = desired.entry();
    out.reserve(1024 + 192 * entry.endpoints.len());
    writeln!(out, "apiVersion: {API_VERSION}\nkind: ServiceEntry\nmetadata:\n  annotations:")?;
    writeln!(out, "    {REVISION_ANNOTATION}: \"{}\"", desired.revision)?;
    writeln!(out, "  labels:\n    {}: {}", MANAGED_BY.0, MANAGED_BY.1)?;
    pair(out, "  name", &at.name)?;
    pair(out, "  namespace", &at.namespace)?;
    out.push_str("spec:\n");
    texts(out, "addresses", &entry.addresses)?;
    if !entry.endpoints.is_empty() {
        out.push_str("  endpoints:\n");
        entry.endpoints.iter().try_for_each(|known| endpoint(out, known))?;
    }
    texts(out, "hosts", &entry.hosts)?;
    writeln!(out, "  location: {}", entry.location)?;
    out.push_str(if entry.ports.is_empty() { "  ports: []\n" } else { "  ports:\n" });
    for Port { name, number, protocol } in &entry.ports {
        pair(out, "    - name", name)?;
        writeln!(out, "      number: {number}\n      protocol: {protocol}")?;
    }
    writeln!(out, "  resolution: {}", entry.resolution)
}

fn endpoint(out: &mut String, endpoint: &Endpoint<'_>) -> fmt::Result {
    pair(out, "    - address", endpoint.address)?;
    out.push_str("      labels:\n");
    for (key, value) in endpoint.labels.iter() {
        out.push_str("        ");
        quoted(out, key)?;
        pair(out, "", value)?;
    }
    if !endpoint.locality.is_unknown() {
        pair(out, "      locality", endpoint.locality)?;
    }
    if !endpoint.network.is_empty() {
        pair(out, "      network", endpoint.network)?;
    }
    if !endpoint.ports.is_empty() {
        out.push_str("      ports:\n");
    }
    for (name, number) in &endpoint.ports {
        out.push_str("        ");
        quoted(out, name)?;
        writeln!(out, ": {number}")?;
    }
    Ok(())
}

fn texts(out: &mut String, field: &str, texts: &[String]) -> fmt::Result {
    if !texts.is_empty() {
        writeln!(out, "  {field}:")?;
    }
    for text in texts {
        out.push_str("    - ");
        quoted(out, text)?;
        out.push('\n');
    }
    Ok(())
}

/// A line with a quoted text behind what comes before it and a colon.
fn pair(out: &mut String, before: &str, value: impl Display) -> fmt::Result {
    out.push_str(before);
    out.push_str(": ");
    quoted(out, value)?;
    out.push('\n');
    Ok(())
}

fn quoted(out: &mut String, value: impl Display) -> fmt::Result {
    out.push('"');
    let begin = out.len();
    write!(out, "{value}")?;
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    if out.as_bytes()[begin..].iter().all(|byte| plain(*byte)) {
        out.push('"');
        return Ok(());
    }
    let text = out.split_off(begin);
    out.pop();
    // A text is always JSON.
    out.push_str(&serde_json::to_string(&text).unwrap_or_default());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emit::object::{Labels, ServiceEntry};
    use model::{
        export::{Address, Workload},
        locality::Locality,
    };
    use proptest::prelude::*;
    use std::sync::LazyLock;

    proptest! {
        /// Whatever the texts are, the file reads as what its JSON says.
        #[test]
        fn what_is_written_reads_as_what_was_meant(
            texts in prop::collection::vec(
                prop_oneof![any::<String>(), "[a-z0-9:.~-]{0,6}", Just("no".to_owned()), Just("1e3".to_owned())], 6
            ),
            several in 0..3_usize,
        ) {
            static ADDRESS: LazyLock<Address> = LazyLock::new(|| Address::Ip([10, 0, 0, 1].into()));
            let text = |n: usize| &*Box::leak(texts[n].clone().into_boxed_str());
            let labels = (0..several).map(|n| (text(n).into(), text(n + 1).into())).collect();
            let workload = Box::leak(Box::new(Workload { labels, service_account: "".into() }));
            let endpoint = Endpoint {
                address: &ADDRESS,
                labels: Labels { cluster: text(3), workload },
                locality: Box::leak(Box::new(Locality::new(text(4), text(5), ""))),
                network: text(2),
                ports: (0..several).map(|n| (text(n).into(), 80)).collect(),
            };
            let port = Port { name: text(0).into(), number: 1, protocol: "HTTP" };
            let entry = ServiceEntry {
                addresses: (0..several).map(|n| texts[n].clone()).collect(),
                endpoints: vec![endpoint; several],
                hosts: vec![texts[5].clone()],
                ports: vec![port; several],
                ..ServiceEntry::default()
            };
            let (at, desired) = (ObjectKey { namespace: text(1).into(), name: text(4).into() }, Desired::from(entry));
            let written = super::text(&at, &desired);
            let read: serde_json::Value = serde_saphyr::from_str(&written).expect(&written);
            prop_assert_eq!(read, serde_json::to_value(desired.object(&at, API_VERSION)).expect("JSON"), "{}", written);
        }
    }
}
