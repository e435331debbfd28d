//! The house stays tidy: floors, doors, sizes and names are checked from `cargo metadata` and from the sources.
//!
//! Each check returns its findings as text, so that all of them are shown at once.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{Metadata, MetadataCommand, Package};

/// Crates and their floors. A crate imports strictly lower floors only.
const FLOORS: &[(&str, u8)] = &[
    ("domain", 0),
    ("runtime", 1),
    ("kv", 1),
    ("blobs", 2),
    ("metadata", 3),
    ("replication", 4),
    ("registry", 5),
    ("node", 6),
];

/// The lowest floor that may speak a wire protocol.
const WIRE_FLOOR: u8 = 3;

/// Crates beside the house, and what they may see of it.
const BESIDE: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("cluster-cli", &["proto", "domain"]),
    ("tests", &["proto", "domain"]),
    ("jepsen", &["proto", "domain"]),
];

/// Libraries that any crate may use: they bring vocabulary, no service.
const COMMON: &[&str] = &[
    "bytes",
    "futures-util",
    "http",
    "http-body",
    "http-body-util",
    "proptest",
    "rustix",
    "serde",
    "serde_json",
    "tempfile",
    "thiserror",
    "tokio",
    "tokio-stream",
    "tokio-util",
    "tracing",
];

/// Every other outside library and the crates that are its doors. A library missing here has no door yet: give it one.
const DOORS: &[(&str, &[&str])] = &[
    ("axum", &["node"]),
    ("blake3", &["domain", "kv", "blobs", "metadata", "cluster-cli", "tests"]),
    ("cargo_metadata", &["tests"]),
    ("clap", &["node", "cluster-cli"]),
    ("getrandom", &["runtime"]),
    ("hyper", &["node", "cluster-cli", "tests"]),
    ("hyper-util", &["node", "cluster-cli", "tests"]),
    ("libtest-mimic", &["tests"]),
    ("lz4_flex", &["metadata"]),
    ("object_store", &["blobs"]),
    ("openraft", &["metadata"]),
    ("percent-encoding", &["domain"]),
    ("prometheus-client", &["node"]),
    ("prost", &["proto", "metadata", "replication"]),
    ("protox", &["proto"]),
    ("redb", &["kv"]),
    ("ring", &["blobs", "metadata", "registry", "cluster-cli", "tests"]),
    ("sled", &["kv"]),
    ("toml", &["node", "tests"]),
    ("tonic", &["proto", "metadata", "replication", "registry", "node", "cluster-cli", "tests"]),
    ("tonic-prost", &["proto"]),
    ("tonic-prost-build", &["proto"]),
    ("tower", &["node"]),
    ("tracing-subscriber", &["node"]),
];

/// Paths that may stand only in files whose path contains one of the given parts.
const PLACES: &[(&str, &[&str])] = &[
    ("openraft::", &["node/crates/metadata/"]),
    ("redb::", &["node/crates/kv/src/ledger"]),
    ("sled::", &["node/crates/kv/src/cache"]),
    ("object_store::", &["node/crates/blobs/"]),
    ("axum::", &["node/src/", "node/tests/"]),
    ("hyper::server", &["node/src/", "tests/src/balancer"]),
    ("hyper_util::server", &["node/src/"]),
    ("prometheus_client::", &["node/src/"]),
    ("tracing_subscriber::", &["node/src/"]),
];

/// What a visitor sees at the top. Names beginning with a dot are free.
const TOP_LEVEL: &[&str] =
    &["Cargo.toml", "Cargo.lock", "proto", "node", "cluster-cli", "config", "tests", "jepsen", "docs", "README.md"];

/// Top-level names that builds and trials leave behind; git ignores them.
const LEFT_BEHIND: &[&str] = &["target", "longshore-dev"];

/// Lines of a source file, and of a file of tests.
const LINES_MAX: usize = 500;
const TEST_LINES_MAX: usize = 800;

/// Words that belong to the making of the project and not into it. Split, so that this file does not contain them.
const FORBIDDEN: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("index.cra", "tes.io"),
    concat!("static.cra", "tes.io"),
    concat!("proxy.go", "lang.org"),
    concat!("pypi", ".org"),
    concat!("sub", "agent"),
    concat!("helper ", "agent"),
    concat!("work", "tree"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_path_buf()
}

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .other_options(vec!["--offline".to_owned()])
        .exec()
        .expect("cargo metadata answers for the workspace")
}

fn floor(name: &str) -> Option<u8> {
    FLOORS.iter().find(|(known, _)| *known == name).map(|(_, floor)| *floor)
}

fn beside(name: &str) -> Option<&'static [&'static str]> {
    BESIDE.iter().find(|(known, _)| *known == name).map(|(_, seen)| *seen)
}

