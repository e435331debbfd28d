//! What a node wrote: an unlisted complaint fails the test that made it.

use std::fs;
use std::path::Path;

/// Lines of a log that nobody allowed: panics always, errors and warnings unless what they say contains an allowed text.
/// The name of the module that says it does not count.
pub fn complaints(log: &Path, allowed: &[&str]) -> Vec<String> {
    let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
    text.lines().filter(|line| is_complaint(line, allowed)).map(str::to_owned).collect()
}

fn is_complaint(line: &str, allowed: &[&str]) -> bool {
    if line.contains("panicked at") {
        return true;
    }
    let entry: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
    let said = |text: &str| {
        let fields = entry.as_object().into_iter().flatten();
        fields.filter(|(name, _)| *name != "target").any(|(_, value)| value.as_str().is_some_and(|v| v.contains(text)))
    };
    matches!(entry["level"].as_str(), Some("error" | "warn")) && !allowed.iter().any(|text| said(text))
}

#[cfg(test)]
mod tests {
    use super::is_complaint;

    #[test]
    fn panics_errors_and_unlisted_warnings_are_complaints() {
        assert!(is_complaint("thread 'main' panicked at src/main.rs:1:1:", &["panicked"]));
        assert!(is_complaint(r#"{"level":"error","message":"disk failed"}"#, &[]));
        assert!(!is_complaint(r#"{"level":"error","message":"disk failed"}"#, &["disk failed"]));
        assert!(is_complaint(r#"{"level":"error","target":"metadata::raft","message":"disk failed"}"#, &["raft"]));
        assert!(!is_complaint(r#"{"level":"warn","message":"put failed","error":"disk full"}"#, &["disk full"]));
        assert!(is_complaint(r#"{"level":"warn","message":"peer is slow"}"#, &[]));
        assert!(!is_complaint(r#"{"level":"warn","message":"peer is slow"}"#, &["is slow"]));
        assert!(!is_complaint(r#"{"level":"info","message":"no error at all"}"#, &[]));
    }
}
