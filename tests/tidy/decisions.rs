//! Decisions are numbered without gaps, have one shape, and are listed in their index.

use crate::tree::{Tree, Violation};

const DIR: &str = "docs/decisions/";
const INDEX: &str = "docs/decisions/README.md";
const SECTIONS: [&str; 4] = ["## Context", "## Decision", "## Why not the other way", "## Consequences"];

/// Checks names, headings and the index; what a decision says is for reviewers.
pub(crate) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    let index = tree.text(INDEX).unwrap_or_default();
    if index.is_empty() {
        found.push(Violation::new(INDEX, "missing: list the decisions"));
    }
    let pages = tree.files().filter(|(path, _)| path.starts_with(DIR) && *path != INDEX);
    for (expected, (path, text)) in (1..).zip(pages) {
        let name = &path[DIR.len()..];
        if number(name) != Some(expected) {
            found.push(Violation::new(path, format!("expected {expected:04}-short-title.md: number without gaps")));
        }
        if !index.contains(&format!("]({name})")) {
            found.push(Violation::new(path, format!("link it in {INDEX}")));
        }
        let title = name.split('-').next().unwrap_or_default();
        if !text.starts_with(&format!("# {title} ")) {
            found.push(Violation::at(path, 1, format!("open with `# {title} ` and the title")));
        }
        for section in SECTIONS {
            if !text.lines().any(|line| line.trim_end() == section) {
                found.push(Violation::new(path, format!("has no `{section}`")));
            }
        }
    }
    for (line, target) in index.lines().enumerate().filter_map(|(n, line)| Some((n + 1, first_link(line)?))) {
        if number(target).is_some() && tree.text(&format!("{DIR}{target}")).is_none() {
            found.push(Violation::at(INDEX, line, format!("{target} does not exist")));
        }
    }
    found
}

/// The number of `0001-short-title.md`.
fn number(name: &str) -> Option<u32> {
    let (number, title) = name.strip_suffix(".md")?.split_once('-')?;
    let is_slug = !title.is_empty() && title.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if number.len() == 4 && is_slug { number.parse().ok() } else { None }
}

fn first_link(line: &str) -> Option<&str> {
    line.split_once("](")?.1.split(')').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(number: &str) -> String {
        format!("# {number} Title\n\n{}\n", SECTIONS.join("\n\nWords.\n\n"))
    }

    #[track_caller]
    fn breaks<const N: usize>(files: [(&str, &str); N], expected: &[&str]) {
        let found: Vec<String> = check(&Tree::of(files)).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        assert!(found.iter().zip(expected).all(|(line, start)| line.starts_with(start)), "{found:#?}");
    }

    #[test]
    fn numbered_shaped_and_listed() {
        let (first, second) = (page("0001"), page("0002"));
        let index = "1. [A](0001-a.md)\n2. [B](0002-b.md)\n";
        breaks([(INDEX, index), ("docs/decisions/0001-a.md", &first), ("docs/decisions/0002-b.md", &second)], &[]);
        breaks(
            [(INDEX, index), ("docs/decisions/0001-a.md", &first)],
            &["docs/decisions/README.md:2: 0002-b.md does not exist"],
        );
        breaks(
            [(INDEX, "[A](0002-b.md)"), ("docs/decisions/0002-b.md", &second)],
            &["docs/decisions/0002-b.md: expected 0001-"],
        );
        breaks([(INDEX, "None."), ("docs/decisions/0001-a.md", &first)], &["docs/decisions/0001-a.md: link it"]);
        breaks([], &["docs/decisions/README.md: missing"]);
    }

    #[test]
    fn a_page_has_every_section() {
        let without = page("0001").replace(SECTIONS[2], "## Else");
        breaks(
            [(INDEX, "[A](0001-a.md)"), ("docs/decisions/0001-a.md", &without)],
            &["docs/decisions/0001-a.md: has no `## Why not"],
        );
        breaks(
            [(INDEX, "[A](0001-a.md)"), ("docs/decisions/0001-a.md", &page("0009"))],
            &["docs/decisions/0001-a.md:1: open with `# 0001 `"],
        );
        assert_eq!(
            [number("0001-a.md"), number("1-a.md"), number("0001-A.md"), number("README.md")],
            [Some(1), None, None, None]
        );
    }
}
