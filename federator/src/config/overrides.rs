//! Text to the typed file: the file itself, then the environment, then the command line, each later one winning.
//! Turns the parser's complaint about an unknown field into one that names its nearest neighbour. Pure.

use super::{ConfigError, file::File};
use serde_json::{Map, Value};

/// `FEDERATOR_DNS__TTL` is the field `dns.ttl`.
const PREFIX: &str = "FEDERATOR_";

/// Reads by tools around the agent, not fields.
const NOT_FIELDS: [&str; 5] =
    ["FEDERATOR_CONFIG", "FEDERATOR_BIN", "FEDERATOR_PARTS", "FEDERATOR_CACHE", "FEDERATOR_SANDBOX"];

pub(super) fn parse(
    place: &str,
    text: &str,
    environment: impl Iterator<Item = (String, String)>,
    set: &[String],
) -> Result<File, ConfigError> {
    let mut overrides: Vec<(String, String, String)> = environment
        .filter(|(name, value)| is_ours(name, value))
        .map(|(name, value)| (format!("variable {name}"), path_of(&name[PREFIX.len()..]), value))
        .collect();
    overrides.sort();
    for setting in set {
        let place = format!("--set {setting}");
        let Some((path, value)) = setting.split_once('=') else {
            return Err(complaint(&place, "write it as FIELD=VALUE, like dns.ttl=10"));
        };
        overrides.push((place, path.to_owned(), value.to_owned()));
    }
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, plain())
        .map_err(|error| complaint(place, &error.to_string()))?;
    // A file with nothing in it is one that lacks everything.
    let mut whole = Value::Object(Map::new());
    if let Some(document) = documents.into_iter().next() {
        // The text by itself first: only so does a complaint say in which line it is. What it lacks may still come.
        match serde_saphyr::from_str_with_options::<File>(text, plain()).map_err(|error| error.to_string()) {
            Ok(file) if overrides.is_empty() => return Ok(file),
            Err(error) if overrides.is_empty() || !is_lack(&error) => return Err(complaint(place, &error)),
            _ => whole = document,
        }
    }
    let mut steps = vec![(place.to_owned(), typed(&whole))];
    for (place, path, value) in overrides {
        whole = with(&whole, &path, value);
        steps.push((place, typed(&whole)));
    }
    // What is wrong at the end was brought in by the first step behind which it is wrong.
    let reason = match typed(&whole) {
        Ok(file) => return Ok(file),
        Err(reason) => reason,
    };
    let culprit = steps.iter().find(|(_, outcome)| outcome.as_ref().err() == Some(&reason));
    Err(complaint(culprit.map_or(place, |(place, _)| place), &reason))
}

/// Whether a variable is a field. Kubernetes tells every pod of the Services in its namespace, and so of one called
/// `federator-dns`, by variables like `FEDERATOR_DNS_PORT_53_UDP_ADDR`: nobody typed those.
fn is_ours(name: &str, value: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else {
        return false;
    };
    let rest = format!("_{rest}");
    let link = rest.ends_with("_SERVICE_HOST")
        || rest.contains("_SERVICE_PORT")
        || rest.ends_with("_PORT") && value.contains("://")
        || rest.split_once("_PORT_").is_some_and(|(_, port)| port.starts_with(|first: char| first.is_ascii_digit()));
    !link && !NOT_FIELDS.contains(&name)
}

/// Complaints without a picture of the place.
fn plain() -> serde_saphyr::Options {
    serde_saphyr::options! { with_snippet: false }
}

fn typed(whole: &Value) -> Result<File, String> {
    serde_json::from_value(whole.clone()).map_err(|error| error.to_string())
}

/// The whole with one field set. A value is read as YAML; where only a text fits, `123` is one too.
fn with(whole: &Value, path: &str, value: String) -> Value {
    let set = |value: Value| {
        let mut whole = whole.clone();
        put(&mut whole, path, value);
        whole
    };
    let fits = |whole: &Value| typed(whole).map_or_else(|error| is_lack(&error), |_| true);
    let read = set(serde_saphyr::from_str(&value).unwrap_or_else(|_| Value::String(value.clone())));
    if fits(&read) {
        return read;
    }
    let text = set(Value::String(value));
    if fits(&text) { text } else { read }
}

/// Whether a field is only missing: a later override may bring it.
fn is_lack(error: &str) -> bool {
    error.contains("missing field")
}

/// `DNS__NEGATIVE_TTL` to `dns.negativeTtl`.
fn path_of(name: &str) -> String {
    let camel = |part: &str| {
        let mut words = part.split('_').map(str::to_ascii_lowercase);
        let first = words.next().unwrap_or_default();
        words.fold(first, |text, word| {
            let mut letters = word.chars();
            let head = letters.next().map(|letter| letter.to_ascii_uppercase());
            text + &head.into_iter().chain(letters).collect::<String>()
        })
    };
    name.split("__").map(camel).collect::<Vec<_>>().join(".")
}

/// Sets a field by its path; `clusters.0.network` goes through a list.
fn put(at: &mut Value, path: &str, value: Value) {
    let (part, rest) = path.split_once('.').map_or((path, None), |(part, rest)| (part, Some(rest)));
    let place = part.parse().ok().filter(|n: &usize| at.get(*n).is_some());
    if place.is_none() && !at.is_object() {
        *at = Value::Object(Map::new());
    }
    let field = match (at, place) {
        (Value::Array(items), Some(n)) => &mut items[n],
        (Value::Object(fields), _) => fields.entry(part).or_insert(Value::Null),
        _ => return,
    };
    match rest {
        Some(rest) => put(field, rest, value),
        None => *field = value,
    }
}

/// One line: where, what, and the nearest thing that would have been right.
fn complaint(place: &str, error: &str) -> ConfigError {
    let line = error.lines().next().unwrap_or_default();
    let (what, at) = match line.rsplit_once(" at line ") {
        Some((what, at)) => (what, format!("line {at}: ")),
        None => (line, String::new()),
    };
    let reason = match nearest(what) {
        Some(near) => format!("{at}{}; did you mean `{near}`?", what.split(", expected").next().unwrap_or(what)),
        None => format!("{at}{what}"),
    };
    ConfigError::Parse { place: place.to_owned(), reason }
}

/// The name nearest to the unknown one, of those that the parser says it expected: ``a`, `b`` of one parser is
/// `a, b` of the other.
fn nearest(error: &str) -> Option<String> {
    let (_, rest) = error.split_once("unknown field").or_else(|| error.split_once("unknown variant"))?;
    let (wrong, expected) = rest.split_once(", expected ")?;
    let wrong = wrong.split('`').nth(1)?;
    let names = expected.strip_prefix("one of ").unwrap_or(expected);
    names
        .split(", ")
        .flat_map(|names| names.split(" or "))
        .map(|name| name.split('`').nth(1).unwrap_or(name))
        .map(|known| (strsim::damerau_levenshtein(wrong, known), known))
        .min()
        .filter(|(distance, known)| *distance <= known.len().max(wrong.len()).div_ceil(2))
        .map(|(_, known)| known.to_owned())
}

#[cfg(test)]
mod tests;
