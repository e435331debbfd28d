//! `bench`: what a registry can do, measured from outside, beside what the machine could do at best.

pub(crate) mod args;
mod content;
mod http;
mod machine;
mod report;
mod requests;
mod target;
mod workers;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use ring::rand::{SecureRandom, SystemRandom};

use crate::failure::Failure;
use crate::show::out::say;
use crate::verbs::print_json;
use args::{Bench, Blobs, Common, Manifests};
use content::Content;
use http::Client;
use report::Comparison;
use workers::{Work, run as run_work};

/// Distinct blobs that a pull benchmark reads in turn; more would only fill the disk.
const PULLED_BLOBS_MAX: u64 = 64;

/// Turns that two registries take when they are compared.
const ROUNDS: u64 = 3;

pub(crate) async fn run(bench: Bench) -> Result<(), Failure> {
    match bench {
        Bench::Push(options) => push(options).await,
        Bench::Pull(options) => pull(options).await,
        Bench::Manifests(options) => manifests(options).await,
    }
}

async fn push(options: Blobs) -> Result<(), Failure> {
    let (work, content, repository) = prepare(&options, "push")?;
    let pushed = race(&options.common, &work, move |mut client: Client, number| {
        let (content, repository) = (Arc::clone(&content), Arc::clone(&repository));
        async move {
            requests::push_blob(&mut client, &repository, &content.blob(number)).await?;
            Ok(client)
        }
    });
    let pushed = pushed.await?;
    tell_machine(&options.common, Some(pushed.bytes_per_second))
}

async fn pull(options: Blobs) -> Result<(), Failure> {
    let (work, content, repository) = prepare(&options, "pull")?;
    let distinct = options.count.min(PULLED_BLOBS_MAX);
    for target in options.common.targets.iter().take(1).chain(&options.common.beside) {
        let mut source = Client::new(target.clone());
        for number in 0..distinct {
            requests::push_blob(&mut source, &repository, &content.blob(number)).await?;
        }
    }
    // Every registry gives every blob once, byte by byte, before the clock runs.
    for target in options.common.targets.iter().chain(&options.common.beside) {
        let mut client = Client::new(target.clone());
        for number in 0..distinct {
            requests::check_blob(&mut client, &repository, &content.blob(number)).await?;
        }
    }
    let pulled = race(&options.common, &work, move |mut client: Client, number| {
        let (content, repository) = (Arc::clone(&content), Arc::clone(&repository));
        async move {
            requests::pull_blob(&mut client, &repository, &content.blob(number % distinct)).await?;
            Ok(client)
        }
    });
    pulled.await?;
    tell_machine(&options.common, None)
}

async fn manifests(options: Manifests) -> Result<(), Failure> {
    let Manifests { common, count, connections } = options;
    let repository: Arc<str> = common.repository.as_str().into();
    let run = run_id()?;
    let (config, layer) = (Bytes::from_static(b"{}"), Bytes::from(run.clone().into_bytes()));
    let mut named = (String::new(), String::new());
    for target in common.targets.iter().take(1).chain(&common.beside) {
        let mut client = Client::new(target.clone());
        named.0 = requests::push_bytes(&mut client, &repository, config.clone()).await?;
        named.1 = requests::push_bytes(&mut client, &repository, layer.clone()).await?;
    }
    let make = {
        let run = run.clone();
        move |number: u64| manifest(&named.0, &named.1, run.len(), &format!("{run}-{number}"))
    };
    let size_bytes = make(0).len() as u64;
    let mut work = Work {
        what: "manifest puts",
        targets: common.targets.clone(),
        connections,
        first: 0,
        count,
        size_bytes,
        progress: !common.json,
    };
    let (make, tag) = (Arc::new(make), Arc::new(move |number: u64| format!("{run}-{number}")));
    let (puts_in, puts_tag) = (Arc::clone(&repository), Arc::clone(&tag));
    let puts = race(&common, &work, move |mut client: Client, number| {
        let (repository, body, tag) = (Arc::clone(&puts_in), make(number), puts_tag(number));
        async move {
            requests::put_manifest(&mut client, &repository, &tag, body).await?;
            Ok(client)
        }
    });
    puts.await?;
    work.what = "tag gets";
    let gets = race(&common, &work, move |mut client: Client, number| {
        let (repository, tag) = (Arc::clone(&repository), tag(number));
        async move {
            requests::get_manifest(&mut client, &repository, &tag).await?;
            Ok(client)
        }
    });
    gets.await?;
    tell_machine(&common, None)
}

