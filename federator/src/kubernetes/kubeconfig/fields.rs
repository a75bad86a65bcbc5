//! Values that know where in the file they stand. Reading one as what it should be either works or says, by its path
//! and without its content, what is wrong.

use super::{MAX_BYTES, Refused};
use serde_json::Value;
use serde_saphyr::{DuplicateKeyPolicy, Error, MergeKeyPolicy};

/// Values in one file; a kubeconfig of a hundred clusters has two thousand.
const MAX_VALUES: usize = 10_000;

/// How deep values may stand in each other; `users[].user.exec.env[].name` is six deep.
const MAX_DEPTH: usize = 32;

/// Longest name of a field that is repeated in an error. Longer than any that there is, shorter than a token.
const MAX_NAME: usize = 32;

/// A value and its path.
pub(super) struct Field<'a> {
    path: String,
    value: &'a Value,
}

/// Reads the one document of a file.
pub(super) fn read(bytes: &[u8]) -> Result<Value, Refused> {
    if bytes.len() > MAX_BYTES {
        return Err(Refused::TooLarge);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Refused::NotText)?;
    // Nobody writes a kubeconfig with anchors, so a file that has any is not worth following.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: MAX_VALUES,
            max_events: 3 * MAX_VALUES,
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_anchors: 0,
            max_aliases: 0,
            max_merge_keys: 0,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Value>(text, options) {
        Ok(Value::Null) => Err(Refused::Empty),
        Ok(value) => Ok(value),
        Err(error) => Err(refused(&error)),
    }
}

/// The parser's errors quote the file, so their text is not used.
fn refused(error: &Error) -> Refused {
    let line = error.location().map_or(0, |location| location.line());
    let what = match error.without_snippet() {
        Error::DuplicateMappingKey { key, .. } => {
            let name = key.as_deref().map_or("a field", shown);
            format!("{name} stands twice in one place: leave one of them")
        }
        Error::MultipleDocuments { .. } => "a second document begins (`---`): leave one of them".to_owned(),
        Error::Budget { .. } | Error::AliasReplayLimitExceeded { .. } => {
            "more values, deeper values or anchors (`&`) than a kubeconfig has: write it out plainly".to_owned()
        }
        Error::MergeKeyNotAllowed { .. } => "merges are not followed (`<<`): write it out plainly".to_owned(),
        _ => "it is not YAML".to_owned(),
    };
    Refused::Document { line, what }
}

/// A field's name, if it is like one. A secret that slipped into its place has digits, or is longer.
fn shown(name: &str) -> &str {
    let like_a_name = name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-');
    if like_a_name && (1..=MAX_NAME).contains(&name.len()) { name } else { "(a name that is no name)" }
}

// === impl Field ===

impl<'a> Field<'a> {
    pub(super) fn root(value: &'a Value) -> Self {
        Self { path: String::new(), value }
    }

    /// The fields of a mapping that say anything: writers leave out what is empty, or write `null` or `""`.
    pub(super) fn fields(&self) -> Result<Vec<(&'a str, Self)>, Refused> {
        let Value::Object(fields) = self.value else { return Err(self.refused("is not a mapping")) };
        let says = |value: &Value| !value.is_null() && value.as_str() != Some("");
        let fields = fields.iter().filter(|(_, value)| says(value));
        Ok(fields.map(|(name, value)| (name.as_str(), Self { value, ..self.at(shown(name)) })).collect())
    }

    /// The items of a list.
    pub(super) fn items(&self) -> Result<Vec<Self>, Refused> {
        let Value::Array(items) = self.value else { return Err(self.refused("is not a list")) };
        let item = |(at, value): (usize, &'a Value)| Self { path: format!("{}[{at}]", self.path), value };
        Ok(items.iter().enumerate().map(item).collect())
    }

    pub(super) fn text(&self) -> Result<&'a str, Refused> {
        self.value.as_str().ok_or_else(|| self.refused("is not a text: if it looks like a number, put it in quotes"))
    }

    pub(super) fn flag(&self) -> Result<bool, Refused> {
        self.value.as_bool().ok_or_else(|| self.refused("is neither true nor false"))
    }

    /// The place of a field below this one.
    pub(super) fn at(&self, name: &str) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        Self { path: format!("{}{dot}{name}", self.path), value: self.value }
    }

    pub(super) fn refused(&self, what: &'static str) -> Refused {
        let path = if self.path.is_empty() { "the document".to_owned() } else { self.path.clone() };
        Refused::Field { path, what }
    }

    pub(super) fn missing(&self, name: &str) -> Refused {
        self.at(name).refused("is missing")
    }

    pub(super) fn unknown(&self) -> Refused {
        self.refused("is not known, so it cannot be known to be harmless: remove it")
    }
}
