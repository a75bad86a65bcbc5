//! The rules of this repository, executed.
//!
//! One test a rule; each lists everything that breaks it, one line a place, with what to do. A rule is a function
//! from a tree to what is wrong with it, so that its own unit tests can show it a tree that breaks it: a rule that
//! cannot fail says nothing. To change a rule, change the constant at the head of its file, and say why there.
//!
//! - [`layers`]: which package may depend on which
//! - [`importers`]: which module may name which crate or effect
//! - [`files`]: how a source file opens, and how long it may be
//! - [`words`]: what no file says
//! - [`strays`]: what the root holds
//! - [`maps`]: pages that name paths and modules
//! - [`decisions`]: numbers, headings, index
//! - [`install`]: what an operator applies
//! - [`lockfile`]: one version each, one crypto provider

use std::fmt;

use anyhow::Result;

use crate::tree::{Tree, Violation};

mod decisions;
mod files;
mod importers;
mod install;
mod layers;
mod lockfile;
mod maps;
mod source;
mod strays;
mod tree;
mod words;

#[test]
fn packages_keep_their_layer() -> Result<(), Report> {
    none(layers::check_repository(&tree::root()))
}

#[test]
fn crates_and_effects_have_one_importer() -> Result<(), Report> {
    holds(importers::check)
}

#[test]
fn sources_open_with_what_they_are() -> Result<(), Report> {
    holds(files::openings)
}

#[test]
fn no_source_is_too_long() -> Result<(), Report> {
    holds(files::ceiling)
}

#[test]
fn half_of_the_product_is_in_short_files() -> Result<(), Report> {
    holds(files::median)
}

#[test]
fn nothing_is_promised_for_later() -> Result<(), Report> {
    holds(words::promises)
}

#[test]
fn every_test_runs() -> Result<(), Report> {
    holds(words::skipped_tests)
}

#[test]
fn no_path_of_one_machine() -> Result<(), Report> {
    holds(words::machine_paths)
}

#[test]
fn no_mirror_of_one_network() -> Result<(), Report> {
    holds(words::mirrors)
}

#[test]
fn every_file_is_where_it_belongs() -> Result<(), Report> {
    holds(strays::check)
}

#[test]
fn paths_in_pages_exist() -> Result<(), Report> {
    holds(maps::paths_exist)
}

#[test]
fn modules_are_in_the_architecture_page() -> Result<(), Report> {
    holds(maps::modules_are_named)
}

#[test]
fn decisions_are_numbered_and_listed() -> Result<(), Report> {
    holds(decisions::check)
}

#[test]
fn the_lock_file_holds_one_of_each() -> Result<(), Report> {
    holds(lockfile::check)
}

#[test]
fn kustomizations_name_what_is_there() -> Result<(), Report> {
    holds(install::kustomizations)
}

#[test]
fn the_agent_takes_what_is_installed() -> Result<(), Report> {
    holds(|tree| install::configurations(tree, &tree::root()))
}

#[test]
fn rights_at_home_are_those_elsewhere() -> Result<(), Report> {
    holds(install::rights)
}

#[test]
fn clusters_of_kind_do_not_overlap() -> Result<(), Report> {
    holds(install::kind_clusters)
}

#[test]
fn scripts_use_what_is_there() -> Result<(), Report> {
    holds(|tree| install::scripts(tree, &tree::root()))
}

#[test]
fn the_image_is_built_by_our_compiler() -> Result<(), Report> {
    holds(install::image)
}

/// What a failed rule prints: every violation on a line of its own, and no backtrace.
struct Report(String);

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn holds(rule: fn(&Tree) -> Vec<Violation>) -> Result<(), Report> {
    none(Tree::of_repository().map(|tree| rule(&tree)))
}

fn none(violations: Result<Vec<Violation>>) -> Result<(), Report> {
    let mut violations = violations.map_err(|error| Report(format!("the rule could not be checked: {error:#}")))?;
    violations.sort();
    violations.dedup();
    if violations.is_empty() {
        return Ok(());
    }
    let lines: String = violations.iter().map(|violation| format!("\n  {violation}")).collect();
    Err(Report(format!("{} found:{lines}", violations.len())))
}

#[test]
fn a_report_lists_everything() {
    let twice = || Violation::at("b.rs", 2, "split it");
    let report = none(Ok(vec![twice(), Violation::new("a.rs", "name it"), twice()]));
    assert_eq!(report.map_err(|report| report.0), Err("2 found:\n  a.rs: name it\n  b.rs:2: split it".to_owned()));
    assert!(none(Ok(Vec::new())).is_ok());
    assert!(none(Err(anyhow::anyhow!("no git"))).is_err());
}
