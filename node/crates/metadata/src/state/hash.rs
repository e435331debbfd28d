//! The state hash: the sum mod 2^256 of blake3(space ‖ key length u32 ‖ key ‖ value) over all replicated rows.
//!
//! A sum, so that a changed row costs one subtraction and one addition, in any order. Hashes are read as little-endian
//! numbers. The hash row itself and the log id last applied stay out (ground.md §1).

use super::space::Space;

/// A 256-bit number that wraps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum([u64; 4]);

impl Sum {
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        let mut words = [0; 4];
        for (word, chunk) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*chunk);
        }
        Sum(words)
    }

    pub(crate) fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(self.0) {
            *chunk = word.to_le_bytes();
        }
        bytes
    }

    pub(crate) fn add(&mut self, other: Sum) {
        let mut carry = false;
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            let (sum, first) = mine.overflowing_add(theirs);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            *mine = sum;
            carry = first || second;
        }
    }

    pub(crate) fn subtract(&mut self, other: Sum) {
        let mut borrow = false;
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            let (rest, first) = mine.overflowing_sub(theirs);
            let (rest, second) = rest.overflowing_sub(u64::from(borrow));
            *mine = rest;
            borrow = first || second;
        }
    }
}

/// Whether rows under this key count.
pub(crate) fn is_hashed(key: &[u8]) -> bool {
    key.first().is_some_and(|&space| space != Space::Hash as u8 && space != Space::LastApplied as u8)
}

/// The hash of one row; `key` begins with the space's ordinal.
pub(crate) fn row(key: &[u8], value: &[u8]) -> Sum {
    let (space, rest) = key.split_at(1);
    let length = u32::try_from(rest.len()).expect("keys are bounded by names and digests");
    let mut hasher = blake3::Hasher::new();
    hasher.update(space).update(&length.to_be_bytes()).update(rest).update(value);
    Sum::from_bytes(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_wrap_and_come_back() {
        let all = Sum::from_bytes([0xff; 32]);
        let one = Sum([1, 0, 0, 0]);
        let mut sum = all;
        sum.add(one);
        assert_eq!(sum, Sum::default());
        sum.subtract(one);
        assert_eq!(sum, all);
        let mixed = row(b"\x01", b"v");
        assert_eq!(Sum::from_bytes(mixed.to_bytes()), mixed);
        let mut sum = mixed;
        sum.add(all);
        sum.subtract(mixed);
        assert_eq!(sum, all);
    }

    #[test]
    fn only_the_hash_and_last_applied_stay_out() {
        assert!(!is_hashed(&[0x02]) && !is_hashed(&[0x03]));
        assert!(is_hashed(&[0x01]) && is_hashed(&[0x04]) && is_hashed(&[0x14, 1]));
    }
}
