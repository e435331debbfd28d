//! Finds the node's binary: named, built by cargo, or beside this program.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::failure::Failure;

/// The binary to start nodes from. Builds it first when this program was started by cargo.
pub(crate) async fn find(named: Option<PathBuf>) -> Result<PathBuf, Failure> {
    if let Some(path) = named {
        return existing(path, "name the binary `longshore-node` with --node-binary");
    }
    let own = std::env::current_exe().map_err(|error| {
        Failure::failed(format!("this program cannot find itself: {error}"), "add --node-binary FILE")
    })?;
    if let Some(cargo) = std::env::var_os("CARGO") {
        build(Path::new(&cargo), &own).await?;
    }
    existing(
        own.with_file_name("longshore-node"),
        "build it with `cargo build --bin longshore-node`, or add --node-binary FILE",
    )
}

fn existing(path: PathBuf, next: &str) -> Result<PathBuf, Failure> {
    if path.is_file() { Ok(path) } else { Err(Failure::failed(format!("there is no file {}", path.display()), next)) }
}

async fn build(cargo: &Path, own: &Path) -> Result<(), Failure> {
    let mut command = Command::new(cargo);
    command.args(["build", "--package", "node", "--bin", "longshore-node"]).args(profile_of(own));
    if let Some(package) = std::env::var_os("CARGO_MANIFEST_DIR") {
        command.arg("--manifest-path").arg(Path::new(&package).join("Cargo.toml"));
    }
    // What cargo tells this program about its own package must not reach the nested build: build scripts watch those
    // variables, and everything above them would be compiled anew at every start.
    for (name, _) in std::env::vars_os() {
        if is_of_own_package(&name.to_string_lossy()) {
            command.env_remove(&name);
        }
    }
    let status = command.status().await;
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(Failure::failed("the node could not be built", "the compiler's message above says why")),
        Err(error) => Err(Failure::failed(
            format!("{} could not be started: {}", cargo.display(), crate::failure::explain(&error)),
            "add --node-binary FILE",
        )),
    }
}

/// Whether cargo set a variable for the package it runs, and not for builds at large.
fn is_of_own_package(name: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"].iter().any(|prefix| name.starts_with(prefix))
}

/// Cargo's arguments for the profile whose directory this program lies in.
fn profile_of(own: &Path) -> Vec<String> {
    match own.parent().and_then(Path::file_name).and_then(|name| name.to_str()) {
        None | Some("debug") => vec![],
        Some("release") => vec!["--release".to_owned()],
        Some(other) => vec!["--profile".to_owned(), other.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nested_build_learns_nothing_of_this_package_and_keeps_the_rest() {
        assert!(is_of_own_package("CARGO_PKG_NAME") && is_of_own_package("CARGO_MANIFEST_LINKS"));
        assert!(!is_of_own_package("CARGO_TARGET_DIR") && !is_of_own_package("CARGO_HOME"));
    }

    #[test]
    fn the_node_is_built_like_this_program() {
        let none: [&str; 0] = [];
        assert_eq!(profile_of(Path::new("/t/debug/cluster-cli")), none);
        assert_eq!(profile_of(Path::new("/t/release/cluster-cli")), ["--release"]);
        assert_eq!(profile_of(Path::new("/t/bench/cluster-cli")), ["--profile", "bench"]);
    }
}