/// Why `from` must not import `to`, both crates of this workspace.
fn wrong_edge(from: &str, to: &str) -> Option<String> {
    if let Some(seen) = beside(from) {
        return (!seen.contains(&to)).then(|| format!("{from} imports {to}, it may see only {seen:?}"));
    }
    let Some(upper) = floor(from) else {
        return Some(format!("{from} has no floor, give it one in tidy.rs"));
    };
    if to == "proto" {
        return (upper < WIRE_FLOOR).then(|| format!("{from} (floor {upper}) imports proto, below floor {WIRE_FLOOR}"));
    }
    match floor(to) {
        Some(lower) if lower < upper => None,
        Some(lower) => Some(format!("{from} (floor {upper}) imports {to} (floor {lower}), only lower floors may be")),
        None => Some(format!("{from} imports {to}, which has no floor")),
    }
}

/// Why `from` must not use the outside library `library`.
fn wrong_door(from: &str, library: &str) -> Option<String> {
    if COMMON.contains(&library) {
        return None;
    }
    match DOORS.iter().find(|(known, _)| *known == library) {
        Some((_, doors)) if doors.contains(&from) => None,
        Some((_, doors)) => Some(format!("{from} uses {library}, its doors are {doors:?}")),
        None => Some(format!("{from} uses {library}, which has no door in tidy.rs")),
    }
}

fn assert_tidy(findings: &[String]) {
    assert!(findings.is_empty(), "{} findings:\n  {}", findings.len(), findings.join("\n  "));
}

fn members(metadata: &Metadata) -> Vec<&Package> {
    metadata.workspace_packages()
}

#[test]
fn crates_import_only_lower_floors_and_use_libraries_at_their_doors() {
    let metadata = metadata();
    let members = members(&metadata);
    let names: BTreeSet<&str> = members.iter().map(|package| package.name.as_str()).collect();
    let mut findings = Vec::new();
    for package in &members {
        for dependency in &package.dependencies {
            let found = if names.contains(dependency.name.as_str()) {
                wrong_edge(&package.name, &dependency.name)
            } else {
                wrong_door(&package.name, &dependency.name)
            };
            findings.extend(found);
        }
    }
    assert_tidy(&findings);
    for (name, _) in FLOORS {
        assert!(names.contains(name), "the house lost its crate {name}");
    }
}

#[test]
fn the_rules_themselves_find_upward_sideways_and_foreign_edges() {
    assert!(wrong_edge("kv", "blobs").is_some(), "upward");
    assert!(wrong_edge("kv", "runtime").is_some(), "sideways");
    assert!(wrong_edge("blobs", "proto").is_some(), "wire types below their floor");
    assert!(wrong_edge("cluster-cli", "metadata").is_some(), "a tool that looks behind the door");
    assert!(wrong_edge("registry", "blobs").is_none(), "downward");
    assert!(wrong_door("registry", "openraft").is_some(), "wrong door");
    assert!(wrong_door("domain", "leftpad").is_some(), "no door at all");
    assert!(wrong_door("kv", "redb").is_none(), "the door");
}

/// Files under `root` that git would keep, with their paths relative to it.
fn sources() -> Vec<(String, PathBuf)> {
    let root = root();
    let mut files = Vec::new();
    let mut open = vec![root.clone()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).expect("folders of the repository are readable") {
            let path = entry.expect("entries of the repository are readable").path();
            let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
            if name == ".git" || LEFT_BEHIND.contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else {
                let relative = path.strip_prefix(&root).expect("found below the root").to_string_lossy().into_owned();
                files.push((relative, path));
            }
        }
    }
    files.sort();
    files
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).expect("files of the repository are readable")).into_owned()
}

fn is_test_file(relative: &str) -> bool {
    relative.ends_with("_test.rs") || relative.contains("/tests/")
}

#[test]
fn files_are_of_a_size_one_can_read() {
    let mut findings = Vec::new();
    for (relative, path) in sources().iter().filter(|(relative, _)| relative.ends_with(".rs")) {
        let lines = read(path).lines().count();
        let allowed = if is_test_file(relative) { TEST_LINES_MAX } else { LINES_MAX };
        if lines > allowed {
            findings.push(format!("{relative} has {lines} lines, {allowed} are allowed"));
        }
    }
    assert_tidy(&findings);
}

/// The code of a line: comments do not count.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// Whether `line` uses `path` as a path of its own and not as the end of a longer name.
fn uses(line: &str, path: &str) -> bool {
    let line = code(line);
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|char| char.is_alphanumeric() || char == '_' || char == '"')
    })
}

#[test]
fn libraries_are_named_only_behind_their_doors() {
    let mut findings = Vec::new();
    for (relative, path) in sources().iter().filter(|(relative, _)| relative.ends_with(".rs")) {
        if relative == "tests/tests/tidy.rs" {
            continue;
        }
        let text = read(path);
        for (number, line) in text.lines().enumerate() {
            for (library, places) in PLACES {
                if uses(line, library) && !places.iter().any(|place| relative.starts_with(place)) {
                    findings.push(format!("{relative}:{}: {library} belongs to {places:?}", number + 1));
                }
            }
        }
    }
    assert_tidy(&findings);
}

