//! Whose state is right when nodes differ at one index; decided without I/O (design §3, promise 10).

use std::collections::{BTreeMap, BTreeSet};

use domain::NodeId;

/// A state hash.
pub(crate) type Hash = [u8; 32];

/// What the hashes of one index say of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A strict majority of all voters has one hash, and it is not ours: this node is wrong.
    Minority {
        /// The voters of that majority.
        right: BTreeSet<NodeId>,
        /// Their hash.
        hash: Hash,
    },
    /// A strict majority of all voters has our hash.
    Majority {
        /// Nodes that have another one.
        wrong: BTreeSet<NodeId>,
    },
    /// No hash is known to be that of a strict majority.
    Undecided {
        /// Voters that have not told theirs.
        silent: BTreeSet<NodeId>,
    },
}

/// Judges by the hashes that nodes recorded at one index. `votes` may lack voters and may name others: only voters
/// count, every node is named. What `votes` has of this node itself is not looked at.
pub(crate) fn judge(own: (NodeId, Hash), votes: &BTreeMap<NodeId, Hash>, voters: &BTreeSet<NodeId>) -> Verdict {
    let mut votes = votes.clone();
    votes.insert(own.0, own.1);
    let mut camps: BTreeMap<Hash, BTreeSet<NodeId>> = BTreeMap::new();
    for (node, hash) in votes.iter().filter(|(node, _)| voters.contains(node)) {
        camps.entry(*hash).or_default().insert(*node);
    }
    match camps.into_iter().find(|(_, camp)| camp.len() > voters.len() / 2) {
        Some((hash, _)) if hash == own.1 => Verdict::Majority {
            wrong: votes.iter().filter(|(_, theirs)| **theirs != hash).map(|(node, _)| *node).collect(),
        },
        Some((hash, right)) => Verdict::Minority { right, hash },
        None => {
            Verdict::Undecided { silent: voters.iter().filter(|node| !votes.contains_key(node)).copied().collect() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Hash = [1; 32];
    const B: Hash = [2; 32];
    const C: Hash = [3; 32];

    fn ids(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    /// Node 1 has `own`; the others are given as (node, hash).
    fn verdict(own: Hash, votes: &[(u64, Hash)], voters: &[u64]) -> Verdict {
        let votes = votes.iter().map(|&(node, hash)| (NodeId(node), hash)).collect();
        judge((NodeId(1), own), &votes, &ids(voters))
    }

    fn minority(right: &[u64], hash: Hash) -> Verdict {
        Verdict::Minority { right: ids(right), hash }
    }

    fn majority(wrong: &[u64]) -> Verdict {
        Verdict::Majority { wrong: ids(wrong) }
    }

    fn undecided(silent: &[u64]) -> Verdict {
        Verdict::Undecided { silent: ids(silent) }
    }

    #[test]
    fn the_hash_of_a_strict_majority_of_all_voters_is_right() {
        let three = [1, 2, 3];
        let table = [
            (A, vec![(2, B), (3, B)], minority(&[2, 3], B)),
            (A, vec![(2, A), (3, B)], majority(&[3])),
            (A, vec![(2, A)], majority(&[])),
            (A, vec![(2, A), (3, A)], majority(&[])),
            (A, vec![(2, B), (3, C)], undecided(&[])),
            (A, vec![(2, B)], undecided(&[3])),
            (A, vec![], undecided(&[2, 3])),
        ];
        for (own, votes, expected) in table {
            assert_eq!(verdict(own, &votes, &three), expected, "{votes:?}");
        }
    }

    #[test]
    fn a_half_is_no_majority_and_silence_is_no_vote() {
        let table = [
            (vec![(2, B)], vec![1, 2], undecided(&[])),
            (vec![(2, A)], vec![1, 2], majority(&[])),
            (vec![(2, A), (3, B), (4, B)], vec![1, 2, 3, 4], undecided(&[])),
            (vec![(2, B), (3, B), (4, B)], vec![1, 2, 3, 4], minority(&[2, 3, 4], B)),
            (vec![(2, B), (3, B)], vec![1, 2, 3, 4, 5], undecided(&[4, 5])),
            (vec![(2, B), (3, B), (4, B)], vec![1, 2, 3, 4, 5], minority(&[2, 3, 4], B)),
            (vec![(2, A), (3, B), (4, A), (5, C)], vec![1, 2, 3, 4, 5], majority(&[3, 5])),
            (vec![(2, A), (3, B), (4, B), (5, C)], vec![1, 2, 3, 4, 5], undecided(&[])),
            (vec![], vec![1], majority(&[])),
        ];
        for (votes, voters, expected) in table {
            assert_eq!(verdict(A, &votes, &voters), expected, "{votes:?} of {voters:?}");
        }
    }

    #[test]
    fn only_voters_count_and_every_node_is_named() {
        // A learner with a wrong state is told by the voters, and tips no scale.
        assert_eq!(verdict(A, &[(2, B), (3, B)], &[2, 3]), minority(&[2, 3], B));
        assert_eq!(verdict(A, &[(2, A), (3, B)], &[2, 3]), undecided(&[]));
        assert_eq!(verdict(A, &[(2, A), (3, A), (9, B)], &[1, 2, 3]), majority(&[9]));
        assert_eq!(verdict(A, &[(2, B), (8, A), (9, A)], &[1, 2]), undecided(&[]));
        assert_eq!(verdict(A, &[(1, B), (2, A)], &[1, 2]), majority(&[]), "its own hash is what it says itself");
        assert_eq!(verdict(A, &[(2, A)], &[]), undecided(&[]), "nobody votes before the first membership");
    }
}
