//! The status page.

use super::table::{Cell, Tone, render};
use super::units::{self, DASH};
use crate::cluster::{Cluster, Member, Node, Region, RegionState};

/// Least lag that is told of a region that is down. Unit: milliseconds.
const DOWN_LAG_MS_MIN: u64 = 1000;

/// The whole page.
pub(crate) fn page(cluster: &Cluster, verbose: bool, colour: bool) -> String {
    let mut page = headline(cluster, colour);
    page.push('\n');
    page.push_str(&regions(cluster, colour));
    if verbose {
        page.push('\n');
        page.push_str(&nodes(cluster, colour));
    }
    for remark in remarks(cluster) {
        page.push_str(&Tone::Warn.paint(&format!("  {remark}"), colour));
        page.push('\n');
    }
    page
}

fn headline(cluster: &Cluster, colour: bool) -> String {
    let up = cluster.regions_up();
    let total = cluster.regions.len();
    let regions = format!("{up} of {total} {} up", if total == 1 { "region" } else { "regions" });
    let regions = if up == total { regions } else { Tone::Bad.paint(&regions, colour) };
    let writes = if cluster.writes_ok {
        "writes ok".to_owned()
    } else {
        let why = cluster.no_writes.as_deref().unwrap_or("no majority of the regions can be reached");
        Tone::Bad.paint(&format!("no writes: {why}"), colour)
    };
    let name = short_cluster(&cluster.cluster);
    format!("cluster {name} · revision {} · {regions} · {writes}", units::thousands(cluster.revision))
}

/// A cluster id short enough to say.
pub(crate) fn short_cluster(id: &str) -> String {
    format!("c-{}", id.get(..6).unwrap_or(id))
}

fn regions(cluster: &Cluster, colour: bool) -> String {
    let heading = ["REGION", "STATE", "UP", "REVISION", "LAG", "BACKLOG", "RATE", "DISK FREE"];
    let row = |region: &Region| {
        let node = region.node();
        vec![
            region.name.clone().into(),
            state(region),
            node.map_or(DASH.to_owned(), |node| units::duration_ms(node.uptime_ms)).into(),
            Cell::number(node.map_or(DASH.to_owned(), |node| units::thousands(node.applied))),
            lag(region, cluster).into(),
            backlog(region).into(),
            node.map_or(DASH.to_owned(), |node| units::rate(node.fetch_bytes_per_second)).into(),
            disk_free(node),
        ]
    };
    render(&heading, &cluster.regions.iter().map(row).collect::<Vec<_>>(), colour)
}

/// State of a region; `down` when none of its nodes answers.
pub(crate) fn state(region: &Region) -> Cell {
    let cordoned = if region.cordoned { ", cordoned" } else { "" };
    if region.node().is_none() {
        return Cell::toned(format!("down{cordoned}"), Tone::Bad);
    }
    let tone = match region.state {
        RegionState::Ready if region.cordoned => Tone::Warn,
        RegionState::Ready => Tone::Good,
        RegionState::Joining | RegionState::Backfilling | RegionState::Leaving | RegionState::Unknown => Tone::Warn,
    };
    Cell::toned(format!("{}{cordoned}", region.state.word()), tone)
}

/// How far the region is behind: age of its oldest wanted blob, else how many revisions its metadata misses.
pub(crate) fn lag(region: &Region, cluster: &Cluster) -> String {
    let newest = cluster.regions.iter().filter_map(Region::node).map(|node| node.committed).max().unwrap_or(0);
    let behind = region.node().map_or(0, |node| newest.saturating_sub(node.applied));
    // What was pushed a moment ago says nothing yet of a region that is down.
    let is_told = region.node().is_some() || region.lag_ms >= DOWN_LAG_MS_MIN;
    if region.lag_ms > 0 && is_told {
        units::duration_ms(region.lag_ms)
    } else if behind > 0 {
        units::count(behind, "revision", "revisions")
    } else {
        DASH.to_owned()
    }
}

/// What the region still has to fetch.
pub(crate) fn backlog(region: &Region) -> String {
    if region.backlog_blobs == 0 {
        return DASH.to_owned();
    }
    format!("{} · {}", units::thousands(region.backlog_blobs), units::bytes(region.backlog_bytes))
}

fn disk_free(node: Option<&Node>) -> Cell {
    let Some(node) = node.filter(|node| node.disk_total_bytes > 0) else { return DASH.into() };
    let text = units::percent(node.disk_free_bytes, node.disk_total_bytes);
    let full = node.disk_free_bytes <= node.disk_reserve_bytes;
    Cell::toned(text, if full { Tone::Bad } else { Tone::Plain })
}

fn nodes(cluster: &Cluster, colour: bool) -> String {
    let heading = ["NODE", "REGION", "PEER", "VERSION", "TERM", "APPLIED", "COMMITTED", "STATE HASH AT", "ROLE"];
    let mut rows = Vec::new();
    for region in &cluster.regions {
        for member in &region.nodes {
            let said = |field: &dyn Fn(&Node) -> String| member.status.as_ref().map_or(DASH.to_owned(), field);
            rows.push(vec![
                Cell::number(member.node.to_string()),
                region.name.clone().into(),
                member.peer_address.clone().into(),
                said(&|node| node.version.clone()).into(),
                Cell::number(said(&|node| node.term.to_string())),
                Cell::number(said(&|node| units::thousands(node.applied))),
                Cell::number(said(&|node| units::thousands(node.committed))),
                said(&|node| format!("{}… {}", node.state_hash.get(..8).unwrap_or(""), node.state_hash_index)).into(),
                if cluster.leader == Some(member.node) { "leader" } else { "" }.into(),
            ]);
        }
    }
    render(&heading, &rows, colour)
}

/// What somebody should know, region by region.
pub(crate) fn remarks(cluster: &Cluster) -> Vec<String> {
    let mut remarks = Vec::new();
    for region in &cluster.regions {
        for member in &region.nodes {
            let Member { node, peer_address, status, unreachable } = member;
            if let Some(why) = unreachable {
                remarks.push(format!("{}: node {node} at {peer_address}: {why}", region.name));
            }
            for impaired in status.iter().flat_map(|node| &node.impaired) {
                remarks.push(format!("{}: {impaired}", region.name));
            }
        }
    }
    if let Some(difference) = different_states(cluster) {
        remarks.push(difference);
    }
    if cluster.insecure() {
        remarks.push("peers and operators are not authenticated (peer.insecure = true)".to_owned());
    }
    if cluster.regions.len() == 2 {
        remarks.push("two regions: losing either one stops writes".to_owned());
    }
    remarks
}

/// Two nodes with different states at the same index: the one thing that must never be.
fn different_states(cluster: &Cluster) -> Option<String> {
    let nodes: Vec<&Node> = cluster.regions.iter().filter_map(Region::node).collect();
    for (position, one) in nodes.iter().enumerate() {
        for other in &nodes[position + 1..] {
            if one.state_hash_index == other.state_hash_index && one.state_hash != other.state_hash {
                let index = one.state_hash_index;
                return Some(format!("{} and {} differ in state at revision {index}", one.region, other.region));
            }
        }
    }
    None
}

#[cfg(test)]
#[path = "status_test.rs"]
pub(crate) mod status_test;
