//! Text to the typed file: the file itself, then the environment, then the command line, each later one winning.
//! Turns the parser's complaint about an unknown field into one that names its nearest neighbour. Pure.

use super::{ConfigError, file::File};
use serde_json::{Map, Value};

/// `FEDERATOR_DNS__TTL` is the field `dns.ttl`.
const PREFIX: &str = "FEDERATOR_";

/// Reads by tools around the agent, not fields.
const NOT_FIELDS: [&str; 5] = [
    "FEDERATOR_CONFIG",
    "FEDERATOR_BIN",
    "FEDERATOR_PARTS",
    "FEDERATOR_CACHE",
    "FEDERATOR_SANDBOX",
];

pub(super) fn parse(
    place: &str,
    text: &str,
    environment: impl Iterator<Item = (String, String)>,
    set: &[String],
) -> Result<File, ConfigError> {
    // The text by itself first: only so does a complaint say in which line it is.
    let file: File = serde_saphyr::from_str(text).map_err(|error| complaint(place, &error.to_string()))?;
    let mut overrides: Vec<(String, String, String)> = environment
        .filter(|(name, _)| name.starts_with(PREFIX) && !NOT_FIELDS.contains(&name.as_str()))
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
    let Some((last, _, _)) = overrides.last().cloned() else {
        return Ok(file);
    };
    let mut whole: Value =
        serde_saphyr::from_str(text).map_err(|error| complaint(place, &error.to_string()))?;
    for (place, path, value) in overrides {
        let value: Value = serde_saphyr::from_str(&value).unwrap_or(Value::String(value));
        put(&mut whole, &path, value);
        if let Err(error) = serde_json::from_value::<File>(whole.clone()) {
            return Err(complaint(&place, &error.to_string()));
        }
    }
    serde_json::from_value(whole).map_err(|error| complaint(&last, &error.to_string()))
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

fn put(whole: &mut Value, path: &str, value: Value) {
    let mut at = whole;
    let mut parts = path.split('.').peekable();
    while let Some(part) = parts.next() {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        let Value::Object(fields) = at else { return };
        if parts.peek().is_none() {
            fields.insert(part.to_owned(), value);
            return;
        }
        at = fields.entry(part).or_insert_with(|| Value::Object(Map::new()));
    }
}

/// One line: where, what, and the nearest thing that would have been right.
fn complaint(place: &str, error: &str) -> ConfigError {
    let line = error.lines().next().unwrap_or_default();
    let reason = match nearest(error) {
        Some(near) => format!(
            "{}; did you mean `{near}`?",
            line.split(", expected").next().unwrap_or(line)
        ),
        None => line.to_owned(),
    };
    ConfigError::Parse {
        place: place.to_owned(),
        reason,
    }
}

/// The name nearest to the unknown one, of those that the parser says it expected.
fn nearest(error: &str) -> Option<String> {
    let (_, rest) = error
        .split_once("unknown field")
        .or_else(|| error.split_once("unknown variant"))?;
    let mut quoted = rest.lines().next()?.split('`').skip(1).step_by(2);
    let wrong = quoted.next()?;
    quoted
        .map(|known| (strsim::damerau_levenshtein(wrong, known), known))
        .min()
        .filter(|(distance, known)| *distance <= known.len().max(wrong.len()).div_ceil(2))
        .map(|(_, known)| known.to_owned())
}

#[cfg(test)]
mod tests;
