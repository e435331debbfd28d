//! Content that can be made again from its seed, piece by piece, however large it is.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use ring::digest::{Context, SHA256, SHA512};

/// Length of a piece. Unit: bytes.
pub const PIECE: u64 = 1024 * 1024;

/// Bytes under a seed. Every MiB differs from every other one of every seed, in its first 16 bytes at least.
#[derive(Clone, Debug)]
pub struct Content {
    seed: u64,
    len: u64,
    sha256: Arc<OnceLock<String>>,
}

impl Content {
    /// `len` bytes under `seed`.
    pub fn new(seed: u64, len: u64) -> Content {
        Content { seed, len, sha256: Arc::default() }
    }

    /// Unit: bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The piece `index`; empty beyond the end.
    pub fn piece(&self, index: u64) -> Bytes {
        let start = index.saturating_mul(PIECE).min(self.len);
        let len = usize::try_from((self.len - start).min(PIECE)).expect("a piece fits into memory");
        let mut piece = BytesMut::from(&base()[..len]);
        let head = [self.seed.to_le_bytes(), index.to_le_bytes()].concat();
        let head_len = head.len().min(len);
        piece[..head_len].copy_from_slice(&head[..head_len]);
        piece.freeze()
    }

    /// All pieces in order.
    pub fn pieces(&self) -> impl Iterator<Item = Bytes> + '_ {
        (0..self.len.div_ceil(PIECE)).map(|index| self.piece(index))
    }

    /// The bytes of `range`, in memory.
    pub fn slice(&self, range: Range<u64>) -> Bytes {
        let mut bytes = BytesMut::new();
        let mut at = range.start;
        while at < range.end.min(self.len) {
            let piece = self.piece(at / PIECE);
            let from = usize::try_from(at % PIECE).expect("below a piece");
            let to = piece.len().min(from + usize::try_from(range.end - at).unwrap_or(usize::MAX));
            bytes.extend_from_slice(&piece[from..to]);
            at += (to - from) as u64;
        }
        bytes.freeze()
    }

    /// Everything, in memory.
    pub fn bytes(&self) -> Bytes {
        self.slice(0..self.len)
    }

    /// `sha256:…`
    pub fn digest(&self) -> &str {
        self.sha256.get_or_init(|| {
            let mut hasher = Sha256::default();
            self.pieces().for_each(|piece| hasher.update(&piece));
            hasher.finish()
        })
    }
}

/// Pseudo-random bytes shared by all contents, made once.
fn base() -> &'static [u8] {
    static BASE: OnceLock<Vec<u8>> = OnceLock::new();
    BASE.get_or_init(|| {
        let mut random = Random::new(0x6c6f_6e67_7368_6f72);
        (0..PIECE / 8).flat_map(|_| random.next().to_le_bytes()).collect()
    })
}

/// A running sha256.
pub struct Sha256(Context);

impl Default for Sha256 {
    fn default() -> Sha256 {
        Sha256(Context::new(&SHA256))
    }
}

impl Sha256 {
    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// `sha256:…`
    pub fn finish(self) -> String {
        named("sha256", self.0.finish().as_ref())
    }
}

/// `sha256:…` of `bytes`.
pub fn sha256(bytes: &[u8]) -> String {
    named("sha256", ring::digest::digest(&SHA256, bytes).as_ref())
}

/// `sha512:…` of `bytes`.
pub fn sha512(bytes: &[u8]) -> String {
    named("sha512", ring::digest::digest(&SHA512, bytes).as_ref())
}

fn named(algorithm: &str, raw: &[u8]) -> String {
    let mut text = format!("{algorithm}:");
    for byte in raw {
        write!(text, "{byte:02x}").expect("writing to a string never fails");
    }
    text
}

/// splitmix64: small, and the same everywhere.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Under `seed`.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "an endless sequence, not an iterator that ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::{Content, PIECE, sha256};

    #[test]
    fn slices_are_parts_of_the_same_whole() {
        let content = Content::new(7, 2 * PIECE + 100);
        let whole = content.bytes();
        assert_eq!(whole.len() as u64, content.len());
        let middle = content.slice(PIECE - 10..PIECE + 10);
        assert_eq!(middle, whole.slice(PIECE as usize - 10..PIECE as usize + 10));
        assert_eq!(content.slice(2 * PIECE + 90..9 * PIECE).len(), 10);
        assert_eq!(content.digest(), sha256(&whole));
    }

    #[test]
    fn seeds_and_pieces_differ() {
        let one = Content::new(1, 2 * PIECE);
        assert_ne!(one.piece(0), one.piece(1));
        assert_ne!(one.piece(0), Content::new(2, 2 * PIECE).piece(0));
        assert_eq!(sha256(b""), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
