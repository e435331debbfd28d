//! `bench`: what a registry can do, measured from outside, beside what the machine could do at best.

pub(crate) mod args;
mod content;
mod http;
mod machine;
mod report;
mod requests;
mod target;
mod workers;

use std::sync::Arc;

use bytes::Bytes;
use ring::rand::{SecureRandom, SystemRandom};

use crate::failure::Failure;
use crate::show::out::say;
use crate::verbs::print_json;
use args::{Bench, Blobs, Common, Manifests};
use content::Content;
use http::Client;
use workers::{Work, run as run_work};

/// Distinct blobs that a pull benchmark reads in turn; more would only fill the disk.
const PULLED_BLOBS_MAX: u64 = 64;

pub(crate) async fn run(bench: Bench) -> Result<(), Failure> {
    match bench {
        Bench::Push(options) => push(options).await,
        Bench::Pull(options) => pull(options).await,
        Bench::Manifests(options) => manifests(options).await,
    }
}

async fn push(options: Blobs) -> Result<(), Failure> {
    let (work, content, repository) = prepare(&options, "push")?;
    let report = run_work(&work, move |mut client: Client, number| {
        let (content, repository) = (Arc::clone(&content), Arc::clone(&repository));
        async move {
            requests::push_blob(&mut client, &repository, &content.blob(number)).await?;
            Ok(client)
        }
    });
    tell(&report.await?, &options.common)?;
    tell_machine(&options.common)
}

async fn pull(options: Blobs) -> Result<(), Failure> {
    let (work, content, repository) = prepare(&options, "pull")?;
    let distinct = options.count.min(PULLED_BLOBS_MAX);
    let mut source = Client::new(options.common.targets[0].clone());
    for number in 0..distinct {
        requests::push_blob(&mut source, &repository, &content.blob(number)).await?;
    }
    // Every registry gives every blob once, byte by byte, before the clock runs.
    for target in &options.common.targets {
        let mut client = Client::new(target.clone());
        for number in 0..distinct {
            requests::check_blob(&mut client, &repository, &content.blob(number)).await?;
        }
    }
    let report = run_work(&work, move |mut client: Client, number| {
        let (content, repository) = (Arc::clone(&content), Arc::clone(&repository));
        async move {
            requests::pull_blob(&mut client, &repository, &content.blob(number % distinct)).await?;
            Ok(client)
        }
    });
    tell(&report.await?, &options.common)?;
    tell_machine(&options.common)
}

async fn manifests(options: Manifests) -> Result<(), Failure> {
    let Manifests { common, count, connections } = options;
    let repository: Arc<str> = common.repository.as_str().into();
    let run = run_id()?;
    let mut client = Client::new(common.targets[0].clone());
    let config = requests::push_bytes(&mut client, &repository, Bytes::from_static(b"{}")).await?;
    let layer = requests::push_bytes(&mut client, &repository, Bytes::from(run.clone().into_bytes())).await?;
    let make = {
        let run = run.clone();
        move |number: u64| manifest(&config, &layer, run.len(), &format!("{run}-{number}"))
    };
    let size_bytes = make(0).len() as u64;
    let mut work = Work {
        what: "manifest puts",
        targets: common.targets.clone(),
        connections,
        count,
        size_bytes,
        progress: !common.json,
    };
    let (make, tag) = (Arc::new(make), Arc::new(move |number: u64| format!("{run}-{number}")));
    let (puts_in, puts_tag) = (Arc::clone(&repository), Arc::clone(&tag));
    let puts = run_work(&work, move |mut client: Client, number| {
        let (repository, body, tag) = (Arc::clone(&puts_in), make(number), puts_tag(number));
        async move {
            requests::put_manifest(&mut client, &repository, &tag, body).await?;
            Ok(client)
        }
    });
    tell(&puts.await?, &common)?;
    work.what = "tag gets";
    let gets = run_work(&work, move |mut client: Client, number| {
        let (repository, tag) = (Arc::clone(&repository), tag(number));
        async move {
            requests::get_manifest(&mut client, &repository, &tag).await?;
            Ok(client)
        }
    });
    tell(&gets.await?, &common)?;
    tell_machine(&common)
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

fn tell_machine(common: &Common) -> Result<(), Failure> {
    if common.no_machine {
        return Ok(());
    }
    let machine = machine::measure(&common.directory)?;
    if common.json {
        return print_json(&serde_json::json!({ "what": "machine", "bytes_per_second": machine }));
    }
    say!("{}", machine.text());
    Ok(())
}
