//! What the exporter wants said of its service wherever it is imported: the labels and annotations that a ServiceExport
//! lists for that. Those of its metadata, and those of the Service, stay at home.

use super::can_be_a_label;
use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

/// Most bytes of both together: as many as Kubernetes allows an object's annotations.
const MAX_EXPORTED_BYTES: usize = 256 << 10;

/// Keys and values.
pub type Texts = BTreeMap<Arc<str>, Arc<str>>;

/// The labels and annotations that an export carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Exported {
    /// Its `exportedLabels`.
    pub labels: Texts,
    /// Its `exportedAnnotations`.
    pub annotations: Texts,
}

/// What cannot be exported so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportedError {
    /// A label that Kubernetes would refuse.
    #[error("`{0}={1}` cannot be a label")]
    Label(String, String),
    /// An annotation whose key Kubernetes would refuse.
    #[error("`{0}` cannot be the key of an annotation")]
    Annotation(String),
    /// Both together are too large.
    #[error("exported labels and annotations of {0} bytes, and {MAX_EXPORTED_BYTES} are the most")]
    Size(usize),
}

// === impl Exported ===

impl Exported {
    /// The one that has none.
    #[must_use]
    pub fn none() -> Arc<Self> {
        static NONE: LazyLock<Arc<Exported>> = LazyLock::new(Arc::default);
        NONE.clone()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.annotations.is_empty()
    }

    /// Whether an object in another cluster can have them.
    ///
    /// # Errors
    /// [`ExportedError`] says of the first that it cannot have.
    pub fn check(&self) -> Result<(), ExportedError> {
        let bytes = self.labels.iter().chain(&self.annotations).map(|(key, value)| key.len() + value.len()).sum();
        if bytes > MAX_EXPORTED_BYTES {
            return Err(ExportedError::Size(bytes));
        }
        if let Some((key, value)) = self.labels.iter().find(|(key, value)| !can_be_a_label(key, value)) {
            return Err(ExportedError::Label(key.to_string(), value.to_string()));
        }
        // The rule for keys is the same, and any text is a value.
        let bad = self.annotations.keys().find(|key| !can_be_a_label(key, ""));
        bad.map_or(Ok(()), |key| Err(ExportedError::Annotation(key.to_string())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_object_elsewhere_could_not_have_is_named() {
        let texts =
            |texts: &[(&str, &str)]| texts.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let check = |labels: &[(&str, &str)], annotations: &[(&str, &str)]| {
            Exported { labels: texts(labels), annotations: texts(annotations) }.check()
        };
        assert_eq!(check(&[], &[]), Ok(()));
        assert_eq!(check(&[("team", "shop"), ("example.com/tier", "")], &[("note", "two words\n")]), Ok(()));
        assert_eq!(check(&[("team", "a b")], &[]), Err(ExportedError::Label("team".to_owned(), "a b".to_owned())));
        assert_eq!(check(&[], &[("a b", "")]), Err(ExportedError::Annotation("a b".to_owned())));
        let largest = "x".repeat(MAX_EXPORTED_BYTES - 1);
        assert_eq!(check(&[], &[("k", &largest)]), Ok(()));
        assert_eq!(check(&[("l", "")], &[("k", &largest)]), Err(ExportedError::Size(MAX_EXPORTED_BYTES + 1)));
    }
}
