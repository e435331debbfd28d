//! How large the suites are: small by default, so that they suit two cores and a debug build.

use std::sync::Once;

use crate::skip::skipped;

/// Name of the variable that scales sizes and rounds. Unit: percent of the full size.
pub const VARIABLE: &str = "LONGSHORE_TEST_SCALE";

/// `full` in a full run, `small` unless [`VARIABLE`] says otherwise; a percentage scales between them.
pub fn scaled(small: u64, full: u64) -> u64 {
    let percent = std::env::var(VARIABLE).ok().and_then(|value| value.trim_end_matches('%').parse::<u64>().ok());
    between(small, full, percent.unwrap_or(0))
}

fn between(small: u64, full: u64, percent: u64) -> u64 {
    (full.saturating_mul(percent.min(100)) / 100).max(small)
}

/// A seed for this run, printed with the words that repeat it.
pub fn seed(test: &str) -> u64 {
    let given = std::env::var("LONGSHORE_TEST_SEED").ok().and_then(|value| value.parse::<u64>().ok());
    let seed = given.unwrap_or_else(|| u64::from(std::process::id()));
    println!("{test}: seed {seed}; repeat with LONGSHORE_TEST_SEED={seed}");
    seed
}

/// What a node may use above idle. Unit: bytes.
///
/// The promise is about release builds, and judged there: without optimisation the stacks of blocking threads alone are
/// larger by half. A run that does not judge it says so.
pub fn above_idle_max() -> u64 {
    const MIB: u64 = 1024 * 1024;
    if cfg!(debug_assertions) {
        static SAID: Once = Once::new();
        let why = "a debug build is held to 96 MiB above idle; the promised 64 MiB are judged in release builds";
        SAID.call_once(|| skipped(why));
        return 96 * MIB;
    }
    64 * MIB
}

#[cfg(test)]
mod tests {
    use super::between;

    #[test]
    fn percentages_lie_between_small_and_full() {
        assert_eq!(between(8, 200, 0), 8);
        assert_eq!(between(8, 200, 50), 100);
        assert_eq!(between(8, 200, 100), 200);
        assert_eq!(between(8, 200, 900), 200);
        assert_eq!(between(8, 200, 1), 8);
    }
}
