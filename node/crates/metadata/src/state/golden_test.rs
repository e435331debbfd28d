//! Golden bytes of every row kind: what stands on disks never changes its meaning.

use bytes::Bytes;
use domain::digest::encode_hex;
use domain::{
    Blake3Root, Boot, ClusterId, CopyId, Digest, Durability, NodeId, Place, RegionId, RegionName, RepositoryName,
    RequestId, Revision, StoreId, Tag,
};

use super::codec::{Bad, Row};
use super::content::{ChildKind, CondemnedRow, HeldRow, HolderRow, ManifestRow, MoveRow, ReferrerRow, WantedRow};
use super::places::{
    DivergedRow, HashRow, Mark, NodeRow, Present, RegionCounters, RegionRow, RequestRow, StoreRow, Tally,
};
use super::space::{self, Space};
use crate::handle::Removal;
use crate::outcome::{Outcome, Refusal};
use crate::rows::{Blob, Departure, Link, Manifest, Meta, Policy, RegionState, Repository, TagRow};

const DIGEST: Digest = Digest::Sha256([0x11; 32]);
const LONG: Digest = Digest::Sha512([0x22; 64]);
const STORE: StoreId = StoreId([0x33; 16]);
const COPY: CopyId = CopyId([0x44; 16]);

struct Lines(String);

impl Lines {
    /// Adds a row, and holds that it is read back and that no damaged form of it is taken for a row or panics.
    fn row<R: Row + PartialEq + std::fmt::Debug>(&mut self, name: &str, key: &[u8], row: &R) {
        let value = row.encode();
        assert_eq!(R::decode(&value).as_ref(), Ok(row), "{name}");
        for length in 0..value.len() {
            assert!(R::decode(&value[..length]).is_err(), "{name} cut to {length} bytes");
        }
        let longer = [&value[..], &[0]].concat();
        assert_eq!(R::decode(&longer), Err(Bad("bytes follow the last field")), "{name}");
        let mut newer = value.clone();
        newer[0] += 1;
        assert_eq!(R::decode(&newer), Err(Bad("version byte is not known")), "{name}");
        for at in 1..value.len() {
            let mut damaged = value.clone();
            damaged[at] ^= 0xff;
            let _ = R::decode(&damaged);
        }
        self.0 += &format!("{name} {} {}\n", encode_hex(key), encode_hex(&value));
    }
}

fn cluster_rows(lines: &mut Lines) {
    let meta = Meta {
        cluster: ClusterId([0x66; 16]),
        incarnation: 1,
        format_level: 1,
        cluster_time_ms: 60_000,
        horizon: Revision(5),
        next_region: 4,
        next_node: 6,
        mac_key: [0x77; 32],
    };
    lines.row("meta", &space::single(Space::Meta), &meta);
    let hash = HashRow { hash: [0x88; 32], recorded: vec![(Revision(9), [0x99; 32])] };
    lines.row("hash", &space::single(Space::Hash), &hash);
    lines.row("mark", &space::mark(9), &Mark(60_000));
    let request = RequestRow { revision: Revision(9), outcome: Outcome::Refused(Refusal::Fenced) };
    lines.row("request", &space::request(Revision(8), RequestId([0xaa; 16])), &request);
    let tally = Tally { blobs: 2, bytes: 3000 };
    lines.row("totals", &space::single(Space::Totals), &tally);
    let region = RegionRow {
        name: RegionName::parse("eu-1").unwrap(),
        place: Place { latitude_micros: 52_520_000, longitude_micros: -13_405_000 },
        public_url: "https://eu.example.com".to_owned(),
        state: RegionState::Ready,
        cordoned: true,
    };
    lines.row("region", &space::region(RegionId(1)), &region);
    let counters = RegionCounters { wanted: tally, cursor: Some(DIGEST), beyond: tally, total: tally };
    lines.row("region-counters", &space::region_counters(RegionId(1)), &counters);
    let node = NodeRow {
        region: RegionId(1),
        peer_address: "eu.example.com:7001".to_owned(),
        certificate: vec![1, 2],
        format_level_max: 1,
        removed: false,
    };
    lines.row("node", &space::node(NodeId(2)), &node);
    let store = StoreRow { region: RegionId(1), node: NodeId(2), boot: Boot(300), open: true };
    lines.row("store", &space::store(STORE), &store);
    lines.row("store-counters", &space::store_counters(STORE), &tally);
    let policy = Policy { durability: Durability::AtLeast(2), sparse: true, immutable_tags: vec!["v*".to_owned()] };
    lines.row("policy", &space::policy("team"), &policy);
}

