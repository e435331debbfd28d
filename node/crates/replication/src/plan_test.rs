use super::*;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const LARGE: u64 = 10 * 1024 * 1024;

fn digest(byte: u8) -> Digest {
    Digest::Sha256([byte; 32])
}

fn candidate(byte: u8, size: u64) -> Candidate {
    Candidate {
        digest: digest(byte),
        size,
        since_ms: u64::from(byte),
        urgency: Urgency::Backlog,
        retry_at_ms: 0,
        holders: vec![A],
    }
}

fn decide(candidates: &[Candidate], in_flight: &[u8], sources: &BTreeMap<NodeId, Source>, slots: usize) -> Plan {
    let in_flight = in_flight.iter().map(|byte| digest(*byte)).collect();
    plan(&Input { now_ms: 1000, candidates, in_flight: &in_flight, sources, slots })
}

fn fetch(byte: u8, urgency: Urgency) -> Action {
    Action::Fetch { digest: digest(byte), size: LARGE, urgency }
}

#[test]
fn urgent_first_then_the_oldest_and_never_more_than_the_slots() {
    let mut candidates: Vec<_> = (1..=5).map(|byte| candidate(byte, LARGE)).collect();
    candidates[4].urgency = Urgency::Waited;
    let plan = decide(&candidates, &[2], &BTreeMap::new(), 3);
    assert_eq!(
        plan.actions,
        [fetch(5, Urgency::Waited), fetch(1, Urgency::Backlog), fetch(3, Urgency::Backlog)],
        "2 is in flight, 4 has no slot"
    );
    assert_eq!(decide(&candidates, &[], &BTreeMap::new(), 0).actions, []);
}

#[test]
fn a_digest_named_twice_is_fetched_once() {
    let mut urgent = candidate(1, LARGE);
    urgent.urgency = Urgency::Waited;
    let plan = decide(&[urgent, candidate(1, LARGE)], &[], &BTreeMap::new(), 4);
    assert_eq!(plan.actions, [fetch(1, Urgency::Waited)]);
}

#[test]
fn small_blobs_share_a_stream_and_a_slot() {
    let candidates: Vec<_> = (1..=100).map(|byte| candidate(byte, 1000)).collect();
    let plan = decide(&candidates, &[], &BTreeMap::new(), 1);
    let [Action::FetchSmall { source: A, blobs, urgency: Urgency::Backlog }] = &plan.actions[..] else {
        panic!("{plan:?}")
    };
    assert_eq!(blobs.len(), SMALL_BATCH_BLOBS_MAX, "the oldest ones, the rest waits for a slot");
    assert_eq!(blobs[0].0, digest(1));
    let plan = decide(&candidates, &[], &BTreeMap::new(), 2);
    let sizes: Vec<usize> = plan
        .actions
        .iter()
        .map(|action| match action {
            Action::FetchSmall { blobs, .. } => blobs.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(sizes, [64, 36]);
}

#[test]
fn a_batch_is_bounded_in_bytes() {
    let size = SMALL_BLOB_BYTES - 1;
    let candidates: Vec<_> = (1..=40).map(|byte| candidate(byte, size)).collect();
    for action in decide(&candidates, &[], &BTreeMap::new(), 8).actions {
        let Action::FetchSmall { blobs, .. } = action else { panic!("{action:?}") };
        assert!(blobs.iter().map(|(_, size)| size).sum::<u64>() <= SMALL_BATCH_BYTES_MAX);
    }
}

#[test]
fn who_backs_off_waits_and_the_plan_says_until_when() {
    let mut late = candidate(1, LARGE);
    late.retry_at_ms = 1500;
    let mut later = candidate(2, LARGE);
    later.retry_at_ms = 9000;
    let plan = decide(&[later, late], &[], &BTreeMap::new(), 4);
    assert_eq!(plan, Plan { actions: vec![], wake_at_ms: Some(1500) });
}

#[test]
fn a_resting_source_is_spared_by_the_backlog_but_not_by_who_waits() {
    let resting = Source { rests_until_ms: 3000, failures: 2, ..Source::default() };
    let sources = BTreeMap::from([(A, resting)]);
    let plan = decide(&[candidate(1, LARGE)], &[], &sources, 4);
    assert_eq!(plan, Plan { actions: vec![], wake_at_ms: Some(3000) });
    let mut urgent = candidate(1, LARGE);
    urgent.urgency = Urgency::Waited;
    assert_eq!(decide(&[urgent], &[], &sources, 4).actions, [fetch(1, Urgency::Waited)]);
    let mut elsewhere = candidate(1, LARGE);
    elsewhere.holders = vec![A, B];
    assert_eq!(decide(&[elsewhere], &[], &sources, 4).actions, [fetch(1, Urgency::Backlog)]);
}

#[test]
fn without_a_holder_it_backs_off() {
    let mut lonely = candidate(1, LARGE);
    lonely.holders.clear();
    assert_eq!(decide(&[lonely], &[], &BTreeMap::new(), 4).actions, [Action::BackOff { digest: digest(1) }]);
}

#[test]
fn small_blobs_go_to_their_own_sources() {
    let mut candidates: Vec<_> = (1..=4).map(|byte| candidate(byte, 10)).collect();
    candidates[2].holders = vec![B];
    candidates[3].holders = vec![B];
    let plan = decide(&candidates, &[], &BTreeMap::new(), 4);
    let batch = |source, bytes: [u8; 2]| Action::FetchSmall {
        source,
        blobs: bytes.map(|byte| (digest(byte), 10)).to_vec(),
        urgency: Urgency::Backlog,
    };
    assert_eq!(plan.actions, [batch(A, [1, 2]), batch(B, [3, 4])]);
}
