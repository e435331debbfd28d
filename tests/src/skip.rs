//! What a machine cannot do is not tested there, and that is said.

use std::fs::OpenOptions;
use std::io::Write as _;

/// Says that this test is not run and why, also in the file that `LONGSHORE_TEST_SKIPS` names: the output of a test that
/// passes is not shown.
pub fn skipped(reason: &str) {
    println!("SKIPPED: {reason}");
    let Some(path) = std::env::var_os("LONGSHORE_TEST_SKIPS") else { return };
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("the list of skipped tests opens");
    writeln!(file, "SKIPPED: {test}: {reason}").expect("the list of skipped tests takes a line");
}
