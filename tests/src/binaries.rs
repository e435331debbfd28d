//! The programs under test, built once in the profile of the tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The programs under test.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// `longshore-node`
    pub node: PathBuf,
    /// `cluster-cli`
    pub cli: PathBuf,
}

/// Builds both programs through the cargo that runs the tests, once per test program.
pub fn binaries() -> &'static Binaries {
    static BUILT: OnceLock<Binaries> = OnceLock::new();
    BUILT.get_or_init(build)
}

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}

fn build() -> Binaries {
    // A test program lies in <target>/<profile>/deps.
    let own = std::env::current_exe().expect("a test program knows where it lies");
    let profile = own.ancestors().nth(2).expect("a test program lies in <target>/<profile>/deps");
    let target = profile.parent().expect("a profile lies in the target directory");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(repository()).args([
        "build",
        "--bin",
        "longshore-node",
        "--bin",
        "cluster-cli",
        "--target-dir",
    ]);
    command.arg(target);
    // What cargo tells a test program about its own package would make build scripts run again, each time.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"].iter().any(|own| text.starts_with(own)) {
            command.env_remove(&name);
        }
    }
    if profile.ends_with("release") {
        command.arg("--release");
    }
    let status = command.status().expect("cargo runs");
    assert!(status.success(), "the programs under test do not build");
    Binaries { node: profile.join("longshore-node"), cli: profile.join("cluster-cli") }
}
