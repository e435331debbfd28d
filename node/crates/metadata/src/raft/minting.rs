//! The minting of a node for one that wants to join.

use domain::{NodeId, RegionId};

use crate::command::{Command, NewNode};
use crate::handle::{Applied, Demand, Origin, ProposeError};
use crate::outcome::Outcome;
use crate::raft::member::Member;
use crate::view;

/// What became of a node that asked to be minted.
pub(crate) enum Minting {
    /// Its ids.
    Minted(NodeId, RegionId),
    /// The cluster does not want it so.
    Refused(String),
    /// Nobody can commit now.
    Unavailable(String),
}

/// Mints a node for one that wants to join, through whichever node it asked.
pub(crate) async fn mint(member: &Member, node: NewNode, replace: Option<NodeId>) -> Result<Minting, view::Error> {
    let view = match member.view(Demand::Strict, None).await {
        Ok(view) => view,
        Err(error) => return Ok(Minting::Unavailable(error.to_string())),
    };
    // A join that was broken off after the minting finds its ids again: the address names the node until it has a store.
    let stores = view.stores()?;
    let waiting = view.nodes()?.into_iter().find(|row| {
        !row.removed && row.peer_address == node.peer_address && stores.iter().all(|store| store.node != row.id)
    });
    // One that votes has promised things: its id is never given to an empty log.
    if let Some(row) = waiting
        && !member.voters().contains(&row.id)
        && view.region(row.region)?.is_some_and(|region| region.name == node.region)
    {
        return Ok(Minting::Minted(row.id, row.region));
    }
    let origin = Origin { actor: "operator".to_owned() };
    match member.propose(origin, Command::MintNode { node, replace }).await {
        Ok(Applied { outcome: Outcome::Minted { node, region }, .. }) => Ok(Minting::Minted(node, region)),
        Ok(Applied { outcome, .. }) => Ok(Minting::Refused(format!("minting was answered with {outcome:?}"))),
        Err(ProposeError::Refused(refusal)) => Ok(Minting::Refused(refusal.to_string())),
        Err(error) => Ok(Minting::Unavailable(error.to_string())),
    }
}
