//! Many clients at once in one repository, each of their requests at the next region: they push, mount, move, delete and
//! list what the others push, mount, move, delete and list. Nothing fails but by a documented "not now", and one order
//! of all requests explains every answer and what every region shows in the end.

mod actor;
mod record;
mod stock;

use std::sync::Arc;
use std::time::Duration;

use tests::balancer::Balancer;
use tests::cluster::{Cluster, Options, PATIENCE};
use tests::history::check;
use tests::scale;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::actor::Actor;
use crate::record::Record;
use crate::stock::Stock;

/// Clients at once.
const CLIENTS: usize = 32;

/// What must have come up for the run to mean something: a kind of request, and how it was answered.
const MUST_COME_UP: &[(&str, &str)] = &[
    ("push blob", "201"),
    ("mount", "201"),
    ("mount", "202"),
    ("mount from anywhere", "201"),
    ("delete blob", "202"),
    ("delete blob", "404"),
    ("delete blob", "405"),
    ("put manifest", "201"),
    ("put manifest", "400"),
    ("put if absent", "201"),
    ("put if absent", "412"),
    ("put if match", "201"),
    ("put if match", "412"),
    ("delete manifest", "202"),
    ("delete manifest", "404"),
    ("delete tag", "202"),
    ("delete tag", "404"),
    ("read tag", "200"),
    ("read tag", "404"),
    ("read manifest", "200"),
    ("read manifest", "404"),
    ("head blob", "200"),
    ("head blob", "404"),
    ("get blob", "200"),
    ("get blob", "404"),
    ("list tags", "200"),
    ("list referrers", "200"),
];

/// Regions that wait for proof, however busy the machine is, before an answer is marked as one that may be stale.
fn options() -> Options {
    Options { settings: vec![("reads.strict_wait_ms_max", "\"30s\"".to_owned())], ..Options::default() }
}

fn has_come_up(record: &Record) -> bool {
    MUST_COME_UP.iter().all(|(kind, outcome)| record.count(kind, outcome) > 0)
}

/// Lets the crowd act for its time, and longer where the machine is so busy that something has not come up yet.
async fn act(cluster: &Cluster, record: &Arc<Record>, stock: &Arc<Stock>, seed: u64) {
    let balancer = Balancer::listen(cluster.regions.iter().map(|region| region.http.to_string()).collect()).await;
    let until = Instant::now() + Duration::from_secs(scale::scaled(12, 120));
    let mut crowd = JoinSet::new();
    for number in 1..=CLIENTS {
        let is_over = {
            let record = record.clone();
            move || Instant::now() >= until && (has_come_up(&record) || Instant::now() >= until + PATIENCE)
        };
        crowd.spawn(Actor::new(number, &balancer.address(), record, stock, seed).act(is_over));
    }
    while let Some(ended) = crowd.join_next().await {
        ended.expect("a client goes on whatever it is answered");
    }
}

/// Every region shows the end, by itself.
async fn look(cluster: &Cluster, record: &Arc<Record>, stock: &Arc<Stock>) {
    for (index, region) in cluster.regions.iter().enumerate() {
        let number = CLIENTS + 1 + index;
        Actor::new(number, &region.http.to_string(), record, stock, 0).look_at_everything().await;
    }
}

/// Sessions on the regions' disks are those that clients left open.
fn assert_sessions(cluster: &Cluster, record: &Record) {
    let (left, passed_on) = (record.sessions(), record.passed_on());
    let (mut open, mut forgotten) = (0, 0);
    for region in &cluster.regions {
        for file in region.files("/staging/") {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Some(session) = name.strip_suffix(".record") else { continue };
            let is_forgotten = passed_on.contains(session);
            assert!(left.contains(session) || is_forgotten, "{}: nobody left {} open", region.name, file.display());
            open += usize::from(!is_forgotten);
            forgotten += usize::from(is_forgotten);
        }
    }
    println!("{} uploads were left open, {open} of them have a record", left.len());
    println!("{} were closed through another region, {forgotten} of them stay behind", passed_on.len());
    assert!(forgotten * 10 <= passed_on.len(), "closed uploads stay behind");
}

fn assert_explained(record: &Record, stock: &Stock) {
    let wrong = record.wrong();
    assert!(wrong.is_empty(), "{} answers are wrong:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
    let events = record.events();
    let summary = check(&stock.contents, &events).unwrap_or_else(|findings| {
        panic!("no order explains what {} clients saw:\n  {}", CLIENTS, findings.join("\n  "));
    });
    println!("{} events explained: {summary:?}", events.len());
    assert!(summary.walks > 0, "too little came up: {summary:?}");
    for (kind, outcome) in MUST_COME_UP {
        assert!(record.count(kind, outcome) > 0, "{kind} was never answered {outcome}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_order_explains_what_many_clients_see_in_one_repository() {
    let seed = scale::seed("crowd");
    let stock = Arc::new(Stock::new(seed));
    let record = Arc::new(Record::default());
    let cluster = Cluster::start(3, options()).await;
    Actor::new(0, &cluster.regions[0].http.to_string(), &record, &stock, seed).prepare().await;
    let idle: Vec<u64> = cluster.regions.iter().map(|region| region.process().resident()).collect();
    cluster.regions.iter().for_each(|region| region.process().reset_peak());

    let started = Instant::now();
    act(&cluster, &record, &stock, seed).await;
    let (requests, seconds) = (record.requests(), started.elapsed().as_secs_f64());
    println!("{requests} requests of {CLIENTS} clients in {seconds:.1} s, {:.0} a second", requests as f64 / seconds);
    print!("{}", record.table());
    let [refused, busy, unknown] = ["503", "429", "504"].map(|status| record.total(status));
    println!("503: {refused}, 429: {busy}, 504: {unknown}, marked stale: {}", record.stale());
    print!("{}", record.refusals());

    look(&cluster, &record, &stock).await;
    assert_explained(&record, &stock);
    // Nothing was cut: whatever was asked has an outcome, and whatever was read a proof.
    assert_eq!((unknown, record.stale()), (0, 0), "unknown outcomes, stale answers");
    cluster.await_quiet(PATIENCE).await;
    cluster.assert_same_state(PATIENCE).await;
    assert_sessions(&cluster, &record);
    for (region, idle) in cluster.regions.iter().zip(idle) {
        let rise = region.process().peak().saturating_sub(idle);
        println!("{}: {} KiB above idle", region.name, rise / 1024);
        assert!(rise <= scale::above_idle_max(), "{}: {rise} bytes above idle", region.name);
    }
    cluster.finish().await;
}
