//! An object as YAML, the same that its JSON says. Written by hand, because a serializer for everything that YAML
//! can be takes a third of all that a change in a service of a thousand endpoints costs an agent. Every text is quoted
//! as in JSON, which YAML takes as it is.

use super::{
    object::{API_VERSION, Desired, Kind, MANAGED_BY, ObjectKey, REVISION_ANNOTATION, Spec},
    service_entry::{Endpoint, Port, ServiceEntry},
};
use model::tracked::Tracked;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fmt::{self, Display, Write as _},
};

/// Between two documents. No text of an object can be such a line, because it would be quoted.
pub const SEPARATOR: &str = "---\n";

/// The whole object.
#[must_use]
pub fn text(at: &ObjectKey, desired: &Desired) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut text, at, desired, Some(desired.revision));
    text
}

/// Many objects, in the order of their keys, each a document of its own. Without their revisions: since when an object
/// is as it is depends on when an agent was started, and one fleet is to be one text.
#[must_use]
pub fn documents(all: &Tracked<ObjectKey, Desired>) -> String {
    let mut text = String::new();
    for (at, desired) in all.iter() {
        if !text.is_empty() {
            text.push_str(SEPARATOR);
        }
        // Writing to a String cannot fail.
        let _ = write(&mut text, at, desired, None);
    }
    text
}

/// What was written as [`documents`]: what each object says, by its key.
///
/// # Errors
/// What in it is not an object of ours.
pub fn read(text: &str) -> Result<BTreeMap<ObjectKey, Value>, String> {
    // One by one: what a document may hold is bounded, and so it should not matter how many there are.
    text.split_inclusive('\n')
        .collect::<Vec<_>>()
        .split(|line| *line == SEPARATOR)
        .filter(|lines| !lines.is_empty())
        .map(|lines| {
            let mut object: Value = serde_saphyr::from_str(&lines.concat()).map_err(|error| error.to_string())?;
            let field = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or_default();
            let named = field("/kind");
            let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == named);
            let kind = kind.ok_or_else(|| format!("`{named}` is no kind that is emitted"))?;
            let (namespace, name) = (field("/metadata/namespace").into(), field("/metadata/name").into());
            Ok((ObjectKey { kind, namespace, name }, object["spec"].take()))
        })
        .collect()
}

fn write(out: &mut String, at: &ObjectKey, desired: &Desired, revision: Option<u64>) -> fmt::Result {
    writeln!(out, "apiVersion: {API_VERSION}\nkind: {}\nmetadata:", at.kind.as_str())?;
    if let Some(revision) = revision {
        writeln!(out, "  annotations:\n    {REVISION_ANNOTATION}: \"{revision}\"")?;
    }
    writeln!(out, "  labels:\n    {}: {}", MANAGED_BY.0, MANAGED_BY.1)?;
    pair(out, "  name", &at.name)?;
    pair(out, "  namespace", &at.namespace)?;
    out.push_str("spec:");
    match desired.spec() {
        Spec::ServiceEntry(spec) => entry(out, &spec),
        // There are few of the others, and they are small.
        _ => value(out, 1, &desired.json()),
    }
}

fn entry(out: &mut String, entry: &ServiceEntry<'_>) -> fmt::Result {
    out.reserve(1024 + 192 * entry.endpoints.len());
    out.push('\n');
    texts(out, "addresses", &entry.addresses)?;
    if !entry.endpoints.is_empty() {
        out.push_str("  endpoints:\n");
        entry.endpoints.iter().try_for_each(|known| endpoint(out, known))?;
    }
    texts(out, "exportTo", &entry.export_to)?;
    texts(out, "hosts", &entry.hosts)?;
    writeln!(out, "  location: {}", entry.location)?;
    out.push_str(if entry.ports.is_empty() { "  ports: []\n" } else { "  ports:\n" });
    for Port { name, number, protocol } in &entry.ports {
        pair(out, "    - name", name)?;
        writeln!(out, "      number: {number}\n      protocol: {protocol}")?;
    }
    writeln!(out, "  resolution: {}", entry.resolution)?;
    texts(out, "subjectAltNames", &entry.subject_alt_names)
}

