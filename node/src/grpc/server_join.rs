//! A `join` asked of a node that is a member: harmless when it is the same join again.

use std::time::Duration;

use domain::{ClusterId, RegionName};
use metadata::birth;
use metadata::handle::Identity;
use proto::admin::NodeStatusRequest;
use proto::admin::admin_client::AdminClient;
use tonic::transport::Endpoint;
use tonic::{Code, Status};

use super::refusal::{from_birth, from_state, refuse};
use super::server_status::reason;
use crate::rooms::Rooms;
use crate::status;

/// How long the member that the operator named may take to say which cluster it belongs to, over a new connection.
const MEMBER_DEADLINE: Duration = Duration::from_secs(5);

/// Says whether this member may answer the join with what it is.
pub(super) async fn repeat(rooms: &Rooms, member: &str, region: &RegionName) -> Result<(), Status> {
    let identity = rooms.metadata.identity();
    let view = rooms.metadata.local().map_err(|error| from_state(&error))?;
    let left = status::has_left(&view, identity).map_err(|error| from_state(&error))?;
    let has_left = left || rooms.metadata.removal().is_some();
    drop(view);
    judge(identity, has_left, region)?;
    if cluster_of(member).await? == identity.cluster { Ok(()) } else { Err(belongs(identity)) }
}

fn judge(identity: &Identity, has_left: bool, region: &RegionName) -> Result<(), Status> {
    if has_left {
        let what =
            format!("this node left cluster {} and cannot come back as node {}", identity.cluster, identity.node);
        let next = "stop it, empty its data directory, start it, and run the join again";
        return Err(refuse(Code::FailedPrecondition, what, next));
    }
    if identity.region_name == *region { Ok(()) } else { Err(belongs(identity)) }
}

fn belongs(identity: &Identity) -> Status {
    from_birth(&birth::Error::AlreadyMember { cluster: identity.cluster, node: identity.node })
}

/// The cluster of the node at a peer door.
async fn cluster_of(member: &str) -> Result<ClusterId, Status> {
    let next = "name a running member's peer door (host:port)";
    let silent = |why: &str| refuse(Code::Unavailable, format!("member {member} cannot be reached: {why}"), next);
    let endpoint = Endpoint::from_shared(format!("http://{member}"));
    let endpoint = endpoint.map_err(|_| {
        refuse(Code::InvalidArgument, format!("`{member}` is not an address of the form host:port"), next)
    })?;
    let mut client = AdminClient::new(endpoint.connect_lazy());
    let said = tokio::time::timeout(MEMBER_DEADLINE, client.node_status(NodeStatusRequest {})).await;
    let said = said.map_err(|_| silent("it does not answer"))?.map_err(|status| silent(&reason(&status)))?;
    let cluster = ClusterId::from_hex(&said.into_inner().cluster);
    cluster.ok_or_else(|| refuse(Code::Unavailable, format!("{member} belongs to no cluster yet"), next))
}

#[cfg(test)]
mod tests {
    use domain::{NodeId, RegionId, StoreId};

    use super::*;

    #[test]
    fn the_same_join_again_is_harmless_and_another_one_is_refused() {
        let name = |text: &str| RegionName::parse(text).expect("valid");
        let identity = Identity {
            node: NodeId(4),
            region: RegionId(2),
            region_name: name("paris"),
            cluster: ClusterId([1; 16]),
            store: StoreId([2; 16]),
        };
        assert!(judge(&identity, false, &name("paris")).is_ok());
        let other = judge(&identity, false, &name("tokyo")).expect_err("another region");
        assert_eq!(other.code(), Code::FailedPrecondition);
        assert!(other.message().contains("already belongs"), "{}", other.message());
        let left = judge(&identity, true, &name("paris")).expect_err("it left");
        assert_eq!(left.code(), Code::FailedPrecondition);
        assert!(left.message().contains("left cluster"), "{}", left.message());
    }
}
