//! Values about content: repositories, manifests, tags, links, blobs and who holds them.

use bytes::Bytes;
use domain::{Blake3Root, CopyId, Digest, RegionId, Revision};

use super::codec::{Bad, Reader, Row, Writer};
use crate::rows::{Blob, Link, Manifest, Referrer, Repository, TagMove, TagRow};

impl Row for Repository {
    fn write(&self, to: &mut Writer) {
        let Repository { created, manifests, tags, links } = self;
        to.u64(created.0);
        to.u64(*manifests);
        to.u64(*tags);
        to.u64(*links);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        Ok(Repository { created: from.revision()?, manifests: from.u64()?, tags: from.u64()?, links: from.u64()? })
    }
}

/// What a child is to its manifest. The same bytes may be both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChildKind {
    /// A manifest of the repository; it may be deleted, the parent stays.
    pub(crate) manifest: bool,
    /// A blob: counts in `links.references`.
    pub(crate) blob: bool,
    /// Nothing was there when the parent was put (sparse, or non-distributable).
    pub(crate) missing: bool,
}

impl Row for ChildKind {
    fn write(&self, to: &mut Writer) {
        let ChildKind { manifest, blob, missing } = self;
        to.u8(u8::from(*manifest) | u8::from(*blob) << 1 | u8::from(*missing) << 2);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        match from.u8()? {
            flags @ 0..=7 => Ok(ChildKind { manifest: flags & 1 != 0, blob: flags & 2 != 0, missing: flags & 4 != 0 }),
            _ => Err(Bad("child kind is not known")),
        }
    }
}

/// A manifest with its children, so that deleting it finds their rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ManifestRow {
    pub(crate) manifest: Manifest,
    pub(crate) children: Vec<(Digest, ChildKind)>,
}

impl Row for ManifestRow {
    fn write(&self, to: &mut Writer) {
        let ManifestRow { manifest, children } = self;
        let Manifest { media_type, body, subject, artifact_type, revision, pushed_at_ms, actor, region } = manifest;
        to.str(media_type);
        to.option(subject.as_ref(), Writer::digest);
        to.option(artifact_type.as_deref(), Writer::str);
        to.u64(revision.0);
        to.u64(*pushed_at_ms);
        to.str(actor);
        to.u32(region.0);
        to.list(children, |to, (digest, kind)| {
            to.digest(digest);
            kind.write(to);
        });
        to.bytes(body);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        let media_type = from.string()?;
        let subject = from.option(Reader::digest)?;
        let artifact_type = from.option(Reader::string)?;
        let revision = from.revision()?;
        let pushed_at_ms = from.u64()?;
        let actor = from.string()?;
        let region = RegionId(from.u32()?);
        let children = from.list(|from| Ok((from.digest()?, ChildKind::read(from)?)))?;
        let body = Bytes::copy_from_slice(from.bytes()?);
        let manifest = Manifest { media_type, body, subject, artifact_type, revision, pushed_at_ms, actor, region };
        Ok(ManifestRow { manifest, children })
    }
}

impl Row for Link {
    fn write(&self, to: &mut Writer) {
        let Link { present, references, unreferenced_since_ms } = self;
        to.bool(*present);
        to.u64(*references);
        to.option(*unreferenced_since_ms, Writer::u64);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        Ok(Link { present: from.bool()?, references: from.u64()?, unreferenced_since_ms: from.option(Reader::u64)? })
    }
}

impl Row for TagRow {
    fn write(&self, to: &mut Writer) {
        let TagRow { digest, revision, at_ms, actor, region } = self;
        to.digest(digest);
        to.u64(revision.0);
        to.u64(*at_ms);
        to.str(actor);
        to.u32(region.0);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        Ok(TagRow {
            digest: from.digest()?,
            revision: from.revision()?,
            at_ms: from.u64()?,
            actor: from.string()?,
            region: RegionId(from.u32()?),
        })
    }
}

