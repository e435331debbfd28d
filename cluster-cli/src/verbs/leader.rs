//! `transfer-leader`.

use crate::args::TransferLeader;
use crate::failure::Failure;
use crate::network::Endpoints;
use crate::show::out::say;

pub(crate) async fn transfer(options: TransferLeader) -> Result<(), Failure> {
    let TransferLeader { to, endpoints } = options;
    let endpoints = Endpoints::new(endpoints.endpoints);
    let leader = endpoints.transfer_leader(to.as_deref().unwrap_or("")).await?;
    match leader {
        Some(node) => say!("leadership was handed to node {node}"),
        None => say!("leadership is being handed over; `cluster-cli status --verbose` shows to whom"),
    }
    Ok(())
}
