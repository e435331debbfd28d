//! Answers with several ranges of one blob: `multipart/byteranges`.
//!
//! Source: RFC 9110 §14.6. Its length is known before the first byte leaves, as for every other answer.

use domain::{ByteRange, Digest};

/// The layout of a multipart answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    boundary: String,
    /// Each part's head and range.
    pub(super) parts: Vec<(String, ByteRange)>,
    /// What closes the answer.
    pub(super) end: String,
}

impl Layout {
    /// Lays out ranges of a blob of `size` bytes. None when they ask for more bytes than the blob has: then the whole
    /// is served, so that a small request cannot ask for a large answer many times over.
    pub(super) fn of(digest: &Digest, size: u64, ranges: &[ByteRange]) -> Option<Self> {
        let asked = ranges.iter().try_fold(0u64, |sum, range| sum.checked_add(range.bytes()))?;
        if asked > size {
            return None;
        }
        // No content can hold its own hash, so the boundary does not occur in it.
        let boundary = format!("longshore-{}", &digest.hex()[..40]);
        let head = |at: usize, range: &ByteRange| {
            let lead = if at == 0 { "" } else { "\r\n" };
            format!(
                "{lead}--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: {}\r\n\r\n",
                content_range(*range, size)
            )
        };
        let parts = ranges.iter().enumerate().map(|(at, range)| (head(at, range), *range)).collect();
        let end = format!("\r\n--{boundary}--\r\n");
        Some(Layout { boundary, parts, end })
    }

    /// Length of the answer. Unit: bytes.
    pub(super) fn bytes(&self) -> u64 {
        let parts: u64 = self.parts.iter().map(|(head, range)| head.len() as u64 + range.bytes()).sum();
        parts + self.end.len() as u64
    }

    /// Its `Content-Type`.
    pub(super) fn content_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }
}

/// `Content-Range` of a range.
pub(super) fn content_range(range: ByteRange, size: u64) -> String {
    format!("bytes {}-{}/{size}", range.start, range.end - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: Digest = Digest::Sha256([0xab; 32]);

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange { start, end }
    }

    #[test]
    fn a_layout_has_the_length_it_says() {
        let layout = Layout::of(&D, 10, &[range(0, 2), range(5, 9)]).expect("a layout");
        let mut text = String::new();
        for (head, range) in &layout.parts {
            text.push_str(head);
            text.push_str(&"x".repeat(usize::try_from(range.bytes()).expect("small")));
        }
        text.push_str(&layout.end);
        assert_eq!(text.len() as u64, layout.bytes());
        let boundary = layout.content_type().split_once("boundary=").map(|(_, rest)| rest.to_owned()).expect("one");
        assert_eq!(text.matches(&format!("--{boundary}\r\n")).count(), 2);
        assert!(text.contains("Content-Range: bytes 5-8/10\r\n\r\nxxxx\r\n--"), "{text}");
        assert!(text.ends_with(&format!("\r\n--{boundary}--\r\n")));
    }

    #[test]
    fn more_than_the_whole_is_not_laid_out() {
        assert_eq!(Layout::of(&D, 10, &[range(0, 10), range(0, 1)]), None);
        assert!(Layout::of(&D, 10, &[range(0, 9), range(9, 10)]).is_some());
    }
}
