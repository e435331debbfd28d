//! A registry that does one request at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::event::{Condition, Name, Put, Question, Read, Request, Said};

/// What a manifest is made of.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// Blobs it names: config and layers.
    pub blobs: Vec<Name>,
    /// Manifests it names, where it is an index.
    pub manifests: Vec<Name>,
    /// Its subject.
    pub subject: Option<Name>,
    /// Its artifact type, as a referrers list shows it.
    pub artifact_type: Option<Name>,
}

/// Every manifest that clients may put, by digest.
pub type Contents = BTreeMap<Name, Content>;

/// What a request would be answered in a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// HTTP status.
    pub status: u16,
    /// What the answer says.
    pub said: Said,
    /// Of a put that changes nothing: the revision of the last change of its tags and manifest.
    pub unchanged_since: Option<u64>,
}

impl fmt::Display for Expected {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Expected { status, said, unchanged_since } = self;
        write!(out, "{status}, {said}")?;
        unchanged_since.map_or(Ok(()), |revision| write!(out, ", unchanged since revision {revision}"))
    }
}

fn expect(status: u16, said: Said) -> Expected {
    Expected { status, said, unchanged_since: None }
}

fn error(status: u16, code: &str) -> Expected {
    expect(status, Said::Code(code.into()))
}

#[derive(Clone, Debug, Default)]
struct Repository {
    links: BTreeSet<Name>,
    /// Revision of their last change.
    manifests: BTreeMap<Name, u64>,
    /// What they name, and since when.
    tags: BTreeMap<Name, (Name, u64)>,
}

/// The state of all repositories after some writes.
#[derive(Clone, Debug)]
pub struct Model {
    contents: Arc<Contents>,
    repositories: BTreeMap<Name, Repository>,
    /// Blobs that were ever uploaded: none is collected while a history runs.
    recorded: BTreeSet<Name>,
}

impl Model {
    /// An empty registry.
    pub fn new(contents: Arc<Contents>) -> Model {
        Model { contents, repositories: BTreeMap::new(), recorded: BTreeSet::new() }
    }

    fn content(&self, digest: &Name) -> Content {
        self.contents.get(digest).cloned().unwrap_or_default()
    }

    /// Whether a repository holds a blob.
    pub fn has_blob(&self, repository: &Name, digest: &Name) -> bool {
        self.repositories.get(repository).is_some_and(|repository| repository.links.contains(digest))
    }

    fn is_referenced(&self, repository: &Repository, blob: &Name) -> bool {
        let names = |manifest: &Name| self.contents.get(manifest).is_some_and(|content| content.blobs.contains(blob));
        repository.manifests.keys().any(names)
    }

    /// Whether some repository holds a blob.
    pub fn is_linked_somewhere(&self, digest: &Name) -> bool {
        self.repositories.values().any(|repository| repository.links.contains(digest))
    }

    /// What a request would be answered now.
    pub fn answer(&self, request: &Request) -> Expected {
        match request {
            Request::PushBlob { .. } => expect(201, Said::Nothing),
            Request::MountBlob { repository: _, from, digest } => {
                let is_there = match from {
                    Some(from) => self.has_blob(from, digest),
                    None => self.is_linked_somewhere(digest),
                };
                expect(if is_there { 201 } else { 202 }, Said::Nothing)
            }
            Request::DeleteBlob { repository, digest } => match self.repositories.get(repository) {
                Some(row) if row.links.contains(digest) && self.is_referenced(row, digest) => error(405, "DENIED"),
                Some(row) if row.links.contains(digest) => expect(202, Said::Nothing),
                _ => error(404, "BLOB_UNKNOWN"),
            },
            Request::PutManifest(put) => self.answer_put(put),
            Request::DeleteManifest { repository, digest } => match self.repositories.get(repository) {
                None => error(404, "NAME_UNKNOWN"),
                Some(row) if row.manifests.contains_key(digest) => expect(202, Said::Nothing),
                Some(_) => error(404, "MANIFEST_UNKNOWN"),
            },
            Request::DeleteTag { repository, tag } => match self.repositories.get(repository) {
                None => error(404, "NAME_UNKNOWN"),
                Some(row) if row.tags.contains_key(tag) => expect(202, Said::Nothing),
                Some(_) => error(404, "MANIFEST_UNKNOWN"),
            },
            Request::Read(read) => self.answer_read(read),
        }
    }

