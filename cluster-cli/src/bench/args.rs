//! The command line of `bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::target::Target;

const EXAMPLES: &str = "\
Examples:
  cluster-cli bench push http://127.0.0.1:5001                           64 MiB blobs
  cluster-cli bench push http://127.0.0.1:5001 --size 1MiB --count 256
  cluster-cli bench pull http://127.0.0.1:5001 http://127.0.0.1:5003     spread over two regions
  cluster-cli bench manifests http://127.0.0.1:5001 --count 5000 --json
  cluster-cli bench push http://127.0.0.1:5001 --beside http://127.0.0.1:5000   by turns, for a ratio

Works with any registry that speaks the OCI distribution protocol over plain HTTP. What it pushes stays there.";

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Push distinct blobs
    #[command(after_help = EXAMPLES)]
    Push(Blobs),
    /// Pull blobs, which are pushed first
    #[command(after_help = EXAMPLES)]
    Pull(Blobs),
    /// Put manifests under tags, then get them by tag
    #[command(after_help = EXAMPLES)]
    Manifests(Manifests),
}

/// Whom to measure, and how to tell.
#[derive(Args, Clone, Debug)]
pub(crate) struct Common {
    /// Registries; connections are spread over them
    #[arg(value_name = "URL", required = true, value_parser = Target::parse)]
    pub(crate) targets: Vec<Target>,
    /// Another registry, measured in turn with them for a ratio
    #[arg(long, value_name = "URL", value_parser = Target::parse)]
    pub(crate) beside: Option<Target>,
    /// Repository to push to
    #[arg(long, value_name = "NAME", default_value = "bench/longshore")]
    pub(crate) repository: String,
    /// Directory whose disk is measured for comparison
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) directory: PathBuf,
    /// Leave out the comparison with this machine's hashes and disk
    #[arg(long)]
    pub(crate) no_machine: bool,
    /// Print one JSON object per result
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Blobs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Size of a blob
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = size)]
    pub(crate) size: usize,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) count: u64,
    /// Connections at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) connections: u16,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Manifests {
    #[command(flatten)]
    pub(crate) common: Common,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) count: u64,
    /// Connections at once
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) connections: u16,
}

/// `64MiB`, `1MB`, `100000`: from 1 KiB to 8 GiB.
fn size(text: &str) -> Result<usize, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let factor: u64 = match text[digits..].trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err("write a size such as 64MiB".to_owned()),
    };
    let bytes = text[..digits].parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    let bytes = bytes.filter(|bytes| (1 << 10..=8 << 30).contains(bytes)).and_then(|bytes| usize::try_from(bytes).ok());
    bytes.ok_or_else(|| "write a size from 1KiB to 8GiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_and_bounds() {
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("1MB"), Ok(1_000_000));
        for wrong in ["", "MiB", "64 gigs", "9GiB", "12", "-1MiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
