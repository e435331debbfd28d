//! Proposals and their commands.

use domain::{Blake3Root, ClusterId, CopyId, NodeId, RegionId, RequestId, Revision, StoreId};
use proto::log::{self, proposal::Command as Kind};

use super::Error;
use super::parts::{
    array, bad, claim, digest, digests, durability, id, new_node, read_claim, read_digest, read_digests,
    read_durability, read_new_node, read_report, read_repository, read_tag, report, some,
};
use crate::command::{Command, ManifestChild, Precondition, Proposal, PutManifest};
use crate::rows::RegionState;

pub(super) fn proposal(value: &Proposal) -> log::Proposal {
    let Proposal { request, as_of, wall_ms, actor, region, command } = value;
    log::Proposal {
        request: id(request.as_bytes()),
        as_of: as_of.0,
        wall_ms: *wall_ms,
        actor: actor.clone(),
        region: region.0,
        command: Some(kind(command)),
    }
}

pub(super) fn read_proposal(message: log::Proposal) -> Result<Proposal, Error> {
    let log::Proposal { request, as_of, wall_ms, actor, region, command } = message;
    Ok(Proposal {
        request: RequestId(array(&request, "request")?),
        as_of: Revision(as_of),
        wall_ms,
        actor,
        region: RegionId(region),
        command: read_kind(some(command, "command")?)?,
    })
}

fn kind(command: &Command) -> Kind {
    match command {
        Command::Genesis { cluster, mac_key, node, durability: asked } => Kind::Genesis(log::Genesis {
            cluster: id(cluster.as_bytes()),
            mac_key: id(mac_key),
            node: Some(new_node(node)),
            durability: Some(durability(*asked)),
        }),
        Command::Tick { elapsed_ms, hash_index, hash } => {
            Kind::Tick(log::Tick { elapsed_ms: *elapsed_ms, hash_index: hash_index.0, hash: id(hash) })
        }
        Command::MintNode { node, replace } => {
            Kind::MintNode(log::MintNode { node: Some(new_node(node)), replace: replace.map(|node| node.0) })
        }
        Command::OpenStore { store, node, region, format_level_max } => Kind::OpenStore(log::OpenStore {
            store: id(store.as_bytes()),
            node: node.0,
            region: region.0,
            format_level_max: *format_level_max,
        }),
        Command::RecordBlob { repository, digest: named, size, root, claim: from, copy } => {
            Kind::RecordBlob(log::RecordBlob {
                repository: repository.to_string(),
                digest: digest(named),
                size: *size,
                root: id(root.as_bytes()),
                claim: Some(claim(from)),
                copy: id(copy.as_bytes()),
            })
        }
        Command::Held { claim, copies } => Kind::Held(report(claim, copies)),
        Command::Lost { claim, copies } => Kind::Lost(report(claim, copies)),
        Command::Deleted { claim, copies } => Kind::Deleted(report(claim, copies)),
        Command::MountBlob { from, to, digest: named } => Kind::MountBlob(log::MountBlob {
            from: from.as_ref().map(ToString::to_string),
            to: to.to_string(),
            digest: digest(named),
        }),
        Command::UnlinkBlob { repository, digest } => Kind::UnlinkBlob(named_digest(repository, digest)),
        Command::PutManifest(put) => Kind::PutManifest(put_manifest(put)),
        Command::DeleteManifest { repository, digest } => Kind::DeleteManifest(named_digest(repository, digest)),
        other => later_kind(other),
    }
}

