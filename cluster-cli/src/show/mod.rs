//! How things look: units, tables, the status page.

pub(crate) mod out;
pub(crate) mod status;
pub(crate) mod table;
pub(crate) mod units;

use std::io::IsTerminal;

/// Whether standard output may carry colour: a terminal, and nobody objects (no-color.org).
pub(crate) fn colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
