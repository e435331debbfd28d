//! What stores report: blobs recorded, held, lost, deleted.

use domain::limits::REPORT_DIGESTS_MAX;
use domain::{Blake3Root, CopyId, Digest, RepositoryName};

use super::copies::Known;
use super::{Entry, Judged, Stop, invalid};
use crate::command::{HeldCopy, StoreClaim};
use crate::outcome::Outcome;
use crate::rows::Blob;
use crate::state::read::Read;
use crate::state::space;

impl Entry<'_> {
    pub(super) fn record_blob(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
        root: Blake3Root,
        claim: StoreClaim,
        copy: CopyId,
    ) -> Judged {
        let store = self.fence(claim)?;
        let before = self.state.blob(digest)?;
        if let Some(blob) = &before
            && (blob.size != size || blob.root != root)
        {
            return Err(invalid(format!("blob `{digest}` is known with another size or root")));
        }
        if self.state.has(&space::condemned(claim.store, digest, copy))? {
            return Err(invalid(format!("copy {copy} of blob `{digest}` is condemned")));
        }
        if before.is_none() {
            let blob = Blob { size, root, references: 0, unreferenced_since_ms: Some(self.now_ms()) };
            self.write_blob(digest, None, Some(&blob))?;
        }
        let blob = Known { digest, size, counted: before.is_some() };
        self.add_copy(claim.store, store.region, blob, copy)?;
        self.want_everywhere(blob)?;
        self.link_present(repository, digest)?;
        Ok(Outcome::Done)
    }

    fn bounded(copies: &[HeldCopy]) -> Result<(), Stop> {
        if copies.len() <= REPORT_DIGESTS_MAX {
            return Ok(());
        }
        Err(invalid(format!("a report names {} copies, at most {REPORT_DIGESTS_MAX} are allowed", copies.len())))
    }

    pub(super) fn held(&mut self, claim: StoreClaim, copies: &[HeldCopy]) -> Judged {
        Self::bounded(copies)?;
        let store = self.fence(claim)?;
        for HeldCopy { digest, copy } in copies {
            // Presence never creates a blob: bytes without a row are the node's to sweep.
            let Some(blob) = self.state.blob(digest)? else { continue };
            if self.state.has(&space::condemned(claim.store, digest, *copy))? {
                continue;
            }
            let blob = Known { digest, size: blob.size, counted: true };
            if self.add_copy(claim.store, store.region, blob, *copy)? {
                // While nobody had it, backfills passed it by.
                self.want_everywhere(blob)?;
            }
        }
        Ok(Outcome::Done)
    }

    pub(super) fn lost(&mut self, claim: StoreClaim, copies: &[HeldCopy]) -> Judged {
        Self::bounded(copies)?;
        let store = self.fence(claim)?;
        let region = self.known_region(store.region)?;
        for HeldCopy { digest, copy } in copies {
            // A newer copy has come since: the report speaks of one that nobody counts on.
            if self.state.held_copy(digest, claim.store)?.is_none_or(|row| row.copy != *copy) {
                continue;
            }
            let Some(blob) = self.state.blob(digest)? else { continue };
            self.drop_copy(claim.store, digest, blob.size)?;
            if Self::asks(region.state) && !self.region_holds(store.region, digest)? {
                self.want(store.region, Known { digest, size: blob.size, counted: false })?;
            }
        }
        Ok(Outcome::Done)
    }

    pub(super) fn deleted(&mut self, claim: StoreClaim, copies: &[HeldCopy]) -> Judged {
        Self::bounded(copies)?;
        self.fence(claim)?;
        for HeldCopy { digest, copy } in copies {
            self.state.delete(space::condemned(claim.store, digest, *copy))?;
        }
        Ok(Outcome::Done)
    }
}
