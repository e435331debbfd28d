//! What keeps a log from growing: snapshots, and purges behind them. Pure.

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Upkeep {
    /// Build a snapshot: the last one does not reach far enough.
    pub(super) build: bool,
    /// Purge up to this index.
    pub(super) purge: Option<u64>,
}

impl Upkeep {
    /// `wanted`: the index up to which the log should go. `bound`: the index of a snapshot that is on its way to a peer;
    /// nothing behind it is purged, and no newer one is built, with which a transfer that broke off would begin anew.
    ///
    /// What the last snapshot covers is purged at once, also while a newer one is built: writes that never pause move
    /// `wanted` past every snapshot before the next look.
    pub(super) fn of(wanted: u64, purged: u64, snapshot: u64, bound: Option<u64>) -> Self {
        let upto = wanted.min(snapshot).min(bound.unwrap_or(u64::MAX));
        Upkeep { build: bound.is_none() && snapshot < wanted, purge: (upto > purged).then_some(upto) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_purged_though_writes_never_pause() {
        const KEPT: u64 = 10;
        let (mut applied, mut purged, mut snapshot) = (0, 0, 0);
        for _ in 0..100 {
            applied += 250;
            let Upkeep { build, purge } = Upkeep::of(applied - KEPT, purged, snapshot, None);
            purged = purge.unwrap_or(purged);
            assert!(purged <= snapshot, "only what a snapshot covers is purged");
            if build {
                snapshot = applied;
            }
        }
        assert!(applied - purged <= 600, "the log holds {} entries", applied - purged);
    }

    #[test]
    fn nothing_is_taken_from_a_transfer() {
        assert_eq!(Upkeep::of(900, 100, 500, Some(500)), Upkeep { build: false, purge: Some(500) });
        assert_eq!(Upkeep::of(900, 100, 700, Some(500)), Upkeep { build: false, purge: Some(500) });
        assert_eq!(Upkeep::of(900, 500, 700, Some(500)), Upkeep { build: false, purge: None });
    }

    #[test]
    fn a_snapshot_is_built_where_the_last_one_ends_too_early() {
        assert_eq!(Upkeep::of(900, 500, 500, None), Upkeep { build: true, purge: None });
        assert_eq!(Upkeep::of(900, 500, 950, None), Upkeep { build: false, purge: Some(900) });
    }
}
