//! Between which indexes of the log a request must have happened, going by when it ran.

use std::collections::{BTreeMap, HashMap};

use super::event::{Event, Request};

/// Bounds of each event, by its place in the history.
pub(super) struct Bounds {
    /// Newest revision that anybody had been told of before it began.
    pub(super) floor: Vec<u64>,
    /// Newest revision that its node had shown before it began: no node goes back in time.
    pub(super) node_floor: Vec<u64>,
    /// What came after it ended happened after this revision.
    pub(super) ceiling: Vec<u64>,
}

/// Whether it is a write that was answered as done.
pub(super) fn is_done(event: &Event) -> bool {
    let status = event.answer().map_or(0, |answer| answer.status);
    match event.request {
        Request::Read(_) => false,
        // 202 opens a session instead.
        Request::MountBlob { .. } | Request::PushBlob { .. } | Request::PutManifest(_) => status == 201,
        Request::DeleteBlob { .. } | Request::DeleteManifest { .. } | Request::DeleteTag { .. } => status == 202,
    }
}

impl Bounds {
    pub(super) fn of(events: &[Event]) -> Bounds {
        let (floor, node_floor) = floors(events);
        // A put that changed nothing names an older revision, and which of several is the one that did is not known
        // yet: the earliest of them bounds the fewest others.
        let mut began: BTreeMap<u64, u64> = BTreeMap::new();
        for (event, floor) in events.iter().zip(&floor).filter(|(event, _)| is_done(event)) {
            if let Some(revision) = event.revision().filter(|revision| revision > floor) {
                let start = began.entry(revision).or_insert(event.start);
                *start = event.start.min(*start);
            }
        }
        let mut by_start: Vec<(u64, u64)> = began.into_iter().map(|(revision, start)| (start, revision)).collect();
        by_start.sort_unstable();
        let mut least = u64::MAX;
        for (_, revision) in by_start.iter_mut().rev() {
            least = least.min(*revision);
            *revision = least;
        }
        let after = |event: &Event| {
            let next = by_start.partition_point(|(start, _)| *start < event.end);
            by_start.get(next).map_or(u64::MAX, |(_, revision)| revision - 1)
        };
        let ceiling = events.iter().map(after).collect();
        Bounds { floor, node_floor, ceiling }
    }
}

fn floors(events: &[Event]) -> (Vec<u64>, Vec<u64>) {
    let mut by_start: Vec<usize> = (0..events.len()).collect();
    let mut by_end = by_start.clone();
    by_start.sort_by_key(|index| events[*index].start);
    by_end.sort_by_key(|index| events[*index].end);
    let (mut floor, mut node_floor) = (vec![0; events.len()], vec![0; events.len()]);
    let (mut newest, mut shown) = (0, HashMap::<u64, u64>::new());
    let mut ended = by_end.into_iter().peekable();
    for index in by_start {
        while let Some(before) = ended.next_if(|before| events[*before].end < events[index].start) {
            let event = &events[before];
            let revision = event.revision().unwrap_or(0);
            newest = newest.max(revision);
            if event.request.is_read() {
                let shown = shown.entry(event.node).or_default();
                *shown = revision.max(*shown);
            }
        }
        floor[index] = newest;
        node_floor[index] = shown.get(&events[index].node).copied().unwrap_or(0);
    }
    (floor, node_floor)
}
