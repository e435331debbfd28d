//! Key spaces: permanent ordinals, and how keys are built and taken apart (drawn in `docs/storage-format.md`).

use domain::{CopyId, Digest, NodeId, RegionId, RepositoryName, RequestId, Revision, StoreId, Tag};

use super::codec::Bad;

/// Ordinals are permanent. 0x41 principals, 0x42 grants, 0x43 signing keys, 0x44 webhooks and 0x45 usage are reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Space {
    /// `{}` → cluster facts.
    Meta = 0x01,
    /// `{}` → state hash and the hashes recorded at the last ticks. Not hashed itself.
    Hash = 0x02,
    /// `{}` → log id last applied, as the shell encodes it. Not hashed.
    LastApplied = 0x03,
    /// `{}` → Raft membership, as the shell encodes it.
    Membership = 0x04,
    /// `index` → cluster time at that index, for the request horizon.
    Marks = 0x05,
    /// `as_of ‖ request id` → outcome.
    Requests = 0x06,
    /// `{}` → number and bytes of all blobs.
    Totals = 0x07,
    /// `repository` → counters.
    Repositories = 0x10,
    /// `repository ‖ digest` → manifest with body and children.
    Manifests = 0x11,
    /// `repository ‖ child ‖ manifest` → kind of the child.
    Children = 0x12,
    /// `repository ‖ digest` → link.
    Links = 0x13,
    /// `repository ‖ tag` → tag.
    Tags = 0x14,
    /// `repository ‖ digest ‖ tag` → nothing.
    Tagged = 0x15,
    /// `repository ‖ tag ‖ 0 ‖ revision` → move.
    TagHistory = 0x16,
    /// `repository ‖ subject ‖ digest` → descriptor.
    Referrers = 0x17,
    /// `since ‖ repository ‖ digest` → nothing: links no manifest names, oldest first.
    IdleLinks = 0x18,
    /// `digest` → blob.
    Blobs = 0x20,
    /// `digest ‖ store` → copy.
    Holders = 0x21,
    /// `store ‖ digest` → copy: the inverse of holders.
    Held = 0x22,
    /// `region ‖ digest` → backlog row.
    Wanted = 0x23,
    /// `store ‖ digest ‖ copy` → index of the condemnation.
    Condemned = 0x24,
    /// `since ‖ digest` → nothing: blobs without links, oldest first.
    IdleBlobs = 0x25,
    /// `region` → region.
    Regions = 0x30,
    /// `region` → backlog and backfill counters.
    RegionCounters = 0x31,
    /// `node` → node.
    Nodes = 0x32,
    /// `store` → store.
    Stores = 0x33,
    /// `store` → number and bytes of what it holds.
    StoreCounters = 0x34,
    /// `region` → how far a region that shall leave is looked through.
    Departures = 0x35,
    /// `prefix` → policy.
    Policies = 0x40,
}

/// A key under construction.
pub(crate) struct Key(Vec<u8>);

