//! Query strings.

use domain::query::{Query, escape, rows};

use super::{decimal, percent_decoded, percent_encoded};

/// Reads the bytes as a query, and as a number of rows.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let query = Query::parse(text);
    assert_eq!(query, Query::parse(text), "the same twice");
    let expected = oracle(text);
    assert_eq!(query.pairs(), expected, "{text:?}");
    for (name, _) in &expected {
        let values: Vec<&str> = expected.iter().filter(|pair| pair.0 == *name).map(|pair| pair.1.as_str()).collect();
        assert_eq!(query.get(name), values.first().copied(), "the first of {name:?} in {text:?}");
        // All of them are compared where that is cheap: a query may hold one name thousands of times.
        if expected.len() <= 64 {
            assert_eq!(query.all(name).collect::<Vec<_>>(), values, "all of {name:?} in {text:?}");
        }
        if expected.len() > 256 {
            break;
        }
    }
    // A byte that is no UTF-8 becomes a character of three.
    let held: usize = query.pairs().iter().map(|(name, value)| name.len() + value.len()).sum();
    assert!(held <= 3 * text.len(), "{held} bytes of {}", text.len());
    written_and_read_back(&query);
    assert_eq!(rows(text), decimal(text).map(|number| usize::try_from(number).unwrap_or(usize::MAX)), "{text:?}");
    assert_eq!(percent_decoded(&escape(text)), text.as_bytes());
}

fn written_and_read_back(query: &Query) {
    let write = |pairs: &[(String, String)], escape: fn(&str) -> String| {
        let pairs = pairs.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value)));
        pairs.collect::<Vec<_>>().join("&")
    };
    let ours = write(query.pairs(), escape);
    assert_eq!(ours, write(query.pairs(), |text| percent_encoded(text, "-._~")));
    assert_eq!(Query::parse(&ours), *query, "{ours}");
}

/// Names and values. Source: RFC 3986 §2.1 and §3.4; pairs as HTML forms write them, but for `+`, which is itself.
fn oracle(text: &str) -> Vec<(String, String)> {
    let lossy = |text: &str| String::from_utf8_lossy(&percent_decoded(text)).into_owned();
    let mut pairs = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find('&').unwrap_or(rest.len());
        let pair = &rest[..end];
        if !pair.is_empty() {
            let equals = pair.find('=').unwrap_or(pair.len());
            pairs.push((lossy(&pair[..equals]), lossy(pair.get(equals + 1..).unwrap_or_default())));
        }
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    pairs
}
