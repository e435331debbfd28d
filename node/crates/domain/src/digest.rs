//! Content digests: `sha256:<64 hex>` and `sha512:<128 hex>`.

use std::fmt;
use std::str::FromStr;

/// Digest algorithms a client may name.
///
/// Source: OCI image-spec, descriptor, "Registered Algorithms". The discriminant is the permanent algorithm byte of
/// stored keys (ground.md §1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Algorithm {
    /// SHA-256, 32 bytes.
    Sha256 = 1,
    /// SHA-512, 64 bytes.
    Sha512 = 2,
}

impl Algorithm {
    /// The name as written before the colon.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    /// Length of a raw digest. Unit: bytes.
    pub fn raw_bytes(self) -> usize {
        match self {
            Algorithm::Sha256 => 32,
            Algorithm::Sha512 => 64,
        }
    }

    /// Parses a name such as `sha256`.
    pub fn parse(name: &str) -> Result<Self, Error> {
        match name {
            "sha256" => Ok(Algorithm::Sha256),
            "sha512" => Ok(Algorithm::Sha512),
            _ => Err(Error::Algorithm { name: clip(name) }),
        }
    }
}

/// A content digest. Two digests of the same bytes under different algorithms are two identities.
///
/// Ordered by algorithm byte, then raw bytes, as stored keys are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Digest {
    /// `sha256:…`
    Sha256([u8; 32]),
    /// `sha512:…`
    Sha512([u8; 64]),
}

/// Why a digest was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No `algorithm:hex` shape.
    #[error("digest `{text}` is not of the form algorithm:hex")]
    Shape {
        /// The beginning of what was given.
        text: String,
    },
    /// An algorithm this registry does not know.
    #[error("digest algorithm `{name}` is not supported, use sha256 or sha512")]
    Algorithm {
        /// The beginning of what was given.
        name: String,
    },
    /// Wrong length, or characters that are not lower-case hex.
    #[error("digest `{text}` is not {digits} lower-case hex digits after the colon")]
    Hex {
        /// The beginning of what was given.
        text: String,
        /// Digits that were expected.
        digits: usize,
    },
    /// Raw bytes of a length that does not fit the algorithm.
    #[error("raw digest has {given} bytes and algorithm byte {algorithm}")]
    Raw {
        /// Algorithm byte found.
        algorithm: u8,
        /// Bytes found.
        given: usize,
    },
}

impl Digest {
    /// Parses `sha256:…` or `sha512:…` strictly: lower-case hex of the exact length.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (name, hex) = text.split_once(':').ok_or_else(|| Error::Shape { text: clip(text) })?;
        let algorithm = Algorithm::parse(name)?;
        let digits = algorithm.raw_bytes() * 2;
        let bad = || Error::Hex { text: clip(text), digits };
        if hex.len() != digits {
            return Err(bad());
        }
        match algorithm {
            Algorithm::Sha256 => decode_hex::<32>(hex).map(Digest::Sha256).ok_or_else(bad),
            Algorithm::Sha512 => decode_hex::<64>(hex).map(Digest::Sha512).ok_or_else(bad),
        }
    }

    /// Builds a digest from its algorithm and raw bytes.
    pub fn from_raw(algorithm: Algorithm, raw: &[u8]) -> Result<Self, Error> {
        let bad = || Error::Raw { algorithm: algorithm as u8, given: raw.len() };
        match algorithm {
            Algorithm::Sha256 => raw.try_into().map(Digest::Sha256).map_err(|_| bad()),
            Algorithm::Sha512 => raw.try_into().map(Digest::Sha512).map_err(|_| bad()),
        }
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Digest::Sha256(_) => Algorithm::Sha256,
            Digest::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The raw digest, 32 or 64 bytes.
    pub fn raw(&self) -> &[u8] {
        match self {
            Digest::Sha256(raw) => raw,
            Digest::Sha512(raw) => raw,
        }
    }

    /// The lower-case hex digits.
    pub fn hex(&self) -> String {
        encode_hex(self.raw())
    }

    /// The key form: algorithm byte, then raw bytes (ground.md §1).
    pub fn to_key(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(1 + self.raw().len());
        key.push(self.algorithm() as u8);
        key.extend_from_slice(self.raw());
        key
    }

    /// Reads a key form from the front of `bytes` and returns it with the rest.
    pub fn split_key(bytes: &[u8]) -> Result<(Self, &[u8]), Error> {
        let (&byte, rest) = bytes.split_first().ok_or(Error::Raw { algorithm: 0, given: 0 })?;
        let algorithm = match byte {
            1 => Algorithm::Sha256,
            2 => Algorithm::Sha512,
            other => return Err(Error::Raw { algorithm: other, given: rest.len() }),
        };
        let (raw, rest) =
            rest.split_at_checked(algorithm.raw_bytes()).ok_or(Error::Raw { algorithm: byte, given: rest.len() })?;
        Ok((Digest::from_raw(algorithm, raw)?, rest))
    }

    /// Reads exactly one key form.
    pub fn from_key(bytes: &[u8]) -> Result<Self, Error> {
        let (digest, rest) = Digest::split_key(bytes)?;
        if rest.is_empty() { Ok(digest) } else { Err(Error::Raw { algorithm: bytes[0], given: bytes.len() - 1 }) }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm().name(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Digest::parse(text)
    }
}

/// Lower-case hex digits of `bytes`.
pub fn encode_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Bytes of exactly `2 N` lower-case hex digits, else `None`.
pub fn decode_hex<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let hex = hex.as_bytes();
    if hex.len() != N * 2 {
        return None;
    }
    let mut raw = [0; N];
    for (at, pair) in hex.chunks_exact(2).enumerate() {
        raw[at] = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(raw)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// At most 80 characters of foreign text, for messages.
pub(crate) fn clip(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_and_key_round_trip(raw in proptest::collection::vec(any::<u8>(), 64), long in any::<bool>()) {
            let digest = if long {
                Digest::from_raw(Algorithm::Sha512, &raw)
            } else {
                Digest::from_raw(Algorithm::Sha256, &raw[..32])
            }
            .unwrap_or_else(|e| panic!("{e}"));
            prop_assert_eq!(Digest::parse(&digest.to_string()), Ok(digest));
            prop_assert_eq!(Digest::from_key(&digest.to_key()), Ok(digest));
        }
    }

    #[test]
    fn malformed_digests_are_refused() {
        let hex = "a".repeat(64);
        for text in [
            "".to_owned(),
            "sha256".to_owned(),
            "sha256:".to_owned(),
            format!("sha256:{}", &hex[1..]),
            format!("sha256:{hex}a"),
            format!("sha256:{}", hex.to_uppercase()),
            format!("SHA256:{hex}"),
            format!("md5:{hex}"),
            format!("sha512:{hex}"),
            format!("sha256:{}g", &hex[1..]),
            "sha256:baddigeststring".to_owned(),
        ] {
            assert!(Digest::parse(&text).is_err(), "{text}");
        }
    }
}
