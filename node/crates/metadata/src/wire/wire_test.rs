//! Round trips of generated entries and outcomes, golden bytes, and what must be refused.

mod samples;

use proptest::prelude::*;

use super::*;
use crate::command::{Command, HeldCopy, ManifestChild, NewNode, Precondition, PutManifest, StoreClaim};
use crate::outcome::Refusal;
use crate::rows::RegionState;
use domain::{
    Algorithm, Blake3Root, Boot, ClusterId, CopyId, Digest, Durability, NodeId, Place, RegionId, RegionName,
    RepositoryName, RequestId, Revision, StoreId, Tag, digest::encode_hex,
};

fn digest() -> impl Strategy<Value = Digest> {
    let of = |algorithm, raw: Vec<u8>| Digest::from_raw(algorithm, &raw).unwrap();
    prop_oneof![
        prop::collection::vec(any::<u8>(), 32).prop_map(move |raw| of(Algorithm::Sha256, raw)),
        prop::collection::vec(any::<u8>(), 64).prop_map(move |raw| of(Algorithm::Sha512, raw)),
    ]
}

fn digests() -> impl Strategy<Value = Vec<Digest>> {
    prop::collection::vec(digest(), 0..4)
}

/// Names are drawn from few letters: the codec sees text, the parsers have tests of their own.
fn repository() -> impl Strategy<Value = RepositoryName> {
    prop::collection::vec(prop::sample::select(vec!["a", "team", "x-1", "b_c"]), 1..4)
        .prop_map(|parts| RepositoryName::parse(&parts.join("/")).unwrap())
}

fn tag() -> impl Strategy<Value = Tag> {
    prop::sample::select(vec!["latest", "v1.0", "_", "A-b"]).prop_map(|text| Tag::parse(text).unwrap())
}

fn durability() -> impl Strategy<Value = Durability> {
    prop_oneof![
        Just(Durability::Local),
        Just(Durability::Majority),
        Just(Durability::All),
        any::<u32>().prop_map(Durability::AtLeast)
    ]
}

fn new_node() -> impl Strategy<Value = NewNode> {
    (any::<(i32, i32)>(), any::<String>(), any::<String>(), any::<Vec<u8>>()).prop_map(
        |((latitude_micros, longitude_micros), public_url, peer_address, certificate)| NewNode {
            region: RegionName::parse("eu-1").unwrap(),
            place: Place { latitude_micros, longitude_micros },
            public_url,
            peer_address,
            certificate,
        },
    )
}

fn claim() -> impl Strategy<Value = StoreClaim> {
    any::<([u8; 16], u64, u64)>().prop_map(|(store, node, boot)| StoreClaim {
        store: StoreId(store),
        node: NodeId(node),
        boot: Boot(boot),
    })
}

fn copies() -> impl Strategy<Value = Vec<HeldCopy>> {
    prop::collection::vec(
        (digest(), any::<[u8; 16]>()).prop_map(|(digest, copy)| HeldCopy { digest, copy: CopyId(copy) }),
        0..4,
    )
}

fn child() -> impl Strategy<Value = ManifestChild> {
    (digest(), any::<bool>(), any::<bool>()).prop_map(|(digest, exempt, may_be_manifest)| ManifestChild {
        digest,
        exempt,
        may_be_manifest,
    })
}

fn precondition() -> impl Strategy<Value = Option<Precondition>> {
    prop_oneof![
        Just(None),
        Just(Some(Precondition::Absent)),
        digests().prop_map(|digests| Some(Precondition::Matches(digests))),
        prop::collection::vec(digest(), 1..4).prop_map(|digests| Some(Precondition::Differs(digests))),
    ]
}

fn put_manifest() -> impl Strategy<Value = Command> {
    let names = (repository(), digest(), prop::collection::vec(tag(), 0..4));
    let body = (any::<String>(), any::<Vec<u8>>(), prop::option::of(any::<String>()));
    let below = (prop::collection::vec(child(), 0..5), prop::option::of(digest()));
    let rest = (prop::collection::vec(any::<(String, String)>(), 0..3), precondition());
    (names, body, below, rest).prop_map(
        |(
            (repository, digest, tags),
            (media_type, body, artifact_type),
            (children, subject),
            (annotations, precondition),
        )| {
            Command::PutManifest(Box::new(PutManifest {
                repository,
                digest,
                media_type,
                body: body.into(),
                children,
                subject,
                artifact_type,
                annotations,
                tags,
                precondition,
            }))
        },
    )
}

