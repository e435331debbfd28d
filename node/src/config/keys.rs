//! Every key of the configuration: its meaning, type and default. The one source of parser, example file and docs.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::reader::Reader;
use super::value::{
    Bandwidth, ByteSize, Count, HostPort, LogFormat, LogLevel, Millis, Position, Profile, Span, StaleHead, Url, Via,
};

/// What a key holds when nobody sets it.
#[derive(Clone, Copy, Debug)]
pub enum Preset {
    /// This TOML text.
    Set(&'static str),
    /// Nothing; the TOML text is an example.
    Unset(&'static str),
}

use Preset::{Set, Unset};

/// A key, for the reader, the example file and the docs.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its section.
    pub section: &'static str,
    /// Its name in the section.
    pub name: &'static str,
    /// Its documentation, line by line.
    pub doc: &'static [&'static str],
    /// What it holds when nobody sets it.
    pub preset: Preset,
}

/// A section, for the example file.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// Its name.
    pub name: &'static str,
    /// Its documentation, line by line.
    pub doc: &'static [&'static str],
    /// Its keys.
    pub keys: &'static [Key],
}

macro_rules! sections {
    ($(
        $(#[doc = $doc:literal])+
        $struct:ident in $section:ident {
            $($(#[doc = $key_doc:literal])+ $key:ident: $type:ty = $preset:expr;)+
        }
    )+) => {
        $(
            $(#[doc = $doc])+
            #[derive(Clone, Debug, PartialEq)]
            pub struct $struct {
                $($(#[doc = $key_doc])+ pub $key: $type,)+
            }

            impl $struct {
                const SECTION: Section = Section {
                    name: stringify!($section),
                    doc: &[$($doc),+],
                    keys: &[$(Key {
                        section: stringify!($section),
                        name: stringify!($key),
                        doc: &[$($key_doc),+],
                        preset: $preset,
                    }),+],
                };

                // Every key is read before any failure ends it, so that all mistakes are reported at once.
                fn read(reader: &mut Reader) -> Option<Self> {
                    $(let $key = reader.take::<$type>(stringify!($section), stringify!($key), $preset);)+
                    Some($struct { $($key: $key?),+ })
                }
            }
        )+

        /// The settings of a node.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config {
            $($(#[doc = $doc])+ pub $section: $struct,)+
        }

        impl Config {
            pub(super) fn read(reader: &mut Reader) -> Option<Self> {
                $(let $section = $struct::read(reader);)+
                Some(Config { $($section: $section?),+ })
            }
        }

        /// All sections in the order of the example file.
        pub const SECTIONS: &[Section] = &[$($struct::SECTION),+];
    };
}

sections! {
    /// The registry as clients see it. Also serves /metrics, /healthz and /readyz.
    Http in http {
        /// Address of the registry's HTTP door.
        listen: SocketAddr = Set("\"127.0.0.1:5000\"");
        /// URL by which clients reach this region. Unset: http:// and `http.listen`.
        public_url: Option<Url> = Unset("\"https://paris.registry.example.com\"");
        /// Connections open at once; more wait to be accepted.
        connections_max: Count = Set("4096");
        /// Requests worked on at once, answers that are still being sent included; more are answered 429.
        requests_max: Count = Set("1024");
        /// Bytes of manifests being received at once; more wait for a moment and are then answered 429.
        manifests_bytes_max: ByteSize = Set("\"64MiB\"");
        /// Longest pause between two pieces of a request's body, 1 s to 5 min. After it an upload keeps what came, unless the
        /// chunk had a Content-Range.
        body_idle_ms_max: Millis = Set("\"60s\"");
        /// Longest time in which a client takes nothing of an answer, at least 1 s. After it the connection is closed.
        write_stall_ms_max: Millis = Set("\"60s\"");
    }

    /// The door between nodes; cluster-cli uses it too.
    Peer in peer {
        /// Address of the peer door.
        listen: SocketAddr = Set("\"127.0.0.1:7000\"");
        /// `host:port` by which other nodes reach this one. Unset: `peer.listen`.
        address: Option<HostPort> = Unset("\"paris.example.com:7000\"");
        /// Other addresses to dial for single nodes, by node id (address translation, tunnels).
        via: Via = Set("{}");
        /// Accept that peers and operators are not authenticated and nothing is encrypted. Without it the node refuses
        /// to start on any peer address but a loopback one. Give it only inside a network you trust, such as a VPN.
        insecure: bool = Set("false");
    }

    /// Where this region stands; shown to operators, used for distances.
    Region in region {
        /// Latitude and longitude in degrees, unless `init` or `join` say it.
        place: Option<Position> = Unset("\"48.86,2.35\"");
    }

    /// Disks.
    Storage in storage {
        /// Directory of identity, log, replicated state and, unless said otherwise, blobs.
        data: PathBuf = Set("\"/var/lib/longshore\"");
        /// Directory of the blob store. Unset: `blobs` in `storage.data`.
        blobs: Option<PathBuf> = Unset("\"/srv/longshore/blobs\"");
        /// Free space that uploads and fetches leave for log and state. Unset: 2 GiB, or 5 % of a smaller disk.
        reserve_bytes: Option<ByteSize> = Unset("\"2GiB\"");
        /// Cache of the node's own index (inventory, sessions).
        index_cache_bytes: ByteSize = Set("\"16MiB\"");
    }

    /// Agreement on metadata.
    Raft in raft {
        /// "lan" for round trips of a few milliseconds between the regions, "wan" for 50 to 250 ms. The same on every node.
        profile: Profile = Set("\"lan\"");
        /// Cache of the log file.
        log_cache_bytes: ByteSize = Set("\"16MiB\"");
        /// Cache of the state file.
        state_cache_bytes: ByteSize = Set("\"64MiB\"");
        /// Log entries kept behind the newest for peers that fell behind.
        log_entries_kept: Count = Set("10000");
        /// Entries between two snapshots.
        snapshot_every: Count = Set("10000");
        /// Largest log.
        log_bytes_max: ByteSize = Set("\"512MiB\"");
    }

    /// Freshness of answers (docs/consistency.md).
    Reads in reads {
        /// Longest wait for a proof of freshness before a pull is answered from local state, marked stale. Unset: 1 s (lan), 3 s (wan).
        strict_wait_ms_max: Option<Millis> = Unset("1000");
        /// Longest wait through a fail-over of what cannot be answered stale. Unset: 3 s (lan), 10 s (wan).
        failover_wait_ms_max: Option<Millis> = Unset("3000");
        /// What a manifest HEAD gets that cannot be proved fresh: "serve" (marked stale) or "refuse" (503).
        stale_head: StaleHead = Set("\"serve\"");
    }

    /// Pushes.
    Writes in writes {
        /// Longest wait of a manifest put for its blobs to be durable in enough regions, while bytes still arrive.
        durability_wait_ms_max: Millis = Set("\"15min\"");
    }

    /// Upload sessions.
    Upload in upload {
        /// Age at which an abandoned upload is removed.
        expiry: Span = Set("\"24h\"");
        /// Smallest chunk that clients are asked for (OCI-Chunk-Min-Length); smaller ones are taken all the same. Unset:
        /// nothing is asked.
        chunk_bytes_min: Option<ByteSize> = Unset("\"5MiB\"");
    }

    /// Copies between regions.
    Replication in replication {
        /// Blobs fetched at once.
        fetches_max: Count = Set("4");
        /// Most that background fetches take together; what somebody waits for is not held up. Unset: no limit.
        bandwidth: Option<Bandwidth> = Unset("\"100MiB/s\"");
    }

    /// Collection of what nothing refers to.
    Gc in gc {
        /// How long an unreferenced blob stays before it is collected. The same on every node.
        grace: Span = Set("\"24h\"");
    }

    /// Logs on standard error.
    Log in log {
        /// "text" or "json".
        format: LogFormat = Set("\"text\"");
        /// error, warn, info, debug or trace, also per module: "info,metadata=debug".
        level: LogLevel = Set("\"info\"");
    }

    /// Stopping.
    Shutdown in shutdown {
        /// Longest wait for running requests after SIGTERM or SIGINT.
        drain_ms_max: Millis = Set("8000");
    }
}

/// The key of that name.
pub fn find(section: &str, name: &str) -> Option<&'static Key> {
    SECTIONS.iter().find(|known| known.name == section)?.keys.iter().find(|key| key.name == name)
}
