//! Referrers of a subject: those stored as such, and those that older clients listed in an index under a fallback tag.

use std::collections::BTreeMap;

use domain::limits::{PAGE_BYTES_MAX, PAGE_ROWS_MAX};
use domain::{Digest, RepositoryName, Tag, manifest};
use metadata::rows::Referrer;
use metadata::{View, view};

use crate::fault::ReadFault;
use crate::handle::Handle;
use crate::listing::Page;
use crate::read::Asked;

/// Rows read at a time: each may hold annotations of several megabytes.
const STEP_ROWS: usize = 8;
/// Characters of a subject's algorithm in its fallback tag.
const FALLBACK_ALGORITHM_MAX: usize = 32;
/// Characters of a subject's encoded part in its fallback tag.
const FALLBACK_ENCODED_MAX: usize = 64;

/// Why referrers are not listed: only that the answer cannot be proved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct Error(#[from] pub ReadFault);

impl Error {
    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.0.is_retryable()
    }

    /// Reads change nothing.
    pub fn has_no_side_effects(&self) -> bool {
        true
    }
}

/// Which referrers are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Of {
    /// Repository.
    pub repository: RepositoryName,
    /// Subject.
    pub subject: Digest,
    /// Only those of this derived artifact type.
    pub artifact_type: Option<String>,
    /// Only those after this digest.
    pub last: Option<Digest>,
    /// Rows wanted at most.
    pub rows: Option<usize>,
}

impl Handle {
    /// A page of referrers, by digest, bounded in rows and bytes. Empty, and proved, where there are none.
    pub async fn referrers(&self, of: Of, asked: Asked) -> Result<Page<Referrer>, Error> {
        let find = move |view: &View| {
            let (rows, more) = page(view, &of)?;
            Ok((!rows.is_empty()).then_some((rows, more)))
        };
        let (found, as_of) = self.prove(asked, find).await?;
        let (rows, more) = found.unwrap_or_default();
        Ok(Page { rows, more, as_of })
    }
}

fn page(view: &View, of: &Of) -> Result<(Vec<Referrer>, bool), view::Error> {
    let limit = of.rows.unwrap_or(PAGE_ROWS_MAX).min(PAGE_ROWS_MAX);
    let mut listed = fallback(view, of)?;
    let mut page = Filling { rows: Vec::new(), bytes: 0, limit };
    let mut last = of.last;
    loop {
        let kind = of.artifact_type.as_deref();
        let step = view.referrers(&of.repository, &of.subject, kind, last.as_ref(), STEP_ROWS)?;
        let is_end = step.len() < STEP_ROWS;
        for row in step {
            last = Some(row.digest);
            // Entries of the fallback index that sort before this one come first; one that is both is shown once.
            while let Some(entry) = listed.first_entry().filter(|entry| *entry.key() < row.digest) {
                if !page.take(entry.remove()) {
                    return Ok((page.rows, true));
                }
            }
            listed.remove(&row.digest);
            if !page.take(row) {
                return Ok((page.rows, true));
            }
        }
        if is_end {
            break;
        }
    }
    for row in listed.into_values() {
        if !page.take(row) {
            return Ok((page.rows, true));
        }
    }
    Ok((page.rows, false))
}

struct Filling {
    rows: Vec<Referrer>,
    bytes: usize,
    limit: usize,
}

impl Filling {
    /// Takes a row, unless the page is full. A first row always fits, however large it is.
    fn take(&mut self, row: Referrer) -> bool {
        let bytes = bytes_of(&row);
        if self.rows.len() >= self.limit || (!self.rows.is_empty() && self.bytes + bytes > PAGE_BYTES_MAX) {
            return false;
        }
        self.bytes += bytes;
        self.rows.push(row);
        true
    }
}

/// Roughly what a row takes as JSON, never less: a character may become an escape of six bytes.
fn bytes_of(row: &Referrer) -> usize {
    let text = |text: &str| text.len() + text.bytes().filter(|byte| *byte < 0x20).count() * 5 + quotes(text) + 8;
    let annotations: usize = row.annotations.iter().map(|(key, value)| text(key) + text(value)).sum();
    300 + text(&row.media_type) + row.artifact_type.as_deref().map_or(0, text) + annotations
}

fn quotes(text: &str) -> usize {
    text.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count()
}

