//! Where the node stands in its life, shared between the doors.

use std::sync::Arc;

use tokio::sync::watch;

use crate::rooms::Rooms;

/// Where the node stands.
#[derive(Clone, Default)]
pub enum Phase {
    /// No identity: waits for `init` or `join`.
    #[default]
    Unjoined,
    /// Being born, joining, or opening its rooms.
    Starting,
    /// All rooms are open.
    Member(Arc<Rooms>),
    /// Stopping: running requests end, new ones are refused.
    Draining(Option<Arc<Rooms>>),
}

impl Phase {
    /// The rooms, once open.
    pub fn rooms(&self) -> Option<Arc<Rooms>> {
        match self {
            Phase::Unjoined | Phase::Starting => None,
            Phase::Member(rooms) => Some(Arc::clone(rooms)),
            Phase::Draining(rooms) => rooms.clone(),
        }
    }
}

/// The shared value. Cheap to clone.
#[derive(Clone)]
pub struct PhaseCell(watch::Sender<Phase>);

impl Default for PhaseCell {
    fn default() -> Self {
        PhaseCell(watch::Sender::new(Phase::default()))
    }
}

impl PhaseCell {
    /// The phase now.
    pub fn get(&self) -> Phase {
        self.0.borrow().clone()
    }

    /// Enters another phase. What is draining stays so.
    pub fn set(&self, next: Phase) {
        self.0.send_modify(|phase| {
            if !matches!(phase, Phase::Draining(_)) {
                *phase = next;
            }
        });
    }

    /// Begins draining.
    pub fn drain(&self) {
        self.0.send_modify(|phase| *phase = Phase::Draining(phase.rooms()));
    }

    /// Follows the phase.
    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.0.subscribe()
    }
}
