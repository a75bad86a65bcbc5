//! The generated protobuf types behind [`crate::record`]. Made from `proto/` by the test `generated` of the tests
//! package, which also proves that they are current.

#![allow(
    missing_docs,
    unreachable_pub,
    rustdoc::invalid_html_tags,
    reason = "generated; the fields are described in proto/"
)]

include!("wire/gen/federator.store.v1.rs");
