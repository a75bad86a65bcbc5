//! What a ServiceExport has said of its service in other clusters is part of what is exported.

use super::*;

#[test]
fn a_service_export_is_heard_of_what_is_said_elsewhere() {
    let asking = |label: &str| {
        let mut export = json!({ "metadata": { "namespace": "shop", "name": "a" } });
        export["spec"] = json!({ "exportedLabels": { "team": label } });
        Object::ServiceExport(serde_json::from_value(export).unwrap())
    };
    let team = |index: &mut Index| {
        let export = export(index, "a").unwrap();
        export.head.exported.labels.get("team").map_or("none", |team| &**team).to_owned()
    };
    let mut index = index(Locality::default(), &[service("a"), service("b")]);
    let mut seen = 0;
    assert_eq!(
        (changed(&mut index, &mut seen), team(&mut index)),
        (vec!["a".to_owned(), "b".to_owned()], "none".into())
    );
    index.apply(&asking("x"));
    assert_eq!((changed(&mut index, &mut seen), team(&mut index)), (vec!["a".to_owned()], "x".into()));
    index.apply(&asking("x"));
    assert!(index.dirty.is_empty(), "nothing new");
    index.apply(&asking("y"));
    assert_eq!(team(&mut index), "y");
    // More than an object elsewhere can have: the service is exported without, and that is said.
    index.apply(&asking("not a label"));
    assert_eq!(team(&mut index), "none");
    assert_eq!(left_out(&mut index), ["ServiceExport shop/a: `team=not a label` cannot be a label"]);
    index.apply(&asking("z"));
    assert_eq!((team(&mut index), left_out(&mut index)), ("z".to_owned(), vec![]));
    index.delete(&asking("").name());
    assert_eq!(team(&mut index), "none");
}
