//! Limits (design §12): named once, used everywhere.

/// Largest manifest body accepted. Unit: bytes. Above it HTTP 413.
///
/// Source: OCI distribution-spec, "Pushing Manifests", at least 4 MB.
pub const MANIFEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most children (layers, config, index entries) one manifest may name. Above it HTTP 400.
pub const MANIFEST_CHILDREN_MAX: usize = 4096;
/// Longest repository name. Unit: bytes.
pub const REPOSITORY_NAME_BYTES_MAX: usize = 255;
/// Longest tag. Unit: bytes. Source: OCI distribution-spec.
pub const TAG_BYTES_MAX: usize = 128;
/// Longest region name. Unit: bytes.
pub const REGION_NAME_BYTES_MAX: usize = 32;
/// Most tags one manifest put may set. Above it HTTP 414.
pub const TAGS_PER_PUT_MAX: usize = 100;
/// Most rows of one page of a listing; a larger `n` is clamped.
pub const PAGE_ROWS_MAX: usize = 1000;
/// Largest page of a listing. Unit: bytes. crane reads one page of referrers and at most 4 MiB of it.
pub const PAGE_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Largest request head accepted. Unit: bytes.
pub const REQUEST_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Size of the groups that reads are verified by. Unit: bytes. Permanent: `.groups` files depend on it (ground.md §3).
pub const GROUP_BYTES: usize = 1024 * 1024;
/// Upload sessions open at once on one node. Above it HTTP 429.
pub const UPLOADS_OPEN_MAX: usize = 1024;
/// How long an upload session that no byte was sent to keeps its place when all are taken. Unit: milliseconds.
pub const UPLOAD_IDLE_MS: u64 = 300_000;
/// Longest pause in a request's body that an operator may allow; an owner of uploads waits for passed on bodies a minute
/// longer. Unit: milliseconds.
pub const BODY_IDLE_MS_MAX: u64 = 300_000;
/// Digests in one `Held`, `Lost` or `Deleted` report (design §3).
pub const REPORT_DIGESTS_MAX: usize = 500;
/// Rows one command of the long-running kind may touch (design §3).
pub const COMMAND_ROWS_MAX: usize = 1000;
/// Blobs that one step of a departure judges; for each of them its holders are read.
pub const DEPARTURE_BLOBS_MAX: usize = 500;
/// Request rows below the horizon that one command prunes (ground.md §1).
pub const REQUESTS_PRUNED_MAX: usize = 4;
/// Globs of immutable tags that one policy may hold. Each has at most `TAG_BYTES_MAX` bytes.
pub const IMMUTABLE_GLOBS_MAX: usize = 16;
/// Entries kept of the history of one tag.
pub const TAG_HISTORY_MAX: usize = 1000;
/// Age after which a retried command is refused as too old. Unit: milliseconds of cluster time.
pub const REQUEST_HORIZON_MS: u64 = 120_000;
/// Proposal bytes admitted on the leader. Unit: bytes. Above it HTTP 429.
pub const PROPOSAL_BYTES_LEADER_MAX: usize = 64 * 1024 * 1024;
/// Proposal bytes admitted on one forwarding node. Unit: bytes. Above it HTTP 429.
pub const PROPOSAL_BYTES_NODE_MAX: usize = 16 * 1024 * 1024;
/// Largest message of the node-to-node protocol. Unit: bytes. A 4 MiB manifest in a command must fit an append batch.
pub const PEER_MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of log entries in one append or apply batch. Unit: bytes (ground.md §4).
pub const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Entries in one append or apply batch.
pub const BATCH_ENTRIES_MAX: usize = 64;
/// Message size of bulk transfers. Unit: bytes (design §7).
pub const BULK_MESSAGE_BYTES: usize = 256 * 1024;
/// Voters of the metadata; further regions are learners.
pub const VOTERS_MAX: usize = 7;
/// Grace of an unreferenced blob or link, unless configured. Unit: milliseconds of cluster time.
pub const GRACE_MS: u64 = 24 * 60 * 60 * 1000;
/// Age after which an abandoned upload session is purged, unless configured. Unit: milliseconds of cluster time.
pub const UPLOAD_EXPIRY_MS: u64 = 24 * 60 * 60 * 1000;
