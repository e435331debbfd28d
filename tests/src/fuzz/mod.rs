//! What must hold for every parser of foreign bytes, whatever the bytes: one module a parser, one `check` in each.
//!
//! A check compares the parser with an oracle: a second reading, written from the specification and in another manner
//! than the parser. It also writes what was read and reads it again. The fuzz targets (`tests/fuzz`), the replay of
//! their corpora (`tests/tests/corpora.rs`) and the property tests (`tests/tests/parsers.rs`) run the same checks. The
//! fuzz targets take this folder as a crate of its own, so it sees `domain`, `serde_json` and nothing else.

pub mod content_range;
pub mod digest;
pub mod entity_tag;
pub mod json;
pub mod manifest;
pub mod path;
pub mod query;
pub mod range;
pub mod reference;
pub mod upload_id;

/// A check of one input. It panics when the parser and its oracle disagree.
pub type Check = fn(&[u8]);

/// Every target: the name of its corpus and of its binary, and its check.
pub const TARGETS: &[(&str, Check)] = &[
    ("content_range", content_range::check),
    ("digest", digest::check),
    ("entity_tag", entity_tag::check),
    ("manifest", manifest::check),
    ("path", path::check),
    ("query", query::check),
    ("range", range::check),
    ("reference", reference::check),
    ("upload_id", upload_id::check),
];

/// Longest error message. Unit: bytes. A refusal must not send back what it was given, however long that was.
const MESSAGE_BYTES_MAX: usize = 1200;

/// Requires that an error says something, and not much.
fn brief(error: &impl std::fmt::Display) {
    let message = error.to_string();
    assert!(!message.is_empty() && message.len() <= MESSAGE_BYTES_MAX, "a message of {} bytes", message.len());
}

/// Text before the first line feed and the bytes after it; without a line feed all bytes are the second.
fn line_and_rest(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (&[], bytes),
    }
}

/// The value of a row of digits; what needs more than 38 of them counts as the largest. None for anything else.
fn decimal(text: &str) -> Option<u128> {
    if text.is_empty() || text.contains(|char: char| !char.is_ascii_digit()) {
        return None;
    }
    let digits = text.trim_start_matches('0');
    if digits.len() > 38 {
        return Some(u128::MAX);
    }
    Some(digits.chars().fold(0, |sum, digit| sum * 10 + u128::from(u32::from(digit) - u32::from('0'))))
}

/// Percent-decoded bytes: `%` and two hexadecimal digits are a byte, all else stands for itself.
fn percent_decoded(text: &str) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let pair = match after {
            [high, low, ..] if first == b'%' => char::from(*high).to_digit(16).zip(char::from(*low).to_digit(16)),
            _ => None,
        };
        match pair {
            Some((high, low)) => {
                decoded.push(u8::try_from(high * 16 + low).expect("two hexadecimal digits"));
                rest = &after[2..];
            }
            None => {
                decoded.push(first);
                rest = after;
            }
        }
    }
    decoded
}

/// Every byte as `%XX`, but letters, digits and those of `plain`.
fn percent_encoded(text: &str, plain: &str) -> String {
    let encode = |byte: u8| {
        let char = char::from(byte);
        if byte.is_ascii_alphanumeric() || plain.contains(char) { char.to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(encode).collect()
}
