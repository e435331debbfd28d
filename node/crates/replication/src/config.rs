//! How the room runs. The values come from the node's configuration; the defaults suit a LAN.

use domain::limits;

/// Settings of replication, collection and the peers' blob service.
#[derive(Clone, Debug)]
pub struct Config {
    /// Transfers that workers run at once. Each holds at most about 2 MiB of memory.
    pub fetches_max: usize,
    /// Most that background transfers take together. Unit: bytes per second. None = no limit.
    pub bandwidth: Option<u64>,
    /// Transfers that waiting clients may have started at once, beyond the workers'.
    pub flights_max: usize,
    /// Reads served to peers at once.
    pub serves_max: usize,
    /// Rows of the backlog looked at in one go.
    pub window_rows: usize,
    /// How long a holder may take from dialling to the first message. Unit: milliseconds.
    pub first_byte_ms_max: u64,
    /// How long a running transfer may stand still. Unit: milliseconds.
    pub progress_ms_max: u64,
    /// Groups that a client's direct read asks a holder for at once, while [`Config::direct_ahead_max`] allows it.
    pub direct_groups: u64,
    /// Groups that all direct reads together have asked for beyond the one that each is fetching. Those of a client that
    /// stands still lie in the window of the connection that all direct reads from a peer share: less than half of it.
    pub direct_ahead_max: usize,
    /// How long a report waits for company. Unit: milliseconds.
    pub report_linger_ms: u64,
    /// A durability waiter gives up when nothing arrived for so long. Unit: milliseconds.
    pub durability_stall_ms: u64,
    /// Grace of unreferenced links and blobs. Unit: milliseconds of cluster time.
    pub grace_ms: u64,
    /// Pause between two collections; a quarter of the grace when none. Unit: milliseconds.
    pub collect_every_ms: Option<u64>,
    /// Age at which abandoned uploads are purged. Unit: milliseconds of cluster time.
    pub upload_expiry_ms: u64,
    /// How long a process runs before it sweeps copies that no row knows, and pauses before it does so again. Until then
    /// the closing request of an upload that was not recorded may be sent again without its bytes. Unit: milliseconds.
    pub sweep_after_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            fetches_max: 4,
            bandwidth: None,
            flights_max: 32,
            serves_max: 64,
            window_rows: 2000,
            first_byte_ms_max: 2_000,
            progress_ms_max: 10_000,
            direct_groups: 2,
            direct_ahead_max: 3,
            report_linger_ms: 50,
            durability_stall_ms: 15_000,
            grace_ms: limits::GRACE_MS,
            collect_every_ms: None,
            upload_expiry_ms: limits::UPLOAD_EXPIRY_MS,
            sweep_after_ms: 3_600_000,
        }
    }
}

impl Config {
    /// Settings for round trips of 50–250 ms.
    pub fn wan() -> Self {
        Config {
            first_byte_ms_max: 5_000,
            progress_ms_max: 20_000,
            direct_groups: 8,
            direct_ahead_max: 28,
            durability_stall_ms: 30_000,
            ..Config::default()
        }
    }
}

/// Blobs below this size travel many per stream. Unit: bytes.
pub(crate) const SMALL_BLOB_BYTES: u64 = limits::BULK_MESSAGE_BYTES as u64;
/// Most blobs in one request for small ones.
pub(crate) const SMALL_BATCH_BLOBS_MAX: usize = 64;
/// Most bytes in one request for small ones. Unit: bytes.
pub(crate) const SMALL_BATCH_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// A range further than this ahead of a flight is fetched directly. Unit: bytes.
pub(crate) const FAR_AHEAD_BYTES: u64 = 8 * 1024 * 1024;
/// Landed flights that wait for their settlement beyond which no more begin: without a quorum clients are served straight
/// from holders then, and nothing more is kept. Every one of them costs memory, a pinned copy on the disk and its report.
pub(crate) const UNSETTLED_MAX: usize = 256;
/// Most digests remembered as urgent or as backing off.
pub(crate) const REMEMBERED_MAX: usize = 10_000;
/// Size of a group. Unit: bytes.
pub(crate) const GROUP: u64 = limits::GROUP_BYTES as u64;
