//! What names a manifest in a URL.

use std::fmt;

use crate::{Digest, Tag, digest, tag};

/// A tag or a digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reference {
    /// By tag.
    Tag(Tag),
    /// By digest.
    Digest(Digest),
}

/// Why a reference was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It holds a colon, so it was meant as a digest.
    #[error(transparent)]
    Digest(#[from] digest::Error),
    /// It was meant as a tag.
    #[error(transparent)]
    Tag(#[from] tag::Error),
}

impl Reference {
    /// Parses a reference; what holds a `:` is a digest.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.contains(':') {
            Ok(Reference::Digest(Digest::parse(text)?))
        } else {
            Ok(Reference::Tag(Tag::parse(text)?))
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Tag(tag) => fmt::Display::fmt(tag, f),
            Reference::Digest(digest) => fmt::Display::fmt(digest, f),
        }
    }
}
