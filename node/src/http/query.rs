//! Query strings. Names that a resource does not know are ignored (`origin`, `ns`), as clients expect.

use percent_encoding::percent_decode_str;

/// Names and values, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query. A `+` stays one: media types hold it, and no value of ours holds a space.
    pub(super) fn parse(text: &str) -> Self {
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| match pair.split_once('=') {
            Some((name, value)) => (decode(name), decode(value)),
            None => (decode(pair), String::new()),
        });
        Query(pairs.collect())
    }

    /// The first value of a name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All values of a name.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }
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
}
