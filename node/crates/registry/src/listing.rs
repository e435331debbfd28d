//! Lists: tags of a repository, repositories of the registry.

use domain::limits::PAGE_ROWS_MAX;
use domain::{RepositoryName, Revision};
use metadata::View;

use crate::fault::{AsOf, ReadFault};
use crate::handle::Handle;
use crate::read::{Asked, Finding};

/// Why a list is not shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Proved: no such repository. HTTP 404 NAME_UNKNOWN.
    #[error("repository `{repository}` is not known")]
    UnknownRepository {
        /// The repository.
        repository: RepositoryName,
        /// The state that says so.
        revision: Revision,
    },
    /// The answer cannot be proved.
    #[error(transparent)]
    Read(#[from] ReadFault),
}

impl Error {
    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::UnknownRepository { .. } => false,
            Error::Read(fault) => fault.is_retryable(),
        }
    }

    /// Reads change nothing.
    pub fn has_no_side_effects(&self) -> bool {
        true
    }
}

/// Which page of a list is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageOf {
    /// Rows wanted; as many as a page holds when none, and never more.
    pub rows: Option<usize>,
    /// Only what comes after, in byte order.
    pub last: Option<String>,
}

impl PageOf {
    fn limit(&self) -> usize {
        self.rows.unwrap_or(PAGE_ROWS_MAX).min(PAGE_ROWS_MAX)
    }
}

/// A page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// Its rows, in order.
    pub rows: Vec<T>,
    /// More follow.
    pub more: bool,
    /// Which state it shows.
    pub as_of: AsOf,
}

impl<T> Page<T> {
    /// What the next page must wait for, so that paging never goes back in time.
    pub fn revision(&self) -> Revision {
        self.as_of.revision
    }
}

struct Tags {
    tags: Vec<String>,
    is_known: bool,
}

impl Finding for Tags {
    /// An empty list is a negative answer, and a repository without tags is one of its kind.
    fn is_positive(&self) -> bool {
        !self.tags.is_empty()
    }
}

/// Cuts what was read, one row more than wanted, to a page.
pub(crate) fn cut<T>(mut rows: Vec<T>, limit: usize) -> (Vec<T>, bool) {
    let more = rows.len() > limit && limit > 0;
    rows.truncate(limit);
    (rows, more)
}

impl Handle {
    /// Tags of a repository.
    pub async fn tags(&self, repository: &RepositoryName, page: PageOf, asked: Asked) -> Result<Page<String>, Error> {
        let (name, limit) = (repository.clone(), page.limit());
        let find = move |view: &View| {
            let tags = view.tags(&name, page.last.as_deref(), limit.saturating_add(1))?;
            let tags: Vec<String> = tags.into_iter().map(|(tag, _)| tag.as_str().to_owned()).collect();
            let is_known = !tags.is_empty() || view.repository(&name)?.is_some();
            Ok(Tags { tags, is_known })
        };
        let (Tags { tags, is_known }, as_of) = self.prove(asked, find).await?;
        if !is_known {
            return Err(Error::UnknownRepository { repository: repository.clone(), revision: as_of.revision });
        }
        let (rows, more) = cut(tags, limit);
        Ok(Page { rows, more, as_of })
    }

    /// Repositories of the registry.
    pub async fn catalog(&self, page: PageOf, asked: Asked) -> Result<Page<String>, Error> {
        let limit = page.limit();
        let find = move |view: &View| {
            let names = view.repositories(page.last.as_deref(), limit.saturating_add(1))?;
            let names: Vec<String> = names.into_iter().map(|name| name.as_str().to_owned()).collect();
            Ok((!names.is_empty()).then_some(names))
        };
        let (names, as_of) = self.prove(asked, find).await?;
        let (rows, more) = cut(names.unwrap_or_default(), limit);
        Ok(Page { rows, more, as_of })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_cut_and_says_whether_more_follows() {
        assert_eq!(cut(vec![1, 2, 3], 2), (vec![1, 2], true));
        assert_eq!(cut(vec![1, 2], 2), (vec![1, 2], false));
        assert_eq!(cut(vec![1], 0), (vec![], false));
        assert_eq!(cut::<u8>(vec![], 5), (vec![], false));
    }

    #[test]
    fn n_is_clamped() {
        let limit = |rows| PageOf { rows, last: None }.limit();
        assert_eq!([limit(None), limit(Some(0)), limit(Some(7)), limit(Some(100_000))], [1000, 0, 7, 1000]);
    }
}
