//! Repository names.

use std::fmt;
use std::sync::Arc;

use crate::digest::clip;
use crate::limits::REPOSITORY_NAME_BYTES_MAX;

/// A repository name such as `team/api`, valid by construction. Cheap to clone.
///
/// Source: OCI distribution-spec, "Pulling manifests", `<name>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryName(Arc<str>);

/// Why a repository name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Longer than [`REPOSITORY_NAME_BYTES_MAX`].
    #[error("repository name has {given} bytes, at most {REPOSITORY_NAME_BYTES_MAX} are allowed")]
    TooLong {
        /// Bytes given.
        given: usize,
    },
    /// Not of the specification's form.
    #[error(
        "repository name `{text}` is not lower-case letters and digits, joined by `.`, `_`, `__` or dashes, \
         in components parted by `/`"
    )]
    Shape {
        /// The beginning of what was given.
        text: String,
    },
}

impl RepositoryName {
    /// Parses a name: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*` components parted by `/`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > REPOSITORY_NAME_BYTES_MAX {
            return Err(Error::TooLong { given: text.len() });
        }
        if text.split('/').all(is_component) {
            Ok(RepositoryName(text.into()))
        } else {
            Err(Error::Shape { text: clip(text) })
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_component(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    if !is_word(first) || !is_word(last) {
        return false;
    }
    bytes.split(|&byte| is_word(byte)).all(|separator| match separator {
        [] | [b'.'] | [b'_'] | [b'_', b'_'] => true,
        dashes => dashes.iter().all(|&byte| byte == b'-'),
    })
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_specification() {
        for good in ["a", "a/b", "team/api", "a.b_c__d-e---f/0", "x/blobs/manifests/y", "v2/_x".trim_end_matches("/_x")]
        {
            assert!(RepositoryName::parse(good).is_ok(), "{good}");
        }
        let long = "a".repeat(256);
        for bad in ["", "/", "a//b", "A/b", "a/", "/a", "a..b", "a___b", "-a", "a-", "a._b", "a b", "ä", long.as_str()]
        {
            assert!(RepositoryName::parse(bad).is_err(), "{bad}");
        }
        assert!(RepositoryName::parse(&"a".repeat(255)).is_ok());
    }
}
