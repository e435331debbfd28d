//! Manifests: put and deleted with their tags, in one entry.

use std::collections::{BTreeMap, BTreeSet};

use domain::limits::{MANIFEST_BYTES_MAX, MANIFEST_CHILDREN_MAX, TAGS_PER_PUT_MAX};
use domain::{Digest, Durability, RegionId, RepositoryName, Revision, Tag};

use super::tags::refuse_immutable;
use super::{Entry, Judged, Stop, invalid};
use crate::command::PutManifest;
use crate::outcome::{Outcome, Refusal};
use crate::rows::{Holder, Manifest, Policy, RegionState, TagRow};
use crate::state::Error;
use crate::state::content::{ChildKind, ManifestRow, ReferrerRow};
use crate::state::places::RegionRow;
use crate::state::read::{Read, bad, parts};
use crate::state::space;

/// A child as the state knows it.
struct Child {
    digest: Digest,
    kind: ChildKind,
    /// Open stores with its bytes, where it is a blob that must be durable.
    holders: Option<Vec<Holder>>,
}

/// Where the tags of a put stand now.
type Tags = BTreeMap<Tag, Option<TagRow>>;

impl Entry<'_> {
    pub(super) fn put_manifest(&mut self, put: &PutManifest) -> Judged {
        within_limits(put)?;
        let (prefix, policy) = self.state.policy_of(put.repository.as_str())?;
        let children = self.resolve(put, &policy)?;
        let mut tags = Tags::new();
        for tag in &put.tags {
            tags.insert(tag.clone(), self.state.tag(&put.repository, tag)?);
        }
        let existing = self.state.manifest(&put.repository, &put.digest)?;
        check_precondition(put, &tags, existing.is_some())?;
        for (tag, row) in &tags {
            if row.as_ref().is_some_and(|row| row.digest != put.digest) {
                refuse_immutable(tag, &prefix, &policy)?;
            }
        }
        self.check_durability(&children, policy.durability)?;
        // Everything is judged; from here on it is done.
        let mut revision = self.store_manifest(put, existing, &children)?;
        for (tag, before) in &tags {
            let moved = match before {
                Some(row) if row.digest == put.digest => row.revision,
                _ => {
                    self.move_tag(&put.repository, tag, before.as_ref(), Some(&put.digest))?;
                    self.index
                }
            };
            revision = revision.max(moved);
        }
        Ok(Outcome::ManifestPut { revision })
    }

    /// What each child is in this repository; refuses what is nothing here, unless the policy or the child allows it.
    fn resolve(&self, put: &PutManifest, policy: &Policy) -> Result<Vec<Child>, Stop> {
        // A digest named twice counts once; it needs bytes if any of its mentions does.
        let mut named: BTreeMap<Digest, (bool, bool)> = BTreeMap::new();
        for child in &put.children {
            let (exempt, may_be_manifest) = named.entry(child.digest).or_insert((true, false));
            *exempt &= child.exempt;
            *may_be_manifest |= child.may_be_manifest;
        }
        let (mut children, mut unknown) = (Vec::new(), Vec::new());
        for (digest, (exempt, may_be_manifest)) in named {
            let manifest = may_be_manifest && self.state.has(&space::manifest(&put.repository, &digest))?;
            let linked = self.state.link(&put.repository, &digest)?.is_some_and(|link| link.present);
            let holders = if linked { self.state.holders(&digest)? } else { Vec::new() };
            if !holders.is_empty() {
                let kind = ChildKind { manifest, blob: true, missing: false };
                children.push(Child { digest, kind, holders: Some(holders) });
            } else if manifest {
                let kind = ChildKind { manifest, blob: linked, missing: false };
                children.push(Child { digest, kind, holders: None });
            } else if exempt || policy.sparse {
                // Counted as a blob, so that bytes which come later are kept.
                let kind = ChildKind { manifest: false, blob: true, missing: true };
                children.push(Child { digest, kind, holders: None });
            } else {
                unknown.push(digest);
            }
        }
        if unknown.is_empty() { Ok(children) } else { Err(Refusal::Unknown { digests: unknown }.into()) }
    }

    /// Design §6: counted are ready regions with an open store that holds the blob, cordoned ones included. One that shall
    /// leave counts no more: what is acknowledged now must be as durable without it.
    fn check_durability(&self, children: &[Child], durability: Durability) -> Result<(), Stop> {
        let regions = self.state.regions()?;
        let leaving = self.state.departing()?.map(|(region, _)| region);
        let counts = |(id, row): &&(RegionId, RegionRow)| row.state == RegionState::Ready && Some(*id) != leaving;
        let ready: BTreeSet<RegionId> = regions.iter().filter(counts).map(|(id, _)| *id).collect();
        let ready_count = u32::try_from(ready.len()).expect("regions are counted by u32 ids");
        let need = durability.copies_needed(ready_count);
        let accepting = self.accepting();
        // `local` asks for the accepting region alone; one that is not ready cannot answer for it.
        let only = (durability == Durability::Local && ready.contains(&accepting)).then_some(accepting);
        let (mut waiting, mut least) = (Vec::new(), need);
        for Child { digest, kind: _, holders } in children {
            let Some(holders) = holders else { continue };
            let counted = |region: &RegionId| ready.contains(region) && only.is_none_or(|only| *region == only);
            let held: BTreeSet<RegionId> = holders.iter().map(|holder| holder.region).filter(counted).collect();
            let have = u32::try_from(held.len()).expect("regions are counted by u32 ids");
            if have < need {
                waiting.push(*digest);
                least = least.min(have);
            }
        }
        if waiting.is_empty() {
            return Ok(());
        }
        Err(Refusal::NotYetDurable { digests: waiting, have: least, need }.into())
    }

    /// Writes the manifest, its children and its place among referrers; gives its revision.
    fn store_manifest(
        &mut self,
        put: &PutManifest,
        existing: Option<ManifestRow>,
        children: &[Child],
    ) -> Result<Revision, Error> {
        let repository = &put.repository;
        let known: BTreeMap<Digest, ChildKind> = existing.iter().flat_map(|row| row.children.iter().copied()).collect();
        let mut kinds = Vec::with_capacity(children.len());
        for Child { digest, kind, holders: _ } in children {
            let before = known.get(digest).copied().unwrap_or_default();
            // What it once was keeps its reference, or the count would not match the rows.
            let merged = ChildKind {
                manifest: before.manifest || kind.manifest,
                blob: before.blob || kind.blob,
                missing: kind.missing,
            };
            if known.get(digest) != Some(&merged) {
                self.state.put(space::child(repository, digest, &put.digest), &merged)?;
            }
            if merged.blob && !before.blob {
                self.reference(repository, digest)?;
            }
            kinds.push((*digest, merged));
        }
        let is_new = existing.is_none();
        let manifest = match existing {
            // Bytes that do not say their type themselves are what the newest push calls them; the digest is the same.
            Some(row) if row.manifest.media_type == put.media_type => {
                let revision = row.manifest.revision;
                if row.children != kinds {
                    let row = ManifestRow { children: kinds, ..row };
                    self.state.put(space::manifest(repository, &put.digest), &row)?;
                }
                return Ok(revision);
            }
            _ => Manifest {
                media_type: put.media_type.clone(),
                body: put.body.clone(),
                subject: put.subject,
                artifact_type: put.artifact_type.clone(),
                revision: self.index,
                pushed_at_ms: self.proposal.wall_ms,
                actor: self.proposal.actor.clone(),
                region: self.proposal.region,
            },
        };
        let row = ManifestRow { manifest, children: kinds };
        self.state.put(space::manifest(repository, &put.digest), &row)?;
        if is_new {
            self.change_repository(repository, |row| row.manifests += 1)?;
        }
        if let Some(subject) = &put.subject {
            let row = ReferrerRow {
                media_type: put.media_type.clone(),
                size: put.body.len() as u64,
                artifact_type: put.artifact_type.clone(),
                annotations: put.annotations.clone(),
            };
            self.state.put(space::referrer(repository, subject, &put.digest), &row)?;
        }
        Ok(self.index)
    }

    pub(super) fn delete_manifest(&mut self, repository: &RepositoryName, digest: &Digest) -> Judged {
        if self.state.repository(repository)?.is_none() {
            return Err(Refusal::UnknownRepository.into());
        }
        let row = self.state.manifest(repository, digest)?.ok_or(Refusal::UnknownManifest)?;
        let (prefix, policy) = self.state.policy_of(repository.as_str())?;
        let tagged = space::tagged_of(repository, digest);
        let mut tags = Vec::new();
        for (key, _) in self.state.under(&tagged, None, usize::MAX)? {
            let tag = parts(&key, tagged.len())?.tag().map_err(bad(&key))?;
            refuse_immutable(&tag, &prefix, &policy)?;
            tags.push(tag);
        }
        for tag in tags {
            let before = self.state.tag(repository, &tag)?;
            self.move_tag(repository, &tag, before.as_ref(), None)?;
        }
        for (child, kind) in &row.children {
            self.state.delete(space::child(repository, child, digest))?;
            if kind.blob {
                self.unreference(repository, child)?;
            }
        }
        if let Some(subject) = &row.manifest.subject {
            self.state.delete(space::referrer(repository, subject, digest))?;
        }
        self.state.delete(space::manifest(repository, digest))?;
        self.change_repository(repository, |row| row.manifests -= 1)?;
        Ok(Outcome::Done)
    }
}