fn repository_rows(lines: &mut Lines) {
    let name = RepositoryName::parse("team/api").unwrap();
    let tag = Tag::parse("v1").unwrap();
    let actor = || "anonymous".to_owned();
    let row = Repository { created: Revision(3), manifests: 1, tags: 2, links: 4 };
    lines.row("repository", &space::repository(&name), &row);
    let kind = ChildKind { manifest: true, blob: true, missing: false };
    let manifest = Manifest {
        media_type: "application/x".to_owned(),
        body: Bytes::from_static(b"{}"),
        subject: Some(LONG),
        artifact_type: Some("application/y".to_owned()),
        revision: Revision(9),
        pushed_at_ms: 1_700_000_000_000,
        actor: actor(),
        region: RegionId(1),
    };
    let row = ManifestRow { manifest, children: vec![(DIGEST, kind)] };
    lines.row("manifest", &space::manifest(&name, &LONG), &row);
    lines.row("child", &space::child(&name, &DIGEST, &LONG), &kind);
    let link = Link { present: true, references: 0, unreferenced_since_ms: Some(60_000) };
    lines.row("link", &space::link(&name, &DIGEST), &link);
    let (revision, at_ms, region) = (Revision(9), 1_700_000_000_000, RegionId(1));
    let row = TagRow { digest: DIGEST, revision, at_ms, actor: actor(), region };
    lines.row("tag", &space::tag(&name, &tag), &row);
    lines.row("tagged", &space::tagged(&name, &DIGEST, &tag), &Present);
    let row = MoveRow { number: 7, digest: Some(DIGEST), at_ms, actor: actor(), region };
    lines.row("move", &space::history(&name, &tag, 9), &row);
    let row = ReferrerRow {
        media_type: "application/x".to_owned(),
        size: 2,
        artifact_type: None,
        annotations: vec![("k".to_owned(), "v".to_owned())],
    };
    lines.row("referrer", &space::referrer(&name, &DIGEST, &LONG), &row);
    lines.row("idle-link", &space::idle_link(60_000, &name, &DIGEST), &Present);
}

fn blob_rows(lines: &mut Lines) {
    let blob = Blob { size: 1 << 33, root: Blake3Root([0x55; 32]), references: 2, unreferenced_since_ms: None };
    lines.row("blob", &space::blob(&LONG), &blob);
    lines.row("holder", &space::holder(&DIGEST, STORE), &HolderRow { copy: COPY, since_ms: 60_000 });
    lines.row("held", &space::held(STORE, &DIGEST), &HeldRow(COPY));
    lines.row("wanted", &space::wanted(RegionId(1), &DIGEST), &WantedRow { size: 1000, since_ms: 60_000 });
    lines.row("condemned", &space::condemned(STORE, &DIGEST, COPY), &CondemnedRow(Revision(9)));
    lines.row("idle-blob", &space::idle_blob(60_000, &DIGEST), &Present);
}

/// Rows of the table `stamp`, which are a node's own.
fn own_rows(lines: &mut Lines) {
    let right = vec![NodeId(2), NodeId(3)];
    let row = DivergedRow { index: Revision(9), ours: [0x88; 32], theirs: [0x99; 32], right };
    lines.row("diverged", crate::raft::machine::DIVERGED, &row);
}

/// What came after the first lines.
fn later_rows(lines: &mut Lines) {
    lines.row("departure", &space::departure(RegionId(2)), &Departure { next: Some(DIGEST) });
    // Of the table `stamp`.
    let row = Removal { successor: Some(NodeId(4)), revision: Revision(9), told_by: NodeId(1) };
    lines.row("removed", crate::raft::machine::REMOVED, &row);
}

/// A line of `golden.txt` (name, key, value) never changes; new lines may be added.
#[test]
fn golden_bytes_are_kept() {
    let mut lines = Lines(String::new());
    cluster_rows(&mut lines);
    repository_rows(&mut lines);
    blob_rows(&mut lines);
    own_rows(&mut lines);
    later_rows(&mut lines);
    assert_eq!(lines.0, include_str!("golden.txt"), "\n{}", lines.0);
}

#[test]
fn golden_state_hash_is_kept() {
    use super::hash::{Sum, is_hashed, row};
    let mut sum = Sum::default();
    for (key, value) in [(&b"\x01"[..], &b"\x01meta"[..]), (b"\x14a\x00v1", b"\x01tag"), (b"\x02", b"never counted")] {
        if is_hashed(key) {
            sum.add(row(key, value));
        }
    }
    assert_eq!(encode_hex(&sum.to_bytes()), GOLDEN_HASH);
}

const GOLDEN_HASH: &str = "b0cde3d5d58357817bf5ee33a1de7a85605f458cbb39b49800fad5520447b674";