impl Key {
    /// A key of one space.
    pub(crate) fn of(space: Space) -> Self {
        let mut key = Vec::with_capacity(96);
        key.push(space as u8);
        Key(key)
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn u64(self, value: u64) -> Self {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn repository(self, name: &RepositoryName) -> Self {
        self.raw(name.as_str().as_bytes()).raw(&[0])
    }

    pub(crate) fn digest(self, digest: &Digest) -> Self {
        self.raw(&[digest.algorithm() as u8]).raw(digest.raw())
    }

    pub(crate) fn tag(self, tag: &Tag) -> Self {
        self.raw(tag.as_str().as_bytes())
    }

    pub(crate) fn region(self, region: RegionId) -> Self {
        self.raw(&region.0.to_be_bytes())
    }

    pub(crate) fn store(self, store: StoreId) -> Self {
        self.raw(store.as_bytes())
    }

    pub(crate) fn done(self) -> Vec<u8> {
        self.0
    }
}

pub(crate) fn single(space: Space) -> Vec<u8> {
    Key::of(space).done()
}

pub(crate) fn mark(index: u64) -> Vec<u8> {
    Key::of(Space::Marks).u64(index).done()
}

pub(crate) fn request(as_of: Revision, request: RequestId) -> Vec<u8> {
    Key::of(Space::Requests).u64(as_of.0).raw(request.as_bytes()).done()
}

pub(crate) fn repository(name: &RepositoryName) -> Vec<u8> {
    Key::of(Space::Repositories).repository(name).done()
}

pub(crate) fn manifest(repository: &RepositoryName, digest: &Digest) -> Vec<u8> {
    Key::of(Space::Manifests).repository(repository).digest(digest).done()
}

pub(crate) fn child(repository: &RepositoryName, child: &Digest, manifest: &Digest) -> Vec<u8> {
    Key::of(Space::Children).repository(repository).digest(child).digest(manifest).done()
}

pub(crate) fn link(repository: &RepositoryName, digest: &Digest) -> Vec<u8> {
    Key::of(Space::Links).repository(repository).digest(digest).done()
}

pub(crate) fn tag(repository: &RepositoryName, tag: &Tag) -> Vec<u8> {
    Key::of(Space::Tags).repository(repository).tag(tag).done()
}

pub(crate) fn tagged_of(repository: &RepositoryName, digest: &Digest) -> Vec<u8> {
    Key::of(Space::Tagged).repository(repository).digest(digest).done()
}

pub(crate) fn tagged(repository: &RepositoryName, digest: &Digest, tag: &Tag) -> Vec<u8> {
    Key::of(Space::Tagged).repository(repository).digest(digest).tag(tag).done()
}

pub(crate) fn history_of(repository: &RepositoryName, tag: &Tag) -> Vec<u8> {
    Key::of(Space::TagHistory).repository(repository).tag(tag).raw(&[0]).done()
}

pub(crate) fn history(repository: &RepositoryName, tag: &Tag, revision: u64) -> Vec<u8> {
    Key::of(Space::TagHistory).repository(repository).tag(tag).raw(&[0]).u64(revision).done()
}

pub(crate) fn referrers_of(repository: &RepositoryName, subject: &Digest) -> Vec<u8> {
    Key::of(Space::Referrers).repository(repository).digest(subject).done()
}

pub(crate) fn referrer(repository: &RepositoryName, subject: &Digest, digest: &Digest) -> Vec<u8> {
    Key::of(Space::Referrers).repository(repository).digest(subject).digest(digest).done()
}

pub(crate) fn idle_link(since_ms: u64, repository: &RepositoryName, digest: &Digest) -> Vec<u8> {
    Key::of(Space::IdleLinks).u64(since_ms).repository(repository).digest(digest).done()
}

pub(crate) fn idle_blob(since_ms: u64, digest: &Digest) -> Vec<u8> {
    Key::of(Space::IdleBlobs).u64(since_ms).digest(digest).done()
}

pub(crate) fn blob(digest: &Digest) -> Vec<u8> {
    Key::of(Space::Blobs).digest(digest).done()
}

pub(crate) fn holders_of(digest: &Digest) -> Vec<u8> {
    Key::of(Space::Holders).digest(digest).done()
}

pub(crate) fn holder(digest: &Digest, store: StoreId) -> Vec<u8> {
    Key::of(Space::Holders).digest(digest).store(store).done()
}

pub(crate) fn held_in(store: StoreId) -> Vec<u8> {
    Key::of(Space::Held).store(store).done()
}

pub(crate) fn held(store: StoreId, digest: &Digest) -> Vec<u8> {
    Key::of(Space::Held).store(store).digest(digest).done()
}

pub(crate) fn wanted_in(region: RegionId) -> Vec<u8> {
    Key::of(Space::Wanted).region(region).done()
}

pub(crate) fn wanted(region: RegionId, digest: &Digest) -> Vec<u8> {
    Key::of(Space::Wanted).region(region).digest(digest).done()
}

pub(crate) fn condemned_in(store: StoreId) -> Vec<u8> {
    Key::of(Space::Condemned).store(store).done()
}

pub(crate) fn condemned(store: StoreId, digest: &Digest, copy: CopyId) -> Vec<u8> {
    Key::of(Space::Condemned).store(store).digest(digest).raw(copy.as_bytes()).done()
}

pub(crate) fn region(region: RegionId) -> Vec<u8> {
    Key::of(Space::Regions).region(region).done()
}

pub(crate) fn region_counters(region: RegionId) -> Vec<u8> {
    Key::of(Space::RegionCounters).region(region).done()
}

pub(crate) fn departure(region: RegionId) -> Vec<u8> {
    Key::of(Space::Departures).region(region).done()
}

pub(crate) fn node(node: NodeId) -> Vec<u8> {
    Key::of(Space::Nodes).u64(node.0).done()
}

pub(crate) fn store(store: StoreId) -> Vec<u8> {
    Key::of(Space::Stores).store(store).done()
}

pub(crate) fn store_counters(store: StoreId) -> Vec<u8> {
    Key::of(Space::StoreCounters).store(store).done()
}

pub(crate) fn policy(prefix: &str) -> Vec<u8> {
    Key::of(Space::Policies).raw(prefix.as_bytes()).done()
}

/// Takes a key apart behind a known prefix.
pub(crate) struct Parts<'a>(&'a [u8]);

impl<'a> Parts<'a> {
    /// What follows the first `skip` bytes.
    pub(crate) fn after(key: &'a [u8], skip: usize) -> Result<Self, Bad> {
        key.get(skip..).map(Parts).ok_or(Bad("key ends early"))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Bad> {
        let (front, rest) = self.0.split_at_checked(length).ok_or(Bad("key ends early"))?;
        self.0 = rest;
        Ok(front)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Bad> {
        Ok(u32::from_be_bytes(self.take(4)?.try_into().map_err(|_| Bad("key ends early"))?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Bad> {
        Ok(u64::from_be_bytes(self.take(8)?.try_into().map_err(|_| Bad("key ends early"))?))
    }

    pub(crate) fn digest(&mut self) -> Result<Digest, Bad> {
        let (digest, rest) = Digest::split_key(self.0).map_err(|_| Bad("digest in key is malformed"))?;
        self.0 = rest;
        Ok(digest)
    }

    pub(crate) fn store(&mut self) -> Result<StoreId, Bad> {
        StoreId::from_slice(self.take(16)?).ok_or(Bad("key ends early"))
    }

    pub(crate) fn copy(&mut self) -> Result<CopyId, Bad> {
        CopyId::from_slice(self.take(16)?).ok_or(Bad("key ends early"))
    }

    pub(crate) fn repository(&mut self) -> Result<RepositoryName, Bad> {
        let end = self.0.iter().position(|&byte| byte == 0).ok_or(Bad("repository in key has no end"))?;
        let name = std::str::from_utf8(self.take(end)?).map_err(|_| Bad("repository in key is not UTF-8"))?;
        self.take(1)?;
        RepositoryName::parse(name).map_err(|_| Bad("repository in key is malformed"))
    }

    pub(crate) fn tag(&mut self) -> Result<Tag, Bad> {
        let text = std::str::from_utf8(self.0).map_err(|_| Bad("tag in key is not UTF-8"))?;
        self.0 = &[];
        Tag::parse(text).map_err(|_| Bad("tag in key is malformed"))
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Bad> {
        let text = std::str::from_utf8(self.0).map_err(|_| Bad("text in key is not UTF-8"))?;
        self.0 = &[];
        Ok(text)
    }
}
