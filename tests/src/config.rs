//! The configuration files that regions are started with.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

/// Settings by section and key; values are TOML text.
#[derive(Clone, Debug, Default)]
pub struct Settings(BTreeMap<String, BTreeMap<String, String>>);

impl Settings {
    /// Sets `section.key` to a TOML value; a later one wins.
    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        let (section, key) = key.split_once('.').expect("a key is section.key");
        self.0.entry(section.to_owned()).or_default().insert(key.to_owned(), value.into());
    }

    /// The file.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for (section, keys) in &self.0 {
            writeln!(text, "[{section}]").expect("writing to a string never fails");
            for (key, value) in keys {
                writeln!(text, "{key} = {value}").expect("writing to a string never fails");
            }
        }
        text
    }
}

/// What every region of a test has.
pub fn base(http: SocketAddr, peer: SocketAddr, data: &Path, profile: &str) -> Settings {
    let mut settings = Settings::default();
    settings.set("http.listen", quoted(http));
    settings.set("peer.listen", quoted(peer));
    settings.set("storage.data", format!("{:?}", data.display().to_string()));
    // Test machines may have little room; the reserve is a matter of its own test.
    settings.set("storage.reserve_bytes", "\"64MiB\"");
    settings.set("raft.profile", quoted(profile));
    settings.set("log.format", "\"json\"");
    settings
}

/// A TOML string.
pub fn quoted(value: impl std::fmt::Display) -> String {
    format!("\"{value}\"")
}

/// The inline table of `peer.via`.
pub fn via(addresses: &BTreeMap<u64, SocketAddr>) -> String {
    let entries: Vec<String> = addresses.iter().map(|(node, address)| format!("{node} = \"{address}\"")).collect();
    format!("{{ {} }}", entries.join(", "))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn settings_are_toml_and_later_ones_win() {
        let address = "127.0.0.1:1".parse().expect("an address");
        let mut settings = super::base(address, address, Path::new("/tmp/data"), "lan");
        settings.set("raft.profile", "\"wan\"");
        settings.set("peer.via", super::via(&[(2, address)].into()));
        let parsed: toml::Table = toml::from_str(&settings.render()).expect("it is TOML");
        assert_eq!(parsed["raft"]["profile"].as_str(), Some("wan"));
        assert_eq!(parsed["peer"]["via"]["2"].as_str(), Some("127.0.0.1:1"));
    }
}
