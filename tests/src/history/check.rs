//! Whether some order explains a history.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::bounds::{Bounds, is_done};
use super::event::{Event, Outcome, Question, Request, Said};
use super::model::Contents;
use super::replay::{Found, replay};

/// Orders that are tried where it is unknown whether, and when, a write happened.
const TRIES_MAX: usize = 2_000;

/// What a history that is explained was made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Writes that have a place of their own in the order.
    pub writes: usize,
    /// Puts that changed nothing.
    pub unchanged: usize,
    /// Reads that show exactly the state at the revision they name.
    pub exact: usize,
    /// Refusals and other answers that name no revision, and hold in a state of their time.
    pub between: usize,
    /// Writes of unknown outcome that happened.
    pub happened: usize,
    /// Walks through all pages of a list.
    pub walks: usize,
}

/// Finds an order that explains every answer; in words, what contradicts it.
///
/// Begins with an empty registry. Writes of unknown outcome may have happened at any time after they began, or never.
pub fn check(contents: &Arc<Contents>, events: &[Event]) -> Result<Summary, Vec<String>> {
    let walks = walks(events)?;
    let bounds = Bounds::of(events);
    let mut extra = BTreeMap::new();
    let mut found = replay(contents, events, &bounds, &extra);
    if !found.findings.is_empty() {
        let mut search = Search { contents, events, bounds: &bounds, tries: 0 };
        if let Some((better, happened)) = search.explain(&unknown(events), &BTreeMap::new()) {
            (found, extra) = (better, happened);
        }
    }
    if !found.findings.is_empty() {
        return Err(found.findings);
    }
    let Found { findings: _, writes, unchanged, exact, between } = found;
    Ok(Summary { writes, unchanged, exact, between, happened: extra.len(), walks })
}

/// Writes that may have happened.
fn unknown(events: &[Event]) -> Vec<usize> {
    let is_unknown = |event: &Event| matches!(event.outcome, Outcome::Unknown) && !event.request.is_read();
    (0..events.len()).filter(|index| is_unknown(&events[*index])).collect()
}

struct Search<'a> {
    contents: &'a Arc<Contents>,
    events: &'a [Event],
    bounds: &'a Bounds,
    tries: usize,
}

impl Search<'_> {
    /// Lets some of the `open` writes happen, each at a revision that no other write claims, until nothing is left to be
    /// explained. What happened is tried right after each claimed revision: between two of them it makes no difference.
    fn explain(&mut self, open: &[usize], happened: &BTreeMap<u64, usize>) -> Option<(Found, BTreeMap<u64, usize>)> {
        let (first, rest) = open.split_first()?;
        let floor = self.bounds.floor[*first];
        let claimed: BTreeSet<u64> =
            self.events.iter().filter(|event| is_done(event)).filter_map(Event::revision).collect();
        let after: BTreeSet<u64> = claimed.range(floor..).map(|at| at + 1).chain([floor + 1]).collect();
        for place in after.difference(&claimed).copied().filter(|place| !happened.contains_key(place)) {
            if self.tries == TRIES_MAX {
                return None;
            }
            self.tries += 1;
            let mut happened = happened.clone();
            happened.insert(place, *first);
            let found = replay(self.contents, self.events, self.bounds, &happened);
            if found.findings.is_empty() {
                return Some((found, happened));
            }
            if let Some(explained) = self.explain(rest, &happened) {
                return Some(explained);
            }
        }
        self.explain(rest, happened)
    }
}

/// Checks that each walk through a list goes on where its page before ended, in a state that is as new, and ends where
/// no page follows. What the pages themselves show is held against their states; together that means: what was there
/// throughout is listed once, and what never was, never.
fn walks(events: &[Event]) -> Result<usize, Vec<String>> {
    let mut walks: BTreeMap<u64, Vec<&Event>> = BTreeMap::new();
    for event in events {
        if let Request::Read(read) = &event.request
            && let Question::Tags { walk, .. } = &read.question
            && event.answer().is_some_and(|answer| answer.status == 200)
        {
            walks.entry(*walk).or_default().push(event);
        }
    }
    let mut findings = Vec::new();
    for pages in walks.values_mut() {
        pages.sort_by_key(|page| page.start);
        for pair in pages.windows(2) {
            if let Err(why) = follows(pair[0], pair[1]) {
                findings.push(format!("{}\n    follows {}\n    {why}", pair[1], pair[0]));
            }
        }
    }
    if findings.is_empty() { Ok(walks.len()) } else { Err(findings) }
}

fn follows(page: &Event, next: &Event) -> Result<(), &'static str> {
    if next.revision() < page.revision() {
        return Err("the page shows an older state than the one before");
    }
    let Some(Said::Tags { tags, more: true }) = page.answer().map(|answer| &answer.said) else {
        return Err("a page follows the last one");
    };
    let Request::Read(read) = &next.request else { return Err("no page follows") };
    match &read.question {
        Question::Tags { last, .. } if last.as_ref() == tags.last() => Ok(()),
        _ => Err("the page does not go on where the one before ended"),
    }
}
