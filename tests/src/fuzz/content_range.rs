//! `Content-Range` of upload chunks.

use domain::content_range::{Chunk, parse};

use super::{brief, decimal};

/// Reads the bytes as the header's value.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let read = parse(text);
    assert_eq!(read, parse(text), "the same twice");
    match (&read, oracle(text)) {
        (Ok(Chunk { offset, length }), Some((first, last))) => {
            assert_eq!((u128::from(*offset), u128::from(*offset) + u128::from(*length)), (first, last + 1), "{text}");
            assert!(*length > 0, "a chunk holds something");
            assert_eq!(parse(&format!("{first}-{last}")), read, "it is read back");
        }
        (Err(error), None) => brief(error),
        (read, expected) => panic!("{text:?} was read as {read:?}, expected {expected:?}"),
    }
}

/// First and last byte. Source: OCI distribution-spec, "Pushing a blob in chunks", `^[0-9]+-[0-9]+$`. Offsets and
/// lengths that 64 bits do not hold are refused.
fn oracle(text: &str) -> Option<(u128, u128)> {
    let [first, last] = text.split('-').map(decimal).collect::<Option<Vec<_>>>()?.try_into().ok()?;
    let most = u128::from(u64::MAX);
    (first <= last && last <= most && last - first < most).then_some((first, last))
}
