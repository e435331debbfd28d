//! Lists of entity tags.

use domain::entity_tag::{list, opaque, without_weakness};

/// Reads the bytes as one line of `If-Match` or `If-None-Match`.
pub fn check(bytes: &[u8]) {
    let Ok(line) = std::str::from_utf8(bytes) else { return };
    let read = list(line);
    assert_eq!(read, list(line), "the same twice");
    if let Some(expected) = oracle(line) {
        assert_eq!(read, expected, "{line:?}");
    }
    // What is not well-formed is cut into pieces too, in order, and nothing but commas and spaces falls between them.
    let mut rest = line;
    for element in &read {
        let (before, after) = rest.split_once(element).unwrap_or_else(|| panic!("{element:?} is not in {rest:?}"));
        assert!(before.chars().all(is_between), "{before:?} was left out of {line:?}");
        rest = after;
        assert!(!element.is_empty() && !element.starts_with([' ', '\t']) && !element.ends_with([' ', '\t']));
        named(element);
    }
    assert!(rest.chars().all(is_between), "{rest:?} was left out of {line:?}");
    assert_eq!(list(&read.join(", ")), read, "it is read back");
}

fn is_between(char: char) -> bool {
    matches!(char, ' ' | '\t' | ',')
}

fn named(element: &str) {
    let strong = without_weakness(element);
    assert!(element == strong || element == format!("W/{strong}"));
    let text = opaque(element);
    assert!(strong == text || strong == format!("\"{text}\""), "{element:?} names {text:?}");
    if let Some(text) = strong.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        assert_eq!(opaque(element), text);
    }
}

/// The elements of a line that follows the grammar, from left to right.
///
/// Source: RFC 9110 §8.8.3 `entity-tag`, §5.6.1 for lists with empty elements, §13.1.1 for `*`.
fn oracle(line: &str) -> Option<Vec<&str>> {
    let is_etagc = |char: char| char == '!' || ('#'..='~').contains(&char) || char > '\u{7f}';
    let mut elements = Vec::new();
    let mut rest = line.trim_start_matches([' ', '\t']);
    while !rest.is_empty() {
        let length = if rest.starts_with(',') {
            0
        } else if rest.starts_with('*') {
            1
        } else {
            let mark = if rest.starts_with("W/") { 2 } else { 0 };
            let text = rest[mark..].strip_prefix('"')?;
            let end = text.find(|char| !is_etagc(char))?;
            text[end..].starts_with('"').then_some(mark + 1 + end + 1)?
        };
        if length > 0 {
            elements.push(&rest[..length]);
        }
        rest = rest[length..].trim_start_matches([' ', '\t']);
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start_matches([' ', '\t']),
            None if rest.is_empty() => {}
            None => return None,
        }
    }
    Some(elements)
}
