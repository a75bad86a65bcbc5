//! Reads Rust source far enough for the rules, and no further.
//!
//! Comments and literals are blanked (so a rule never trips over prose), code that is compiled for tests only
//! is cut out, and paths are resolved through the file's own `use` lines. Macros are not expanded and names are
//! not looked up across files: clippy's disallowed lists do that, the rules here say where a thing may stand.

use std::collections::BTreeMap;

/// A path as it is written in code, after the file's imports were applied to its first segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mention {
    /// Counted from one.
    pub(crate) line: usize,
    /// `tokio::spawn`, or `println!` for a macro call.
    pub(crate) path: String,
}

/// True for unit tests that have a file of their own: `foo/tests.rs`, `foo/tests/bar.rs`.
pub(crate) fn is_unit_test_file(path: &str) -> bool {
    match path.rsplit_once("/src/") {
        Some((_, inside)) => {
            inside.ends_with("/tests.rs") || inside == "tests.rs" || format!("/{inside}").contains("/tests/")
        }
        None => false,
    }
}

/// True for files that a generator wrote and signed.
pub(crate) fn is_generated(text: &str) -> bool {
    text.lines().take(3).any(|line| line.starts_with("//") && line.contains("@generated"))
}

/// The lines that are neither blank nor comment.
pub(crate) fn code_lines(code: &str) -> usize {
    code.lines().filter(|line| !line.trim().is_empty()).count()
}

/// The text with comments, strings and character literals replaced by spaces; line breaks stay.
pub(crate) fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// Blanked code without what only a test build compiles (`#[cfg(test)]` items, `#![cfg(test)]` files).
pub(crate) fn without_tests(code: &str) -> String {
    let mut chars: Vec<char> = code.chars().collect();
    let mut at = 0;
    while at < chars.len() {
        if chars[at] != '#' {
            at += 1;
            continue;
        }
        let inner = chars.get(at + 1) == Some(&'!');
        let open = at + 1 + usize::from(inner);
        if chars.get(open) != Some(&'[') {
            at += 1;
            continue;
        }
        let close = matching(&chars, open);
        let attribute: String = chars[open..close].iter().filter(|c| !c.is_whitespace()).collect();
        if !is_test_cfg(&attribute) {
            at = close;
            continue;
        }
        let end = if inner { chars.len() } else { item_end(&chars, close) };
        for c in &mut chars[at..end] {
            if *c != '\n' {
                *c = ' ';
            }
        }
        at = end;
    }
    chars.into_iter().collect()
}

/// The modules with a file of their own (`mod a;`) that only a test build compiles.
pub(crate) fn test_modules(code: &str) -> Vec<String> {
    let product = declared_modules(&without_tests(code));
    declared_modules(code).into_iter().filter(|module| !product.contains(module)).collect()
}

fn declared_modules(code: &str) -> Vec<String> {
    let words: Vec<&str> = code.split_whitespace().collect();
    let declarations = words.windows(2).filter(|pair| pair[0] == "mod");
    declarations.filter_map(|pair| Some(pair[1].strip_suffix(';')?.to_owned())).collect()
}

/// Every path of two or more segments, every `use`d path and every macro call, in blanked code.
pub(crate) fn mentions(code: &str) -> Vec<Mention> {
    let chars: Vec<char> = code.chars().collect();
    let mut imports = BTreeMap::new();
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        if chars[at] == '\n' {
            line += 1;
        }
        if !is_word(chars[at]) || chars[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let (path, end) = read_path(&chars, at);
        let next = skip_space(&chars, end);
        if path == "use" && chars.get(next) != Some(&'<') {
            let stop = chars[next..].iter().position(|&c| c == ';').map_or(chars.len(), |n| next + n);
            let tree: String = chars[next..stop].iter().collect();
            for (name, full) in expand("", &tree) {
                found.push(Mention { line, path: full.clone() });
                imports.insert(name, full);
            }
            line += chars[at..stop].iter().filter(|&&c| c == '\n').count();
            at = stop;
            continue;
        }
        if chars.get(next) == Some(&'!') && chars.get(next + 1) != Some(&'=') {
            found.push(Mention { line, path: format!("{path}!") });
        } else if path.contains("::") {
            found.push(Mention { line, path });
        }
        line += chars[at..end].iter().filter(|&&c| c == '\n').count();
        at = end;
    }
    for mention in &mut found {
        let (first, rest) = mention.path.split_once("::").unwrap_or((&mention.path, ""));
        if let Some(full) = imports.get(first).filter(|full| !rest.is_empty() && full.as_str() != first) {
            mention.path = format!("{full}::{rest}");
        }
    }
    found
}

