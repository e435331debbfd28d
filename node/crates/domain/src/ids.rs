//! Identifiers. Numbers are minted by `apply`, random ones by the node that first needs them; none is ever reused.

use std::fmt;

use crate::digest::{decode_hex, encode_hex};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

macro_rules! bytes {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Reads exactly the raw bytes, else `None`.
            pub fn from_slice(raw: &[u8]) -> Option<Self> {
                raw.try_into().ok().map($name)
            }

            /// Reads lower-case hex, else `None`.
            pub fn from_hex(hex: &str) -> Option<Self> {
                decode_hex(hex).map($name)
            }

            /// The raw bytes.
            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&encode_hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&encode_hex(&self.0))
            }
        }
    };
}

number!(
    /// A region, minted by `apply` at join.
    RegionId,
    u32
);
number!(
    /// A node, minted by `apply` at join; also its Raft node id. Never reused.
    NodeId,
    u64
);
number!(
    /// Log index of the `OpenStore` entry of the running process: the fence of its claims (ground.md §1).
    Boot,
    u64
);
number!(
    /// A Raft log index as users see it. The first is 1.
    Revision,
    u64
);
number!(
    /// Counts recoveries from a lost quorum; nodes of another incarnation are refused. The first is 1.
    Incarnation,
    u32
);
bytes!(
    /// A cluster, random, made by Genesis.
    ClusterId, 16
);
bytes!(
    /// A formatted blob store, random: a wiped or replaced disk is a new store.
    StoreId, 16
);
bytes!(
    /// One stored copy of a blob, random, never reused (design §8).
    CopyId, 16
);
bytes!(
    /// A proposal; the same over all its retries.
    RequestId, 16
);
bytes!(
    /// Root of the blake3 tree over a blob, equal to its plain blake3 hash (libs.md §4).
    Blake3Root, 32
);
