//! Entity tags as `If-Match` and `If-None-Match` list them.
//!
//! Source: RFC 9110 §8.8.3 and §13.1. Ours are quoted digests; what is no tag of ours matches nothing, so the text
//! between commas is taken as it stands.

/// The elements of one header line: `*`, entity tags with their quotes, and whatever else stood between commas. Commas
/// inside of quotes part nothing.
pub fn list(line: &str) -> Vec<&str> {
    let mut quoted = false;
    let elements = line.split(|char| {
        quoted ^= char == '"';
        char == ',' && !quoted
    });
    elements.map(|element| element.trim_matches([' ', '\t'])).filter(|element| !element.is_empty()).collect()
}

/// An element without its mark of weakness: proxies that compress make our tags weak.
pub fn without_weakness(element: &str) -> &str {
    element.strip_prefix("W/").unwrap_or(element)
}

/// What an element names: without its mark of weakness and its quotes.
pub fn opaque(element: &str) -> &str {
    let tag = without_weakness(element);
    tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_parted_by_commas_outside_of_quotes() {
        assert_eq!(list(r#""a", W/"b",,	* , sha256:c"#), [r#""a""#, r#"W/"b""#, "*", "sha256:c"]);
        assert_eq!(list(r#""a,*,b""#), [r#""a,*,b""#]);
        assert_eq!(list(r#""a, "b""#), [r#""a, "b""#]);
        assert!(list(" ,\t, ").is_empty());
    }

    #[test]
    fn a_tag_is_what_stands_between_its_quotes() {
        assert_eq!([r#""a""#, r#"W/"a""#, "a"].map(opaque), ["a"; 3]);
        assert_eq!([r#"""a"""#, r#"W/W/"a""#, r#"""#].map(opaque), [r#""a""#, r#"W/"a""#, r#"""#]);
    }
}
