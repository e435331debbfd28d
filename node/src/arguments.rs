//! The command line of `longshore-node`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  longshore-node --config /etc/longshore/node.toml          run the node
  longshore-node config example > node.toml                 begin a configuration
  longshore-node config check --config node.toml            check it without starting anything
  longshore-node store format --replace --config node.toml  give up the blobs of a damaged disk and begin an empty store

A node without identity waits for `cluster-cli init` or `cluster-cli join`; `cluster-cli dev` does all of it on one machine.

Exit codes: 0 stopped as asked, 1 failed, 2 wrong usage, 64 wrong configuration (nothing was started)";

/// One regional node of the Longshore registry.
#[derive(Debug, Parser)]
#[command(name = "longshore-node", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    /// What to do instead of running the node.
    #[command(subcommand)]
    pub verb: Option<Verb>,
    /// How to run it.
    #[command(flatten)]
    pub run: Run,
}

/// How a configuration is named.
#[derive(Args, Clone, Debug)]
pub struct ConfigFile {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "node.toml", env = "LONGSHORE_CONFIG")]
    pub config: PathBuf,
    /// Turn unknown keys into warnings, for a rollback that meets newer files
    #[arg(long)]
    pub allow_unknown_config: bool,
}

/// Running the node.
#[derive(Args, Clone, Debug)]
pub struct Run {
    /// The configuration.
    #[command(flatten)]
    pub file: ConfigFile,
    /// Stop when standard input closes: a child ends with its parent, however that one ends
    #[arg(long, hide = true)]
    pub stop_when_stdin_closes: bool,
}

/// Other things than running.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Look after the blob store
    #[command(subcommand)]
    Store(StoreVerb),
}

/// Verbs of `config`.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Check a configuration and say everything that is wrong with it
    Check(ConfigFile),
    /// Print the commented example
    Example,
}

/// Verbs of `store`.
#[derive(Debug, Subcommand)]
pub enum StoreVerb {
    /// Format the blob store anew: its blobs are given up here and fetched again from the other regions
    Format {
        /// The configuration.
        #[command(flatten)]
        file: ConfigFile,
        /// Accept that every blob in the store is given up
        #[arg(long)]
        replace: bool,
    },
}
