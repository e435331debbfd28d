//! `status` and `regions`.

use std::io::IsTerminal;
use std::time::Duration;

use serde::Serialize;

use crate::args::{Regions, Status};
use crate::cluster::{Cluster, RegionState};
use crate::failure::Failure;
use crate::network::Endpoints;
use crate::show::out::say_part;
use crate::show::{self, status, table};
use crate::verbs::print_json;

const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(crate) async fn status(options: Status) -> Result<(), Failure> {
    let Status { watch, verbose, endpoints, output } = options;
    let endpoints = Endpoints::new(endpoints.endpoints);
    if !watch {
        let cluster = endpoints.cluster().await?;
        if output.json {
            return print_json(&cluster);
        }
        say_part!("{}", status::page(&cluster, verbose, show::colour()));
        return Ok(());
    }
    let endpoints = endpoints.quiet();
    tokio::select! {
        ended = look_again_and_again(&endpoints, verbose, output.json) => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

async fn look_again_and_again(endpoints: &Endpoints, verbose: bool, json: bool) -> Result<(), Failure> {
    let terminal = std::io::stdout().is_terminal() && !json;
    let colour = show::colour();
    loop {
        let page = match endpoints.cluster().await {
            Ok(cluster) if json => {
                print_json(&cluster)?;
                String::new()
            }
            Ok(cluster) => status::page(&cluster, verbose, colour),
            // A watch outlives an outage: that is when somebody watches.
            Err(failure) if terminal => format!("{failure}\n"),
            Err(failure) => {
                eprintln!("{failure}");
                String::new()
            }
        };
        if terminal {
            // Home, the page with each line's rest cleared, then everything below it.
            say_part!("\x1b[H{}\x1b[J", page.replace('\n', "\x1b[K\n"));
        } else {
            say_part!("{page}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[derive(Serialize)]
struct RegionLine<'a> {
    id: u32,
    name: &'a str,
    state: RegionState,
    cordoned: bool,
    up: bool,
    registry_url: &'a str,
    nodes: Vec<u64>,
}

pub(crate) async fn regions(options: Regions) -> Result<(), Failure> {
    let Regions { endpoints, output } = options;
    let cluster = Endpoints::new(endpoints.endpoints).cluster().await?;
    if output.json {
        let line = |region: &'_ crate::cluster::Region| -> Result<(), Failure> {
            print_json(&RegionLine {
                id: region.id,
                name: &region.name,
                state: region.state,
                cordoned: region.cordoned,
                up: region.node().is_some(),
                registry_url: &region.registry_url,
                nodes: region.nodes.iter().map(|member| member.node).collect(),
            })
        };
        return cluster.regions.iter().try_for_each(line);
    }
    say_part!("{}", regions_table(&cluster, show::colour()));
    Ok(())
}

fn regions_table(cluster: &Cluster, colour: bool) -> String {
    let row = |region: &crate::cluster::Region| {
        let nodes: Vec<String> =
            region.nodes.iter().map(|member| format!("{} at {}", member.node, member.peer_address)).collect();
        vec![
            region.name.clone().into(),
            status::state(region),
            region.registry_url.clone().into(),
            nodes.join(", ").into(),
        ]
    };
    table::render(
        &["REGION", "STATE", "REGISTRY", "NODES"],
        &cluster.regions.iter().map(row).collect::<Vec<_>>(),
        colour,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::status::status_test::cluster;

    #[test]
    fn regions_are_listed_with_url_and_node() {
        let mut cluster = cluster();
        cluster.regions.truncate(2);
        cluster.regions[1].cordoned = true;
        let expected = "
  REGION    STATE            REGISTRY               NODES
  paris     ready            http://127.0.0.1:5001  1 at 127.0.0.1:7001
  virginia  ready, cordoned  http://127.0.0.1:5002  2 at 127.0.0.1:7002
";
        assert_eq!(String::from("\n") + &regions_table(&cluster, false), expected);
    }
}
