//! `Digest`: its text, and its stored key.

use domain::Digest;

use super::brief;

/// Algorithms: prefix of the text, byte of the key, bytes of the hash.
const ALGORITHMS: &[(&str, u8, usize)] = &[("sha256:", 1, 32), ("sha512:", 2, 64)];

/// Reads the bytes as a text and as a key.
pub fn check(bytes: &[u8]) {
    key(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let read = Digest::parse(text);
    assert_eq!(read, Digest::parse(text), "the same twice");
    match (&read, oracle(text)) {
        (Ok(digest), Some(raw)) => {
            assert_eq!(digest.raw(), raw, "{text}");
            assert_eq!(digest.to_string(), text, "one digest has one spelling");
            assert_eq!(format!("{}:{}", digest.algorithm().name(), digest.hex()), text);
            assert_eq!(Digest::from_raw(digest.algorithm(), &raw).as_ref(), Ok(digest));
            assert_eq!(Digest::from_key(&digest.to_key()).as_ref(), Ok(digest));
        }
        (Err(error), None) => brief(error),
        (read, expected) => panic!("{text:?} was read as {read:?}, expected {expected:?}"),
    }
}

fn key(bytes: &[u8]) {
    let known = ALGORITHMS.iter().find(|(_, byte, length)| bytes.first() == Some(byte) && bytes.len() > *length);
    match (Digest::split_key(bytes), known) {
        (Ok((digest, rest)), Some((_, _, length))) => {
            assert_eq!((digest.raw(), rest), (&bytes[1..=*length], &bytes[1 + length..]));
            assert_eq!(digest.to_key(), bytes[..=*length]);
            assert_eq!(Digest::from_key(bytes).is_ok(), rest.is_empty(), "a key ends where it ends");
            assert_eq!(Digest::parse(&digest.to_string()), Ok(digest));
        }
        (Err(error), None) => {
            brief(&error);
            assert!(Digest::from_key(bytes).is_err());
        }
        (read, expected) => panic!("the key was read as {read:?}, expected {expected:?}"),
    }
}

/// The raw digest that a text names. Source: OCI image-spec, descriptor, "Digests" and "Registered Algorithms".
pub fn oracle(text: &str) -> Option<Vec<u8>> {
    let (hex, length) =
        ALGORITHMS.iter().find_map(|(prefix, _, length)| text.strip_prefix(prefix).map(|hex| (hex, *length)))?;
    let digits: Vec<u32> =
        hex.chars().map(|char| "0123456789abcdef".find(char)).map(position).collect::<Option<_>>()?;
    let raw: Vec<u8> =
        digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair.get(1)?).ok()).collect::<Option<_>>()?;
    (raw.len() == length).then_some(raw)
}

fn position(at: Option<usize>) -> Option<u32> {
    at.and_then(|at| u32::try_from(at).ok())
}
