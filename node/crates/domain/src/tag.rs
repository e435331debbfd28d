//! Tags.

use std::fmt;
use std::sync::Arc;

use crate::digest::clip;
use crate::limits::TAG_BYTES_MAX;

/// A tag such as `latest`, valid by construction. Cheap to clone. Ordered by bytes, as listings are.
///
/// Source: OCI distribution-spec, `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Arc<str>);

/// Why a tag was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "tag `{text}` is not 1 to {TAG_BYTES_MAX} of letters, digits, `_`, `.` and `-`, beginning with none of the last two"
)]
pub struct Error {
    /// The beginning of what was given.
    pub text: String,
}

impl Tag {
    /// Parses a tag.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bytes = text.as_bytes();
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let good = bytes.first().is_some_and(is_word)
            && bytes.len() <= TAG_BYTES_MAX
            && bytes.iter().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'));
        if good { Ok(Tag(text.into())) } else { Err(Error { text: clip(text) }) }
    }

    /// The tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_follow_the_specification() {
        for good in ["a", "_", "V1.0-rc_1", "0"] {
            assert!(Tag::parse(good).is_ok(), "{good}");
        }
        let long = "a".repeat(129);
        for bad in ["", ".a", "-a", "a:b", "a/b", "a+b", long.as_str(), "ä"] {
            assert!(Tag::parse(bad).is_err(), "{bad}");
        }
        assert!(Tag::parse(&"a".repeat(128)).is_ok());
    }
}