/// The second half of `kind`.
fn later_kind(command: &Command) -> Kind {
    match command {
        Command::DeleteTag { repository, tag, precondition } => {
            let (repository, tag) = (repository.to_string(), tag.to_string());
            match precondition.as_ref().map(condition) {
                None => Kind::DeleteTag(log::DeleteTag { repository, tag }),
                precondition => Kind::DeleteTagIf(log::DeleteTagIf { repository, tag, precondition }),
            }
        }
        Command::Collect { grace_ms, links, blobs } => Kind::Collect(log::Collect {
            grace_ms: *grace_ms,
            links: links.iter().map(|(repository, digest)| named_digest(repository, digest)).collect(),
            blobs: digests(blobs),
        }),
        Command::AdvanceBackfill { region, from } => {
            Kind::AdvanceBackfill(log::AdvanceBackfill { region: region.0, from: from.as_ref().map(digest) })
        }
        Command::SetRegionState { region, state } => Kind::SetRegionState(log::SetRegionState {
            region: region.0,
            state: match state {
                RegionState::Joining => log::RegionState::Joining,
                RegionState::Backfilling => log::RegionState::Backfilling,
                RegionState::Ready => log::RegionState::Ready,
                RegionState::Leaving => log::RegionState::Leaving,
            }
            .into(),
        }),
        Command::SetCordoned { region, cordoned } => {
            Kind::SetCordoned(log::SetCordoned { region: region.0, cordoned: *cordoned })
        }
        Command::RemoveRegion { region, force } => {
            Kind::RemoveRegion(log::RemoveRegion { region: region.0, force: *force })
        }
        Command::AdvanceDeparture { region, from, blobs } => Kind::AdvanceDeparture(log::AdvanceDeparture {
            region: region.0,
            from: from.as_ref().map(digest),
            blobs: *blobs,
        }),
        Command::ForgetStore { store } => Kind::ForgetStore(id(store.as_bytes())),
        Command::SetPolicy { prefix, durability: asked, sparse, immutable_tags } => Kind::SetPolicy(log::SetPolicy {
            prefix: prefix.clone(),
            durability: asked.map(durability),
            sparse: *sparse,
            immutable_tags: immutable_tags.as_ref().map(|globs| log::Globs { globs: globs.clone() }),
        }),
        Command::SetNodeAddress { node, peer_address } => {
            Kind::SetNodeAddress(log::SetNodeAddress { node: node.0, peer_address: peer_address.clone() })
        }
        Command::Genesis { .. }
        | Command::Tick { .. }
        | Command::MintNode { .. }
        | Command::OpenStore { .. }
        | Command::RecordBlob { .. }
        | Command::Held { .. }
        | Command::Lost { .. }
        | Command::Deleted { .. }
        | Command::MountBlob { .. }
        | Command::UnlinkBlob { .. }
        | Command::PutManifest(_)
        | Command::DeleteManifest { .. } => unreachable!("`kind` encodes these itself"),
    }
}

fn named_digest(repository: &domain::RepositoryName, named: &domain::Digest) -> log::NamedDigest {
    log::NamedDigest { repository: repository.to_string(), digest: digest(named) }
}

fn condition(condition: &Precondition) -> log::Precondition {
    match condition {
        Precondition::Absent => log::Precondition { absent: true, ..Default::default() },
        Precondition::Matches(named) => log::Precondition { matches: digests(named), ..Default::default() },
        Precondition::Differs(named) => log::Precondition { absent: true, matches: digests(named), differs: true },
    }
}

fn put_manifest(put: &PutManifest) -> log::PutManifest {
    let PutManifest {
        repository,
        digest: named,
        media_type,
        body,
        children,
        subject,
        artifact_type,
        annotations,
        tags,
        precondition,
    } = put;
    let child = |ManifestChild { digest: named, exempt, may_be_manifest }: &ManifestChild| log::ManifestChild {
        digest: digest(named),
        exempt: *exempt,
        may_be_manifest: *may_be_manifest,
    };
    let annotation = |(key, value): &(String, String)| log::Annotation { key: key.clone(), value: value.clone() };
    log::PutManifest {
        repository: repository.to_string(),
        digest: digest(named),
        media_type: media_type.clone(),
        body: body.clone(),
        children: children.iter().map(child).collect(),
        subject: subject.as_ref().map(digest),
        artifact_type: artifact_type.clone(),
        annotations: annotations.iter().map(annotation).collect(),
        tags: tags.iter().map(ToString::to_string).collect(),
        precondition: precondition.as_ref().map(condition),
    }
}

