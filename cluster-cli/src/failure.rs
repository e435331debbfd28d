//! Errors as people and scripts see them: what happened, why, what to do next, and an exit code.

use std::fmt;
use std::process::ExitCode;

/// What an exit code means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 1: it failed.
    Failed,
    /// 2: wrong usage.
    Usage,
    /// 3: not now; a retry may help.
    NotNow,
    /// 4: refused, because a promise would break.
    Refused,
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::NotNow => 3,
            Exit::Refused => 4,
        }
    }
}

/// An error in three parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What happened and why, in one line.
    pub(crate) what: String,
    /// Particulars, a line each.
    pub(crate) details: Vec<String>,
    /// What to do next; may be empty.
    pub(crate) next: String,
    /// Exit code.
    pub(crate) exit: Exit,
}

impl Failure {
    pub(crate) fn new(exit: Exit, what: impl Into<String>, next: impl Into<String>) -> Self {
        Failure { what: what.into(), details: Vec::new(), next: next.into(), exit }
    }

    pub(crate) fn failed(what: impl Into<String>, next: impl Into<String>) -> Self {
        Failure::new(Exit::Failed, what, next)
    }

    pub(crate) fn with_details(mut self, details: Vec<String>) -> Self {
        self.details = details;
        self
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.exit.code())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        for detail in &self.details {
            write!(f, "\n  {detail}")?;
        }
        if !self.next.is_empty() {
            write!(f, "\nnext: {}", self.next)?;
        }
        Ok(())
    }
}

/// An I/O error as a person would say it.
pub(crate) fn explain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::StorageFull => "the disk is full".to_owned(),
        std::io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only".to_owned(),
        std::io::ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
        std::io::ErrorKind::AlreadyExists => "something of that name is there already".to_owned(),
        std::io::ErrorKind::NotADirectory => "a part of the path is a file".to_owned(),
        std::io::ErrorKind::AddrInUse => "another program listens there".to_owned(),
        // The system's own words, without its number.
        _ => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or(&text).to_lowercase()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_are_told_in_words() {
        use std::io::{Error, ErrorKind};
        assert_eq!(explain(&Error::from(ErrorKind::ConnectionRefused)), "nothing listens there");
        assert_eq!(explain(&Error::from_raw_os_error(5)), "input/output error");
        assert_eq!(
            explain(&Error::other("failed to lookup address information")),
            "failed to lookup address information"
        );
    }

    #[test]
    fn three_parts_are_told_in_order() {
        let failure = Failure::new(Exit::Refused, "tokyo holds the last copy of 3 blobs", "bring virginia back")
            .with_details(vec!["sha256:3f…   812 MB".to_owned()]);
        let told = "error: tokyo holds the last copy of 3 blobs\n  sha256:3f…   812 MB\nnext: bring virginia back";
        assert_eq!((failure.to_string().as_str(), failure.exit.code()), (told, 4));
    }
}
