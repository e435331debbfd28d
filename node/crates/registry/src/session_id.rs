//! Ids of upload sessions as clients see them: `<uuid>.<node>.<mac>`.
//!
//! The id names the owner node, so that any node can pass a request on, and the MAC binds it to its repository under
//! the cluster's replicated key, so that any node can tell a session of this cluster from an invented one without
//! asking anybody. It never holds a boot or an offset: clients keep and reorder what a Location says (ground.md §1).

use blobs::handle::SessionKey;
use domain::upload_id::{UploadId, uuid};
use domain::{NodeId, RepositoryName};
use ring::hmac;

/// A session id whose MAC was verified for its repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionId {
    /// The session in its owner's store.
    pub key: SessionKey,
    /// The owner.
    pub node: NodeId,
}

/// The id is malformed, of another repository, of another cluster, or tampered with. HTTP 404 BLOB_UPLOAD_UNKNOWN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("upload session id is not one of this repository")]
pub struct Invalid;

/// Makes and verifies ids.
#[derive(Debug)]
pub(crate) struct Mint {
    key: hmac::Key,
}

impl Mint {
    pub(crate) fn new(mac_key: &[u8; 32]) -> Self {
        Mint { key: hmac::Key::new(hmac::HMAC_SHA256, mac_key) }
    }

    /// The text of an id.
    pub(crate) fn write(&self, id: SessionId, repository: &RepositoryName) -> String {
        let tag = hmac::sign(&self.key, &message(id, repository));
        let mac = tag.as_ref().try_into().expect("HMAC-SHA256 has 32 bytes");
        UploadId { session: id.key.0, node: id.node, mac }.to_string()
    }

    /// Reads and verifies an id.
    pub(crate) fn read(&self, text: &str, repository: &RepositoryName) -> Result<SessionId, Invalid> {
        let UploadId { session, node, mac } = UploadId::parse(text).map_err(|_| Invalid)?;
        let id = SessionId { key: SessionKey(session), node };
        hmac::verify(&self.key, &message(id, repository), &mac).map_err(|_| Invalid)?;
        Ok(id)
    }
}

impl SessionId {
    /// The session's UUID, for `Docker-Upload-UUID` and logs.
    pub fn uuid(&self) -> String {
        uuid(&self.key.0)
    }
}

fn message(id: SessionId, repository: &RepositoryName) -> Vec<u8> {
    let mut message = b"longshore upload session v1\0".to_vec();
    message.extend_from_slice(&id.key.0);
    message.extend_from_slice(&id.node.0.to_be_bytes());
    message.extend_from_slice(repository.as_str().as_bytes());
    message
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> RepositoryName {
        RepositoryName::parse(text).expect("valid")
    }

    proptest! {
        #[test]
        fn ids_round_trip_and_any_change_is_found(
            key in any::<[u8; 16]>(), node in any::<u64>(), at in any::<prop::sample::Index>(), to in "[0-9a-f.-]"
        ) {
            let mint = Mint::new(&[7; 32]);
            let id = SessionId { key: SessionKey(key), node: NodeId(node) };
            let text = mint.write(id, &name("team/api"));
            prop_assert_eq!(mint.read(&text, &name("team/api")), Ok(id));
            prop_assert_eq!(mint.read(&text, &name("team/other")), Err(Invalid));
            prop_assert_eq!(Mint::new(&[8; 32]).read(&text, &name("team/api")), Err(Invalid));
            let at = at.index(text.len());
            let mut changed = text.clone();
            changed.replace_range(at..=at, &to);
            if changed != text {
                prop_assert_eq!(mint.read(&changed, &name("team/api")), Err(Invalid));
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,120}") {
            let _ = Mint::new(&[7; 32]).read(&text, &name("a"));
        }
    }

    #[test]
    fn an_id_holds_a_uuid() {
        let id = SessionId { key: SessionKey([0xab; 16]), node: NodeId(3) };
        assert_eq!(id.uuid(), "abababab-abab-abab-abab-abababababab");
        let text = Mint::new(&[0; 32]).write(id, &name("a"));
        assert!(text.starts_with("abababab-abab-abab-abab-abababababab.3."), "{text}");
        assert!(Mint::new(&[0; 32]).read(&text.replace(".3.", ".+3."), &name("a")).is_err());
        assert!(Mint::new(&[0; 32]).read(&text.replace(".3.", ".03."), &name("a")).is_err());
    }
}