/// Whether a file, or a folder it lies in, is named as one that may speak wire types.
fn may_speak_wire(relative: &str) -> bool {
    let speaks = |part: &str| ["wire", "network", "server"].iter().any(|name| part.starts_with(name));
    relative.split('/').any(speaks)
}

#[test]
fn wire_types_stay_in_files_named_for_them() {
    let mut findings = Vec::new();
    for (relative, path) in sources().iter().filter(|(relative, _)| relative.ends_with(".rs")) {
        if relative == "tests/tests/tidy.rs" || relative.starts_with("proto/") || may_speak_wire(relative) {
            continue;
        }
        for (number, line) in read(path).lines().enumerate() {
            if uses(line, "proto::") {
                findings.push(format!("{relative}:{}: a wire type outside of wire*, network* and server*", number + 1));
            }
        }
    }
    assert_tidy(&findings);
}

#[test]
fn the_top_level_shows_the_house_and_nothing_else() {
    let mut findings = Vec::new();
    for entry in fs::read_dir(root()).expect("the root is readable") {
        let name = entry.expect("entries of the root are readable").file_name().to_string_lossy().into_owned();
        let known = TOP_LEVEL.contains(&name.as_str()) || LEFT_BEHIND.contains(&name.as_str());
        if !known && !name.starts_with('.') {
            findings.push(format!("{name} stands at the top level, which is kept for {TOP_LEVEL:?}"));
        }
        if name.starts_with("rust-toolchain") {
            findings.push(format!("{name}: the toolchain is stated by rust-version alone"));
        }
    }
    assert_tidy(&findings);
}

#[test]
fn nothing_of_the_workshop_is_left_in_the_repository() {
    let mut findings = Vec::new();
    for (relative, path) in &sources() {
        let text = read(path).to_lowercase();
        for word in FORBIDDEN.iter().filter(|word| text.contains(**word)) {
            findings.push(format!("{relative} contains {word:?}"));
        }
    }
    assert_tidy(&findings);
}

#[test]
fn versions_and_lints_stand_once_at_the_root() {
    let mut findings = Vec::new();
    for package in members(&metadata()) {
        let manifest: toml::Table =
            toml::from_str(&read(package.manifest_path.as_std_path())).expect("cargo has read it already");
        let inherits = manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool);
        if inherits != Some(true) {
            findings.push(format!("{} does not inherit the workspace's lints", package.name));
        }
        for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(dependencies) = manifest.get(table).and_then(toml::Value::as_table) else { continue };
            for (name, value) in dependencies {
                if value.get("workspace").and_then(toml::Value::as_bool) != Some(true) {
                    findings.push(format!("{}: {table}.{name} does not take its version from the root", package.name));
                }
            }
        }
        if package.rust_version.is_none() {
            findings.push(format!("{} states no rust-version", package.name));
        }
    }
    assert_tidy(&findings);
}

#[test]
fn every_crate_and_file_says_what_it_is_for() {
    let mut findings = Vec::new();
    for (relative, path) in sources().iter().filter(|(relative, _)| relative.ends_with(".rs")) {
        let text = read(path);
        // Test modules beside their subject are described by it.
        if relative.ends_with("_test.rs") || text.starts_with("//!") {
            continue;
        }
        findings.push(format!("{relative} does not begin with a `//!` header"));
    }
    assert_tidy(&findings);
}

/// Targets of the relative links in a Markdown text.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let local = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    local.map(|target| target.split('#').next().unwrap_or_default()).collect()
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    assert_eq!(links("a [b](c/d.md#e) [f](https://example.com) [g](h)"), ["c/d.md", "h"]);
    let mut findings = Vec::new();
    let mut seen = 0;
    for (relative, path) in sources().iter().filter(|(relative, _)| relative.ends_with(".md")) {
        let text = read(path);
        let folder = path.parent().expect("a file lies in a folder");
        for link in links(&text) {
            seen += 1;
            if !folder.join(link).exists() {
                findings.push(format!("{relative} links to {link}, which is not there"));
            }
        }
    }
    assert_tidy(&findings);
    assert!(seen > 10, "the documents link to each other");
}

#[test]
fn every_decision_is_listed() {
    let folder = root().join("docs/decisions");
    let list = read(&folder.join("README.md"));
    for entry in fs::read_dir(&folder).expect("the decisions are readable") {
        let name = entry.expect("entries are readable").file_name().to_string_lossy().into_owned();
        assert!(name == "README.md" || list.contains(&format!("({name})")), "{name} is not listed in README.md");
    }
}
