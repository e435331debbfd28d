//! A blob file damaged behind the node's back: the right bytes or an aborted body, never wrong ones; and the copy is healed.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use http::{Method, StatusCode};
use tests::binaries::binaries;
use tests::client::Ask;
use tests::cluster::{Cluster, Options, PATIENCE, Region};
use tests::content::{Content, PIECE, sha256};
use tests::image::Blob;
use tests::registry::{Trouble, patiently};
use tests::{scale, wait};
use tokio::time::Instant;

/// The data file of a blob in a region's store.
fn copy_of(region: &Region, digest: &str) -> Option<PathBuf> {
    let hex = digest.rsplit(':').next().unwrap_or_default();
    let is_data = |path: &PathBuf| {
        let text = path.to_string_lossy();
        text.contains("/data/sha256/") && !text.ends_with(".groups") && !text.contains("quarantine")
    };
    region.files(hex).into_iter().find(is_data)
}

/// Ways to damage a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    FirstByte,
    ByteInTheMiddle,
    LastByte,
    Truncated,
    Emptied,
    Deleted,
    GroupsDeleted,
    GroupsGarbled,
}

const ALL: [Damage; 8] = [
    Damage::FirstByte,
    Damage::ByteInTheMiddle,
    Damage::LastByte,
    Damage::Truncated,
    Damage::Emptied,
    Damage::Deleted,
    Damage::GroupsDeleted,
    Damage::GroupsGarbled,
];

fn flip(file: &Path, at: u64) {
    let file = fs::File::options().read(true).write(true).open(file).expect("the copy can be opened");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("the copy is that long");
    file.write_all_at(&[byte[0] ^ 0x10], at).expect("the copy can be written");
}

fn shorten(file: &Path, len: u64) {
    let file = fs::File::options().write(true).open(file).expect("the copy can be opened");
    file.set_len(len).expect("the copy can be cut");
}

impl Damage {
    fn inflict(self, file: &Path) {
        let len = fs::metadata(file).expect("the copy is there").len();
        let groups = PathBuf::from(format!("{}.groups", file.display()));
        match self {
            Damage::FirstByte => flip(file, 0),
            Damage::ByteInTheMiddle => flip(file, len / 2),
            Damage::LastByte => flip(file, len - 1),
            Damage::Truncated => shorten(file, len - 1000),
            Damage::Emptied => shorten(file, 0),
            Damage::Deleted => fs::remove_file(file).expect("the copy can be removed"),
            Damage::GroupsDeleted if groups.exists() => fs::remove_file(groups).expect("it can be removed"),
            Damage::GroupsGarbled if groups.exists() => flip(&groups, 3),
            Damage::GroupsDeleted | Damage::GroupsGarbled => {}
        }
    }
}

/// Pulls until the right bytes came; on the way only refusals and aborted bodies are allowed.
async fn pull_until_right(cluster: &Cluster, region: usize, content: &Content, damage: Damage) {
    let registry = cluster.at(region);
    let deadline = Instant::now() + PATIENCE;
    let pulled = patiently(deadline, || registry.pull_blob("team/app", content.digest(), content.len())).await;
    match pulled {
        Ok(()) => {}
        Err(Trouble::Wrong(what)) => panic!("{damage:?}: {what}"),
        Err(trouble) => panic!("{damage:?}: never served again: {trouble:?}"),
    }
}

async fn await_healed(region: &Region, content: &Content, damage: Damage) {
    let what = format!("the copy to be healed after {damage:?}");
    wait::until(&what, PATIENCE, || async {
        let path = copy_of(region, content.digest()).ok_or_else(|| "no copy".to_owned())?;
        let found = sha256(&fs::read(&path).map_err(|error| error.to_string())?);
        if found == content.digest() { Ok(()) } else { Err(format!("{} is {found}", path.display())) }
    })
    .await;
}