fn within_limits(put: &PutManifest) -> Result<(), Stop> {
    if put.body.len() > MANIFEST_BYTES_MAX {
        return Err(invalid(format!(
            "manifest has {} bytes, at most {MANIFEST_BYTES_MAX} are allowed",
            put.body.len()
        )));
    }
    if put.children.len() > MANIFEST_CHILDREN_MAX {
        let given = put.children.len();
        return Err(invalid(format!("manifest names {given} children, at most {MANIFEST_CHILDREN_MAX} are allowed")));
    }
    if put.tags.len() > TAGS_PER_PUT_MAX {
        return Err(invalid(format!("put names {} tags, at most {TAGS_PER_PUT_MAX} are allowed", put.tags.len())));
    }
    Ok(())
}

/// The condition holds for every named tag, or for the manifest itself when none is named.
fn check_precondition(put: &PutManifest, tags: &Tags, exists: bool) -> Result<(), Stop> {
    let Some(condition) = &put.precondition else { return Ok(()) };
    let itself = exists.then_some(put.digest);
    let currents: Vec<Option<Digest>> = if put.tags.is_empty() {
        vec![itself]
    } else {
        put.tags.iter().map(|tag| tags.get(tag).and_then(Option::as_ref).map(|row| row.digest)).collect()
    };
    match currents.into_iter().find(|current| !condition.holds(current.as_ref())) {
        Some(current) => Err(Refusal::Precondition { current }.into()),
        None => Ok(()),
    }
}
