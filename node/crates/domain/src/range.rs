//! Byte ranges.

/// Bytes `start..end` of something, `start < end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

impl ByteRange {
    /// Length. Unit: bytes.
    pub fn bytes(self) -> u64 {
        self.end - self.start
    }
}

/// What a `Range` header asks for, once the size is known.
///
/// Source: RFC 9110 §14.1.2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requested {
    /// No usable range: the whole, 200.
    Whole,
    /// One satisfiable range: 206.
    One(ByteRange),
    /// Several satisfiable ranges, at most [`RANGES_MAX`]: 206 multipart, or the whole.
    Many(Vec<ByteRange>),
    /// None satisfiable: 416.
    Unsatisfiable,
}

/// Most ranges of one request that are honoured; with more the whole is served.
pub const RANGES_MAX: usize = 128;

/// What may stand around a value and the elements of a list. Source: RFC 9110 §5.6.3.
const SPACES: [char; 2] = [' ', '\t'];

/// Reads a `Range` header value against a size.
///
/// A syntactically bad header and other units are ignored (the whole is served), as RFC 9110 asks; a reversed range
/// such as `500-0` is answered as unsatisfiable, as the conformance rows (G2) ask.
pub fn parse_range(header: &str, size: u64) -> Requested {
    let Some((unit, list)) = header.trim_matches(SPACES).split_once('=') else { return Requested::Whole };
    if !unit.eq_ignore_ascii_case("bytes") {
        return Requested::Whole;
    }
    let mut ranges = Vec::new();
    let mut seen = 0;
    for part in list.split(',') {
        let part = part.trim_matches(SPACES);
        if part.is_empty() {
            continue;
        }
        seen += 1;
        if seen > RANGES_MAX {
            return Requested::Whole;
        }
        match parse_part(part, size) {
            Ok(Some(range)) => ranges.push(range),
            Ok(None) => {}
            Err(()) => return Requested::Whole,
        }
    }
    match (seen, ranges.len()) {
        (0, _) => Requested::Whole,
        (_, 0) => Requested::Unsatisfiable,
        (_, 1) => Requested::One(ranges[0]),
        _ => Requested::Many(ranges),
    }
}

fn number(text: &str) -> Result<u64, ()> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(());
    }
    // More digits than fit mean "beyond any blob".
    Ok(text.parse().unwrap_or(u64::MAX))
}

fn parse_part(part: &str, size: u64) -> Result<Option<ByteRange>, ()> {
    let (first, last) = part.split_once('-').ok_or(())?;
    if first.is_empty() {
        let suffix = number(last)?;
        let start = size.saturating_sub(suffix);
        return Ok((suffix > 0 && size > 0).then_some(ByteRange { start, end: size }));
    }
    let start = number(first)?;
    let end = if last.is_empty() { size } else { number(last)?.saturating_add(1).min(size) };
    Ok((start < end).then_some(ByteRange { start, end }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(start: u64, end: u64) -> Requested {
        Requested::One(ByteRange { start, end })
    }

    #[test]
    fn ranges_of_the_conformance_rows() {
        assert_eq!(parse_range("bytes=500-1499", 2048), one(500, 1500));
        assert_eq!(parse_range("bytes=500-", 2048), one(500, 2048));
        assert_eq!(parse_range("bytes=-500", 2048), one(1548, 2048));
        assert_eq!(parse_range("bytes=2000-5000", 2048), one(2000, 2048));
        assert_eq!(parse_range("bytes=500-0", 2048), Requested::Unsatisfiable);
        assert_eq!(parse_range("bytes=5000-10000", 2048), Requested::Unsatisfiable);
    }

    #[test]
    fn odd_headers() {
        assert_eq!(parse_range("items=0-1", 10), Requested::Whole);
        assert_eq!(parse_range("\tBytes=0-1 ", 10), one(0, 2));
        assert_eq!(parse_range("bytes =0-1", 10), Requested::Whole);
        assert_eq!(parse_range("bytes=\u{a0}0-1", 10), Requested::Whole);
        assert_eq!(parse_range("bytes=a-b", 10), Requested::Whole);
        assert_eq!(parse_range("bytes=", 10), Requested::Whole);
        assert_eq!(parse_range("bytes=-0", 10), Requested::Unsatisfiable);
        assert_eq!(parse_range("bytes=0-0", 0), Requested::Unsatisfiable);
        assert_eq!(parse_range("bytes=-5", 0), Requested::Unsatisfiable);
        assert_eq!(parse_range("bytes=0-99999999999999999999999", 10), one(0, 10));
        assert_eq!(
            parse_range("bytes=0-0, 5-6", 10),
            Requested::Many(vec![ByteRange { start: 0, end: 1 }, ByteRange { start: 5, end: 7 }])
        );
        assert_eq!(parse_range(&format!("bytes={}", "0-0,".repeat(129)), 10), Requested::Whole);
    }
}
