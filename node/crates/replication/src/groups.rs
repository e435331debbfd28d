//! Proof of bytes that never touch the disk: ranges passed straight from a peer to a client (design §10).
//!
//! Group values are the chaining values of the 1 MiB subtrees of blake3; merged they must give the blob's root. Of a blob
//! of one group the value is the root itself.

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use bytes::Bytes;
use domain::Blake3Root;

use crate::config::GROUP;

/// Unit: bytes.
const VALUE_BYTES: usize = 32;

/// Number of groups of a blob; an empty one has a single, empty group.
pub(crate) fn count(size: u64) -> u64 {
    size.div_ceil(GROUP).max(1)
}

/// The groups that a range touches, as a byte range clipped to the size.
pub(crate) fn around(start: u64, end: u64, size: u64) -> (u64, u64) {
    (start / GROUP * GROUP, end.div_ceil(GROUP).saturating_mul(GROUP).min(size))
}

/// Group values that were proved against a root.
#[derive(Clone, Debug)]
pub(crate) struct Values {
    size: u64,
    root: Blake3Root,
    raw: Bytes,
}

impl Values {
    /// Proves `raw` against `root`; none when it does not lead there.
    pub(crate) fn prove(root: Blake3Root, size: u64, raw: Bytes) -> Option<Values> {
        let groups = usize::try_from(count(size)).ok()?;
        if raw.len() != groups.checked_mul(VALUE_BYTES)? {
            return None;
        }
        let proved = if groups == 1 { raw == root.0[..] } else { root_of(&raw) == root.0 };
        proved.then_some(Values { size, root, raw })
    }

    /// Whether `bytes` are the group that begins at `start`.
    pub(crate) fn holds(&self, start: u64, bytes: &[u8]) -> bool {
        let length = GROUP.min(self.size - start.min(self.size));
        if bytes.len() as u64 != length || !start.is_multiple_of(GROUP) {
            return false;
        }
        if count(self.size) == 1 {
            return blake3::hash(bytes).as_bytes() == &self.root.0;
        }
        let at = usize::try_from(start / GROUP).unwrap_or(usize::MAX).saturating_mul(VALUE_BYTES);
        let Some(value) = self.raw.get(at..at + VALUE_BYTES) else { return false };
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(start).update(bytes);
        hasher.finalize_non_root() == value
    }
}

fn value(raw: &[u8]) -> [u8; VALUE_BYTES] {
    raw.try_into().expect("callers pass exactly one value")
}

/// Groups of the left subtree: the largest power of two below `groups`, which is at least 2.
fn left_groups(groups: usize) -> usize {
    groups.next_power_of_two() / 2
}

fn root_of(raw: &[u8]) -> [u8; VALUE_BYTES] {
    let (left, right) = raw.split_at(left_groups(raw.len() / VALUE_BYTES) * VALUE_BYTES);
    *merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash).as_bytes()
}

fn subtree(raw: &[u8]) -> [u8; VALUE_BYTES] {
    let groups = raw.len() / VALUE_BYTES;
    if groups == 1 {
        return value(raw);
    }
    let (left, right) = raw.split_at(left_groups(groups) * VALUE_BYTES);
    merge_subtrees_non_root(&subtree(left), &subtree(right), Mode::Hash)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Values of the groups of `bytes`, as a holder sends them.
    pub(crate) fn values_of(bytes: &[u8]) -> Bytes {
        if bytes.len() as u64 <= GROUP {
            return Bytes::copy_from_slice(blake3::hash(bytes).as_bytes());
        }
        let mut raw = Vec::new();
        for (at, group) in bytes.chunks(GROUP as usize).enumerate() {
            let mut hasher = blake3::Hasher::new();
            hasher.set_input_offset(at as u64 * GROUP).update(group);
            raw.extend_from_slice(&hasher.finalize_non_root());
        }
        raw.into()
    }

    #[test]
    fn groups_are_proved_and_anything_else_is_refused() {
        for size in [0usize, 1, 1 << 20, (1 << 20) + 1, 3 << 20, (5 << 20) + 7] {
            let bytes: Vec<u8> = (0..size).map(|at| (at * 31 % 251) as u8).collect();
            let root = Blake3Root(*blake3::hash(&bytes).as_bytes());
            let raw = values_of(&bytes);
            let values = Values::prove(root, size as u64, raw.clone()).unwrap_or_else(|| panic!("size {size}"));
            for (at, group) in bytes.chunks(GROUP as usize).enumerate() {
                let start = at as u64 * GROUP;
                assert!(values.holds(start, group), "size {size} group {at}");
                let mut flipped = group.to_vec();
                flipped[0] ^= 1;
                assert!(!values.holds(start, &flipped), "size {size} group {at} flipped");
                assert!(!values.holds(start, &group[1..]), "size {size} group {at} cut");
            }
            let mut bad = raw.to_vec();
            bad[0] ^= 1;
            assert!(Values::prove(root, size as u64, bad.into()).is_none(), "size {size} bad values");
            assert!(Values::prove(root, size as u64, raw.slice(1..)).is_none(), "size {size} short values");
        }
    }

    #[test]
    fn ranges_widen_to_whole_groups() {
        assert_eq!(around(0, 1, 10), (0, 10));
        assert_eq!(around(GROUP + 5, GROUP + 6, 5 * GROUP), (GROUP, 2 * GROUP));
        assert_eq!(around(GROUP, 2 * GROUP, 2 * GROUP), (GROUP, 2 * GROUP));
        assert_eq!(around(2 * GROUP, 2 * GROUP + 3, 2 * GROUP + 3), (2 * GROUP, 2 * GROUP + 3));
    }
}
