//! `longshore-node`: one regional node of the registry.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    node::run::main(node::arguments::Arguments::parse())
}
