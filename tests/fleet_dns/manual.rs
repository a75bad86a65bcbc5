//! What `docs/dns.md` says, for tests that prove it: the manual is what is run, word for word.

const PAGE: &str = include_str!("../../docs/dns.md");

/// The fenced blocks under a heading, in their order.
pub(crate) fn stanzas(heading: &str) -> Vec<String> {
    let blocks = section(heading).split("\n```").skip(1).step_by(2);
    let blocks: Vec<String> = blocks.map(|block| format!("{}\n", block.split_once('\n').unwrap().1)).collect();
    assert!(!blocks.is_empty(), "the manual has no stanza under `{heading}`");
    blocks
}

/// The rows of the table under a heading, without its head; cells without backticks.
pub(crate) fn rows(heading: &str) -> Vec<Vec<String>> {
    let rows = section(heading).lines().filter(|line| line.starts_with('|')).skip(2);
    let cell = |cell: &str| cell.trim().replace('`', "");
    let rows: Vec<Vec<String>> = rows.map(|row| row.trim_matches('|').split('|').map(cell).collect()).collect();
    assert!(!rows.is_empty(), "the manual has no table under `{heading}`");
    rows
}

fn section(heading: &str) -> &'static str {
    let start = PAGE.find(&format!("\n## {heading}\n"));
    let start = start.unwrap_or_else(|| panic!("the manual has no heading `{heading}`"));
    let text = &PAGE[start + 1..];
    text.find("\n## ").map_or(text, |end| &text[..end])
}
