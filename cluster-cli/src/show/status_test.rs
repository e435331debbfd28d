//! The status page, as it looks.

use super::*;
use crate::cluster::Phase;

pub(crate) fn node(id: u64, region: &str) -> Node {
    Node {
        phase: Phase::Member,
        node: id,
        region: region.to_owned(),
        cluster: "7f3a90".to_owned(),
        version: "0.1.0".to_owned(),
        process_id: 41_206 + id,
        uptime_ms: 41 * 86_400_000,
        registry_url: format!("http://127.0.0.1:500{id}"),
        peer_address: format!("127.0.0.1:700{id}"),
        insecure: false,
        profile: "lan".to_owned(),
        leader: Some(1),
        is_leader: id == 1,
        quorum_heard: true,
        term: 3,
        applied: 128_417,
        committed: 128_417,
        format_level: 1,
        state_hash: "0123456789abcdef".to_owned(),
        state_hash_index: 128_417,
        store_open: true,
        disk_total_bytes: 1000,
        disk_free_bytes: 610,
        disk_reserve_bytes: 50,
        fetches: 0,
        fetched_bytes: 0,
        fetched_blobs: 0,
        fetch_failures: 0,
        copies_damaged: 0,
        fetch_bytes_per_second: 0.0,
        confirm_loss: false,
        impaired: Vec::new(),
    }
}

pub(crate) fn cluster() -> Cluster {
    let region = |id: u32, name: &str| Region {
        id,
        name: name.to_owned(),
        state: RegionState::Ready,
        cordoned: false,
        registry_url: format!("http://127.0.0.1:500{id}"),
        backlog_blobs: 0,
        backlog_bytes: 0,
        lag_ms: 0,
        backfill_blobs_total: 0,
        backfill_bytes_total: 0,
        nodes: vec![Member {
            node: u64::from(id),
            peer_address: format!("127.0.0.1:700{id}"),
            status: Some(node(u64::from(id), name)),
            unreachable: None,
        }],
    };
    Cluster {
        cluster: "7f3a90aa".to_owned(),
        revision: 128_417,
        answered_by: 1,
        writes_ok: true,
        no_writes: None,
        leader: Some(1),
        format_level: 1,
        regions: vec![region(1, "paris"), region(2, "virginia"), region(3, "tokyo")],
    }
}

#[test]
fn a_healthy_cluster_is_a_headline_and_a_line_per_region() {
    let expected = "\
cluster c-7f3a90 · revision 128,417 · 3 of 3 regions up · writes ok
  REGION    STATE  UP    REVISION  LAG  BACKLOG  RATE  DISK FREE
  paris     ready  41 d   128,417  –    –        –     61 %
  virginia  ready  41 d   128,417  –    –        –     61 %
  tokyo     ready  41 d   128,417  –    –        –     61 %
";
    assert_eq!(page(&cluster(), false, false), expected);
}

#[test]
fn trouble_is_told_where_it_is() {
    let mut cluster = cluster();
    cluster.writes_ok = false;
    cluster.no_writes = Some("the disk of the log or the state failed or is full on this node".to_owned());
    cluster.regions[0].nodes[0].status = None;
    cluster.regions[0].nodes[0].unreachable = Some("no answer within 1 s".to_owned());
    let virginia = &mut cluster.regions[1];
    virginia.state = RegionState::Backfilling;
    (virginia.backlog_blobs, virginia.backlog_bytes, virginia.lag_ms) = (20_118, 668_000_000_000, 800);
    let tokyo = cluster.regions[2].nodes[0].status.as_mut().unwrap();
    tokyo.applied = 128_415;
    tokyo.state_hash_index = 128_415;
    tokyo.fetch_bytes_per_second = 96e6;
    tokyo.impaired.push("no uploads: blob storage is full down to its reserve".to_owned());
    tokyo.insecure = true;
    let expected = "\
cluster c-7f3a90 · revision 128,417 · 2 of 3 regions up · no writes: the disk of the log or the state failed or is full on this node
  REGION    STATE        UP    REVISION  LAG          BACKLOG          RATE       DISK FREE
  paris     down         –            –  –            –                –          –
  virginia  backfilling  41 d   128,417  0.8 s        20,118 · 668 GB  –          61 %
  tokyo     ready        41 d   128,415  2 revisions  –                96.0 MB/s  61 %
  paris: node 1 at 127.0.0.1:7001: no answer within 1 s
  tokyo: no uploads: blob storage is full down to its reserve
  peers and operators are not authenticated (peer.insecure = true)
";
    assert_eq!(page(&cluster, false, false), expected);
}

#[test]
fn writes_that_something_else_stops_are_not_blamed_on_the_network() {
    let mut cluster = cluster();
    cluster.writes_ok = false;
    cluster.no_writes = Some("the regions differ in state and no majority agrees".to_owned());
    let paris = cluster.regions[0].nodes[0].status.as_mut().unwrap();
    paris.impaired.push("no pushes: the regions differ in state".to_owned());
    let page = page(&cluster, false, false);
    assert!(page.contains("3 of 3 regions up · no writes: the regions differ in state"), "{page}");
    assert!(page.contains("  paris: no pushes: the regions differ in state\n"), "{page}");
}

#[test]
fn different_states_at_one_revision_are_never_hidden() {
    let mut cluster = cluster();
    cluster.regions[2].nodes[0].status.as_mut().unwrap().state_hash = "ffff".to_owned();
    assert!(page(&cluster, false, false).contains("paris and tokyo differ in state at revision 128417"));
}

#[test]
fn verbose_adds_a_line_per_node() {
    let page = page(&cluster(), true, false);
    let line = "     1  paris     127.0.0.1:7001  0.1.0       3  128,417    128,417  01234567… 128417  leader\n";
    assert!(page.contains(line), "{page}");
}
