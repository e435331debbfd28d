//! What the crowd was told: every request with the ticks around it, and a count of the answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::{Method, StatusCode};
use tests::client::{Ask, Client, Failure};
use tests::content::sha256;
use tests::history::{Answer, Event, Name, Outcome, Question, Read, Request, Said};

use crate::stock::Stock;

type Answered = tests::client::Answer;

/// What all clients share.
#[derive(Default)]
pub(crate) struct Record {
    clock: AtomicU64,
    walks: AtomicU64,
    events: Mutex<Vec<Event>>,
    told: Mutex<BTreeMap<&'static str, BTreeMap<String, usize>>>,
    wrong: Mutex<Vec<String>>,
    /// Why requests were refused for now, and how often.
    refusals: Mutex<BTreeMap<String, usize>>,
    /// Upload sessions that were opened and neither closed nor cancelled.
    sessions: Mutex<BTreeSet<String>>,
    /// Sessions that were closed through a region that does not own them.
    passed_on: Mutex<BTreeSet<String>>,
    stale: AtomicU64,
}

/// The UUID of a session, and the node that owns it.
fn session(location: &str) -> (&str, &str) {
    let id = location.split('?').next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    let mut parts = id.split('.');
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Record {
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// A number for a walk through the pages of a list.
    pub(crate) fn walk(&self) -> u64 {
        self.walks.fetch_add(1, Ordering::Relaxed)
    }

    /// All events so far.
    pub(crate) fn events(&self) -> Vec<Event> {
        lock(&self.events).clone()
    }

    /// Requests so far, with those that are no events.
    pub(crate) fn requests(&self) -> usize {
        lock(&self.told).values().flat_map(BTreeMap::values).sum()
    }

    /// How often a kind of request was answered so.
    pub(crate) fn count(&self, kind: &str, outcome: &str) -> usize {
        lock(&self.told).get(kind).and_then(|told| told.get(outcome)).copied().unwrap_or(0)
    }

    /// How often anything was answered so.
    pub(crate) fn total(&self, outcome: &str) -> usize {
        lock(&self.told).values().filter_map(|told| told.get(outcome)).sum()
    }

    /// Answers that said they may be stale.
    pub(crate) fn stale(&self) -> u64 {
        self.stale.load(Ordering::Relaxed)
    }

    /// Answers that no registry in good health gives, in words.
    pub(crate) fn wrong(&self) -> Vec<String> {
        lock(&self.wrong).clone()
    }

    /// What clients were told that were refused for now, a line a reason.
    pub(crate) fn refusals(&self) -> String {
        lock(&self.refusals).iter().map(|(why, count)| format!("  {count} times {why}\n")).collect()
    }

    /// Sessions that clients left open.
    pub(crate) fn sessions(&self) -> BTreeSet<String> {
        lock(&self.sessions).clone()
    }

    /// Sessions that were closed through a region that does not own them.
    pub(crate) fn passed_on(&self) -> BTreeSet<String> {
        lock(&self.passed_on).clone()
    }

    /// How often each kind of request was answered how, a line a kind.
    pub(crate) fn table(&self) -> String {
        let line = |(kind, told): (&&str, &BTreeMap<String, usize>)| {
            let counts: Vec<String> = told.iter().map(|(outcome, count)| format!("{outcome}: {count}")).collect();
            format!("  {kind:<20} {}\n", counts.join("  "))
        };
        lock(&self.told).iter().map(line).collect()
    }

    /// Remembers something that no registry in good health does.
    pub(crate) fn complain(&self, what: String) {
        lock(&self.wrong).push(what);
    }

    /// Sends a step that changes no metadata.
    pub(crate) async fn step(&self, http: &Client, kind: &'static str, ask: Ask) -> Option<Answered> {
        let words = format!("{} {}", ask.method, ask.path);
        let is_head = ask.method == Method::HEAD;
        let answered = http.send(ask).await;
        let outcome = match &answered {
            Ok(answer) => answer.status.as_u16().to_string(),
            Err(Failure::NotSent(_)) => "not sent".to_owned(),
            Err(Failure::Unknown(_)) => "no answer".to_owned(),
        };
        *lock(&self.told).entry(kind).or_default().entry(outcome).or_default() += 1;
        match answered {
            Ok(answer) => {
                if let Err(why) = check_form(&answer, is_head) {
                    self.complain(format!("{words}: {} {}: {why}", answer.status, answer.text()));
                }
                if [503, 429, 504].contains(&answer.status.as_u16()) {
                    let why = format!("{kind}: {} {}", answer.status.as_u16(), message(&answer));
                    *lock(&self.refusals).entry(why).or_default() += 1;
                }
                self.follow_session(kind, &answer);
                Some(answer)
            }
            Err(failure) => {
                self.complain(format!("{words}: {failure:?}"));
                None
            }
        }
    }

    fn follow_session(&self, kind: &'static str, answer: &Answered) {
        let session = answer.header("docker-upload-uuid");
        match answer.status {
            StatusCode::ACCEPTED if kind != "patch" && !session.is_empty() => {
                lock(&self.sessions).insert(session.to_owned());
            }
            _ => {}
        }
    }

    /// A session that its client cancelled.
    pub(crate) fn cancelled(&self, location: &str) {
        lock(&self.sessions).remove(session(location).0);
    }

    /// A session that its client closed with success. A region that does not own it says so of a blob that is linked
    /// already, also when the owner is silent: then the owner keeps the session until it expires.
    pub(crate) fn closed(&self, location: &str, answer: &Answered) {
        let (uuid, owner) = session(location);
        lock(&self.sessions).remove(uuid);
        if answer.header("longshore-node") != owner {
            lock(&self.passed_on).insert(uuid.to_owned());
        }
    }

    /// Sends a request that the history is made of, and remembers it.
    pub(crate) async fn ask(
        &self,
        (client, http): (usize, &Client),
        stock: &Stock,
        request: Request,
        ask: Ask,
    ) -> Option<Answered> {
        let method = ask.method.clone();
        let start = self.tick();
        let answered = self.step(http, request.kind(), ask).await;
        let end = self.tick();
        let node = answered.as_ref().and_then(|answer| answer.header("longshore-node").parse().ok()).unwrap_or(0);
        let outcome = match &answered {
            None => Outcome::Unknown,
            Some(answer) if [503, 429].contains(&answer.status.as_u16()) => Outcome::Refused,
            Some(answer) if answer.status.as_u16() == 504 => Outcome::Unknown,
            Some(answer) => {
                let said = said(&request, &method, answer).unwrap_or_else(|why| {
                    self.complain(format!("{request}: {} {}: {why}", answer.status, answer.text()));
                    Said::Nothing
                });
                if let Err(why) = check_content(&request, &method, stock, answer) {
                    self.complain(format!("{request}: {} {:?}: {why}", answer.status, answer.headers));
                }
                self.stale.fetch_add(u64::from(answer.is_marked_stale()), Ordering::Relaxed);
                let revision = answer.header("longshore-revision").parse().ok();
                Outcome::Answered(Answer {
                    status: answer.status.as_u16(),
                    revision,
                    is_stale: answer.is_marked_stale(),
                    said,
                })
            }
        };
        lock(&self.events).push(Event { client, start, end, node, request, outcome });
        answered
    }
}

/// What an error says for people.
fn message(answer: &Answered) -> String {
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    body["errors"][0]["message"].as_str().unwrap_or("without words").to_owned()
}

/// What every answer must look like, and which of the server's errors are documented.
fn check_form(answer: &Answered, is_head: bool) -> Result<(), String> {
    let (status, code) = (answer.status.as_u16(), answer.code());
    if status >= 400 && code.is_empty() && !is_head {
        return Err("an error without a code".to_owned());
    }
    let is_called = |name: &str| is_head || code == name;
    let comes_back = !answer.header("retry-after").is_empty();
    match status {
        503 if comes_back && is_called("UNAVAILABLE") => Ok(()),
        429 if comes_back && is_called("TOOMANYREQUESTS") => Ok(()),
        504 if answer.header("longshore-outcome") == "unknown" => Ok(()),
        429 | 500.. => Err("not as documented".to_owned()),
        _ => Ok(()),
    }
}

fn names(value: &serde_json::Value, field: Option<&str>) -> Result<Vec<Name>, String> {
    let array = value.as_array().ok_or_else(|| format!("{value} is no list"))?;
    let text = |entry: &serde_json::Value| field.map_or(entry, |field| &entry[field]).as_str().map(Name::from);
    array.iter().map(|entry| text(entry).ok_or_else(|| format!("{entry} is no name"))).collect()
}

/// What an answer says that a model can foresee.
fn said(request: &Request, method: &Method, answer: &Answered) -> Result<Said, String> {
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let code = || Said::Code(answer.code().into());
    Ok(match (request, answer.status.as_u16()) {
        (_, 400..) if method == Method::HEAD => Said::Nothing,
        (Request::PutManifest(_), 412) => {
            let current = &body["errors"][0]["detail"]["current"];
            Said::Current(current.as_str().map(Name::from))
        }
        (Request::PutManifest(_), 400) if answer.code() == "MANIFEST_BLOB_UNKNOWN" => {
            let errors = body["errors"].as_array().ok_or("no errors")?;
            let missing = errors.iter().map(|error| error["detail"]["digest"].as_str().map(Name::from));
            let mut missing: Vec<Name> = missing.collect::<Option<_>>().ok_or("an error names no digest")?;
            missing.sort();
            Said::Missing(missing)
        }
        (_, 400..) => code(),
        (Request::Read(Read { question, .. }), 200) => match question {
            Question::Tag(_) | Question::Manifest(_) => Said::Digest(answer.header("docker-content-digest").into()),
            Question::HeadBlob(_) | Question::GetBlob(_) => Said::Nothing,
            Question::Tags { .. } => {
                Said::Tags { tags: names(&body["tags"], None)?, more: !answer.header("link").is_empty() }
            }
            Question::Referrers { .. } => Said::Referrers(names(&body["manifests"], Some("digest"))?),
        },
        _ => Said::Nothing,
    })
}

/// Whether an answer of success has the bytes and headers it must have.
fn check_content(request: &Request, method: &Method, stock: &Stock, answer: &Answered) -> Result<(), String> {
    if answer.status.as_u16() >= 300 {
        return Ok(());
    }
    let digest = answer.header("docker-content-digest");
    let same = |what: &str, given: &str, expected: &str| {
        if given == expected { Ok(()) } else { Err(format!("{what} is {given}, not {expected}")) }
    };
    match request {
        Request::PutManifest(put) => {
            same("the digest", digest, &put.digest)?;
            let stored = stock.manifest(&put.digest).ok_or("nobody knows this manifest")?;
            same("the subject", answer.header("oci-subject"), stored.subject.as_deref().unwrap_or_default())
        }
        Request::PushBlob { digest: expected, .. } => same("the digest", digest, expected),
        Request::Read(Read { question: Question::Tag(_) | Question::Manifest(_), .. }) => {
            let stored = stock.manifest(digest).ok_or("nobody knows this manifest")?;
            same("the type", answer.header("content-type"), stored.manifest.media_type)?;
            same("the length", answer.header("content-length"), &stored.manifest.body.len().to_string())?;
            if method == Method::HEAD || answer.body == stored.manifest.body {
                Ok(())
            } else {
                Err("other bytes".to_owned())
            }
        }
        Request::Read(Read { question: Question::GetBlob(expected), .. }) => {
            same("the hash of the bytes", &sha256(&answer.body), expected)
        }
        Request::Read(Read { question: Question::HeadBlob(expected), .. }) => same("the digest", digest, expected),
        _ => Ok(()),
    }
}