async fn damage_in_every_way(len: u64) {
    let seed = scale::seed("show08");
    let allowed = vec!["damaged", "missing", "quarantine", "not in the store"];
    let cluster = Cluster::start(3, Options { allowed, ..Options::default() }).await;
    let contents: Vec<Content> = (0..ALL.len() as u64).map(|number| Content::new(seed + number, len)).collect();
    for content in &contents {
        let pushed = cluster.at(0).push_blob("team/app", &Blob::Generated(content.clone())).await;
        pushed.expect("a healthy region takes a blob");
    }
    cluster.await_quiet(PATIENCE).await;
    // Region 0 holds what was uploaded, region 1 what was fetched: both kinds of copies are damaged.
    for victim in [0, 1] {
        for (content, damage) in contents.iter().zip(ALL) {
            let path = copy_of(&cluster.regions[victim], content.digest()).expect("every region holds every blob");
            damage.inflict(&path);
            pull_until_right(&cluster, victim, content, damage).await;
            await_healed(&cluster.regions[victim], content, damage).await;
            pull_until_right(&cluster, victim, content, damage).await;
        }
    }
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_copy_of_several_groups_is_never_served_and_is_healed() {
    damage_in_every_way(scale::scaled(3, 16) * PIECE + 4321).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_copy_of_one_group_is_never_served_and_is_healed() {
    damage_in_every_way(50_000).await;
}

fn cli(arguments: &[&str]) -> String {
    let output = Command::new(&binaries().cli).args(arguments).stdin(Stdio::null()).output().expect("cluster-cli runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn text(cluster: &Cluster, region: usize, path: &str) -> String {
    let answer = cluster.at(region).send(Ask::new(Method::GET, path)).await.expect("the region answers");
    assert_eq!(answer.status, StatusCode::OK, "{path}");
    answer.text()
}

/// Everything a store holds is gone at once: more likely its disk is not mounted. Nothing is given up, everything is served,
/// and whoever looks is told, until the operator confirms.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_lost_everything_asks_the_operator_first() {
    const ASKED: &str = "cluster-cli sync --confirm-loss";
    let seed = scale::seed("show08 loss");
    let allowed = vec!["too many copies are missing", "copies are missing", "the operator confirms"];
    let mut cluster = Cluster::start(3, Options { allowed, ..Options::default() }).await;
    let contents: Vec<Content> = (0..15).map(|number| Content::new(seed + number, 5_000 + number)).collect();
    for content in &contents {
        let pushed = cluster.at(0).push_blob("team/app", &Blob::Generated(content.clone())).await;
        pushed.expect("a healthy region takes a blob");
    }
    cluster.await_quiet(PATIENCE).await;
    let victim = 1;
    cluster.stop(victim).await;
    for content in &contents {
        let path = copy_of(&cluster.regions[victim], content.digest()).expect("every region holds every blob");
        fs::remove_file(path).expect("the copy can be removed");
    }
    cluster.restart(victim);
    wait::until("the node to ask", PATIENCE, || async {
        let status = cluster.regions[victim].status().await?;
        let asks = status.impaired.iter().any(|what| what.contains(ASKED));
        if asks { Ok(()) } else { Err(format!("{:?}", status.impaired)) }
    })
    .await;
    for content in &contents {
        pull_until_right(&cluster, victim, content, Damage::Deleted).await;
    }
    let status = cluster.regions[victim].status().await.expect("the node answers");
    assert_eq!(status.copies_damaged, 0, "nothing is given up");
    let node = cluster.regions[victim].peer.to_string();
    let ready = text(&cluster, victim, "/readyz").await;
    assert!(ready.contains(ASKED), "{ready}");
    assert!(text(&cluster, victim, "/metrics").await.contains("\nlongshore_confirm_loss 1\n"));
    assert!(cli(&["status", "--endpoint", &node]).contains(ASKED));
    assert!(cli(&["status", "--json", "--endpoint", &node]).contains("\"confirm_loss\":true"));
    assert!(cli(&["sync", "--node", &node]).contains("add --confirm-loss"));

    assert!(cli(&["sync", "--node", &node, "--confirm-loss"]).contains("it asked for this word"));
    for content in &contents {
        await_healed(&cluster.regions[victim], content, Damage::Deleted).await;
    }
    assert!(text(&cluster, victim, "/metrics").await.contains("\nlongshore_confirm_loss 0\n"));
    cluster.await_quiet(PATIENCE).await;
    cluster.finish().await;
}