/// Entries of the index under the subject's fallback tag, as far as the repository holds them.
///
/// Source: OCI distribution-spec, "Referrers Tag Schema" and "Enabling the Referrers API".
fn fallback(view: &View, of: &Of) -> Result<BTreeMap<Digest, Referrer>, view::Error> {
    let mut listed = BTreeMap::new();
    let Some(tag) = fallback_tag(&of.subject) else { return Ok(listed) };
    let Some(tag) = view.tag(&of.repository, &tag)? else { return Ok(listed) };
    let Some(index) = view.manifest(&of.repository, &tag.digest)? else { return Ok(listed) };
    let entries = distinct(manifest::index_entries(&index.body), of.last.as_ref());
    let limit = of.rows.unwrap_or(PAGE_ROWS_MAX).min(PAGE_ROWS_MAX);
    for entry in entries.into_values() {
        // One more than fits tells that there is more; each entry costs a lookup.
        if listed.len() > limit {
            break;
        }
        // What was deleted since is not listed, though the client's index still names it.
        let Some(stored) = view.manifest(&of.repository, &entry.digest)? else { continue };
        // What the manifest itself says goes before what the client's index says of it.
        let artifact_type = stored.artifact_type.or(entry.artifact_type);
        if of.artifact_type.is_some() && of.artifact_type != artifact_type {
            continue;
        }
        let manifest::Entry { digest, media_type, size, annotations, .. } =
            manifest::Entry { artifact_type: None, ..entry };
        listed.insert(digest, Referrer { digest, media_type, size, artifact_type, annotations });
    }
    Ok(listed)
}

/// Entries after `last`, each digest once and in order: an index may name one thousands of times.
fn distinct(
    entries: impl IntoIterator<Item = manifest::Entry>,
    last: Option<&Digest>,
) -> BTreeMap<Digest, manifest::Entry> {
    let mut distinct = BTreeMap::new();
    for entry in entries {
        if last.is_none_or(|last| entry.digest > *last) {
            distinct.entry(entry.digest).or_insert(entry);
        }
    }
    distinct
}

/// `sha256-<hex>`: each half is cut on its own, so the tag of a sha512 subject has no more hex than that of a sha256 one.
///
/// Source: OCI distribution-spec, "Referrers Tag Schema".
fn fallback_tag(subject: &Digest) -> Option<Tag> {
    let (algorithm, encoded) = (subject.algorithm().name(), subject.hex());
    let cut = |text: &str, most: usize| text.chars().take(most).collect::<String>();
    Tag::parse(&format!("{}-{}", cut(algorithm, FALLBACK_ALGORITHM_MAX), cut(&encoded, FALLBACK_ENCODED_MAX))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(byte: u8, annotation: usize) -> Referrer {
        Referrer {
            digest: Digest::Sha256([byte; 32]),
            media_type: "application/x".to_owned(),
            size: 1,
            artifact_type: None,
            annotations: vec![("a".to_owned(), "b".repeat(annotation))],
        }
    }

    #[test]
    fn a_page_is_bounded_in_rows_and_bytes_but_never_empty() {
        let mut page = Filling { rows: Vec::new(), bytes: 0, limit: 3 };
        assert!(page.take(row(1, PAGE_BYTES_MAX + 1)));
        assert!(!page.take(row(2, 1)));
        let mut page = Filling { rows: Vec::new(), bytes: 0, limit: 2 };
        assert!(page.take(row(1, 1)) && page.take(row(2, 1)) && !page.take(row(3, 1)));
        let mut page = Filling { rows: Vec::new(), bytes: 0, limit: 10 };
        assert!(page.take(row(1, PAGE_BYTES_MAX / 2)) && !page.take(row(2, PAGE_BYTES_MAX / 2)));
    }

    #[test]
    fn entries_named_often_count_once() {
        let entry = |byte: u8, size: u64| manifest::Entry {
            digest: Digest::Sha256([byte; 32]),
            media_type: "application/x".to_owned(),
            size,
            artifact_type: None,
            annotations: Vec::new(),
        };
        let entries = || [entry(3, 1), entry(1, 2), entry(3, 3), entry(2, 4), entry(1, 5)];
        let sizes =
            |last: Option<&Digest>| distinct(entries(), last).values().map(|entry| entry.size).collect::<Vec<_>>();
        assert_eq!(sizes(None), [2, 4, 1]);
        assert_eq!(sizes(Some(&Digest::Sha256([2; 32]))), [1]);
    }

    #[test]
    fn the_estimate_covers_escapes() {
        let row = Referrer { annotations: vec![("\u{1}\"".repeat(10), "\\\n".repeat(10))], ..row(1, 0) };
        let text = serde_json::to_string(&row.annotations).expect("json");
        assert!(bytes_of(&row) >= text.len());
    }

    #[test]
    fn fallback_tags_follow_the_specification() {
        let short = fallback_tag(&Digest::Sha256([0xab; 32])).expect("a tag");
        assert_eq!(short.as_str(), format!("sha256-{}", "ab".repeat(32)));
        let long = fallback_tag(&Digest::Sha512([0xab; 64])).expect("a tag");
        assert_eq!(long.as_str(), format!("sha512-{}", "ab".repeat(32)));
    }
}