/// Where the comment or literal that starts at `at` ends; `at` itself when none starts there.
fn literal_end(chars: &[char], at: usize) -> usize {
    let peek = |n: usize| chars.get(at + n).copied().unwrap_or('\0');
    let after_word = at > 0 && is_word(chars[at - 1]);
    match chars[at] {
        '/' if peek(1) == '/' => chars[at..].iter().position(|&c| c == '\n').map_or(chars.len(), |n| at + n),
        '/' if peek(1) == '*' => block_comment_end(chars, at),
        '"' => quoted_end(chars, at),
        'r' if !after_word => raw_string_end(chars, at, 1),
        'b' | 'c' if !after_word && peek(1) == 'r' => raw_string_end(chars, at, 2),
        '\'' if peek(1) == '\\' => {
            let close = chars[(at + 3).min(chars.len())..].iter().position(|&c| c == '\'');
            close.map_or(chars.len(), |n| at + 4 + n)
        }
        '\'' if peek(2) == '\'' => at + 3,
        _ => at,
    }
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let (mut depth, mut i) = (0, at);
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => (depth, i) = (depth + 1, i + 2),
            ('*', Some('/')) => {
                (depth, i) = (depth - 1, i + 2);
                if depth == 0 {
                    return i;
                }
            }
            _ => i += 1,
        }
    }
    chars.len()
}