/// Runs a work and tells its result. With a registry beside, the two take turns, so that whatever else the machine does
/// meanwhile hits both, and their ratio is told as well.
async fn race<J, F>(common: &Common, work: &Work, job: J) -> Result<report::Result, Failure>
where
    J: Fn(Client, u64) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Client, Failure>> + Send + 'static,
{
    let Some(beside) = &common.beside else {
        let result = report::Result::of(work, vec![run_work(work, job).await?]);
        tell(&result, common)?;
        return Ok(result);
    };
    let other = Work { targets: vec![beside.clone()], ..work.clone() };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for part in rounds(work.count) {
        for (work, measured) in [(work, &mut ours), (&other, &mut theirs)] {
            let round = Work { first: part.start, count: part.end - part.start, ..work.clone() };
            measured.push(run_work(&round, job.clone()).await?);
        }
    }
    let rounds = ours.len() as u64;
    let (ours, theirs) = (report::Result::of(work, ours), report::Result::of(&other, theirs));
    tell(&ours, common)?;
    tell(&theirs, common)?;
    let ratio = ours.per_second / theirs.per_second;
    let comparison = Comparison { what: work.what, beside: beside.url(), rounds, ratio };
    if common.json {
        print_json(&comparison)?;
    } else {
        say!("{}", comparison.text());
    }
    Ok(ours)
}

/// The numbers of each round: all of the count, in parts as even as can be.
fn rounds(count: u64) -> Vec<Range<u64>> {
    let rounds = ROUNDS.min(count);
    (0..rounds).map(|round| count * round / rounds..count * (round + 1) / rounds).collect()
}

fn manifest(config: &str, layer: &str, layer_size: usize, unique: &str) -> Bytes {
    let body = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": requests::MANIFEST,
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2 },
        "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": layer_size }],
        "annotations": { "bench": unique },
    });
    Bytes::from(body.to_string())
}

fn prepare(options: &Blobs, what: &'static str) -> Result<(Work, Arc<Content>, Arc<str>), Failure> {
    let Blobs { common, size, count, connections } = options;
    let work = Work {
        what,
        targets: common.targets.clone(),
        connections: *connections,
        first: 0,
        count: *count,
        size_bytes: *size as u64,
        progress: !common.json,
    };
    let content = Content::new(*size, run_id()?.as_bytes());
    Ok((work, Arc::new(content), common.repository.as_str().into()))
}

/// A name no other run has.
fn run_id() -> Result<String, Failure> {
    let mut bytes = [0u8; 8];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Failure::failed("the system gives no random numbers", "look at /dev/urandom"))?;
    Ok(domain::digest::encode_hex(&bytes))
}

fn tell(report: &report::Result, common: &Common) -> Result<(), Failure> {
    if common.json {
        return print_json(report);
    }
    say!("{}", report.text());
    Ok(())
}

/// `pushed`: bytes per second of the pushes, to be set against the machine.
fn tell_machine(common: &Common, pushed: Option<f64>) -> Result<(), Failure> {
    if common.no_machine {
        return Ok(());
    }
    let machine = machine::measure(&common.directory)?;
    let ratio = pushed.map(|pushed| machine.push_ratio(pushed));
    if common.json {
        let told = serde_json::json!({ "what": "machine", "bytes_per_second": machine, "push_ratio": ratio });
        return print_json(&told);
    }
    say!("{}", machine.text());
    if let Some(ratio) = ratio {
        say!("push: {ratio:.2} × the slower of sha256 and write and fsync");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_hold_every_number_once() {
        assert_eq!(rounds(16), [0..5, 5..10, 10..16]);
        assert_eq!(rounds(2), [0..1, 1..2]);
        assert_eq!(rounds(1).len(), 1);
    }
}