fn read_kind(kind: Kind) -> Result<Command, Error> {
    Ok(match kind {
        Kind::Genesis(log::Genesis { cluster, mac_key, node, durability }) => Command::Genesis {
            cluster: ClusterId(array(&cluster, "cluster")?),
            mac_key: array(&mac_key, "mac_key")?,
            node: read_new_node(node)?,
            durability: read_durability(&some(durability, "durability")?)?,
        },
        Kind::Tick(log::Tick { elapsed_ms, hash_index, hash }) => {
            Command::Tick { elapsed_ms, hash_index: Revision(hash_index), hash: array(&hash, "hash")? }
        }
        Kind::MintNode(log::MintNode { node, replace }) => {
            Command::MintNode { node: read_new_node(node)?, replace: replace.map(NodeId) }
        }
        Kind::OpenStore(log::OpenStore { store, node, region, format_level_max }) => Command::OpenStore {
            store: StoreId(array(&store, "store")?),
            node: NodeId(node),
            region: RegionId(region),
            format_level_max,
        },
        Kind::RecordBlob(log::RecordBlob { repository, digest, size, root, claim, copy }) => Command::RecordBlob {
            repository: read_repository(&repository)?,
            digest: read_digest(&digest)?,
            size,
            root: Blake3Root(array(&root, "root")?),
            claim: read_claim(claim)?,
            copy: CopyId(array(&copy, "copy")?),
        },
        Kind::Held(report) => read_report(report).map(|(claim, copies)| Command::Held { claim, copies })?,
        Kind::Lost(report) => read_report(report).map(|(claim, copies)| Command::Lost { claim, copies })?,
        Kind::Deleted(report) => read_report(report).map(|(claim, copies)| Command::Deleted { claim, copies })?,
        Kind::MountBlob(log::MountBlob { from, to, digest }) => Command::MountBlob {
            from: from.as_deref().map(read_repository).transpose()?,
            to: read_repository(&to)?,
            digest: read_digest(&digest)?,
        },
        Kind::UnlinkBlob(log::NamedDigest { repository, digest }) => {
            Command::UnlinkBlob { repository: read_repository(&repository)?, digest: read_digest(&digest)? }
        }
        Kind::PutManifest(put) => Command::PutManifest(Box::new(read_put_manifest(put)?)),
        Kind::DeleteManifest(log::NamedDigest { repository, digest }) => {
            Command::DeleteManifest { repository: read_repository(&repository)?, digest: read_digest(&digest)? }
        }
        other => read_later_kind(other)?,
    })
}