/// A move of a tag. `number` counts the moves from 1, so that the oldest is found without counting rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MoveRow {
    pub(crate) number: u64,
    pub(crate) digest: Option<Digest>,
    pub(crate) at_ms: u64,
    pub(crate) actor: String,
    pub(crate) region: RegionId,
}

impl MoveRow {
    pub(crate) fn into_move(self, revision: Revision) -> TagMove {
        let MoveRow { number: _, digest, at_ms, actor, region } = self;
        TagMove { revision, digest, at_ms, actor, region }
    }
}

impl Row for MoveRow {
    fn write(&self, to: &mut Writer) {
        let MoveRow { number, digest, at_ms, actor, region } = self;
        to.u64(*number);
        to.option(digest.as_ref(), Writer::digest);
        to.u64(*at_ms);
        to.str(actor);
        to.u32(region.0);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        Ok(MoveRow {
            number: from.u64()?,
            digest: from.option(Reader::digest)?,
            at_ms: from.u64()?,
            actor: from.string()?,
            region: RegionId(from.u32()?),
        })
    }
}

/// A referrer without its digest, which is in the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReferrerRow {
    pub(crate) media_type: String,
    pub(crate) size: u64,
    pub(crate) artifact_type: Option<String>,
    pub(crate) annotations: Vec<(String, String)>,
}

impl ReferrerRow {
    pub(crate) fn into_referrer(self, digest: Digest) -> Referrer {
        let ReferrerRow { media_type, size, artifact_type, annotations } = self;
        Referrer { digest, media_type, size, artifact_type, annotations }
    }
}

impl Row for ReferrerRow {
    fn write(&self, to: &mut Writer) {
        let ReferrerRow { media_type, size, artifact_type, annotations } = self;
        to.str(media_type);
        to.u64(*size);
        to.option(artifact_type.as_deref(), Writer::str);
        to.list(annotations, |to, (key, value)| {
            to.str(key);
            to.str(value);
        });
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        Ok(ReferrerRow {
            media_type: from.string()?,
            size: from.u64()?,
            artifact_type: from.option(Reader::string)?,
            annotations: from.list(|from| Ok((from.string()?, from.string()?)))?,
        })
    }
}

impl Row for Blob {
    fn write(&self, to: &mut Writer) {
        let Blob { size, root, references, unreferenced_since_ms } = self;
        to.u64(*size);
        to.raw(root.as_bytes());
        to.u64(*references);
        to.option(*unreferenced_since_ms, Writer::u64);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        Ok(Blob {
            size: from.u64()?,
            root: Blake3Root(from.array()?),
            references: from.u64()?,
            unreferenced_since_ms: from.option(Reader::u64)?,
        })
    }
}

/// A copy of a blob in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HolderRow {
    pub(crate) copy: CopyId,
    /// Cluster time. Unit: milliseconds.
    pub(crate) since_ms: u64,
}

impl Row for HolderRow {
    fn write(&self, to: &mut Writer) {
        let HolderRow { copy, since_ms } = self;
        to.raw(copy.as_bytes());
        to.u64(*since_ms);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        Ok(HolderRow { copy: CopyId(from.array()?), since_ms: from.u64()? })
    }
}

/// The inverse of a holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeldRow(pub(crate) CopyId);

impl Row for HeldRow {
    fn write(&self, to: &mut Writer) {
        to.raw(self.0.as_bytes());
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        Ok(HeldRow(CopyId(from.array()?)))
    }
}

/// A backlog row without its digest, which is in the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WantedRow {
    pub(crate) size: u64,
    pub(crate) since_ms: u64,
}

impl Row for WantedRow {
    fn write(&self, to: &mut Writer) {
        let WantedRow { size, since_ms } = self;
        to.u64(*size);
        to.u64(*since_ms);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        Ok(WantedRow { size: from.u64()?, since_ms: from.u64()? })
    }
}

/// Log index of a condemnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CondemnedRow(pub(crate) Revision);

impl Row for CondemnedRow {
    fn write(&self, to: &mut Writer) {
        to.u64(self.0.0);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        from.revision().map(CondemnedRow)
    }
}