/// What stands behind a colon or a dash, so many levels in.
fn value(out: &mut String, level: usize, known: &Value) -> fmt::Result {
    let indent = |out: &mut String| write!(out, "\n{:width$}", "", width = level * 2);
    match known {
        Value::Object(fields) if !fields.is_empty() => fields.iter().try_for_each(|(field, known)| {
            indent(out)?;
            quoted(out, field)?;
            out.push(':');
            value(out, level + 1, known)
        })?,
        Value::Array(items) if !items.is_empty() => items.iter().try_for_each(|known| {
            indent(out)?;
            out.push('-');
            value(out, level + 1, known)
        })?,
        Value::String(text) => {
            out.push(' ');
            quoted(out, text)?;
        }
        other => write!(out, " {other}")?,
    }
    if level == 1 {
        out.push('\n');
    }
    Ok(())
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
        pair(out, "      network", &endpoint.network)?;
    }
    if !endpoint.ports.is_empty() {
        out.push_str("      ports:\n");
    }
    for (name, number) in &endpoint.ports {
        out.push_str("        ");
        quoted(out, name)?;
        writeln!(out, ": {number}")?;
    }
    match endpoint.weight {
        Some(weight) => writeln!(out, "      weight: {weight}"),
        None => Ok(()),
    }
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
    use crate::emit::{
        destination_rule::DestinationRule,
        gateway::Gateway,
        object::{Kind, On},
        service_entry::Labels,
    };
    use model::{
        export::{Address, Workload},
        locality::Locality,
    };
    use proptest::prelude::*;
    use std::{borrow::Cow, sync::LazyLock};

    #[test]
    fn documents_come_in_the_order_of_their_keys_whenever_they_were_made() {
        let at = |kind, namespace: &str, name: &str| ObjectKey { kind, namespace: namespace.into(), name: name.into() };
        let keys = [
            at(Kind::ServiceEntry, "a", "x.a.global"),
            at(Kind::ServiceEntry, "a", "y.a.global"),
            at(Kind::ServiceEntry, "b", "a.b.global"),
            at(Kind::DestinationRule, "a", "x.a.global"),
            at(Kind::Gateway, "a", "federator"),
        ];
        let rendered = |order: &[usize], revision| {
            let mut all = Tracked::new();
            for n in order {
                let rule = Spec::DestinationRule(DestinationRule::near_first(&keys[*n].name, true));
                all.set(keys[*n].clone(), Some(Desired::fixed(rule, revision + *n as u64)));
            }
            documents(&all)
        };
        let first = rendered(&[0, 1, 2, 3, 4], 7);
        assert_eq!(first, rendered(&[3, 1, 4, 0, 2], 70), "neither when nor in which order they were made");
        let headed = |document: &str| {
            let read: Value = serde_saphyr::from_str(document).expect(document);
            format!("{} {}/{}", read["kind"], read["metadata"]["namespace"], read["metadata"]["name"]).replace('"', "")
        };
        let heads: Vec<_> = first.split(SEPARATOR).map(headed).collect();
        assert_eq!(heads, keys.map(|key| key.to_string()));
        assert_eq!(documents(&Tracked::new()), "");
    }

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
            let workload = Workload { labels, service_account: "".into() };
            let endpoint = Endpoint {
                address: &ADDRESS,
                labels: Labels { cluster: text(3), workload: Cow::Owned(workload) },
                locality: Box::leak(Box::new(Locality::new(text(4), text(5), ""))),
                network: text(2).into(),
                ports: (0..several).map(|n| (text(n).into(), 80)).collect(),
                weight: u32::try_from(several).ok().filter(|weight| *weight > 0),
            };
            let port = Port { name: text(0).into(), number: 1, protocol: "HTTP" };
            let entry = ServiceEntry {
                addresses: (0..several).map(|n| texts[n].clone()).collect(),
                endpoints: vec![endpoint; several],
                hosts: vec![texts[5].clone()],
                ports: vec![port; several],
                ..ServiceEntry::default()
            };
            let selector = (0..several).map(|n| (texts[n].clone(), texts[n + 1].clone())).collect();
            for (kind, spec) in [
                (Kind::ServiceEntry, entry.into()),
                (Kind::DestinationRule, Spec::DestinationRule(DestinationRule::near_first(&texts[0], several > 1))),
                (Kind::Gateway, Spec::Gateway(Gateway::passing(texts[..several].to_vec(), selector))),
            ] {
                let at = ObjectKey { kind, namespace: text(1).into(), name: text(4).into() };
                let desired = Desired::fixed(spec, 7);
                let written = super::text(&at, &desired);
                let read: Value = serde_saphyr::from_str(&written).expect(&written);
                let meant = serde_json::to_value(desired.object(&at, API_VERSION, On::Anything)).expect("JSON");
                prop_assert_eq!(read, meant, "{}", written);
                let mut all = Tracked::new();
                all.set(at.clone(), Some(desired.clone()));
                let expected = BTreeMap::from([(at, desired.json())]);
                prop_assert_eq!(super::read(&documents(&all)), Ok(expected), "{}", documents(&all));
            }
        }
    }
}
