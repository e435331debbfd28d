//! What must hold of every state, recounted from its rows.

use std::collections::{BTreeMap, BTreeSet};

use domain::{CopyId, Digest, RegionId, RepositoryName, Revision, StoreId, Tag};
use kv::ledger::{Entry, Snapshot};

use crate::rows::{Blob, Departure, Link, RegionState, TagRow};
use crate::state::TABLE;
use crate::state::content::{ChildKind, HeldRow, HolderRow, ManifestRow, MoveRow, WantedRow};
use crate::state::places::Tally;
use crate::state::read::{Read, decode, parts};
use crate::state::space::{Parts, Space, single};
use crate::view::{Freshness, View};

type InRepository<T> = BTreeMap<(RepositoryName, T), u64>;

struct Rows<'a>(&'a Snapshot);

impl Rows<'_> {
    fn of(&self, space: Space) -> Vec<Entry> {
        self.0.scan_prefix(TABLE, &single(space)).unwrap().collect::<Result<_, _>>().unwrap()
    }

    fn map<K: Ord, V>(&self, space: Space, one: impl Fn(&mut Parts<'_>, &[u8], &[u8]) -> (K, V)) -> BTreeMap<K, V> {
        let entries = self.of(space);
        entries.iter().map(|(key, value)| one(&mut parts(key, 1).unwrap(), key, value)).collect()
    }
}

/// Panics with the first rule that does not hold. `came_back`: a lost store was opened again in this run, so a region
/// may hold what it wants until its worker says so.
pub(crate) fn check(snapshot: Snapshot, came_back: bool) {
    let rows = Rows(&snapshot);
    check_links(&rows);
    check_manifests(&rows);
    check_tags(&rows);
    check_copies(&rows);
    check_backlogs(&rows, came_back);
    check_departures(&rows);
    let view = View::new(snapshot, Revision(0), Freshness::Local);
    assert_eq!(view.state_hash().unwrap(), view.recompute_hash().unwrap(), "kept hash and recomputed hash");
}

fn links_of(rows: &Rows<'_>) -> BTreeMap<(RepositoryName, Digest), Link> {
    rows.map(Space::Links, |parts, key, value| {
        ((parts.repository().unwrap(), parts.digest().unwrap()), decode(key, value).unwrap())
    })
}

fn blobs_of(rows: &Rows<'_>) -> BTreeMap<Digest, Blob> {
    rows.map(Space::Blobs, |parts, key, value| (parts.digest().unwrap(), decode(key, value).unwrap()))
}

fn check_links(rows: &Rows<'_>) {
    let (links, blobs) = (links_of(rows), blobs_of(rows));
    let mut references: InRepository<Digest> = BTreeMap::new();
    for (key, value) in rows.of(Space::Children) {
        let mut parts = parts(&key, 1).unwrap();
        let (repository, child) = (parts.repository().unwrap(), parts.digest().unwrap());
        if decode::<ChildKind>(&key, &value).unwrap().blob {
            *references.entry((repository, child)).or_default() += 1;
        }
    }
    let mut present: BTreeMap<Digest, u64> = BTreeMap::new();
    let mut idle = BTreeSet::new();
    for ((repository, digest), link) in &links {
        let counted = references.remove(&(repository.clone(), *digest)).unwrap_or(0);
        assert_eq!(link.references, counted, "references of link {repository} {digest}");
        assert!(link.present || link.references > 0, "link {repository} {digest} says nothing");
        assert_eq!(link.unreferenced_since_ms.is_some(), link.references == 0, "grace of link {repository} {digest}");
        if let Some(since) = link.unreferenced_since_ms {
            idle.insert((since, repository.clone(), *digest));
        }
        if link.present {
            assert!(blobs.contains_key(digest), "link {repository} {digest} without a blob");
            *present.entry(*digest).or_default() += 1;
        }
    }
    assert!(references.is_empty(), "children without links: {references:?}");
    let indexed: BTreeMap<_, ()> = rows.map(Space::IdleLinks, |parts, _, _| {
        ((parts.u64().unwrap(), parts.repository().unwrap(), parts.digest().unwrap()), ())
    });
    assert_eq!(indexed.into_keys().collect::<BTreeSet<_>>(), idle, "index of idle links");

    let mut idle = BTreeSet::new();
    let mut totals = Tally::default();
    for (digest, blob) in &blobs {
        assert_eq!(blob.references, present.get(digest).copied().unwrap_or(0), "references of blob {digest}");
        assert_eq!(blob.unreferenced_since_ms.is_some(), blob.references == 0, "grace of blob {digest}");
        if let Some(since) = blob.unreferenced_since_ms {
            idle.insert((since, *digest));
        }
        totals.add(blob.size);
    }
    let indexed: BTreeMap<_, ()> =
        rows.map(Space::IdleBlobs, |parts, _, _| ((parts.u64().unwrap(), parts.digest().unwrap()), ()));
    assert_eq!(indexed.into_keys().collect::<BTreeSet<_>>(), idle, "index of idle blobs");
    assert_eq!(rows.0.totals().unwrap(), totals, "totals");
}

