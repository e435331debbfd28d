//! Randomness for ids, keys and jitter. Nothing in `apply` may come from here.

use domain::{ClusterId, CopyId, RequestId, StoreId};

/// Fills `N` random bytes from the operating system.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut raw = [0; N];
    getrandom::fill(&mut raw).expect("the operating system gives randomness");
    raw
}

/// A number in `0..bound`; `bound` at least 1.
pub fn below(bound: u64) -> u64 {
    u64::from_le_bytes(bytes()) % bound.max(1)
}

/// A new request id.
pub fn request_id() -> RequestId {
    RequestId(bytes())
}

/// A new copy id.
pub fn copy_id() -> CopyId {
    CopyId(bytes())
}

/// A new store id.
pub fn store_id() -> StoreId {
    StoreId(bytes())
}

/// A new cluster id.
pub fn cluster_id() -> ClusterId {
    ClusterId(bytes())
}
