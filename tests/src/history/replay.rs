//! The writes of a history in the order they claim, and every answer held against the states between them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use std::sync::Arc;

use super::bounds::{Bounds, is_done};
use super::event::{Answer, Condition, Demand, Event, Put, Question, Request, Said};
use super::model::{Contents, Expected, Model};

/// Findings that are told of one history: what follows the first ones is mostly their doing.
const FINDINGS_MAX: usize = 8;
/// Writes before a finding that are told with it.
const WRITES_TOLD: usize = 12;

/// What must hold in a state.
enum Test {
    /// It gives this answer.
    Answer,
    /// A put changes nothing, and says since when.
    Unchanged(u64),
    /// Some repository holds the blob of a mount.
    LinkedSomewhere,
}

/// Something that must hold in at least one state from `from` to `to`.
struct Open {
    event: usize,
    test: Test,
    from: u64,
    to: u64,
    /// What the last state that was looked at gives.
    seen: String,
}

/// What a replay found.
#[derive(Default)]
pub(super) struct Found {
    /// Contradictions; none when the order explains everything.
    pub(super) findings: Vec<String>,
    /// Writes that changed something, or were idle under a revision of their own.
    pub(super) writes: usize,
    /// Puts that changed nothing.
    pub(super) unchanged: usize,
    /// Answers held against the state at the index they name.
    pub(super) exact: usize,
    /// Answers held against all states they may have seen.
    pub(super) between: usize,
}

pub(super) struct Replay<'a> {
    events: &'a [Event],
    bounds: &'a Bounds,
    model: Model,
    writes: BTreeMap<u64, Vec<usize>>,
    /// Reads by the revision they name, newest first.
    exact: Vec<(u64, usize)>,
    /// By `from`, latest first.
    later: Vec<Open>,
    open: Vec<Open>,
    told: VecDeque<String>,
    found: Found,
}

/// Replays `events`, and `extra` writes at revisions of our choice.
pub(super) fn replay(
    contents: &Arc<Contents>,
    events: &[Event],
    bounds: &Bounds,
    extra: &BTreeMap<u64, usize>,
) -> Found {
    let mut replay = Replay {
        events,
        bounds,
        model: Model::new(contents.clone()),
        writes: BTreeMap::new(),
        exact: Vec::new(),
        later: Vec::new(),
        open: Vec::new(),
        told: VecDeque::new(),
        found: Found::default(),
    };
    for index in 0..events.len() {
        replay.sort_in(index);
    }
    for (revision, index) in extra {
        replay.writes.entry(*revision).or_default().push(*index);
    }
    replay.exact.sort_unstable_by(|left, right| right.cmp(left));
    replay.later.sort_by_key(|open| std::cmp::Reverse(open.from));
    replay.run();
    replay.found
}

/// Whether a read may show a state that is older than what others were told of before. What is not there needs a proof.
fn may_be_older(request: &Request, answer: &Answer) -> bool {
    let Request::Read(read) = request else { return false };
    let is_negative = match (&answer.said, &read.question) {
        // A page of no rows says nothing of what is there.
        (Said::Tags { .. }, Question::Tags { rows: Some(0), .. }) => false,
        (Said::Tags { tags, .. }, _) => tags.is_empty(),
        (Said::Referrers(digests), _) => digests.is_empty(),
        _ => answer.status != 200,
    };
    let needs_no_proof = match (read.demand, &read.question) {
        (Demand::Strict, _) => false,
        (Demand::Local, _) | (Demand::Usual, Question::GetBlob(_)) => true,
        (Demand::Usual, _) => answer.is_stale,
    };
    needs_no_proof && !is_negative
}

/// Whether an answer says what is expected. An error without a body (HEAD) says its status alone.
fn agree(expected: &Expected, answer: &Answer) -> bool {
    let is_bare = answer.status >= 400 && answer.said == Said::Nothing;
    expected.status == answer.status && (is_bare || expected.said == answer.said)
}

