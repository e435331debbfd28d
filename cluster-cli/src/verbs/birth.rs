//! `init` and `join`.

use std::io::IsTerminal;
use std::time::Duration;

use crate::args::{Init, Join};
use crate::cluster::{Cluster, Node, Region, RegionState};
use crate::failure::{Exit, Failure};
use crate::network::{self, Endpoints};
use crate::show::out::{say, say_part};
use crate::show::status::short_cluster;
use crate::show::units;
use crate::verbs::print_json;

const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(crate) async fn init(options: Init) -> Result<(), Failure> {
    let Init { node, region, place, durability, output } = options;
    let born = network::init(&node, region.as_str(), place, durability).await?;
    if output.json {
        return print_json(&born);
    }
    let name = short_cluster(&born.cluster);
    say!("cluster {name} begins in {region} (node {} at {node}), durability {durability}", born.node);
    say!("next: cluster-cli join {node} --node HOST:PORT --region NAME");
    Ok(())
}

pub(crate) async fn join(options: Join) -> Result<(), Failure> {
    let Join { member, node, region, place, replace, yes, no_wait, attach } = options;
    let members = Endpoints::new(vec![member.clone()]).quiet();
    if let Some(old) = replace.filter(|_| !yes)
        // Who cannot be asked cannot be found up either; the cluster judges the rest.
        && let Ok(cluster) = members.cluster().await
        && let Some(refused) = still_up(&cluster, old)
    {
        return Err(refused);
    }
    if !attach {
        let born = network::join(&node, &member, region.as_str(), place, replace).await?;
        announce(&born, &members).await;
        if no_wait {
            return Ok(());
        }
    }
    let watch = watch(region.as_str(), &members);
    tokio::select! {
        seen = watch => seen,
        _ = tokio::signal::ctrl_c() => {
            say!("\n{region} goes on joining. To look again: cluster-cli join {member} --attach --region {region}");
            Ok(())
        }
    }
}

/// Why a node should not be replaced: it answers as itself.
fn still_up(cluster: &Cluster, old: u64) -> Option<Failure> {
    let of = |region: &Region| region.nodes.iter().any(|member| member.node == old && member.answers());
    let region = cluster.regions.iter().find(|region| of(region))?;
    let what = format!(
        "node {old} of {} is up: replacing it takes its vote away and counts all its copies of blobs as lost",
        region.name
    );
    let next = "stop it first, if it is the one to be replaced; to throw it out as it is, add --yes";
    Some(Failure::new(Exit::Refused, what, next))
}

async fn announce(born: &Node, members: &Endpoints) {
    let about = match members.cluster().await {
        Ok(cluster) => {
            let others = units::count(cluster.regions.len() as u64, "region", "regions");
            format!(" ({others}, revision {})", units::thousands(cluster.revision))
        }
        // Only the parenthesis is lost.
        Err(_) => String::new(),
    };
    say!("joining {} to cluster {}{about} as node {}", born.region, short_cluster(&born.cluster), born.node);
}

/// Shows the region's way to `ready`: one line that moves on a terminal, a line per change otherwise.
async fn watch(name: &str, members: &Endpoints) -> Result<(), Failure> {
    let terminal = std::io::stdout().is_terminal();
    let mut before = String::new();
    loop {
        let cluster = members.cluster().await?;
        let Some(region) = cluster.region(name) else {
            let what = format!("there is no region {name} in cluster {}", short_cluster(&cluster.cluster));
            return Err(Failure::new(Exit::Usage, what, "run `cluster-cli regions` to see which there are"));
        };
        if region.state == RegionState::Ready {
            if terminal && !before.is_empty() {
                say_part!("\r\x1b[2K");
            }
            say!("{name} is ready: it answers pulls and pushes and counts for durability");
            return Ok(());
        }
        let line = progress(region, &cluster);
        if terminal {
            say_part!("\r\x1b[2K{line}");
        } else if line != before {
            say!("{line}");
        }
        before = line;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// One line on how far a joining region is.
pub(crate) fn progress(region: &Region, cluster: &Cluster) -> String {
    let node = region.node();
    match region.state {
        RegionState::Joining => {
            let applied = node.map_or(0, |node| node.applied);
            let of = units::thousands(cluster.revision.max(applied));
            format!("  metadata   revision {} of {of}", units::thousands(applied))
        }
        RegionState::Backfilling => {
            let total = region.backfill_bytes_total.max(region.backlog_bytes);
            let done = total - region.backlog_bytes;
            let rate = node.map_or(0.0, |node| node.fetch_bytes_per_second);
            let left = if rate >= 1.0 {
                let left_ms = region.backlog_bytes as f64 * 1000.0 / rate;
                format!(" · {} · {} left", units::rate(rate), units::duration_ms(left_ms as u64))
            } else {
                String::new()
            };
            let share = units::percent(done, total);
            format!(
                "  blobs      {} {share}   {} of {}{left}",
                bar(done, total),
                units::bytes(done),
                units::bytes(total)
            )
        }
        RegionState::Ready | RegionState::Leaving | RegionState::Unknown => {
            format!("  {}", region.state.word())
        }
    }
}

/// Twenty boxes.
fn bar(done: u64, total: u64) -> String {
    let boxes = if total == 0 { 20 } else { usize::try_from(u128::from(done) * 20 / u128::from(total)).unwrap_or(20) };
    format!("{}{}", "█".repeat(boxes), "·".repeat(20_usize.saturating_sub(boxes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::status::status_test::cluster;

    #[test]
    fn only_a_node_that_is_down_is_replaced_without_a_word() {
        let mut cluster = cluster();
        let node = cluster.regions[0].nodes[0].node;
        let told = still_up(&cluster, node).expect("it is up").to_string();
        assert!(told.contains("is up: replacing it takes its vote away"), "{told}");
        assert_eq!(still_up(&cluster, 99), None);
        // The wiped node answers at the old address, as nobody yet.
        cluster.regions[0].nodes[0].status.as_mut().unwrap().node = 0;
        assert_eq!(still_up(&cluster, node), None);
        cluster.regions[0].nodes[0].status = None;
        assert_eq!(still_up(&cluster, node), None);
    }

    #[test]
    fn progress_tells_metadata_then_blobs_with_rate_and_time_left() {
        let mut cluster = cluster();
        let mut tokyo = cluster.regions.remove(2);
        tokyo.state = RegionState::Joining;
        tokyo.nodes[0].status.as_mut().unwrap().applied = 1000;
        assert_eq!(progress(&tokyo, &cluster), "  metadata   revision 1,000 of 128,417");
        tokyo.state = RegionState::Backfilling;
        tokyo.backfill_bytes_total = 1_080_000_000_000;
        tokyo.backlog_bytes = 668_000_000_000;
        tokyo.nodes[0].status.as_mut().unwrap().fetch_bytes_per_second = 96e6;
        let expected = "  blobs      ███████············· 38 %   412 GB of 1.08 TB · 96.0 MB/s · 115 min left";
        assert_eq!(progress(&tokyo, &cluster), expected);
    }
}
