//! Ids of upload sessions as clients see them: `<uuid>.<node>.<mac>`. Whether the MAC is one of this cluster is for the
//! registry to judge; here it is 32 bytes.

use std::fmt;

use crate::NodeId;
use crate::digest::{decode_hex, encode_hex};

/// What an id says. One session has one spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadId {
    /// The session in its owner's store.
    pub session: [u8; 16],
    /// The owner.
    pub node: NodeId,
    /// Proves, once verified, that this cluster made the id for the repository it is used with.
    pub mac: [u8; 32],
}

/// Not of the form. HTTP 404 BLOB_UPLOAD_UNKNOWN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("upload session id is not UUID.NODE.MAC")]
pub struct Error;

impl UploadId {
    /// Parses an id strictly: lower-case hex, the node without sign or leading zeros.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut parts = text.split('.');
        let (Some(uuid), Some(node), Some(mac), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(Error);
        };
        let number: u64 = node.parse().map_err(|_| Error)?;
        // One session has one spelling: no `+1`, no `01`.
        if number.to_string() != node {
            return Err(Error);
        }
        let session = read_uuid(uuid).ok_or(Error)?;
        Ok(UploadId { session, node: NodeId(number), mac: decode_hex(mac).ok_or(Error)? })
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", uuid(&self.session), self.node, encode_hex(&self.mac))
    }
}

/// The UUID of a session, for `Docker-Upload-UUID` and logs.
pub fn uuid(session: &[u8; 16]) -> String {
    let hex = encode_hex(session);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn read_uuid(text: &str) -> Option<[u8; 16]> {
    let lengths = text.split('-').map(str::len);
    if !lengths.eq([8, 4, 4, 4, 12]) {
        return None;
    }
    decode_hex(&text.replace('-', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_session_has_one_spelling() {
        let id = UploadId { session: [0xab; 16], node: NodeId(3), mac: [0xcd; 32] };
        let text = id.to_string();
        assert_eq!(text, format!("abababab-abab-abab-abab-abababababab.3.{}", "cd".repeat(32)));
        assert_eq!(UploadId::parse(&text), Ok(id));
        for (from, to) in
            [(".3.", ".+3."), (".3.", ".03."), ("ab-", "AB-"), ("ab-", "ab"), ("cdcd", "cd"), (".3.", ".")]
        {
            assert_eq!(UploadId::parse(&text.replacen(from, to, 1)), Err(Error), "{from} for {to}");
        }
        assert_eq!(UploadId::parse(&format!("{text}.")), Err(Error));
    }
}
