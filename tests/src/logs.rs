//! What a node wrote: an unlisted complaint fails the test that made it.

use std::fs;
use std::path::Path;

/// Lines of a log that nobody allowed: panics always, errors and warnings unless they contain an allowed text.
pub fn complaints(log: &Path, allowed: &[&str], with_warnings: bool) -> Vec<String> {
    let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
    text.lines().filter(|line| is_complaint(line, allowed, with_warnings)).map(str::to_owned).collect()
}

fn is_complaint(line: &str, allowed: &[&str], with_warnings: bool) -> bool {
    if line.contains("panicked at") {
        return true;
    }
    let entry: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
    let counts = match entry["level"].as_str() {
        Some("ERROR") => true,
        Some("WARN") => with_warnings,
        _ => false,
    };
    counts && !allowed.iter().any(|text| line.contains(text))
}

#[cfg(test)]
mod tests {
    use super::is_complaint;

    #[test]
    fn panics_errors_and_unlisted_warnings_are_complaints() {
        assert!(is_complaint("thread 'main' panicked at src/main.rs:1:1:", &["panicked"], false));
        assert!(is_complaint(r#"{"level":"ERROR","message":"disk failed"}"#, &[], false));
        assert!(!is_complaint(r#"{"level":"ERROR","message":"disk failed"}"#, &["disk failed"], false));
        assert!(is_complaint(r#"{"level":"WARN","message":"peer is slow"}"#, &[], true));
        assert!(!is_complaint(r#"{"level":"WARN","message":"peer is slow"}"#, &[], false));
        assert!(!is_complaint(r#"{"level":"INFO","message":"no ERROR at all"}"#, &[], true));
    }
}
