//! Work spread over connections, each a task of its own, with one moving line of progress.

use std::future::Future;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::http::Client;
use super::target::Target;
use crate::failure::Failure;
use crate::show::units;

const SHOW_EVERY: Duration = Duration::from_millis(250);

/// What is done, how often, and how it is told.
#[derive(Clone)]
pub(crate) struct Work {
    pub(crate) what: &'static str,
    pub(crate) targets: Vec<Target>,
    pub(crate) connections: u16,
    /// Number of the first job; the others follow.
    pub(crate) first: u64,
    pub(crate) count: u64,
    pub(crate) size_bytes: u64,
    /// Show progress on standard error, if that is a terminal.
    pub(crate) progress: bool,
}

/// What a run took.
pub(crate) struct Measured {
    pub(crate) elapsed: Duration,
    /// Of every job. Unit: microseconds.
    pub(crate) micros: Vec<u64>,
}

/// Runs `job` for every number of the work. The first failure ends the run.
pub(crate) async fn run<J, F>(work: &Work, job: J) -> Result<Measured, Failure>
where
    J: Fn(Client, u64) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Client, Failure>> + Send + 'static,
{
    let next = Arc::new(AtomicU64::new(0));
    let done = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let mut workers = JoinSet::new();
    for connection in 0..u64::from(work.connections).min(work.count) {
        let target = work.targets[usize::try_from(connection).unwrap_or(0) % work.targets.len()].clone();
        let (job, next, done) = (job.clone(), Arc::clone(&next), Arc::clone(&done));
        let (first, count) = (work.first, work.count);
        workers.spawn(async move {
            let mut client = Client::new(target);
            let mut micros = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok::<_, Failure>(micros);
                }
                let started = Instant::now();
                client = job(client, first + number).await?;
                micros.push(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let mut micros = Vec::new();
    let mut ticks = tokio::time::interval(SHOW_EVERY);
    let shown = work.progress && std::io::stderr().is_terminal();
    loop {
        tokio::select! {
            ended = workers.join_next() => match ended {
                None => break,
                Some(Ok(worker)) => micros.extend(worker?),
                Some(Err(error)) => return Err(Failure::failed(format!("a worker failed: {error}"), "")),
            },
            _ = ticks.tick(), if shown => show(work, done.load(Ordering::Relaxed), began),
        }
    }
    if shown {
        clear();
    }
    Ok(Measured { elapsed: began.elapsed(), micros })
}

fn show(work: &Work, done: u64, began: Instant) {
    let rate = done as f64 * work.size_bytes as f64 / began.elapsed().as_secs_f64().max(0.001);
    let of = units::thousands(work.count);
    eprint!("\r\x1b[2K{}: {} of {of} · {}", work.what, units::thousands(done), units::rate(rate));
    // Progress that cannot be shown is no reason to stop measuring.
    let _shown = std::io::stderr().flush();
}

fn clear() {
    eprint!("\r\x1b[2K");
    let _shown = std::io::stderr().flush();
}
