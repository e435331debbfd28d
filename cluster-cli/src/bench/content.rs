//! Bytes to push: distinct blobs that share all but their last bytes, so that making them costs nothing.

use bytes::Bytes;
use ring::digest::{Context, SHA256};

use super::http::{Body, pieces};

const TAIL: usize = 24;
const PIECE: usize = 256 * 1024;

/// The common part of all blobs of one run.
#[derive(Clone)]
pub(crate) struct Content {
    base: Bytes,
    hashed: Context,
    run: [u8; 16],
}

/// A blob: its number in the run decides its bytes.
pub(crate) struct Blob {
    pub(crate) digest: String,
    tail: Bytes,
    base: Bytes,
}

impl Content {
    /// Blobs of `size` bytes, different from those of any other run.
    pub(crate) fn new(size: usize, seed: &[u8]) -> Self {
        let mut base = vec![0u8; size.saturating_sub(TAIL)];
        let mut random = blake3::Hasher::new().update(seed).finalize_xof();
        random.fill(&mut base);
        let mut hashed = Context::new(&SHA256);
        hashed.update(&base);
        let mut run = [0u8; 16];
        random.fill(&mut run);
        Content { base: Bytes::from(base), hashed, run }
    }

    pub(crate) fn blob(&self, number: u64) -> Blob {
        let mut tail = self.run.to_vec();
        tail.extend_from_slice(&number.to_be_bytes());
        let mut hashed = self.hashed.clone();
        hashed.update(&tail);
        let digest = sha256_name(hashed);
        Blob { digest, tail: Bytes::from(tail), base: self.base.clone() }
    }
}

impl Blob {
    pub(crate) fn size(&self) -> usize {
        self.base.len() + self.tail.len()
    }

    pub(crate) fn body(&self) -> Body {
        let mut parts: Vec<Bytes> = (0..self.base.len())
            .step_by(PIECE)
            .map(|at| self.base.slice(at..self.base.len().min(at + PIECE)))
            .collect();
        parts.push(self.tail.clone());
        pieces(parts)
    }
}

/// `sha256:…` of what was hashed.
pub(crate) fn sha256_name(context: Context) -> String {
    format!("sha256:{}", domain::digest::encode_hex(context.finish().as_ref()))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn blobs_are_distinct_and_named_by_their_bytes() {
        let content = Content::new(600_000, b"seed");
        let mut names = Vec::new();
        for number in 0..3 {
            let blob = content.blob(number);
            let bytes = blob.body().collect().await.unwrap().to_bytes();
            assert_eq!(bytes.len(), blob.size());
            let mut context = Context::new(&SHA256);
            context.update(&bytes);
            assert_eq!(sha256_name(context), blob.digest);
            names.push(blob.digest);
        }
        names.dedup();
        assert_eq!((names.len(), content.blob(0).size()), (3, 600_000));
    }
}
