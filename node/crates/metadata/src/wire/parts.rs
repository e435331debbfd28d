//! Fields that several messages share.

use bytes::Bytes;
use domain::{Boot, CopyId, Digest, Durability, NodeId, Place, RegionName, RepositoryName, StoreId, Tag};
use proto::log;

use super::Error;
use crate::command::{HeldCopy, NewNode, StoreClaim};

pub(super) fn bad(field: &'static str) -> Error {
    Error::Field { field }
}

pub(super) fn some<T>(value: Option<T>, field: &'static str) -> Result<T, Error> {
    value.ok_or(Error::Field { field })
}

pub(super) fn array<const N: usize>(raw: &Bytes, field: &'static str) -> Result<[u8; N], Error> {
    raw.as_ref().try_into().map_err(|_| bad(field))
}

pub(super) fn digest(value: &Digest) -> Bytes {
    Bytes::from(value.to_key())
}

pub(super) fn digests(values: &[Digest]) -> Vec<Bytes> {
    values.iter().map(digest).collect()
}

pub(super) fn read_digest(raw: &Bytes) -> Result<Digest, Error> {
    Digest::from_key(raw).map_err(|_| bad("digest"))
}

pub(super) fn read_digests(raw: &[Bytes]) -> Result<Vec<Digest>, Error> {
    raw.iter().map(read_digest).collect()
}

pub(super) fn read_repository(text: &str) -> Result<RepositoryName, Error> {
    RepositoryName::parse(text).map_err(|_| bad("repository"))
}

pub(super) fn read_tag(text: &str) -> Result<Tag, Error> {
    Tag::parse(text).map_err(|_| bad("tag"))
}

pub(super) fn id(raw: &[u8]) -> Bytes {
    Bytes::copy_from_slice(raw)
}

pub(super) fn durability(value: Durability) -> log::Durability {
    use log::durability::Kind;
    let kind = match value {
        Durability::Local => Kind::Local(true),
        Durability::Majority => Kind::Majority(true),
        Durability::All => Kind::All(true),
        Durability::AtLeast(count) => Kind::AtLeast(count),
    };
    log::Durability { kind: Some(kind) }
}

pub(super) fn read_durability(message: &log::Durability) -> Result<Durability, Error> {
    use log::durability::Kind;
    match some(message.kind, "durability")? {
        Kind::Local(true) => Ok(Durability::Local),
        Kind::Majority(true) => Ok(Durability::Majority),
        Kind::All(true) => Ok(Durability::All),
        Kind::AtLeast(count) => Ok(Durability::AtLeast(count)),
        Kind::Local(false) | Kind::Majority(false) | Kind::All(false) => Err(bad("durability")),
    }
}

pub(super) fn new_node(node: &NewNode) -> log::NewNode {
    let NewNode { region, place, public_url, peer_address, certificate } = node;
    log::NewNode {
        region: region.to_string(),
        latitude_micros: place.latitude_micros,
        longitude_micros: place.longitude_micros,
        public_url: public_url.clone(),
        peer_address: peer_address.clone(),
        certificate: id(certificate),
    }
}

pub(super) fn read_new_node(message: Option<log::NewNode>) -> Result<NewNode, Error> {
    let log::NewNode { region, latitude_micros, longitude_micros, public_url, peer_address, certificate } =
        some(message, "node")?;
    Ok(NewNode {
        region: RegionName::parse(&region).map_err(|_| bad("region"))?,
        place: Place { latitude_micros, longitude_micros },
        public_url,
        peer_address,
        certificate: certificate.to_vec(),
    })
}

pub(super) fn claim(value: &StoreClaim) -> log::Claim {
    let StoreClaim { store, node, boot } = value;
    log::Claim { store: id(store.as_bytes()), node: node.0, boot: boot.0 }
}

pub(super) fn read_claim(message: Option<log::Claim>) -> Result<StoreClaim, Error> {
    let log::Claim { store, node, boot } = some(message, "claim")?;
    Ok(StoreClaim { store: StoreId(array(&store, "store")?), node: NodeId(node), boot: Boot(boot) })
}

pub(super) fn report(from: &StoreClaim, copies: &[HeldCopy]) -> log::Report {
    let copy = |HeldCopy { digest: named, copy }: &HeldCopy| log::HeldCopy {
        digest: digest(named),
        copy: id(copy.as_bytes()),
    };
    log::Report { claim: Some(claim(from)), copies: copies.iter().map(copy).collect() }
}

pub(super) fn read_report(message: log::Report) -> Result<(StoreClaim, Vec<HeldCopy>), Error> {
    let log::Report { claim, copies } = message;
    let one = |log::HeldCopy { digest, copy }: &log::HeldCopy| {
        Ok(HeldCopy { digest: read_digest(digest)?, copy: CopyId(array(copy, "copy")?) })
    };
    Ok((read_claim(claim)?, copies.iter().map(one).collect::<Result<_, Error>>()?))
}
