//! Group values: blake3 of a blob in parts of 1 MiB that can be checked one by one. Pure.
//!
//! A blob of one group (at most [`GROUP_BYTES`], also an empty one) has its plain blake3 hash as only value. Larger
//! blobs have the chaining value of the subtree over each group; merged as blake3 merges them they give the plain
//! blake3 hash of the whole, the root.

use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use bytes::Bytes;
use domain::Blake3Root;
use domain::limits::GROUP_BYTES;

/// Length of one value. Unit: bytes.
pub(crate) const VALUE_BYTES: usize = 32;

const GROUP: u64 = GROUP_BYTES as u64;

/// Groups of a blob; at least one.
pub fn group_count(size: u64) -> u64 {
    size.div_ceil(GROUP).max(1)
}

/// Bytes `start..end` of a group. `index` must be below [`group_count`].
pub(crate) fn group_range(size: u64, index: u64) -> std::ops::Range<u64> {
    index * GROUP..((index + 1) * GROUP).min(size)
}

/// Values of a blob, proved against its root.
#[derive(Clone, Debug)]
pub struct Groups {
    size: u64,
    values: Bytes,
}

impl Groups {
    /// Takes values when they merge to `root`, else `None`.
    pub fn prove(size: u64, root: &Blake3Root, values: Bytes) -> Option<Self> {
        let count = usize::try_from(group_count(size)).ok()?;
        let proved = count.checked_mul(VALUE_BYTES) == Some(values.len()) && merge(&values) == *root;
        proved.then_some(Groups { size, values })
    }

    /// The only value of a blob of one group is its root.
    pub(crate) fn single(size: u64, root: &Blake3Root) -> Self {
        assert!(group_count(size) == 1, "only a blob of one group has its root as value");
        Groups { size, values: Bytes::copy_from_slice(&root.0) }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn count(&self) -> u64 {
        group_count(self.size)
    }

    pub(crate) fn values(&self) -> &Bytes {
        &self.values
    }

    /// Whether `bytes` are exactly group `index`.
    pub fn verify(&self, index: u64, bytes: &[u8]) -> bool {
        self.check(index).is_some_and(|mut check| {
            check.update(bytes);
            check.holds()
        })
    }

    /// Checks group `index` piece by piece; `None` when there is no such group.
    pub(crate) fn check(&self, index: u64) -> Option<Check<'_>> {
        if index >= self.count() {
            return None;
        }
        let range = group_range(self.size, index);
        let at = usize::try_from(index).ok()? * VALUE_BYTES;
        let mut hasher = Hasher::new();
        if self.count() > 1 {
            hasher.set_input_offset(range.start);
        }
        let value = &self.values[at..at + VALUE_BYTES];
        Some(Check { hasher, value, whole: self.count() == 1, missing: Some(range.end - range.start) })
    }
}

/// A group whose bytes are being checked.
pub(crate) struct Check<'a> {
    hasher: Hasher,
    value: &'a [u8],
    /// The group is the whole blob.
    whole: bool,
    /// Bytes that have not come yet; `None` once there were too many.
    missing: Option<u64>,
}

impl Check<'_> {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.missing = self.missing.and_then(|missing| missing.checked_sub(bytes.len() as u64));
        // Of what is too long the hash does not matter, and may not be taken.
        if self.missing.is_some() {
            self.hasher.update(bytes);
        }
    }

    /// Whether what came is exactly the group.
    pub(crate) fn holds(&self) -> bool {
        if self.missing != Some(0) {
            return false;
        }
        if self.whole {
            self.hasher.finalize().as_bytes() == self.value
        } else {
            self.hasher.finalize_non_root() == self.value
        }
    }
}

/// Merges concatenated values into the root. At least one value.
fn merge(values: &[u8]) -> Blake3Root {
    let leaves: Vec<ChainingValue> = values.as_chunks::<VALUE_BYTES>().0.to_vec();
    assert!(!leaves.is_empty(), "a blob has at least one group");
    if leaves.len() == 1 {
        return Blake3Root(leaves[0]);
    }
    let split = left_groups(leaves.len());
    let (left, right) = (subtree(&leaves[..split]), subtree(&leaves[split..]));
    Blake3Root(*merge_subtrees_root(&left, &right, Mode::Hash).as_bytes())
}

/// The left child takes the largest power of two below the whole; depth is logarithmic.
fn subtree(leaves: &[ChainingValue]) -> ChainingValue {
    if leaves.len() == 1 {
        return leaves[0];
    }
    let split = left_groups(leaves.len());
    merge_subtrees_non_root(&subtree(&leaves[..split]), &subtree(&leaves[split..]), Mode::Hash)
}

fn left_groups(count: usize) -> usize {
    count.div_ceil(2).next_power_of_two()
}

/// Hashes a blob group by group as it passes. A clone is a point to fall back to.
#[derive(Clone)]
pub(crate) struct GroupHasher {
    closed: Vec<u8>,
    current: Hasher,
    size: u64,
}