/// The second half of `read_kind`.
fn read_later_kind(kind: Kind) -> Result<Command, Error> {
    Ok(match kind {
        Kind::DeleteTag(log::DeleteTag { repository, tag }) => {
            Command::DeleteTag { repository: read_repository(&repository)?, tag: read_tag(&tag)?, precondition: None }
        }
        Kind::DeleteTagIf(log::DeleteTagIf { repository, tag, precondition }) => Command::DeleteTag {
            repository: read_repository(&repository)?,
            tag: read_tag(&tag)?,
            precondition: Some(read_condition(&some(precondition, "precondition")?)?),
        },
        Kind::Collect(log::Collect { grace_ms, links, blobs }) => {
            let link = |log::NamedDigest { repository, digest }: &log::NamedDigest| {
                Ok((read_repository(repository)?, read_digest(digest)?))
            };
            let links = links.iter().map(link).collect::<Result<_, Error>>()?;
            Command::Collect { grace_ms, links, blobs: read_digests(&blobs)? }
        }
        Kind::AdvanceBackfill(log::AdvanceBackfill { region, from }) => {
            Command::AdvanceBackfill { region: RegionId(region), from: from.as_ref().map(read_digest).transpose()? }
        }
        Kind::SetRegionState(log::SetRegionState { region, state }) => Command::SetRegionState {
            region: RegionId(region),
            state: match log::RegionState::try_from(state) {
                Ok(log::RegionState::Joining) => RegionState::Joining,
                Ok(log::RegionState::Backfilling) => RegionState::Backfilling,
                Ok(log::RegionState::Ready) => RegionState::Ready,
                Ok(log::RegionState::Leaving) => RegionState::Leaving,
                Ok(log::RegionState::Unspecified) | Err(_) => return Err(bad("state")),
            },
        },
        Kind::SetCordoned(log::SetCordoned { region, cordoned }) => {
            Command::SetCordoned { region: RegionId(region), cordoned }
        }
        Kind::RemoveRegion(log::RemoveRegion { region, force }) => {
            Command::RemoveRegion { region: RegionId(region), force }
        }
        Kind::AdvanceDeparture(log::AdvanceDeparture { region, from, blobs }) => {
            let from = from.as_ref().map(read_digest).transpose()?;
            Command::AdvanceDeparture { region: RegionId(region), from, blobs }
        }
        Kind::ForgetStore(store) => Command::ForgetStore { store: StoreId(array(&store, "store")?) },
        Kind::SetPolicy(log::SetPolicy { prefix, durability, sparse, immutable_tags }) => Command::SetPolicy {
            prefix,
            durability: durability.as_ref().map(read_durability).transpose()?,
            sparse,
            immutable_tags: immutable_tags.map(|log::Globs { globs }| globs),
        },
        Kind::SetNodeAddress(log::SetNodeAddress { node, peer_address }) => {
            Command::SetNodeAddress { node: NodeId(node), peer_address }
        }
        Kind::Genesis(_)
        | Kind::Tick(_)
        | Kind::MintNode(_)
        | Kind::OpenStore(_)
        | Kind::RecordBlob(_)
        | Kind::Held(_)
        | Kind::Lost(_)
        | Kind::Deleted(_)
        | Kind::MountBlob(_)
        | Kind::UnlinkBlob(_)
        | Kind::PutManifest(_)
        | Kind::DeleteManifest(_) => unreachable!("`read_kind` decodes these itself"),
    })
}

fn read_condition(message: &log::Precondition) -> Result<Precondition, Error> {
    let log::Precondition { absent, matches, differs } = message;
    match (absent, differs, matches.is_empty()) {
        (true, false, true) => Ok(Precondition::Absent),
        (false, false, _) => Ok(Precondition::Matches(read_digests(matches)?)),
        (true, true, false) => Ok(Precondition::Differs(read_digests(matches)?)),
        (true, false, false) | (false, true, _) | (true, true, true) => Err(bad("precondition")),
    }
}

fn read_put_manifest(message: log::PutManifest) -> Result<PutManifest, Error> {
    let log::PutManifest {
        repository,
        digest,
        media_type,
        body,
        children,
        subject,
        artifact_type,
        annotations,
        tags,
        precondition,
    } = message;
    let child = |log::ManifestChild { digest, exempt, may_be_manifest }: &log::ManifestChild| {
        Ok(ManifestChild { digest: read_digest(digest)?, exempt: *exempt, may_be_manifest: *may_be_manifest })
    };
    Ok(PutManifest {
        repository: read_repository(&repository)?,
        digest: read_digest(&digest)?,
        media_type,
        body,
        children: children.iter().map(child).collect::<Result<_, Error>>()?,
        subject: subject.as_ref().map(read_digest).transpose()?,
        artifact_type,
        annotations: annotations.into_iter().map(|log::Annotation { key, value }| (key, value)).collect(),
        tags: tags.iter().map(|tag| read_tag(tag)).collect::<Result<_, Error>>()?,
        precondition: precondition.as_ref().map(read_condition).transpose()?,
    })
}