fn check_manifests(rows: &Rows<'_>) {
    let manifests: BTreeMap<(RepositoryName, Digest), ManifestRow> = rows.map(Space::Manifests, |parts, key, value| {
        ((parts.repository().unwrap(), parts.digest().unwrap()), decode(key, value).unwrap())
    });
    let mut children = BTreeMap::new();
    let mut referrers = BTreeSet::new();
    for ((repository, digest), row) in &manifests {
        for (child, kind) in &row.children {
            children.insert((repository.clone(), *child, *digest), *kind);
        }
        if let Some(subject) = row.manifest.subject {
            referrers.insert((repository.clone(), subject, *digest));
        }
    }
    let stored: BTreeMap<_, ChildKind> = rows.map(Space::Children, |parts, key, value| {
        let key_parts = (parts.repository().unwrap(), parts.digest().unwrap(), parts.digest().unwrap());
        (key_parts, decode(key, value).unwrap())
    });
    assert_eq!(stored, children, "children rows and the manifests' own lists");
    let stored: BTreeMap<_, ()> = rows.map(Space::Referrers, |parts, _, _| {
        ((parts.repository().unwrap(), parts.digest().unwrap(), parts.digest().unwrap()), ())
    });
    assert_eq!(stored.into_keys().collect::<BTreeSet<_>>(), referrers, "referrers");
    let links = links_of(rows);
    for (key, _) in rows.of(Space::Repositories) {
        let name = parts(&key, 1).unwrap().repository().unwrap();
        let row = rows.0.repository(&name).unwrap().unwrap();
        let count = |names: Vec<&RepositoryName>| names.into_iter().filter(|other| **other == name).count() as u64;
        assert_eq!(row.manifests, count(manifests.keys().map(|(name, _)| name).collect()), "manifests of {name}");
        assert_eq!(row.links, count(links.keys().map(|(name, _)| name).collect()), "links of {name}");
    }
}

fn check_tags(rows: &Rows<'_>) {
    let tags: BTreeMap<(RepositoryName, Tag), TagRow> = rows.map(Space::Tags, |parts, key, value| {
        ((parts.repository().unwrap(), parts.tag().unwrap()), decode(key, value).unwrap())
    });
    let tagged: BTreeMap<_, ()> = rows.map(Space::Tagged, |parts, _, _| {
        ((parts.repository().unwrap(), parts.digest().unwrap(), parts.tag().unwrap()), ())
    });
    let expected: BTreeSet<_> = tags.iter().map(|((name, tag), row)| (name.clone(), row.digest, tag.clone())).collect();
    assert_eq!(tagged.into_keys().collect::<BTreeSet<_>>(), expected, "tagged rows and tags");
    let mut counts: BTreeMap<&RepositoryName, u64> = BTreeMap::new();
    for ((name, tag), row) in &tags {
        *counts.entry(name).or_default() += 1;
        assert!(rows.0.manifest(name, &row.digest).unwrap().is_some(), "tag {name}:{tag} resolves to nothing");
        let key = crate::state::space::history(name, tag, row.revision.0);
        let last: MoveRow = rows.0.row(&key).unwrap().expect("the last move of a tag is in its history");
        assert_eq!(last.digest, Some(row.digest), "last move of {name}:{tag}");
    }
    for (key, _) in rows.of(Space::Repositories) {
        let name = parts(&key, 1).unwrap().repository().unwrap();
        let row = rows.0.repository(&name).unwrap().unwrap();
        assert_eq!(row.tags, counts.get(&name).copied().unwrap_or(0), "tags of {name}");
    }
}