    fn answer_put(&self, put: &Put) -> Expected {
        let empty = Repository::default();
        let row = self.repositories.get(&put.repository).unwrap_or(&empty);
        let stored = row.manifests.get(&put.digest);
        let currents: Vec<Option<&Name>> = if put.tags.is_empty() {
            vec![stored.map(|_| &put.digest)]
        } else {
            put.tags.iter().map(|tag| row.tags.get(tag).map(|(digest, _)| digest)).collect()
        };
        // The door itself judges `If-Match: *`, before anybody looks at what the manifest names.
        if put.condition == Condition::Present && currents.contains(&None) {
            return expect(412, Said::Current(None));
        }
        let content = self.content(&put.digest);
        let mut missing: Vec<Name> = content.blobs.iter().filter(|blob| !row.links.contains(*blob)).cloned().collect();
        missing.extend(content.manifests.iter().filter(|child| !row.manifests.contains_key(*child)).cloned());
        if !missing.is_empty() {
            missing.sort();
            missing.dedup();
            return expect(400, Said::Missing(missing));
        }
        let holds = |current: &Option<&Name>| match &put.condition {
            Condition::Always | Condition::Present => true,
            Condition::Absent => current.is_none(),
            Condition::Matches(digests) => current.is_some_and(|current| digests.contains(current)),
        };
        if let Some(current) = currents.iter().find(|current| !holds(current)) {
            return expect(412, Said::Current(current.cloned()));
        }
        let revisions = put.tags.iter().map(|tag| match row.tags.get(tag) {
            Some((digest, revision)) if *digest == put.digest => Some(*revision),
            _ => None,
        });
        let since = stored.copied().into_iter().map(Some).chain(revisions).collect::<Option<Vec<u64>>>();
        let unchanged_since = if stored.is_some() { since.and_then(|since| since.into_iter().max()) } else { None };
        Expected { status: 201, said: Said::Nothing, unchanged_since }
    }

    fn answer_read(&self, read: &Read) -> Expected {
        let row = self.repositories.get(&read.repository);
        let unknown = || error(404, if row.is_some() { "MANIFEST_UNKNOWN" } else { "NAME_UNKNOWN" });
        match &read.question {
            Question::Tag(tag) => match row.and_then(|row| row.tags.get(tag)) {
                Some((digest, _)) => expect(200, Said::Digest(digest.clone())),
                None => unknown(),
            },
            Question::Manifest(digest) => match row.and_then(|row| row.manifests.get(digest)) {
                Some(_) => expect(200, Said::Digest(digest.clone())),
                None => unknown(),
            },
            Question::HeadBlob(digest) | Question::GetBlob(digest) => {
                if self.has_blob(&read.repository, digest) {
                    expect(200, Said::Nothing)
                } else {
                    error(404, "BLOB_UNKNOWN")
                }
            }
            Question::Tags { rows, last, walk: _ } => {
                let Some(row) = row else { return error(404, "NAME_UNKNOWN") };
                let rest = row.tags.keys().filter(|tag| last.as_ref().is_none_or(|last| *tag > last));
                let mut tags: Vec<Name> = rest.cloned().collect();
                let rows = rows.unwrap_or(usize::MAX);
                let more = rows > 0 && tags.len() > rows;
                tags.truncate(rows);
                expect(200, Said::Tags { tags, more })
            }
            Question::Referrers { subject, artifact_type } => {
                let refers = |manifest: &&Name| {
                    self.contents.get(*manifest).is_some_and(|content| {
                        content.subject.as_ref() == Some(subject)
                            && (artifact_type.is_none() || content.artifact_type == *artifact_type)
                    })
                };
                let listed = row.into_iter().flat_map(|row| row.manifests.keys()).filter(refers);
                expect(200, Said::Referrers(listed.cloned().collect()))
            }
        }
    }

    /// Does a write that claims to have happened at `revision`; in words, why it could not have been done here.
    pub fn apply(&mut self, request: &Request, revision: u64) -> Result<(), String> {
        let expected = self.answer(request);
        let is_done = match request {
            Request::Read(_) => return Err("a read is no write".to_owned()),
            // The door looks whether somebody holds the blob; whoever held it may have deleted it since.
            Request::MountBlob { from: None, digest, .. } => self.recorded.contains(digest),
            Request::MountBlob { .. } => expected.status == 201,
            _ => expected.status < 300 && expected.unchanged_since.is_none(),
        };
        if !is_done {
            return Err(format!("the state before it gives {expected}"));
        }
        match request {
            Request::PushBlob { repository, digest } | Request::MountBlob { repository, digest, .. } => {
                self.recorded.insert(digest.clone());
                self.repositories.entry(repository.clone()).or_default().links.insert(digest.clone());
            }
            Request::DeleteBlob { repository, digest } => {
                self.repositories.entry(repository.clone()).or_default().links.remove(digest);
            }
            Request::PutManifest(put) => {
                let row = self.repositories.entry(put.repository.clone()).or_default();
                row.manifests.entry(put.digest.clone()).or_insert(revision);
                for tag in &put.tags {
                    if row.tags.get(tag).is_none_or(|(digest, _)| *digest != put.digest) {
                        row.tags.insert(tag.clone(), (put.digest.clone(), revision));
                    }
                }
            }
            Request::DeleteManifest { repository, digest } => {
                let row = self.repositories.entry(repository.clone()).or_default();
                row.manifests.remove(digest);
                row.tags.retain(|_, (named, _)| named != digest);
            }
            Request::DeleteTag { repository, tag } => {
                self.repositories.entry(repository.clone()).or_default().tags.remove(tag);
            }
            Request::Read(_) => {}
        }
        Ok(())
    }

    /// Whether a put would leave these tags naming its manifest already: what a put that changed nothing saw.
    pub fn names(&self, put: &Put) -> bool {
        let Some(row) = self.repositories.get(&put.repository) else { return false };
        let names = |tag: &Name| row.tags.get(tag).is_some_and(|(digest, _)| *digest == put.digest);
        row.manifests.contains_key(&put.digest) && put.tags.iter().all(names)
    }
}