/// A point of a [`GroupHasher`] to return to; cheap, whatever the size.
pub(crate) struct GroupMark {
    closed: usize,
    current: Hasher,
    size: u64,
}

impl GroupHasher {
    pub(crate) fn new() -> Self {
        GroupHasher { closed: Vec::new(), current: Hasher::new(), size: 0 }
    }

    /// Takes the next bytes.
    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let mut inside = self.current.count();
            // A full group is closed only once more follows: whether the first is the root depends on it.
            if inside == GROUP {
                self.closed.extend_from_slice(&self.current.finalize_non_root());
                self.current = Hasher::new();
                self.current.set_input_offset(self.size);
                inside = 0;
            }
            let room = usize::try_from(GROUP - inside).unwrap_or(GROUP_BYTES);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.current.update(now);
            self.size += now.len() as u64;
            bytes = later;
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn mark(&self) -> GroupMark {
        GroupMark { closed: self.closed.len(), current: self.current.clone(), size: self.size }
    }

    /// Forgets what came after the mark.
    pub(crate) fn reset(&mut self, mark: &GroupMark) {
        self.closed.truncate(mark.closed);
        self.current = mark.current.clone();
        self.size = mark.size;
    }

    /// The root and the proved values.
    pub(crate) fn finish(&self) -> (Blake3Root, Groups) {
        if self.closed.is_empty() {
            let root = Blake3Root(*self.current.finalize().as_bytes());
            return (root, Groups::single(self.size, &root));
        }
        let mut values = self.closed.clone();
        values.extend_from_slice(&self.current.finalize_non_root());
        (merge(&values), Groups { size: self.size, values: values.into() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, any, prop_oneof};
    use proptest::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn content(size: usize, seed: u64) -> Vec<u8> {
        let mut bytes = vec![0; size];
        let mut reader = Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
        reader.fill(&mut bytes);
        bytes
    }

    /// Sizes near every edge that matters, and some between.
    fn sizes() -> impl Strategy<Value = usize> {
        let edges = (0usize..6).prop_flat_map(|groups| {
            let edge = groups * GROUP_BYTES;
            prop_oneof![Just(edge), Just(edge + 1), Just(edge.saturating_sub(1)), Just(edge + 1024), Just(edge + 1025)]
        });
        prop_oneof![edges, 0usize..5 * GROUP_BYTES, 0usize..3000]
    }

    proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]

        #[test]
        fn merged_groups_are_the_plain_hash(size in sizes(), seed in any::<u64>(), step in 1usize..3_000_000) {
            let bytes = content(size, seed);
            let mut hasher = GroupHasher::new();
            for part in bytes.chunks(step) {
                hasher.update(part);
            }
            let (root, groups) = hasher.finish();
            prop_assert_eq!(root.0, *blake3::hash(&bytes).as_bytes());
            prop_assert_eq!(groups.values().len() as u64, group_count(size as u64) * VALUE_BYTES as u64);
            prop_assert!(Groups::prove(size as u64, &root, groups.values().clone()).is_some());
            for index in 0..groups.count() {
                let range = group_range(size as u64, index);
                let part = &bytes[range.start as usize..range.end as usize];
                prop_assert!(groups.verify(index, part));
                if !part.is_empty() {
                    let mut bad = part.to_vec();
                    let at = (seed % part.len() as u64) as usize;
                    bad[at] ^= 1;
                    prop_assert!(!groups.verify(index, &bad));
                    prop_assert!(!groups.verify(index, &part[1..]));
                }
            }
        }

        #[test]
        fn false_values_are_refused(size in sizes(), seed in any::<u64>(), at in any::<usize>()) {
            let bytes = content(size, seed);
            let mut hasher = GroupHasher::new();
            hasher.update(&bytes);
            let (root, groups) = hasher.finish();
            let mut bad = groups.values().to_vec();
            let at = at % bad.len();
            bad[at] ^= 0x40;
            prop_assert!(Groups::prove(size as u64, &root, bad.into()).is_none());
            let short = groups.values().slice(..groups.values().len() - 1);
            prop_assert!(Groups::prove(size as u64, &root, short).is_none());
        }

        #[test]
        fn a_mark_can_be_returned_to(first in sizes(), second in sizes(), seed in any::<u64>()) {
            let (kept, lost) = (content(first, seed), content(second, seed ^ 1));
            let mut hasher = GroupHasher::new();
            hasher.update(&kept);
            let mark = hasher.mark();
            hasher.update(&lost);
            hasher.reset(&mark);
            hasher.update(&lost[..lost.len() / 2]);
            let whole = [&kept[..], &lost[..lost.len() / 2]].concat();
            prop_assert_eq!(hasher.finish().0.0, *blake3::hash(&whole).as_bytes());
        }
    }

    #[test]
    fn group_edges() {
        assert_eq!(group_count(0), 1);
        assert_eq!(group_count(GROUP), 1);
        assert_eq!(group_count(GROUP + 1), 2);
        assert_eq!(group_range(GROUP + 1, 1), GROUP..GROUP + 1);
    }
}