fn check_copies(rows: &Rows<'_>) {
    let blobs = blobs_of(rows);
    let holders: BTreeMap<(Digest, StoreId), CopyId> = rows.map(Space::Holders, |parts, key, value| {
        let HolderRow { copy, since_ms: _ } = decode(key, value).unwrap();
        ((parts.digest().unwrap(), parts.store().unwrap()), copy)
    });
    let held: BTreeMap<(Digest, StoreId), CopyId> = rows.map(Space::Held, |parts, key, value| {
        let HeldRow(copy) = decode(key, value).unwrap();
        let store = parts.store().unwrap();
        ((parts.digest().unwrap(), store), copy)
    });
    assert_eq!(holders, held, "holders and their inverse");
    let mut tallies: BTreeMap<StoreId, Tally> = BTreeMap::new();
    for (digest, store) in holders.keys() {
        let blob = blobs.get(digest).unwrap_or_else(|| panic!("holder of {digest}, which does not exist"));
        assert!(rows.0.store(*store).unwrap().is_some(), "holder in store {store}, which does not exist");
        tallies.entry(*store).or_default().add(blob.size);
    }
    for (store, row) in rows.0.stores().unwrap() {
        if row.open {
            let tally = tallies.get(&store).copied().unwrap_or_default();
            assert_eq!(rows.0.store_counters(store).unwrap(), tally, "counters of store {store}");
        }
    }
    for (key, _) in rows.of(Space::Condemned) {
        let mut parts = parts(&key, 1).unwrap();
        let store = parts.store().unwrap();
        let (digest, copy) = (parts.digest().unwrap(), parts.copy().unwrap());
        assert_ne!(holders.get(&(digest, store)), Some(&copy), "copy {copy} is held and condemned at once");
    }
}

/// Before the cursor of a departure, the leaving region holds no last copy.
fn check_departures(rows: &Rows<'_>) {
    let departures: BTreeMap<RegionId, Departure> =
        rows.map(Space::Departures, |parts, key, value| (RegionId(parts.u32().unwrap()), decode(key, value).unwrap()));
    assert!(departures.len() <= 1, "one at a time: {departures:?}");
    for (region, departure) in departures {
        let row = rows.0.region(region).unwrap().expect("its region is there");
        assert_ne!(row.state, RegionState::Leaving, "region {region} is removed");
        let judged = |digest: &Digest| departure.next.is_some_and(|next| *digest < next);
        for (digest, _) in blobs_of(rows).iter().filter(|(digest, blob)| judged(digest) && blob.references > 0) {
            let holders = rows.0.holders(digest).unwrap();
            let elsewhere = holders.iter().any(|holder| holder.region != region);
            assert!(holders.is_empty() || elsewhere, "{digest} is the last copy, and region {region} leaves");
        }
    }
}

fn check_backlogs(rows: &Rows<'_>, came_back: bool) {
    let blobs = blobs_of(rows);
    let mut wanted: BTreeMap<RegionId, BTreeMap<Digest, u64>> = BTreeMap::new();
    for (key, value) in rows.of(Space::Wanted) {
        let mut parts = parts(&key, 1).unwrap();
        let (region, digest) = (RegionId(parts.u32().unwrap()), parts.digest().unwrap());
        let WantedRow { size, since_ms: _ } = decode(&key, &value).unwrap();
        assert_eq!(blobs.get(&digest).map(|blob| blob.size), Some(size), "wanted {digest} does not exist");
        wanted.entry(region).or_default().insert(digest, size);
    }
    for (region, row) in rows.0.regions().unwrap() {
        let wanted = wanted.remove(&region).unwrap_or_default();
        let counters = rows.0.region_counters(region).unwrap();
        let tally = Tally { blobs: wanted.len() as u64, bytes: wanted.values().sum() };
        assert_eq!(counters.wanted, tally, "backlog of region {region}");
        let holds = |digest: &Digest| rows.0.holders(digest).unwrap().iter().any(|holder| holder.region == region);
        if came_back {
            continue;
        }
        for digest in wanted.keys() {
            assert!(!holds(digest), "region {region} wants {digest}, which it holds");
        }
        let mut beyond = Tally::default();
        for (digest, blob) in &blobs {
            if counters.cursor.is_none_or(|cursor| *digest > cursor) && !wanted.contains_key(digest) && !holds(digest) {
                beyond.add(blob.size);
            }
        }
        if row.state == RegionState::Backfilling && !(counters.beyond.blobs == 1 && beyond.blobs == 0) {
            assert_eq!(counters.beyond, beyond, "blobs beyond the cursor of region {region}");
        }
        if row.state == RegionState::Ready {
            let can_arrive = |digest: &Digest| !rows.0.holders(digest).unwrap().is_empty();
            let missing =
                blobs.keys().find(|digest| !wanted.contains_key(digest) && !holds(digest) && can_arrive(digest));
            assert_eq!(missing, None, "ready region {region} neither holds nor wants a blob");
        }
    }
    assert!(wanted.is_empty(), "backlogs of regions that are gone: {wanted:?}");
}
