//! From processes to a cluster: the first node begins it, the others join, a wiped one takes its old one's place.

use std::time::Duration;

use domain::Durability;

use super::children::RegionProcess;
use crate::cluster::{Cluster, Node, Phase};
use crate::failure::{Exit, Failure};
use crate::network::{self, Endpoints};

const LOOK_EVERY: Duration = Duration::from_millis(100);
const NODE_DEADLINE: Duration = Duration::from_secs(1);
/// A node that must replay a long log takes its time; one that says nothing for so long is lost.
const UP_PATIENCE: Duration = Duration::from_secs(60);

/// What to do with the processes as they are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Some are not settled yet.
    Wait,
    /// Nobody belongs to a cluster: this one begins it.
    Init(usize),
    /// This one belongs to none: it joins that one's cluster.
    Join { new: usize, member: usize },
    /// All are members.
    Done,
}

/// Decides the next step. `None` stands for a process that does not answer yet.
pub(crate) fn decide(phases: &[Option<Phase>]) -> Step {
    let settled = |phase: &Option<Phase>| matches!(phase, Some(Phase::Unjoined | Phase::Member));
    if !phases.iter().all(settled) {
        return Step::Wait;
    }
    let first = |wanted: Phase| phases.iter().position(|phase| *phase == Some(wanted));
    match (first(Phase::Unjoined), first(Phase::Member)) {
        (Some(new), Some(member)) => Step::Join { new, member },
        (Some(new), None) => Step::Init(new),
        (None, _) => Step::Done,
    }
}

/// Carries the steps out until every process is a member. `say` is told what happens.
pub(crate) async fn bring_up(
    regions: &mut [RegionProcess],
    durability: Durability,
    say: impl Fn(&str),
) -> Result<(), Failure> {
    let began = tokio::time::Instant::now();
    loop {
        for region in regions.iter_mut() {
            if let Some(how) = region.notice_end() {
                return Err(died(region, &how));
            }
        }
        let phases = phases(regions).await;
        match decide(&phases) {
            Step::Done => return Ok(()),
            Step::Wait if began.elapsed() > UP_PATIENCE => return Err(silent(regions, &phases)),
            Step::Wait => tokio::time::sleep(LOOK_EVERY).await,
            Step::Init(new) => {
                let region = &regions[new].plan;
                say(&format!("{} begins a new cluster", region.name));
                network::init(&region.peer(), region.name, None, durability).await?;
            }
            Step::Join { new, member } => join(regions, new, member, &say).await?,
        }
    }
}

async fn join(regions: &[RegionProcess], new: usize, member: usize, say: &impl Fn(&str)) -> Result<(), Failure> {
    let region = &regions[new].plan;
    let member = regions[member].plan.peer();
    let replace = match Endpoints::new(vec![member.clone()]).quiet().cluster().await {
        Ok(cluster) => lost_node(&cluster, region.name),
        Err(failure) if failure.exit == Exit::NotNow => {
            tokio::time::sleep(LOOK_EVERY).await;
            return Ok(());
        }
        Err(failure) => return Err(failure),
    };
    match replace {
        Some(node) => say(&format!("{} has lost its data: it joins anew in place of node {node}", region.name)),
        None => say(&format!("{} joins", region.name)),
    }
    match network::join(&region.peer(), &member, region.name, None, replace).await {
        Ok(_) => Ok(()),
        // The next round asks again: joining is safe to repeat.
        Err(failure) if failure.exit == Exit::NotNow => {
            tokio::time::sleep(LOOK_EVERY).await;
            Ok(())
        }
        Err(failure) => Err(failure),
    }
}

/// The node that a region had, when its process knows nothing of it any more.
fn lost_node(cluster: &Cluster, region: &str) -> Option<u64> {
    cluster.region(region)?.nodes.iter().map(|member| member.node).max()
}

async fn phases(regions: &[RegionProcess]) -> Vec<Option<Phase>> {
    let ask = |region: &RegionProcess| {
        let peer = region.plan.peer();
        async move { network::node_status(&peer, NODE_DEADLINE).await.ok() }
    };
    let said: Vec<Option<Node>> = futures_util::future::join_all(regions.iter().map(ask)).await;
    said.into_iter().map(|node| node.map(|node| node.phase)).collect()
}

fn died(region: &RegionProcess, how: &str) -> Failure {
    let what = format!("the node of {} {how} while the cluster was being started", region.plan.name);
    let next = format!("its whole log is {}", region.plan.log_file().display());
    Failure::failed(what, next).with_details(region.log_tail(12))
}

fn silent(regions: &[RegionProcess], phases: &[Option<Phase>]) -> Failure {
    let waiting = regions.iter().zip(phases).filter(|(_, phase)| !matches!(phase, Some(Phase::Member)));
    let lines = waiting.map(|(region, _)| format!("{}   log: {}", region.plan.name, region.plan.log_file().display()));
    let what = format!("not every node is up after {} s", UP_PATIENCE.as_secs());
    Failure::new(Exit::NotNow, what, "look at the logs; starting again continues").with_details(lines.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_begins_before_everybody_has_answered() {
        use Phase::{Draining, Member, Starting, Unjoined};
        let cases = [
            (vec![Some(Unjoined), None, Some(Unjoined)], Step::Wait),
            (vec![Some(Unjoined), Some(Starting)], Step::Wait),
            (vec![Some(Unjoined), Some(Draining)], Step::Wait),
            (vec![Some(Unjoined), Some(Unjoined)], Step::Init(0)),
            (vec![Some(Member), Some(Unjoined), Some(Unjoined)], Step::Join { new: 1, member: 0 }),
            (vec![Some(Unjoined), Some(Member), Some(Member)], Step::Join { new: 0, member: 1 }),
            (vec![Some(Member), Some(Member)], Step::Done),
        ];
        for (phases, step) in cases {
            assert_eq!(decide(&phases), step, "{phases:?}");
        }
    }

    #[test]
    fn a_wiped_region_takes_the_place_of_its_newest_node() {
        let cluster = crate::show::status::status_test::cluster();
        assert_eq!(lost_node(&cluster, "tokyo"), Some(3));
        assert_eq!(lost_node(&cluster, "sydney"), None);
    }
}
