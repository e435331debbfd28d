//! Rules between keys, and whether the disks can be used.

use std::path::Path;
use std::{fs, io};

use domain::limits::{BODY_IDLE_MS_MAX, MANIFEST_BYTES_MAX};

use super::explain;
use super::keys::Config;
use super::reader::{Mistake, Reader};
use super::value::HostPort;

/// Shortest waits for a client. Unit: milliseconds.
const CLIENT_WAIT_MS_MIN: u64 = 1000;
/// Most connections or requests at once that may be set; far beyond what file descriptors allow.
const PLACES_MAX: u64 = 1_000_000;

/// Rules between keys, and bounds of single ones.
pub(super) fn rules(config: &Config, reader: &Reader) -> Vec<Mistake> {
    let mut mistakes = doors(config, reader);
    mistakes.extend(limits(config, reader));
    mistakes
}

fn limits(config: &Config, reader: &Reader) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let mut note = |section: &str, key: &str, problem: String, remedy: &str| {
        mistakes.push(reader.mistake(section, key, problem, remedy));
    };
    let http = &config.http;
    let idle_ms = http.body_idle_ms_max.0;
    if !(CLIENT_WAIT_MS_MIN..=BODY_IDLE_MS_MAX).contains(&idle_ms) {
        note("http", "body_idle_ms_max", format!("{idle_ms} ms is out of range"), "set 1 s to 5 min");
    }
    if http.write_stall_ms_max.0 < CLIENT_WAIT_MS_MIN {
        let problem = format!("{} ms is too short for a client to take anything", http.write_stall_ms_max.0);
        note("http", "write_stall_ms_max", problem, "set at least 1 s");
    }
    let manifest = MANIFEST_BYTES_MAX as u64;
    if http.manifests_bytes_max.0 < manifest {
        let problem = format!("{} bytes do not hold one manifest of the largest size", http.manifests_bytes_max.0);
        note("http", "manifests_bytes_max", problem, "set at least 4MiB");
    }
    for (key, count) in [("connections_max", http.connections_max), ("requests_max", http.requests_max)] {
        if count.0 > PLACES_MAX {
            note("http", key, format!("{} is more than a node can serve", count.0), "set at most 1000000");
        }
    }
    mistakes
}

fn doors(config: &Config, reader: &Reader) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let mut note = |section: &str, key: &str, problem: String, remedy: &str| {
        mistakes.push(reader.mistake(section, key, problem, remedy));
    };
    let insecure_remedy =
        "listen on a loopback address, or accept it with peer.insecure = true inside a trusted network";
    if !config.peer.insecure && !config.peer.listen.ip().is_loopback() {
        let problem =
            format!("{} is reachable from other machines and peers are not authenticated", config.peer.listen);
        note("peer", "listen", problem, insecure_remedy);
    }
    if let Some(address) = config.peer.address.as_ref().filter(|address| !address.is_loopback())
        && !config.peer.insecure
    {
        let problem = format!("{} is on another machine and peers are not authenticated", address.0);
        note("peer", "address", problem, insecure_remedy);
    }
    if config.peer.address.is_none() && config.peer.listen.ip().is_unspecified() {
        let problem = "is not set, and other nodes cannot dial the wildcard address of peer.listen".to_owned();
        note("peer", "address", problem, "set it to the host:port by which the other nodes reach this one");
    }
    if config.http.public_url.is_none() && config.http.listen.ip().is_unspecified() {
        let problem = "is not set, and clients cannot use the wildcard address of http.listen".to_owned();
        note("http", "public_url", problem, "set it to the URL by which clients reach this region");
    }
    if config.http.listen == config.peer.listen && config.http.listen.port() != 0 {
        let problem = format!("{} is the address of http.listen too", config.peer.listen);
        note("peer", "listen", problem, "give the two doors different ports");
    }
    if config.storage.blobs.as_ref() == Some(&config.storage.data) {
        let problem = format!("{:?} is storage.data too", config.storage.data.display().to_string());
        note("storage", "blobs", problem, "name a directory of its own, such as one below storage.data");
    }
    if config.peer.listen.port() == 0 && config.peer.address.is_none() {
        note("peer", "listen", "port 0 cannot be dialled by other nodes".to_owned(), "name a port");
    }
    for (node, address) in &config.peer.via.0 {
        let loopback = HostPort::parse(address).is_some_and(|address| address.is_loopback());
        if !config.peer.insecure && !loopback {
            let problem = format!("node {node} at {address} is on another machine and peers are not authenticated");
            note("peer", "via", problem, insecure_remedy);
        }
    }
    mistakes
}

/// Whether the directories exist or can be made, and can be written.
pub(super) fn disks(config: Option<&Config>, reader: &Reader) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let (data, blobs) = match config {
        Some(config) => (Some(config.storage.data.clone()), config.storage.blobs.clone()),
        None => (reader.given("storage", "data"), reader.given("storage", "blobs")),
    };
    for (key, path) in [("data", data), ("blobs", blobs)] {
        let Some(path) = path else { continue };
        if let Some((problem, remedy)) = unusable(&path) {
            mistakes.push(reader.mistake("storage", key, problem, &remedy));
        }
    }
    mistakes
}

fn unusable(path: &Path) -> Option<(String, String)> {
    let uid = rustix::process::geteuid().as_raw();
    let shown = format!("{:?}", path.display().to_string());
    let existing = path.ancestors().find(|ancestor| !ancestor.as_os_str().is_empty() && ancestor.exists());
    let directory = existing.unwrap_or_else(|| Path::new("."));
    if !directory.is_dir() {
        let problem = format!("{shown} cannot be made: {:?} is not a directory", directory.display().to_string());
        return Some((problem, "set another path".to_owned()));
    }
    let Err(error) = probe(directory) else { return None };
    if error.kind() != io::ErrorKind::PermissionDenied {
        let problem = format!(
            "{shown} cannot be used: files cannot be made in {:?}: {}",
            directory.display().to_string(),
            explain(&error)
        );
        return Some((problem, "set another path".to_owned()));
    }
    if directory == path {
        return Some((format!("{shown} is not writable by uid {uid}"), "chown it, or set another path".to_owned()));
    }
    let parent = directory.display().to_string();
    Some((
        format!("{shown} does not exist and cannot be made: {parent:?} is not writable by uid {uid}"),
        "make it and chown it, or set another path".to_owned(),
    ))
}

/// Makes a file and removes it: what a user may do is not told by modes alone, and some file systems take no files.
fn probe(directory: &Path) -> io::Result<()> {
    let path = directory.join(format!(".longshore-probe-{}", std::process::id()));
    drop(fs::File::create(&path)?);
    fs::remove_file(&path)
}
