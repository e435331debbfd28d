//! One entry and one outcome of each kind, for golden bytes.

use domain::{
    Blake3Root, Boot, ClusterId, CopyId, Digest, Durability, NodeId, Place, RegionId, RegionName, RepositoryName,
    RequestId, Revision, StoreId, Tag,
};

use crate::command::{Command, HeldCopy, ManifestChild, NewNode, Precondition, Proposal, PutManifest, StoreClaim};
use crate::outcome::{Outcome, Refusal};
use crate::rows::RegionState;

const DIGEST: Digest = Digest::Sha256([0x11; 32]);
const LONG: Digest = Digest::Sha512([0x22; 64]);
const CLAIM: StoreClaim = StoreClaim { store: StoreId([0x33; 16]), node: NodeId(2), boot: Boot(300) };

fn repository() -> RepositoryName {
    RepositoryName::parse("team/api").unwrap()
}

fn node() -> NewNode {
    NewNode {
        region: RegionName::parse("eu-1").unwrap(),
        place: Place { latitude_micros: 52_520_000, longitude_micros: -13_405_000 },
        public_url: "https://eu.example.com".to_owned(),
        peer_address: "eu.example.com:7001".to_owned(),
        certificate: vec![1, 2],
    }
}

fn copies() -> Vec<HeldCopy> {
    vec![HeldCopy { digest: DIGEST, copy: CopyId([0x44; 16]) }]
}

fn put_manifest() -> PutManifest {
    PutManifest {
        repository: repository(),
        digest: DIGEST,
        media_type: "application/vnd.oci.image.index.v1+json".to_owned(),
        body: vec![b'{', b'}'].into(),
        children: vec![ManifestChild { digest: LONG, exempt: true, may_be_manifest: true }],
        subject: Some(DIGEST),
        artifact_type: Some("application/x".to_owned()),
        annotations: vec![("k".to_owned(), "v".to_owned())],
        tags: vec![Tag::parse("latest").unwrap()],
        precondition: Some(Precondition::Matches(vec![DIGEST])),
    }
}

fn delete_tag(precondition: Option<Precondition>) -> Command {
    Command::DeleteTag { repository: repository(), tag: Tag::parse("v1").unwrap(), precondition }
}

fn content() -> Vec<(&'static str, Command)> {
    let (repository, digest) = (repository(), DIGEST);
    vec![
        (
            "record-blob",
            Command::RecordBlob {
                repository: repository.clone(),
                digest,
                size: 1 << 33,
                root: Blake3Root([0x55; 32]),
                claim: CLAIM,
                copy: CopyId([0x44; 16]),
            },
        ),
        ("held", Command::Held { claim: CLAIM, copies: copies() }),
        ("lost", Command::Lost { claim: CLAIM, copies: copies() }),
        ("deleted", Command::Deleted { claim: CLAIM, copies: copies() }),
        ("mount-blob", Command::MountBlob { from: Some(repository.clone()), to: repository.clone(), digest }),
        ("unlink-blob", Command::UnlinkBlob { repository: repository.clone(), digest }),
        ("put-manifest", Command::PutManifest(Box::new(put_manifest()))),
        ("delete-manifest", Command::DeleteManifest { repository: repository.clone(), digest: LONG }),
        ("delete-tag", delete_tag(None)),
        ("delete-tag-if-absent", delete_tag(Some(Precondition::Absent))),
        ("delete-tag-if-match", delete_tag(Some(Precondition::Matches(vec![digest])))),
        ("delete-tag-if-none-match", delete_tag(Some(Precondition::Differs(vec![digest])))),
        ("collect", Command::Collect { grace_ms: 86_400_000, links: vec![(repository, digest)], blobs: vec![LONG] }),
    ]
}

fn cluster() -> Vec<(&'static str, Command)> {
    let region = RegionId(3);
    vec![
        (
            "genesis",
            Command::Genesis {
                cluster: ClusterId([0x66; 16]),
                mac_key: [0x77; 32],
                node: node(),
                durability: Durability::AtLeast(2),
            },
        ),
        ("tick", Command::Tick { elapsed_ms: 10_000, hash_index: Revision(7), hash: [0x88; 32] }),
        ("mint-node", Command::MintNode { node: node(), replace: Some(NodeId(2)) }),
        ("open-store", Command::OpenStore { store: CLAIM.store, node: NodeId(2), region, format_level_max: 1 }),
        ("advance-backfill", Command::AdvanceBackfill { region, from: Some(DIGEST) }),
        ("set-region-state", Command::SetRegionState { region, state: RegionState::Ready }),
        ("set-cordoned", Command::SetCordoned { region, cordoned: true }),
        ("remove-region", Command::RemoveRegion { region, force: true }),
        ("forget-store", Command::ForgetStore { store: CLAIM.store }),
        (
            "set-policy",
            Command::SetPolicy {
                prefix: "team".to_owned(),
                durability: Some(Durability::All),
                sparse: Some(false),
                immutable_tags: Some(vec!["v*".to_owned()]),
            },
        ),
        (
            "set-node-address",
            Command::SetNodeAddress { node: NodeId(2), peer_address: "eu.example.com:7002".to_owned() },
        ),
    ]
}

/// What came after the first lines.
fn later() -> Vec<(&'static str, Command)> {
    vec![("advance-departure", Command::AdvanceDeparture { region: RegionId(2), from: Some(DIGEST), blobs: 500 })]
}

pub(super) fn proposals() -> Vec<(&'static str, Proposal)> {
    let whole = |(name, command)| {
        let proposal = Proposal {
            request: RequestId([0x99; 16]),
            as_of: Revision(1000),
            wall_ms: 1_700_000_000_000,
            actor: "anonymous".to_owned(),
            region: RegionId(1),
            command,
        };
        (name, proposal)
    };
    cluster().into_iter().chain(content()).chain(later()).map(whole).collect()
}

pub(super) fn outcomes() -> Vec<(&'static str, Outcome)> {
    let refused = Outcome::Refused;
    let digests = || vec![DIGEST, LONG];
    vec![
        ("done", Outcome::Done),
        ("minted", Outcome::Minted { node: NodeId(2), region: RegionId(3) }),
        ("store-opened", Outcome::StoreOpened { boot: Boot(300) }),
        ("manifest-put", Outcome::ManifestPut { revision: Revision(1001) }),
        ("store-forgotten", Outcome::StoreForgotten { done: true }),
        ("lifecycle", refused(Refusal::Lifecycle { detail: "x".to_owned() })),
        ("too-old", refused(Refusal::TooOld)),
        ("unknown-repository", refused(Refusal::UnknownRepository)),
        ("unknown-manifest", refused(Refusal::UnknownManifest)),
        ("unknown", refused(Refusal::Unknown { digests: digests() })),
        ("not-yet-durable", refused(Refusal::NotYetDurable { digests: digests(), have: 1, need: 2 })),
        ("precondition", refused(Refusal::Precondition { current: Some(DIGEST) })),
        ("immutable", refused(Refusal::Immutable { tag: "v1".to_owned(), prefix: "team".to_owned() })),
        ("referenced", refused(Refusal::Referenced)),
        ("fenced", refused(Refusal::Fenced)),
        ("last-copies", refused(Refusal::LastCopies { count: 2, bytes: 3000, digests: digests() })),
        ("invalid", refused(Refusal::Invalid { detail: "x".to_owned() })),
        ("stays", Outcome::Stays(Refusal::LastCopies { count: 2, bytes: 3000, digests: digests() })),
    ]
}
