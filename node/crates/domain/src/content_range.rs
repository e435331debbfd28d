//! `Content-Range` of upload chunks: `FIRST-LAST`, both inclusive, digits alone.

use crate::digest::clip;

/// Where a chunk says it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// First byte.
    pub offset: u64,
    /// Unit: bytes, at least 1.
    pub length: u64,
}

/// Not of the form. HTTP 400 BLOB_UPLOAD_INVALID; nothing changes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Content-Range `{text}` is not FIRST-LAST with FIRST <= LAST")]
pub struct Error {
    /// The beginning of what was given.
    pub text: String,
}

/// Reads the header's value.
///
/// Source: OCI distribution-spec, "Pushing a blob in chunks": `^[0-9]+-[0-9]+$`.
pub fn parse(text: &str) -> Result<Chunk, Error> {
    let bad = || Error { text: clip(text) };
    let number = |digits: &str| {
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse::<u64>().ok()).flatten()
    };
    let (first, last) = text.split_once('-').ok_or_else(bad)?;
    let (Some(first), Some(last)) = (number(first), number(last)) else { return Err(bad()) };
    match last.checked_sub(first).and_then(|span| span.checked_add(1)) {
        Some(length) => Ok(Chunk { offset: first, length }),
        None => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_first_dash_last_is_read() {
        assert_eq!(parse("0-511"), Ok(Chunk { offset: 0, length: 512 }));
        assert_eq!(parse("7-7"), Ok(Chunk { offset: 7, length: 1 }));
        for bad in [
            "",
            "-",
            "0",
            "0-",
            "-5",
            "5-4",
            "a-b",
            "0-5/6",
            "bytes 0-5",
            "0 - 5",
            "+0-5",
            "0-5-6",
            "0-18446744073709551615",
            "0-99999999999999999999",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