impl Replay<'_> {
    fn find(&mut self, index: usize, why: impl Display) {
        if self.found.findings.len() < FINDINGS_MAX {
            let before: String = self.told.iter().map(|line| format!("\n      {line}")).collect();
            let (floor, ceiling) = (self.bounds.floor[index], self.bounds.ceiling[index]);
            let bounds = format!("it happened from revision {floor} to {ceiling}");
            self.found
                .findings
                .push(format!("{}\n    {why}\n    {bounds}; writes before:{before}", self.events[index]));
        }
    }

    /// Puts an event where it will be looked at.
    fn sort_in(&mut self, index: usize) {
        let event = &self.events[index];
        let Some(answer) = event.answer() else { return };
        let (floor, ceiling) = (self.bounds.floor[index], self.bounds.ceiling[index]);
        if is_done(event) {
            return match answer.revision {
                None => self.find(index, "a write that was done names no revision"),
                Some(revision) if revision > ceiling => self.find(index, "what began after it ended came before it"),
                Some(revision) if revision > floor => {
                    self.writes.entry(revision).or_default().push(index);
                    if let Request::MountBlob { from: None, .. } = event.request {
                        // Its door saw the blob somewhere, before the mount was judged.
                        self.await_state(index, Test::LinkedSomewhere, floor, revision - 1);
                    }
                }
                Some(revision) => self.sort_in_idle(index, revision),
            };
        }
        let least = match &event.request {
            Request::Read(read) => read.min_revision.unwrap_or(0),
            _ => 0,
        };
        let floor = if may_be_older(&event.request, answer) { self.bounds.node_floor[index] } else { floor }.max(least);
        match answer.revision {
            Some(revision) if revision < floor => {
                self.find(index, format_args!("it shows an old state: revision {floor} was known before it began"));
            }
            Some(revision) if revision > ceiling => self.find(index, "it shows what began after it ended"),
            Some(revision) => self.exact.push((revision, index)),
            None if event.request.is_read() => self.find(index, "a read names no revision"),
            None => self.await_state(index, Test::Answer, floor, ceiling),
        }
    }

    /// A write that names a revision which was known before it began: it found everything done.
    fn sort_in_idle(&mut self, index: usize, revision: u64) {
        let (floor, ceiling) = (self.bounds.floor[index], self.bounds.ceiling[index]);
        match &self.events[index].request {
            Request::PutManifest(_) => {
                self.found.unchanged += 1;
                self.await_state(index, Test::Unchanged(revision), floor, ceiling);
            }
            // An upload whose owner was silent is answered by a proved read.
            Request::PushBlob { .. } if revision == floor => self.exact.push((revision, index)),
            _ => self.find(index, format_args!("revision {floor} was known before this write began")),
        }
    }

    fn await_state(&mut self, event: usize, test: Test, from: u64, to: u64) {
        self.later.push(Open { event, test, from, to, seen: "no state was looked at".to_owned() });
    }

    fn run(&mut self) {
        let writes = std::mem::take(&mut self.writes);
        let mut first = 0;
        for (revision, claimants) in writes {
            self.look(first, revision - 1);
            if self.found.findings.len() >= FINDINGS_MAX {
                return;
            }
            self.write(revision, &claimants);
            first = revision;
        }
        self.look(first, u64::MAX);
    }

    /// Looks at the state that stands from revision `first` to `last`.
    fn look(&mut self, first: u64, last: u64) {
        while let Some((revision, index)) = self.exact.pop_if(|(revision, _)| *revision <= last) {
            self.compare(revision, index);
        }
        while let Some(open) = self.later.pop_if(|open| open.from <= last) {
            self.open.push(open);
        }
        let mut still = Vec::new();
        for mut open in std::mem::take(&mut self.open) {
            let is_possible = open.to >= first && open.from <= open.to;
            match self.holds(&open) {
                Ok(()) if is_possible => self.found.between += 1,
                held => {
                    if is_possible {
                        open.seen = held.err().unwrap_or_default();
                    }
                    if open.to <= last {
                        self.find(
                            open.event,
                            format_args!("no state in between explains it; the last one: {}", open.seen),
                        );
                    } else {
                        still.push(open);
                    }
                }
            }
        }
        self.open = still;
    }

    /// Whether the state now is one that an event may have seen; in words, what it gives instead.
    fn holds(&self, open: &Open) -> Result<(), String> {
        let event = &self.events[open.event];
        let expected = match (&event.request, event.answer()) {
            // What the door saw of `If-Match: *` is over when the manifest is judged.
            (Request::PutManifest(put), Some(Answer { status: 400, .. })) if put.condition == Condition::Present => {
                let put = Put { condition: Condition::Always, ..put.clone() };
                self.model.answer(&Request::PutManifest(put))
            }
            (request, _) => self.model.answer(request),
        };
        let holds = match (&open.test, &event.request) {
            (Test::Answer, _) => event.answer().is_some_and(|answer| agree(&expected, answer)),
            (Test::Unchanged(revision), _) => expected.unchanged_since == Some(*revision),
            (Test::LinkedSomewhere, Request::MountBlob { digest, .. }) => self.model.is_linked_somewhere(digest),
            (Test::LinkedSomewhere, _) => false,
        };
        if holds { Ok(()) } else { Err(format!("it gives {expected}")) }
    }

    fn compare(&mut self, revision: u64, index: usize) {
        let event = &self.events[index];
        let expected = match &event.request {
            Request::PushBlob { repository, digest } => {
                let is_there = self.model.has_blob(repository, digest);
                Expected { status: if is_there { 201 } else { 404 }, said: Said::Nothing, unchanged_since: None }
            }
            request => self.model.answer(request),
        };
        if event.answer().is_some_and(|answer| agree(&expected, answer)) {
            self.found.exact += 1;
        } else {
            self.find(index, format_args!("the state at revision {revision} gives {expected}"));
        }
    }

    /// Does what claims to have happened at `revision`. Of several that do, one changed something, and the others found
    /// everything as they wanted it afterwards.
    fn write(&mut self, revision: u64, claimants: &[usize]) {
        // A put that must change something goes first: nothing else can be true of it.
        let must_change = |index: &usize| match &self.events[*index].request {
            Request::PutManifest(Put { condition, digest, .. }) => match condition {
                Condition::Always | Condition::Present => false,
                Condition::Absent => true,
                Condition::Matches(digests) => !digests.contains(digest),
            },
            _ => true,
        };
        let mut claimants = claimants.to_vec();
        claimants.sort_by_key(|index| !must_change(index));
        let mut why = String::new();
        for chosen in &claimants {
            let mut model = self.model.clone();
            match model.apply(&self.events[*chosen].request, revision) {
                Err(refused) if why.is_empty() => why = refused,
                Err(_) => {}
                Ok(()) => {
                    let is_idle = |other: &usize| other == chosen || is_idle(&model, &self.events[*other].request);
                    if claimants.iter().all(is_idle) {
                        self.model = model;
                        self.done(revision, *chosen, &claimants);
                        return;
                    }
                    why = format!("{} writes claim this revision, and they do not fit together", claimants.len());
                }
            }
        }
        self.find(claimants[0], why);
    }

    fn done(&mut self, revision: u64, chosen: usize, claimants: &[usize]) {
        self.found.writes += 1;
        if self.told.len() == WRITES_TOLD {
            self.told.pop_front();
        }
        self.told.push_back(format!("{revision}: {}", self.events[chosen].request));
        for index in claimants.iter().filter(|index| **index != chosen) {
            self.found.unchanged += 1;
            if let Request::PutManifest(_) = self.events[*index].request {
                let (from, to) = (revision.max(self.bounds.floor[*index]), self.bounds.ceiling[*index]);
                let seen = "no state was looked at".to_owned();
                self.open.push(Open { event: *index, test: Test::Unchanged(revision), from, to, seen });
            }
        }
    }
}

/// Whether a write found everything as it wanted it, going by the state afterwards.
fn is_idle(model: &Model, request: &Request) -> bool {
    match request {
        Request::PutManifest(put) => model.names(put),
        Request::PushBlob { repository, digest } => model.has_blob(repository, digest),
        _ => false,
    }
}
