//! What many clients asked of one registry at once, what they were told, and whether some order of their requests
//! explains all of it.
//!
//! The registry claims the order itself: writes name the log index at which they happened (`Longshore-Revision`), reads
//! name the index whose state they show. [`check()`] takes it at its word: the claimed order must respect real time, the
//! writes replayed in that order through a small sequential [`Model`] must be judged as they were answered, each read
//! must show the state at the index it names, and what names no index (refusals, 404) must hold at some index between
//! the request and its answer. Nothing here does I/O or looks at a clock.

mod bounds;
mod check;
mod event;
#[cfg(test)]
mod history_test;
mod model;
mod replay;

pub use check::{Summary, check};
pub use event::{Answer, Condition, Demand, Event, Name, Outcome, Put, Question, Read, Request, Said};
pub use model::{Content, Contents, Expected, Model};
