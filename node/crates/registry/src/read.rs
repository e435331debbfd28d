//! Reads: which proof was asked for, and never a negative answer without one (design §5).

use domain::Revision;
use metadata::handle::Demand;
use metadata::view::{self, Freshness, View};

use crate::fault::{self, AsOf, ReadFault};
use crate::handle::Handle;

/// Consistency that a request may demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Linearizable or 503.
    Strict,
    /// This region's applied state. A negative answer is proved even then.
    Local,
}

/// What a request asks of a read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `Longshore-Consistency`.
    pub consistency: Option<Consistency>,
    /// `Longshore-Min-Revision`, or the revision of the page before.
    pub min_revision: Option<Revision>,
}

impl Asked {
    /// The demand of a pull.
    pub(crate) fn demand(&self) -> Demand {
        match self.consistency {
            Some(Consistency::Strict) => Demand::Strict,
            Some(Consistency::Local) => Demand::Local,
            None => Demand::Pull,
        }
    }

    /// Raises the revision to wait for.
    #[must_use]
    pub fn at_least(self, revision: Option<Revision>) -> Self {
        Asked { min_revision: self.min_revision.max(revision), ..self }
    }

    /// The same read, but proved or refused.
    #[must_use]
    pub fn strict(self) -> Self {
        Asked { consistency: Some(Consistency::Strict), ..self }
    }
}

impl Handle {
    pub(crate) async fn view(&self, demand: Demand, min_revision: Option<Revision>) -> Result<View, ReadFault> {
        self.metadata().view(demand, min_revision).await.map_err(|error| fault::of_read(error, &self.here("")))
    }

    /// Looks something up under the proof asked for; what is not found is looked up again under a strict view, so that
    /// `None` is always proved. `find` runs off the async threads, for it may read a page.
    pub(crate) async fn prove<T, F>(&self, asked: Asked, find: F) -> Result<(T, AsOf), ReadFault>
    where
        T: Finding + Send + 'static,
        F: Fn(&View) -> Result<T, view::Error> + Send + Sync + 'static,
    {
        self.prove_by(asked, |_| Ok(false), find).await
    }

    /// As [`Handle::prove`]; where `is_short` says that `find` takes microseconds, it runs at once.
    pub(crate) async fn prove_by<T, S, F>(&self, asked: Asked, is_short: S, find: F) -> Result<(T, AsOf), ReadFault>
    where
        T: Finding + Send + 'static,
        S: Fn(&View) -> Result<bool, view::Error>,
        F: Fn(&View) -> Result<T, view::Error> + Send + Sync + 'static,
    {
        let find = std::sync::Arc::new(find);
        for demand in [asked.demand(), Demand::Strict] {
            let view = self.view(demand, asked.min_revision).await?;
            let (as_of, freshness, find) = (AsOf::of(&view), view.freshness(), find.clone());
            let found = if is_short(&view)? { find(&view)? } else { blocking(move || find(&view)).await?? };
            if found.is_positive() || freshness == Freshness::Strict {
                return Ok((found, as_of));
            }
        }
        Err(ReadFault::Unavailable(self.here("no strict read was possible")))
    }

    /// As [`Handle::prove`], for point reads that take microseconds.
    pub(crate) async fn prove_point<T, F>(&self, asked: Asked, find: F) -> Result<(T, AsOf), ReadFault>
    where
        T: Finding,
        F: Fn(&View) -> Result<T, view::Error>,
    {
        for demand in [asked.demand(), Demand::Strict] {
            let view = self.view(demand, asked.min_revision).await?;
            let found = find(&view)?;
            if found.is_positive() || view.freshness() == Freshness::Strict {
                return Ok((found, AsOf::of(&view)));
            }
        }
        Err(ReadFault::Unavailable(self.here("no strict read was possible")))
    }
}

/// What a lookup finds, and whether it may be answered without a proof.
pub(crate) trait Finding {
    /// Something is there. What is not there needs a proof.
    fn is_positive(&self) -> bool;
}

impl<T> Finding for Option<T> {
    fn is_positive(&self) -> bool {
        self.is_some()
    }
}

/// Runs blocking work off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ReadFault> {
    tokio::task::spawn_blocking(work).await.map_err(|error| ReadFault::Internal { detail: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_higher_revision_is_waited_for() {
        let asked = Asked { min_revision: Some(Revision(5)), consistency: None };
        assert_eq!(asked.at_least(Some(Revision(3))).min_revision, Some(Revision(5)));
        assert_eq!(asked.at_least(Some(Revision(9))).min_revision, Some(Revision(9)));
        assert_eq!(asked.at_least(None).min_revision, Some(Revision(5)));
        assert_eq!(asked.demand(), Demand::Pull);
        assert_eq!(asked.strict().demand(), Demand::Strict);
    }
}
