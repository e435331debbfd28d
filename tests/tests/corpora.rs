//! Replays the corpora of the fuzz targets: every input that a fuzzer or a person found worth keeping, past crashes too.
//!
//! `tests/fuzz/README.md` says how they grow. That folder is a crate of its own which this workspace does not build, so
//! what it must have for each target is checked here.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use tests::fuzz::TARGETS;

/// Largest corpus of one target, and of all of them. Unit: bytes.
const CORPUS_BYTES_MAX: u64 = 256 * 1024;
const CORPORA_BYTES_MAX: u64 = 1024 * 1024;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// Names in a folder of `tests/fuzz`, without the ending `.rs`, `.dict` or none.
fn names(inside: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder().join(inside)).unwrap_or_else(|error| panic!("{inside}: {error}"));
    let paths = entries.map(|entry| entry.expect("entries are readable").path());
    paths.map(|path| path.file_stem().expect("an entry has a name").to_string_lossy().into_owned()).collect()
}

#[test]
fn every_target_has_a_binary_a_dictionary_and_a_corpus_and_nothing_else_has() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(targets.len(), TARGETS.len(), "each target once");
    for inside in ["targets", "dictionaries", "corpus"] {
        assert_eq!(names(inside), targets, "tests/fuzz/{inside} against tests/src/fuzz/mod.rs");
    }
    let manifest = fs::read_to_string(folder().join("Cargo.toml")).expect("the crate has a manifest");
    let manifest: toml::Table = toml::from_str(&manifest).expect("the manifest is TOML");
    let binaries = manifest["bin"].as_array().expect("the crate has binaries").iter();
    let binaries: BTreeSet<String> =
        binaries.map(|binary| binary["name"].as_str().expect("named").to_owned()).collect();
    assert_eq!(binaries, targets, "binaries of tests/fuzz/Cargo.toml against tests/src/fuzz/mod.rs");
}

#[test]
fn every_input_of_every_corpus_holds() {
    let mut failed = Vec::new();
    let mut all_bytes = 0;
    for (target, check) in TARGETS {
        let corpus = folder().join("corpus").join(target);
        let entries = fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{target} has no corpus: {error}"));
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("entries are readable").path()).collect();
        files.sort();
        assert!(!files.is_empty(), "{target} has an empty corpus");
        let mut bytes = 0;
        for file in &files {
            let input = fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            bytes += input.len() as u64;
            if catch_unwind(AssertUnwindSafe(|| check(&input))).is_err() {
                failed.push(format!("{target}: {}", file.display()));
            }
        }
        println!("{target}: {} inputs of {bytes} bytes", files.len());
        assert!(bytes <= CORPUS_BYTES_MAX, "the corpus of {target} has {bytes} bytes, minimise it");
        all_bytes += bytes;
    }
    println!("all targets: {all_bytes} bytes");
    assert!(all_bytes <= CORPORA_BYTES_MAX, "the corpora have {all_bytes} bytes");
    assert!(failed.is_empty(), "{} inputs failed, each says above why:\n  {}", failed.len(), failed.join("\n  "));
}
