//! Configuration: TOML file, environment, checks. Wrong settings are reported all at once, before any port opens.

mod check;
mod example;
pub mod keys;
pub mod reader;
pub mod value;

use std::fmt;
use std::path::{Path, PathBuf};

pub use example::render as render_example;
pub use keys::Config;
pub use reader::Mistake;
pub use value::{LogFormat, Profile, StaleHead};

use reader::Reader;

/// Exit code of a node whose configuration is wrong (EX_USAGE).
pub const EXIT_CODE: u8 = 64;

/// A configuration that may be started with.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// Unknown keys, where they are allowed.
    pub warnings: Vec<Mistake>,
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes {
    /// File that was read.
    pub file: String,
    /// What is wrong, in the order of the file.
    pub list: Vec<Mistake>,
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.list.len();
        let problems = if count == 1 { "problem" } else { "problems" };
        writeln!(f, "{count} {problems} in {}, nothing was started", self.file)?;
        f.write_str(&table(&self.list))
    }
}

/// Lays mistakes out in columns.
pub fn table(list: &[Mistake]) -> String {
    let width = |column: fn(&Mistake) -> &str| list.iter().map(|m| column(m).chars().count()).max().unwrap_or(0);
    let places = width(|m| &m.place);
    let keys = width(|m| &m.key);
    let problems = width(|m| &m.problem);
    let line = |m: &Mistake| {
        let Mistake { place, key, problem, remedy } = m;
        format!("  {place:places$}   {key:keys$}   {problem:problems$}   {remedy}")
    };
    list.iter().map(line).collect::<Vec<_>>().join("\n")
}

impl Config {
    /// Reads a file and the environment. With `allow_unknown`, unknown keys become warnings (a rollback meets newer files).
    pub fn load(file: &Path, allow_unknown: bool) -> Result<Loaded, Mistakes> {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(file).map_err(|error| Mistakes {
            file: name.clone(),
            list: vec![Mistake {
                place: name.clone(),
                key: String::new(),
                problem: format!("cannot be read: {}", explain(&error)),
                remedy: "name an existing file with --config; `longshore-node config example` prints one".to_owned(),
            }],
        })?;
        let environment: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Config::parse(&name, &text, &environment, allow_unknown, true)
    }

    /// Reads text and variables; `with_disk` also checks that the directories can be written.
    pub fn parse(
        file: &str,
        text: &str,
        environment: &[(String, String)],
        allow_unknown: bool,
        with_disk: bool,
    ) -> Result<Loaded, Mistakes> {
        let mut reader = Reader::new(file, text, environment);
        let config = Config::read(&mut reader);
        if let Some(config) = &config {
            let found = check::rules(config, &reader);
            reader.mistakes.extend(found);
        }
        if with_disk {
            // Also where other values are wrong: all mistakes are told at once.
            let found = check::disks(config.as_ref(), &reader);
            reader.mistakes.extend(found);
        }
        let Reader { mut mistakes, unknown, .. } = reader;
        let mut warnings = unknown;
        if !allow_unknown {
            mistakes.append(&mut warnings);
        }
        mistakes.sort_by_cached_key(|mistake| place_order(&mistake.place));
        match config {
            Some(config) if mistakes.is_empty() => Ok(Loaded { config, warnings }),
            _ => Err(Mistakes { file: file.to_owned(), list: mistakes }),
        }
    }

    /// URL by which clients reach this region.
    pub fn public_url(&self) -> String {
        self.http.public_url.as_ref().map_or_else(|| format!("http://{}", self.http.listen), |url| url.0.clone())
    }

    /// `host:port` by which other nodes reach this one.
    pub fn peer_address(&self) -> String {
        self.peer.address.as_ref().map_or_else(|| self.peer.listen.to_string(), |address| address.0.clone())
    }

    /// Directory of the blob store.
    pub fn blobs_directory(&self) -> PathBuf {
        self.storage.blobs.clone().unwrap_or_else(|| self.storage.data.join("blobs"))
    }
}

fn place_order(place: &str) -> (String, u64) {
    match place.rsplit_once(':') {
        Some((file, line)) => (file.to_owned(), line.parse().unwrap_or(0)),
        None => (place.to_owned(), 0),
    }
}

/// An I/O error as a person would say it.
fn explain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::NotADirectory => "a part of the path is not a directory".to_owned(),
        std::io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only".to_owned(),
        std::io::ErrorKind::StorageFull => "the disk is full".to_owned(),
        // The system's own words, without its number.
        _ => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or(&text).to_lowercase()
        }
    }
}

#[cfg(test)]
#[path = "config_test.rs"]
mod config_test;
