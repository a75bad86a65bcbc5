//! An object of which it does not matter to others whether it can be read: one that is malformed is an error with a
//! name, and the list or watch that it stands in goes on. Kube's own `DeserializeGuard` builds every object three times
//! for that; this one reads its text once, and a second time only where the first failed.
//!
//! In an event of a watch the text can only be had as long as the event's type stands before its object. API servers
//! write it so: it is the order of the fields of Go's `metav1.WatchEvent`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, core::PartialObjectMeta};
use serde::{Deserialize, Deserializer, de::DeserializeOwned, de::Error as _};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// An object, or why it cannot be read.
#[derive(Clone, Debug)]
pub struct Lenient<K> {
    /// What it is.
    pub object: Result<K, String>,
    /// Its metadata, where that is all that can be read.
    metadata: ObjectMeta,
}

impl<'de, K: Resource + DeserializeOwned> Deserialize<'de> for Lenient<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        match serde_json::from_str::<K>(text.get()) {
            Ok(mut object) => {
                // Nobody asks who wrote which field. As a tree it is many times larger than everything else of an
                // object, and the objects of a whole page are held together.
                object.meta_mut().managed_fields = None;
                Ok(Self { object: Ok(object), metadata: ObjectMeta::default() })
            }
            Err(error) => {
                let partial: PartialObjectMeta<K> = serde_json::from_str(text.get()).map_err(D::Error::custom)?;
                Ok(Self { object: Err(error.to_string()), metadata: partial.metadata })
            }
        }
    }
}

impl<K: Resource> Resource for Lenient<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(of: &K::DynamicType) -> Cow<'_, str> {
        K::kind(of)
    }

    fn group(of: &K::DynamicType) -> Cow<'_, str> {
        K::group(of)
    }

    fn version(of: &K::DynamicType) -> Cow<'_, str> {
        K::version(of)
    }

    fn plural(of: &K::DynamicType) -> Cow<'_, str> {
        K::plural(of)
    }

    fn meta(&self) -> &ObjectMeta {
        self.object.as_ref().map_or(&self.metadata, Resource::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.object {
            Ok(object) => object.meta_mut(),
            Err(_) => &mut self.metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Service;
    use kube::{ResourceExt as _, api::ObjectList, core::WatchEvent};

    const LIST: &str = r#"{"metadata": {"resourceVersion": "7"}, "items": [
        {"metadata": {"name": "good"}, "spec": {"clusterIP": "None"}},
        {"metadata": {"name": "bad", "resourceVersion": "6"}, "spec": {"ports": "none"}}]}"#;

    #[test]
    fn one_that_cannot_be_read_has_a_name_and_harms_nobody() {
        let list: ObjectList<Lenient<Service>> = serde_json::from_str(LIST).expect("a list");
        let [good, bad] = &list.items[..] else { panic!("two") };
        assert_eq!(good.name_any(), "good");
        assert!(good.object.is_ok());
        assert_eq!((bad.name_any(), bad.resource_version()), ("bad".to_owned(), Some("6".to_owned())));
        assert!(bad.object.as_ref().is_err_and(|why| why.contains("invalid type")));

        let event = r#"{"type": "MODIFIED", "object": {"metadata": {"name": "bad"}, "spec": {"ports": 1}}}"#;
        let event: WatchEvent<Lenient<Service>> = serde_json::from_str(event).expect("an event");
        assert!(matches!(event, WatchEvent::Modified(bad) if bad.object.is_err()));
    }
}
