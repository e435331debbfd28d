//! `Range` of blob reads. An input is the blob's size, a line feed, and the header's value.

use domain::range::{ByteRange, RANGES_MAX, Requested, parse_range};

use super::{decimal, line_and_rest};

/// Reads the header's value against the size; a size that is none stands for 2048.
pub fn check(bytes: &[u8]) {
    let (size, header) = line_and_rest(bytes);
    let Ok(header) = std::str::from_utf8(header) else { return };
    let size = std::str::from_utf8(size).ok().and_then(|size| size.parse().ok()).unwrap_or(2048);
    let read = parse_range(header, size);
    assert_eq!(read, parse_range(header, size), "the same twice");
    let ranges = match &read {
        Requested::Whole | Requested::Unsatisfiable => &[],
        Requested::One(range) => std::slice::from_ref(range),
        Requested::Many(ranges) => ranges.as_slice(),
    };
    for range in ranges {
        assert!(range.start < range.end && range.end <= size, "{range:?} of {size} bytes");
    }
    assert!(ranges.len() <= RANGES_MAX);
    let pairs: Vec<_> = ranges.iter().map(|range| (u128::from(range.start), u128::from(range.end) - 1)).collect();
    match oracle(header, u128::from(size)) {
        None => assert_eq!(read, Requested::Whole, "{header:?} of {size}"),
        Some(expected) if expected.is_empty() => assert_eq!(read, Requested::Unsatisfiable, "{header:?} of {size}"),
        Some(expected) => {
            assert_eq!(pairs, expected, "{header:?} of {size}");
            assert_eq!(matches!(read, Requested::One(_)), expected.len() == 1);
            assert_eq!(parse_range(&written(ranges), size), read, "it is read back");
        }
    }
}

fn written(ranges: &[ByteRange]) -> String {
    let specs: Vec<String> = ranges.iter().map(|range| format!("{}-{}", range.start, range.end - 1)).collect();
    format!("bytes={}", specs.join(","))
}

/// First and last bytes of the satisfiable ranges; none where the header is to be ignored. A range whose last byte lies
/// before its first counts as not satisfiable, as the conformance rows ask.
///
/// Source: RFC 9110 §14.1.1 and §14.1.2, §5.6.1 for lists.
fn oracle(header: &str, size: u128) -> Option<Vec<(u128, u128)>> {
    let value = header.trim_matches(|char| char == ' ' || char == '\t');
    let unit = value.get(..6).filter(|unit| unit.to_lowercase() == "bytes=")?;
    let specs: Vec<&str> = value[unit.len()..].split(',').map(|spec| spec.trim_matches(['\t', ' '])).collect();
    let specs: Vec<&str> = specs.into_iter().filter(|spec| !spec.is_empty()).collect();
    if specs.is_empty() || specs.len() > 128 {
        return None;
    }
    let mut satisfiable = Vec::new();
    for spec in specs {
        let dash = spec.find('-')?;
        let (first, last) = (&spec[..dash], &spec[dash + 1..]);
        let (first, last) = match (first, last) {
            ("", suffix) => {
                let length = decimal(suffix)?.min(size);
                if length == 0 {
                    continue;
                }
                (size - length, size - 1)
            }
            (first, "") => (decimal(first)?, u128::MAX),
            (first, last) => (decimal(first)?, decimal(last)?),
        };
        if first <= last && first < size {
            satisfiable.push((first, last.min(size - 1)));
        }
    }
    Some(satisfiable)
}
