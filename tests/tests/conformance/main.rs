//! Every row of the conformance table, case by case, against one region and against three behind a balancer that hands
//! every request to the next one. Rows are named as in the table: `b01…` is its row B1, and so on.
//!
//! The regions of a world are started once and shared; each row has repositories of its own. Rows that need small limits
//! or broken links have worlds of their own, where they run one after the other.

mod blobs;
mod conditions;
mod deletes;
mod doubtful;
mod errors;
mod faults;
mod limits;
mod lists;
mod manifests;
mod mounts;
mod ranges;
mod referrers;
mod row;
mod tag_parameters;
mod uploads;
mod uploads_refused;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};
use tests::cluster::{Cluster, Options};
use tokio::runtime::{Handle, Runtime};

use crate::row::{At, Row, Shared};

/// Rows that any registry in good health meets.
fn common() -> Vec<Row> {
    [
        errors::rows(),
        blobs::rows(),
        uploads::rows(),
        uploads_refused::rows(),
        mounts::rows(),
        manifests::rows(),
        tag_parameters::rows(),
        conditions::rows(),
        lists::rows(),
        deletes::rows(),
        referrers::rows(),
        ranges::rows(),
        doubtful::rows(),
    ]
    .concat()
}

/// Regions that wait for proof, however busy the machine is, before an answer is marked as one that may be stale.
fn strict() -> Options {
    let settings = ["reads.strict_wait_ms_max", "reads.failover_wait_ms_max"].map(|key| (key, "\"30s\"".to_owned()));
    Options { profile: "wan", settings: settings.to_vec(), ..Options::default() }
}

/// A cluster, and the name its rows are listed under.
struct World {
    name: &'static str,
    regions: usize,
    options: fn() -> Options,
    rows: fn() -> Vec<Row>,
    /// Its rows disturb each other.
    one_by_one: bool,
}

const WORLDS: [World; 4] = [
    World { name: "one_region", regions: 1, options: Options::default, rows: common, one_by_one: false },
    World { name: "three_regions", regions: 3, options: strict, rows: common, one_by_one: false },
    World { name: "small_limits", regions: 1, options: limits::options, rows: limits::rows, one_by_one: true },
    World { name: "broken_links", regions: 3, options: faults::options, rows: faults::all, one_by_one: true },
];

impl World {
    /// Its rows as tests; without a cluster they can be listed only.
    fn trials(&self, cluster: Option<&Shared>, runtime: &Handle) -> Vec<Trial> {
        let trial = |(name, run): Row| {
            let (cluster, runtime) = (cluster.cloned(), runtime.clone());
            Trial::test(format!("{}::{name}", self.name), move || {
                let cluster = cluster.ok_or("the cluster was not started")?;
                runtime.block_on(async { run(Arc::new(At::new(cluster, name).await)).await });
                Ok(())
            })
        };
        (self.rows)().into_iter().map(trial).collect()
    }

    /// Runs those that are asked for; whether one of them failed.
    fn run(&self, arguments: &Arguments, runtime: &Runtime) -> bool {
        let listed = self.trials(None, runtime.handle());
        if arguments.list {
            return libtest_mimic::run(arguments, listed).has_failed();
        }
        let is_asked_for = |trial: &Trial| {
            let fits = |text: &String| if arguments.exact { trial.name() == text } else { trial.name().contains(text) };
            arguments.filter.as_ref().is_none_or(fits) && !arguments.skip.iter().any(fits)
        };
        if !listed.iter().any(is_asked_for) {
            return false;
        }
        let mut arguments = arguments.clone();
        if self.one_by_one {
            arguments.test_threads = Some(1);
        }
        let cluster = runtime.block_on(Cluster::start(self.regions, (self.options)()));
        runtime.block_on(row::allow_what_rows_need(&cluster));
        let cluster = Shared::new(cluster.into());
        let conclusion = libtest_mimic::run(&arguments, self.trials(Some(&cluster), runtime.handle()));
        let cluster = Arc::into_inner(cluster).expect("the rows have ended");
        runtime.block_on(cluster.into_inner().finish());
        conclusion.has_failed()
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("threads cannot be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let failed = WORLDS.iter().filter(|world| world.run(&arguments, &runtime)).count();
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
