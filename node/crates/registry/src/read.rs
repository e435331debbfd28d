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
    /// `Longshore-Min-Revision`: waited for, within bounds.
    pub min_revision: Option<Revision>,
    /// The revision that the page before showed. A read that is proved now shows that state or a later one, if it was
    /// ever shown; a client may write anything here.
    pub after: Option<Revision>,
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

    /// The demands to try in turn where `here` is applied. A page that comes after a later state than that needs a proof,
    /// which brings the state.
    fn demands(&self, here: Revision) -> [Demand; 2] {
        let is_behind = self.after.is_some_and(|after| here < after);
        [if is_behind { Demand::Strict } else { self.demand() }, Demand::Strict]
    }

    /// The same read, but not of an older state than the page before showed.
    #[must_use]
    pub fn after(self, revision: Option<Revision>) -> Self {
        Asked { after: revision, ..self }
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

    /// What this region has applied, where the read depends on it.
    fn here_for(&self, asked: Asked) -> Result<Revision, ReadFault> {
        Ok(if asked.after.is_some() { self.metadata().local()?.revision() } else { Revision(0) })
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
        for demand in asked.demands(self.here_for(asked)?) {
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
        for demand in asked.demands(self.here_for(asked)?) {
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
    fn a_demand_is_kept_or_raised() {
        let asked = Asked { min_revision: Some(Revision(5)), ..Asked::default() }.after(Some(Revision(3)));
        assert_eq!((asked.min_revision, asked.after), (Some(Revision(5)), Some(Revision(3))));
        assert_eq!(asked.demand(), Demand::Pull);
        assert_eq!(asked.strict().demand(), Demand::Strict);
    }

    #[test]
    fn a_page_after_a_later_state_than_is_here_is_proved() {
        let local = Asked { consistency: Some(Consistency::Local), ..Asked::default() };
        assert_eq!(local.demands(Revision(0)), [Demand::Local, Demand::Strict]);
        let after = local.after(Some(Revision(7)));
        assert_eq!(after.demands(Revision(6)), [Demand::Strict; 2]);
        assert_eq!(after.demands(Revision(7)), [Demand::Local, Demand::Strict]);
    }
}
