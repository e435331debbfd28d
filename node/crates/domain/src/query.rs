//! Query strings. Names that a resource does not know are ignored (`origin`, `ns`), as clients expect.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What need not be escaped in a query value. Source: RFC 3986 §2.3.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Names and values, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query. A `+` stays one: media types hold it, and no value of ours holds a space.
    pub fn parse(text: &str) -> Self {
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| match pair.split_once('=') {
            Some((name, value)) => (decode(name), decode(value)),
            None => (decode(pair), String::new()),
        });
        Query(pairs.collect())
    }

    /// The first value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All values of a name.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All names and values, in order.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }
}

/// A name or a value as a query holds it.
pub fn escape(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

/// A number of rows: digits alone. What does not fit is more than a page holds anyway.
pub fn rows(text: &str) -> Option<usize> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_values_and_escapes() {
        let query = Query::parse("n=2&tag=a&tag=b&artifactType=application%2Fvnd.x%2Bjson&raw=a+b&flag&=x&e=");
        assert_eq!(query.get("n"), Some("2"));
        assert_eq!(query.all("tag").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(query.get("artifactType"), Some("application/vnd.x+json"));
        assert_eq!(query.get("raw"), Some("a+b"));
        assert_eq!((query.get("flag"), query.get("e"), query.get("none")), (Some(""), Some(""), None));
        assert_eq!(Query::parse(""), Query::default());
    }

    #[test]
    fn escaped_text_is_read_back() {
        assert_eq!(escape("a/b+c&d=e%f ä~"), "a%2Fb%2Bc%26d%3De%25f%20%C3%A4~");
        assert_eq!(Query::parse("x=a%2Fb%2Bc%26d%3De%25f%20%C3%A4~").get("x"), Some("a/b+c&d=e%f ä~"));
    }

    #[test]
    fn rows_are_digits() {
        assert_eq!([rows("0"), rows("25"), rows("007")], [Some(0), Some(25), Some(7)]);
        assert_eq!(rows("99999999999999999999999"), Some(usize::MAX));
        assert_eq!([rows(""), rows("-1"), rows("+1"), rows("1.5"), rows("x")], [None; 5]);
    }
}