fn cluster_command() -> impl Strategy<Value = Command> {
    let region = any::<u32>().prop_map(RegionId);
    let state = prop::sample::select(vec![
        RegionState::Joining,
        RegionState::Backfilling,
        RegionState::Ready,
        RegionState::Leaving,
    ]);
    prop_oneof![
        (any::<[u8; 16]>(), any::<[u8; 32]>(), new_node(), durability()).prop_map(
            |(cluster, mac_key, node, durability)| Command::Genesis {
                cluster: ClusterId(cluster),
                mac_key,
                node,
                durability
            }
        ),
        any::<(u64, u64, [u8; 32])>().prop_map(|(elapsed_ms, index, hash)| Command::Tick {
            elapsed_ms,
            hash_index: Revision(index),
            hash
        }),
        (new_node(), prop::option::of(any::<u64>().prop_map(NodeId)))
            .prop_map(|(node, replace)| Command::MintNode { node, replace }),
        any::<([u8; 16], u64, u32, u32)>().prop_map(|(store, node, region, format_level_max)| Command::OpenStore {
            store: StoreId(store),
            node: NodeId(node),
            region: RegionId(region),
            format_level_max,
        }),
        (region.clone(), prop::option::of(digest()))
            .prop_map(|(region, from)| Command::AdvanceBackfill { region, from }),
        (region.clone(), state).prop_map(|(region, state)| Command::SetRegionState { region, state }),
        (region.clone(), any::<bool>()).prop_map(|(region, cordoned)| Command::SetCordoned { region, cordoned }),
        (region.clone(), any::<bool>()).prop_map(|(region, force)| Command::RemoveRegion { region, force }),
        (region, prop::option::of(digest()), any::<u32>())
            .prop_map(|(region, from, blobs)| Command::AdvanceDeparture { region, from, blobs }),
        any::<[u8; 16]>().prop_map(|store| Command::ForgetStore { store: StoreId(store) }),
        (any::<u64>(), any::<String>())
            .prop_map(|(node, peer_address)| Command::SetNodeAddress { node: NodeId(node), peer_address }),
        (any::<String>(), prop::option::of(durability()), any::<Option<bool>>(), any::<Option<Vec<String>>>())
            .prop_map(|(prefix, durability, sparse, immutable_tags)| Command::SetPolicy {
                prefix,
                durability,
                sparse,
                immutable_tags
            }),
    ]
}

fn content_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        (repository(), digest(), any::<(u64, [u8; 32], [u8; 16])>(), claim()).prop_map(
            |(repository, digest, (size, root, copy), claim)| Command::RecordBlob {
                repository,
                digest,
                size,
                root: Blake3Root(root),
                claim,
                copy: CopyId(copy)
            }
        ),
        (claim(), copies()).prop_map(|(claim, copies)| Command::Held { claim, copies }),
        (claim(), copies()).prop_map(|(claim, copies)| Command::Lost { claim, copies }),
        (claim(), copies()).prop_map(|(claim, copies)| Command::Deleted { claim, copies }),
        (prop::option::of(repository()), repository(), digest()).prop_map(|(from, to, digest)| Command::MountBlob {
            from,
            to,
            digest
        }),
        (repository(), digest()).prop_map(|(repository, digest)| Command::UnlinkBlob { repository, digest }),
        put_manifest(),
        (repository(), digest()).prop_map(|(repository, digest)| Command::DeleteManifest { repository, digest }),
        (repository(), tag(), precondition()).prop_map(|(repository, tag, precondition)| Command::DeleteTag {
            repository,
            tag,
            precondition
        }),
        (any::<u64>(), prop::collection::vec((repository(), digest()), 0..3), digests())
            .prop_map(|(grace_ms, links, blobs)| Command::Collect { grace_ms, links, blobs }),
    ]
}

fn any_proposal() -> impl Strategy<Value = Proposal> {
    let command = prop_oneof![cluster_command(), content_command()];
    (any::<([u8; 16], u64, u64, u32)>(), any::<String>(), command).prop_map(
        |((request, as_of, wall_ms, region), actor, command)| Proposal {
            request: RequestId(request),
            as_of: Revision(as_of),
            wall_ms,
            actor,
            region: RegionId(region),
            command,
        },
    )
}

fn refusal() -> impl Strategy<Value = Refusal> {
    let text = any::<String>;
    prop_oneof![
        text().prop_map(|detail| Refusal::Lifecycle { detail }),
        prop::sample::select(vec![
            Refusal::TooOld,
            Refusal::UnknownRepository,
            Refusal::UnknownManifest,
            Refusal::Referenced,
            Refusal::Fenced
        ]),
        digests().prop_map(|digests| Refusal::Unknown { digests }),
        (digests(), any::<u32>(), any::<u32>()).prop_map(|(digests, have, need)| Refusal::NotYetDurable {
            digests,
            have,
            need
        }),
        prop::option::of(digest()).prop_map(|current| Refusal::Precondition { current }),
        (text(), text()).prop_map(|(tag, prefix)| Refusal::Immutable { tag, prefix }),
        (any::<u64>(), any::<u64>(), digests()).prop_map(|(count, bytes, digests)| Refusal::LastCopies {
            count,
            bytes,
            digests
        }),
        text().prop_map(|detail| Refusal::Invalid { detail }),
    ]
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Done),
        any::<(u64, u32)>().prop_map(|(node, region)| Outcome::Minted { node: NodeId(node), region: RegionId(region) }),
        any::<u64>().prop_map(|boot| Outcome::StoreOpened { boot: Boot(boot) }),
        any::<u64>().prop_map(|revision| Outcome::ManifestPut { revision: Revision(revision) }),
        any::<bool>().prop_map(|done| Outcome::StoreForgotten { done }),
        refusal().prop_map(Outcome::Refused),
    ]
}