fn quoted_end(chars: &[char], at: usize) -> usize {
    let mut i = at + 1;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

fn raw_string_end(chars: &[char], at: usize, prefix: usize) -> usize {
    let hashes = chars[at + prefix..].iter().take_while(|&&c| c == '#').count();
    let open = at + prefix + hashes;
    if chars.get(open) != Some(&'"') {
        return at;
    }
    let mut i = open + 1;
    while i < chars.len() {
        if chars[i] == '"' && chars[i + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes {
            return i + 1 + hashes;
        }
        i += 1;
    }
    chars.len()
}

/// `[cfg(test` with the brackets still on, whatever else is asked for; `not(test)` is product code.
fn is_test_cfg(attribute: &str) -> bool {
    let Some(condition) = attribute.strip_prefix("[cfg(") else {
        return false;
    };
    !condition.contains("not(test)") && condition.split(|c: char| !is_word(c)).any(|word| word == "test")
}

/// The end of the item that follows an attribute: its `;`, or the brace that closes its body.
///
/// A comma ends a field, a variant or an argument, but not what has generic parameters of its own.
fn item_end(chars: &[char], mut at: usize) -> usize {
    let mut is_item = false;
    while at < chars.len() {
        match chars[at] {
            ';' => return at + 1,
            ',' if !is_item => return at + 1,
            '{' => return matching(chars, at),
            '(' | '[' => at = matching(chars, at),
            c if is_word(c) => {
                let (word, end) = read_path(chars, at);
                is_item |= matches!(word.as_str(), "fn" | "impl" | "struct" | "enum" | "trait" | "mod");
                at = end;
            }
            _ => at += 1,
        }
    }
    chars.len()
}

/// One past the bracket that closes the one at `open`.
fn matching(chars: &[char], open: usize) -> usize {
    let mut depth = 0_usize;
    for (i, c) in chars.iter().enumerate().skip(open) {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return i + 1;
        }
    }
    chars.len()
}

/// Reads `a::b::c` from `at`; stops in front of `::{`, `::*` and `::<`.
fn read_path(chars: &[char], at: usize) -> (String, usize) {
    let mut path = String::new();
    let mut end = at;
    loop {
        let start = end;
        while end < chars.len() && is_word(chars[end]) {
            end += 1;
        }
        path.extend(&chars[start..end]);
        let colons = skip_space(chars, end);
        if chars.get(colons) != Some(&':') || chars.get(colons + 1) != Some(&':') {
            return (path, end);
        }
        let next = skip_space(chars, colons + 2);
        if !chars.get(next).is_some_and(|&c| is_word(c)) {
            return (path, end);
        }
        path.push_str("::");
        end = next;
    }
}

/// The names a `use` tree brings in, each with its full path.
fn expand(prefix: &str, tree: &str) -> Vec<(String, String)> {
    let join = |a: &str, b: &str| {
        if a.is_empty() || b.is_empty() { format!("{a}{b}") } else { format!("{a}::{b}") }
    };
    let tree = tree.trim().trim_start_matches("::");
    if let Some((head, rest)) = tree.split_once('{') {
        let head = join(prefix, head.trim().trim_end_matches("::").trim());
        let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
        return split_commas(inner).into_iter().flat_map(|part| expand(&head, part)).collect();
    }
    let (path, alias) = tree.split_once(" as ").unwrap_or((tree, ""));
    let path: String = path.chars().filter(|c| !c.is_whitespace()).collect();
    if path.is_empty() {
        return Vec::new();
    }
    let full = if path == "self" { prefix.to_owned() } else { join(prefix, &path) };
    let name = if alias.is_empty() { full.rsplit("::").next().unwrap_or(&full) } else { alias.trim() };
    vec![(name.to_owned(), full.clone())]
}

fn split_commas(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (i, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn skip_space(chars: &[char], at: usize) -> usize {
    chars[at.min(chars.len())..].iter().position(|c| !c.is_whitespace()).map_or(chars.len(), |n| at + n)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        mentions(&blank(text)).into_iter().map(|mention| mention.path).collect()
    }

    #[test]
    fn prose_and_literals_are_not_code() {
        let text =
            "a // kube::x\n/* b /* c */ d */ e \"f\\\"g\" r#\"h\"i\"# 'j' '\\'' '\\u{1F600}' &'k str b\"l\" br\"m\"";
        let code = blank(text);
        let words: Vec<&str> = code.split_whitespace().collect();
        assert_eq!(words, ["a", "e", "&'k", "str", "b"]);
        assert_eq!(code.lines().count(), 2);
    }

    #[test]
    fn code_for_tests_is_cut_out() {
        let code = "fn a() {}\n#[cfg(test)]\n#[allow(x)]\nmod tests { fn b() { {} } }\n#[cfg(all(test, unix))]\nuse c;\n\
                    #[cfg(not(test))]\nfn d() {}\n#[cfg(feature)]\nfn e() {}";
        let kept = without_tests(code);
        assert_eq!(kept.lines().count(), code.lines().count());
        for (word, stays) in [("fn a", true), ("fn b", false), ("use c", false), ("fn d", true), ("fn e", true)] {
            assert_eq!(kept.contains(word), stays, "{word}");
        }
        let kept = without_tests("#[cfg(test)]\nimpl<A, B> C<A, B> for D { fn f() {} }\nfn g() {}");
        assert_eq!(kept.trim(), "fn g() {}");
        let kept = without_tests("struct A { #[cfg(test)] b: u8, c: u8 }");
        assert!(!kept.contains("b:") && kept.contains("c: u8"), "{kept}");
        assert!(without_tests("#![cfg(test)]\nfn a() {}").trim().is_empty());
    }

    #[test]
    fn modules_for_tests_are_known() {
        assert_eq!(
            test_modules("mod a;\n#[cfg(test)]\nmod b;\npub mod c;\n#[cfg(test)]\nmod d { mod e; }"),
            ["b", "e"]
        );
    }

    #[test]
    fn paths_are_resolved_through_the_imports() {
        assert_eq!(
            paths("use tokio::{sync::mpsc, task}; fn a() { task::spawn(b); mpsc::channel(1) }"),
            ["tokio::sync::mpsc", "tokio::task", "tokio::task::spawn", "tokio::sync::mpsc::channel"]
        );
        assert_eq!(
            paths("use std::time::SystemTime as Wall; fn a() { Wall::now() }"),
            ["std::time::SystemTime", "std::time::SystemTime::now"]
        );
        assert_eq!(
            paths("use a::{self, b::*}; let kube = 1; kube.x != y; println!(z); std::print!()"),
            ["a", "a::b::*", "println!", "std::print!"]
        );
        assert_eq!(paths("fn f() -> impl A + use<'a> { ::kube :: api::X }"), ["kube::api::X"]);
    }

    #[test]
    fn mentions_know_their_line() {
        let found = mentions("use a::{\n    b,\n};\n\nfn f() {\n    c::\n        d();\n    e::f();\n}");
        let lines: Vec<_> = found.iter().map(|m| (m.line, m.path.as_str())).collect();
        assert_eq!(lines, [(1, "a::b"), (6, "c::d"), (8, "e::f")]);
    }

    #[test]
    fn unit_test_files_and_generated_files_are_known() {
        assert!(is_unit_test_file("dns/src/zone/tests.rs"));
        assert!(is_unit_test_file("dns/src/zone/tests/apex.rs"));
        assert!(!is_unit_test_file("tests/src/tests.md.rs"));
        assert!(!is_unit_test_file("dns/src/contests.rs"));
        assert!(!is_unit_test_file("tests/tidy/main.rs"));
        assert!(is_generated("// This file is @generated by prost-build.\npub struct A;"));
        assert!(!is_generated("//! Nothing is generated here."));
    }
}
