//! One file per kind of command.

pub(crate) mod birth;
pub(crate) mod leader;
pub(crate) mod leave;
pub(crate) mod look;
pub(crate) mod policy;
pub(crate) mod sync;
pub(crate) mod tags;

use serde::Serialize;

use crate::failure::Failure;
use crate::show::out::say;

/// Prints one JSON object on one line.
pub(crate) fn print_json<T: Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string(value)
        .map_err(|error| Failure::failed(format!("the answer cannot be written as JSON: {error}"), ""))?;
    say!("{text}");
    Ok(())
}
