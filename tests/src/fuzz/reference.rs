//! Repository names, tags, and references, which are tags or digests.

use domain::{Digest, Reference, RepositoryName, Tag};

use super::{brief, digest};

/// Reads the same text as each of the three.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let name = RepositoryName::parse(text);
    assert_eq!(name, RepositoryName::parse(text), "the same twice");
    assert_eq!(name.is_ok(), is_name(text), "{text:?} as a name was read as {name:?}");
    match &name {
        Ok(name) => assert_eq!((name.as_str(), name.to_string().as_str()), (text, text)),
        Err(error) => brief(error),
    }
    let tag = Tag::parse(text);
    assert_eq!(tag.is_ok(), is_tag(text), "{text:?} as a tag was read as {tag:?}");
    match &tag {
        Ok(tag) => assert_eq!((tag.as_str(), tag.to_string().as_str()), (text, text)),
        Err(error) => brief(error),
    }
    let reference = Reference::parse(text);
    assert_eq!(reference, Reference::parse(text), "the same twice");
    assert_eq!(reference.is_ok(), is_tag(text) || digest::oracle(text).is_some(), "{text:?} was read as {reference:?}");
    match &reference {
        Ok(Reference::Tag(read)) => assert_eq!(Ok(read), tag.as_ref()),
        Ok(Reference::Digest(read)) => assert_eq!(Ok(read), Digest::parse(text).as_ref()),
        Err(error) => brief(error),
    }
    if let Ok(reference) = reference {
        assert_eq!(reference.to_string(), text, "one reference has one spelling");
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*`, of at most 255 characters, as a machine
/// that reads one character after the other. Source: OCI distribution-spec, "Pulling manifests".
fn is_name(text: &str) -> bool {
    enum At {
        Begin,
        Word,
        Dot,
        Underscore,
        Underscores,
        Dashes,
    }
    let mut at = At::Begin;
    for char in text.chars() {
        at = match (at, char) {
            (_, 'a'..='z' | '0'..='9') => At::Word,
            (At::Word, '/') => At::Begin,
            (At::Word, '.') => At::Dot,
            (At::Word, '_') => At::Underscore,
            (At::Underscore, '_') => At::Underscores,
            (At::Word | At::Dashes, '-') => At::Dashes,
            _ => return false,
        };
    }
    matches!(at, At::Word) && text.chars().count() <= 255
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`. Source: OCI distribution-spec, "Pulling manifests".
fn is_tag(text: &str) -> bool {
    const FIRST: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
    let mut chars = text.chars();
    let begins = chars.next().is_some_and(|char| FIRST.contains(char));
    begins && text.chars().count() <= 128 && chars.all(|char| FIRST.contains(char) || char == '.' || char == '-')
}
