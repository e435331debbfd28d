//! `cluster-cli`: runs a cluster on one machine, operates clusters anywhere, measures registries.
//!
//! Knows the wire types of `proto` and the words of `domain`, and nothing of how nodes work inside.

#![deny(clippy::print_stdout)]

mod args;
mod bench;
mod cluster;
mod dev;
mod failure;
mod network;
mod show;
mod verbs;
mod wire;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Arguments, PolicyVerb, TagsVerb, Verb};
use crate::failure::{Exit, Failure};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!(
                "{}",
                Failure::failed(format!("threads cannot be started: {error}"), "look at the process limits")
            );
            return ExitCode::from(Exit::Failed.code());
        }
    };
    let result = runtime.block_on(run(arguments.verb));
    // A reader of standard input may still wait for a line; the process does not.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit_code()
        }
    }
}

async fn run(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Dev(options) => dev::run(options).await,
        Verb::Init(options) => verbs::birth::init(options).await,
        Verb::Join(options) => verbs::birth::join(options).await,
        Verb::Leave(options) => verbs::leave::leave(options).await,
        Verb::Regions(options) => verbs::look::regions(options).await,
        Verb::Status(options) => verbs::look::status(options).await,
        Verb::Policy(PolicyVerb::Set(options)) => verbs::policy::set(options).await,
        Verb::Policy(PolicyVerb::Show(options)) => verbs::policy::show(options).await,
        Verb::Tags(TagsVerb::History(options)) => verbs::tags::history(options).await,
        Verb::Tags(TagsVerb::Rollback(options)) => verbs::tags::rollback(options).await,
        Verb::Sync(options) => verbs::sync::sync(options).await,
        Verb::TransferLeader(options) => verbs::leader::transfer(options).await,
        Verb::Bench(bench) => bench::run(bench).await,
    }
}