proptest! {
    #[test]
    fn proposals_come_back_as_they_were(proposal in any_proposal()) {
        prop_assert_eq!(decode_proposal(encode_proposal(&proposal)), Ok(proposal));
    }

    #[test]
    fn outcomes_come_back_as_they_were(outcome in any_outcome()) {
        prop_assert_eq!(decode_outcome(encode_outcome(&outcome)), Ok(outcome));
    }

    #[test]
    fn damaged_entries_are_errors_or_other_entries_never_panics(
        proposal in any_proposal(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
    ) {
        let mut bytes = encode_proposal(&proposal).to_vec();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        if let Ok(other) = decode_proposal(bytes.clone().into()) {
            // What is accepted must mean something: it encodes to bytes that say the same.
            prop_assert_eq!(decode_proposal(encode_proposal(&other)), Ok(other));
        }
        let _ = decode_outcome(bytes.into());
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_proposal(bytes.clone().into());
        let _ = decode_outcome(bytes.into());
    }
}

#[test]
fn what_is_missing_or_malformed_is_named() {
    use proto::log;
    let field = |message: log::Proposal| match decode_proposal(message.encode_to_vec().into()) {
        Err(Error::Field { field }) => field,
        other => panic!("{other:?}"),
    };
    let whole = || log::Proposal { request: vec![1; 16].into(), ..Default::default() };
    let with = |command| log::Proposal { command: Some(command), ..whole() };
    use log::proposal::Command as Kind;
    assert_eq!(field(log::Proposal::default()), "request");
    assert_eq!(field(whole()), "command");
    assert_eq!(field(with(Kind::ForgetStore(vec![1; 15].into()))), "store");
    assert_eq!(field(with(Kind::Held(log::Report::default()))), "claim");
    assert_eq!(field(with(Kind::DeleteTag(log::DeleteTag { repository: "A".into(), tag: "t".into() }))), "repository");
    assert_eq!(field(with(Kind::DeleteTag(log::DeleteTag { repository: "a".into(), tag: "-".into() }))), "tag");
    assert_eq!(field(with(Kind::SetRegionState(log::SetRegionState { region: 1, state: 9 }))), "state");
    assert_eq!(field(with(Kind::SetRegionState(log::SetRegionState { region: 1, state: 0 }))), "state");
    assert_eq!(field(with(Kind::Genesis(log::Genesis::default()))), "cluster");
    let unlink = log::NamedDigest { repository: "a".into(), digest: vec![3; 33].into() };
    assert_eq!(field(with(Kind::UnlinkBlob(unlink))), "digest");
    let digest = || vec![1; 33].into();
    for (absent, differs, matches) in
        [(true, false, vec![digest()]), (false, true, vec![digest()]), (true, true, vec![])]
    {
        let precondition = Some(log::Precondition { absent, differs, matches });
        let put = log::PutManifest { repository: "a".into(), digest: digest(), precondition, ..Default::default() };
        assert_eq!(field(with(Kind::PutManifest(put))), "precondition");
    }
    let without = log::DeleteTagIf { repository: "a".into(), tag: "t".into(), precondition: None };
    assert_eq!(field(with(Kind::DeleteTagIf(without))), "precondition");
    assert!(matches!(decode_outcome(Bytes::new()), Err(Error::Field { field: "outcome" })));
    assert!(matches!(decode_proposal(Bytes::from_static(b"\xff\xff")), Err(Error::Malformed { .. })));
}

/// Bytes on disks and between releases: a line of `golden.txt` never changes, new lines may be added.
#[test]
fn golden_bytes_are_kept() {
    let encoded = samples::proposals().into_iter().map(|(name, proposal)| (name, encode_proposal(&proposal)));
    let encoded = encoded.chain(samples::outcomes().into_iter().map(|(name, value)| (name, encode_outcome(&value))));
    let lines: String = encoded.map(|(name, bytes)| format!("{name} {}\n", encode_hex(&bytes))).collect();
    assert_eq!(lines, include_str!("golden.txt"), "\n{lines}");
}
