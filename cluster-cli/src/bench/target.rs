//! A registry's address.

/// A registry to measure: plain HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// `host:port`.
    pub(crate) authority: String,
}

impl Target {
    /// Parses `http://host:port` or `host:port`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("https://") {
            return Err("only plain HTTP can be measured; name the registry's http:// address".to_owned());
        }
        let authority = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        if authority.is_empty() || authority.contains(['/', '?', '#', '@', ' ']) {
            return Err("write http://host:port".to_owned());
        }
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        Ok(Target { authority })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.authority)
    }
}

/// Path and query of a `Location`, which may be a whole URL.
pub(crate) fn path_of(location: &str) -> String {
    let rest = location.strip_prefix("http://").or_else(|| location.strip_prefix("https://"));
    match rest {
        None => location.to_owned(),
        Some(rest) => rest.find('/').map_or_else(|| "/".to_owned(), |slash| rest[slash..].to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_and_locations_are_understood() {
        assert_eq!(Target::parse("http://127.0.0.1:5001/").unwrap().authority, "127.0.0.1:5001");
        assert_eq!(Target::parse("registry.example.com").unwrap().authority, "registry.example.com:80");
        assert!(Target::parse("https://registry.example.com").is_err());
        assert!(Target::parse("http://h:1/v2").is_err());
        assert_eq!(path_of("/v2/a/blobs/uploads/x?_state=y"), "/v2/a/blobs/uploads/x?_state=y");
        assert_eq!(path_of("http://other:5000/v2/a?x=1"), "/v2/a?x=1");
    }
}
