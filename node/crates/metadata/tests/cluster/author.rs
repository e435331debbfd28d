//! Draws commands of every kind. What it needs to know of the state it learns from outcomes alone.

use bytes::Bytes;
use domain::{
    Blake3Root, Boot, ClusterId, CopyId, Digest, Durability, NodeId, Place, RegionId, RegionName, RepositoryName,
    RequestId, Revision, StoreId, Tag,
};
use metadata::command::{HeldCopy, ManifestChild, NewNode, Precondition, PutManifest, StoreClaim};
use metadata::rows::RegionState;
use metadata::{Command, Outcome};

/// Every kind of command, by name. A new one does not compile before it is named here and drawn below.
pub(crate) const KINDS: usize = 22;
const REPOSITORIES: [&str; 3] = ["a", "team/api", "team/web"];
const TAGS: [&str; 4] = ["latest", "v1", "v2", "rc"];
/// Regions that exist in the rows alone: their nodes are never reached.
const PHANTOMS: [&str; 3] = ["p1", "p2", "p3"];

pub(crate) fn kind(command: &Command) -> &'static str {
    match command {
        Command::Genesis { .. } => "genesis",
        Command::Tick { .. } => "tick",
        Command::MintNode { .. } => "mint node",
        Command::OpenStore { .. } => "open store",
        Command::RecordBlob { .. } => "record blob",
        Command::Held { .. } => "held",
        Command::Lost { .. } => "lost",
        Command::Deleted { .. } => "deleted",
        Command::MountBlob { .. } => "mount blob",
        Command::UnlinkBlob { .. } => "unlink blob",
        Command::PutManifest(_) => "put manifest",
        Command::DeleteManifest { .. } => "delete manifest",
        Command::DeleteTag { .. } => "delete tag",
        Command::Collect { .. } => "collect",
        Command::AdvanceBackfill { .. } => "advance backfill",
        Command::SetRegionState { .. } => "set region state",
        Command::SetCordoned { .. } => "set cordoned",
        Command::RemoveRegion { .. } => "remove region",
        Command::AdvanceDeparture { .. } => "advance departure",
        Command::ForgetStore { .. } => "forget store",
        Command::SetPolicy { .. } => "set policy",
        Command::SetNodeAddress { .. } => "set node address",
    }
}

/// splitmix64: small, and the same everywhere.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn once_in(&mut self, sides: u64) -> bool {
        self.below(sides) == 0
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let at = usize::try_from(self.below(from.len().max(1) as u64)).unwrap();
        from.get(at).cloned()
    }

    pub(crate) fn request(&mut self) -> RequestId {
        RequestId(((u128::from(self.next()) << 64) | u128::from(self.next())).to_be_bytes())
    }

    fn repository(&mut self) -> RepositoryName {
        RepositoryName::parse(self.pick(&REPOSITORIES).unwrap()).unwrap()
    }

    fn tag(&mut self) -> Tag {
        Tag::parse(self.pick(&TAGS).unwrap()).unwrap()
    }

    fn blob(&mut self) -> Digest {
        Digest::Sha256([u8::try_from(self.below(60)).unwrap(); 32])
    }

    fn manifest(&mut self) -> u8 {
        100 + u8::try_from(self.below(20)).unwrap()
    }
}

/// What outcomes have told.
#[derive(Default)]
pub(crate) struct Known {
    /// The newest claim of every store that was opened.
    pub(crate) claims: Vec<StoreClaim>,
    /// Nodes of phantom regions.
    minted: Vec<(NodeId, RegionId)>,
    /// The region that shall leave, until a step of that was proposed.
    departing: Option<RegionId>,
    /// Copies that were recorded, and whose they are.
    copies: Vec<(StoreClaim, HeldCopy)>,
}

impl Known {
    /// Learns from a decided command.
    pub(crate) fn learn(&mut self, command: &Command, outcome: &Outcome) {
        match (command, outcome) {
            (Command::MintNode { .. }, Outcome::Minted { node, region }) => self.minted.push((*node, *region)),
            (Command::OpenStore { store, node, .. }, Outcome::StoreOpened { boot }) => {
                self.claims.retain(|claim| claim.store != *store);
                self.claims.push(StoreClaim { store: *store, node: *node, boot: *boot });
            }
            (Command::RemoveRegion { region, force: false }, Outcome::Done) => self.departing = Some(*region),
            (Command::AdvanceDeparture { .. }, _) => self.departing = None,
            (Command::RecordBlob { digest, claim, copy, .. }, Outcome::Done) => {
                self.copies.push((*claim, HeldCopy { digest: *digest, copy: *copy }));
            }
            (Command::Held { claim, copies }, Outcome::Done) => {
                self.copies.extend(copies.iter().map(|copy| (*claim, *copy)));
            }
            _ => {}
        }
    }

    fn claim(&self, dice: &mut Dice) -> StoreClaim {
        let nobody = StoreClaim { store: StoreId([0; 16]), node: NodeId(1), boot: Boot(0) };
        let mut claim = dice.pick(&self.claims).unwrap_or(nobody);
        if dice.once_in(30) {
            claim.boot = Boot(claim.boot.0.saturating_sub(1));
        }
        claim
    }

    /// One of the phantoms minted last: older ones are gone, or replaced.
    fn phantom(&self, dice: &mut Dice) -> (NodeId, RegionId) {
        let newest = &self.minted[self.minted.len().saturating_sub(PHANTOMS.len())..];
        dice.pick(newest).unwrap_or((NodeId(900), RegionId(900)))
    }
}

/// Draws a command that has a chance.
pub(crate) fn draw(dice: &mut Dice, known: &Known) -> Command {
    match dice.below(100) {
        0..=17 => record(dice, known),
        18..=25 => Command::Held { claim: known.claim(dice), copies: vec![held(dice), held(dice)] },
        26..=28 => reported(dice, known, |claim, copies| Command::Lost { claim, copies }),
        29..=31 => reported(dice, known, |claim, copies| Command::Deleted { claim, copies }),
        32..=35 => {
            let from = dice.once_in(2).then(|| dice.repository());
            Command::MountBlob { from, to: dice.repository(), digest: dice.blob() }
        }
        36..=38 => Command::UnlinkBlob { repository: dice.repository(), digest: dice.blob() },
        39..=57 => put(dice),
        58..=61 => {
            let digest = Digest::Sha256([dice.manifest(); 32]);
            Command::DeleteManifest { repository: dice.repository(), digest }
        }
        62..=65 => {
            let precondition = precondition(dice);
            Command::DeleteTag { repository: dice.repository(), tag: dice.tag(), precondition }
        }
        66..=69 => Command::Tick { elapsed_ms: dice.below(60_000), hash_index: Revision(0), hash: [0; 32] },
        70..=74 => {
            let links = (0..8).map(|_| (dice.repository(), dice.blob())).collect();
            Command::Collect { grace_ms: 30_000, links, blobs: (0..8).map(|_| dice.blob()).collect() }
        }
        _ => draw_of_the_cluster(dice, known),
    }
}

fn draw_of_the_cluster(dice: &mut Dice, known: &Known) -> Command {
    let (node, region) = known.phantom(dice);
    match dice.below(28) {
        0..=2 => Command::AdvanceBackfill { region, from: None },
        3..=7 => {
            let state = if dice.once_in(4) { RegionState::Ready } else { RegionState::Backfilling };
            Command::SetRegionState { region, state }
        }
        8 => Command::SetCordoned { region, cordoned: dice.once_in(2) },
        9 => Command::RemoveRegion { region, force: !dice.once_in(4) },
        10 | 11 => Command::ForgetStore { store: known.claim(dice).store },
        12..=14 => policy(dice),
        15 => Command::SetNodeAddress { node, peer_address: format!("127.0.0.1:{}", dice.below(9) + 1) },
        16..=18 => {
            let replace = dice.once_in(4).then_some(node);
            Command::MintNode { node: phantom(dice.pick(&PHANTOMS).unwrap()), replace }
        }
        19..=23 => {
            let mine = known.claims.iter().find(|claim| claim.node == node && !dice.once_in(4));
            let fresh = StoreId(*dice.request().0.first_chunk().unwrap());
            Command::OpenStore { store: mine.map_or(fresh, |claim| claim.store), node, region, format_level_max: 1 }
        }
        24..=26 => departing(dice, known, region),
        _ => Command::Genesis {
            cluster: ClusterId([1; 16]),
            mac_key: [1; 32],
            node: phantom("p9"),
            durability: Durability::Local,
        },
    }
}

/// The wish that a phantom leaves, or a step of the departure that an outcome told of.
fn departing(dice: &mut Dice, known: &Known, region: RegionId) -> Command {
    match known.departing {
        Some(region) => {
            Command::AdvanceDeparture { region, from: None, blobs: 1 + u32::try_from(dice.below(99)).unwrap() }
        }
        None => Command::RemoveRegion { region, force: false },
    }
}

fn phantom(region: &str) -> NewNode {
    NewNode {
        region: RegionName::parse(region).unwrap(),
        place: Place::default(),
        public_url: format!("http://{region}.example.com"),
        peer_address: "127.0.0.1:9".to_owned(),
        certificate: Vec::new(),
    }
}

fn copy(dice: &mut Dice) -> CopyId {
    CopyId(dice.request().0)
}

fn held(dice: &mut Dice) -> HeldCopy {
    HeldCopy { digest: dice.blob(), copy: copy(dice) }
}

fn record(dice: &mut Dice, known: &Known) -> Command {
    let digest = dice.blob();
    let number = digest.raw()[0];
    // Now and then of another size than it was recorded with.
    let size = if dice.once_in(50) { 1 } else { 1000 + u64::from(number) };
    let root = Blake3Root([number; 32]);
    Command::RecordBlob {
        repository: dice.repository(),
        digest,
        size,
        root,
        claim: known.claim(dice),
        copy: copy(dice),
    }
}

fn reported(dice: &mut Dice, known: &Known, make: impl FnOnce(StoreClaim, Vec<HeldCopy>) -> Command) -> Command {
    let newest = &known.copies[known.copies.len().saturating_sub(200)..];
    match dice.pick(newest) {
        Some((claim, copy)) => make(claim, vec![copy, held(dice)]),
        None => make(known.claim(dice), vec![held(dice)]),
    }
}

fn policy(dice: &mut Dice) -> Command {
    let durabilities = [Durability::Local, Durability::Local, Durability::Majority, Durability::AtLeast(9)];
    Command::SetPolicy {
        prefix: (*dice.pick(&["", "team", "a", "no such/"]).unwrap()).to_owned(),
        durability: dice.pick(&durabilities),
        sparse: Some(dice.once_in(3)),
        immutable_tags: Some(if dice.once_in(4) { vec!["rc".to_owned()] } else { Vec::new() }),
    }
}

fn precondition(dice: &mut Dice) -> Option<Precondition> {
    let current = |dice: &mut Dice| vec![Digest::Sha256([dice.manifest(); 32])];
    match dice.below(12) {
        0 => Some(Precondition::Absent),
        1 => Some(Precondition::Matches(current(dice))),
        2 => Some(Precondition::Differs(current(dice))),
        _ => None,
    }
}

fn put(dice: &mut Dice) -> Command {
    let number = dice.manifest();
    // Children follow from the digest, as bytes do.
    let mut of_it = Dice(u64::from(number));
    let mut children: Vec<ManifestChild> = Vec::new();
    for _ in 0..of_it.below(3) {
        let digest = of_it.blob();
        if children.iter().all(|child| child.digest != digest) {
            children.push(ManifestChild { digest, exempt: false, may_be_manifest: false });
        }
    }
    let precondition = precondition(dice);
    let mut tags: Vec<Tag> = (0..dice.below(3)).map(|_| dice.tag()).collect();
    tags.dedup();
    Command::PutManifest(Box::new(PutManifest {
        repository: dice.repository(),
        digest: Digest::Sha256([number; 32]),
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        body: Bytes::from(vec![number; 300]),
        children,
        subject: number.is_multiple_of(5).then(|| Digest::Sha256([number - 3; 32])),
        artifact_type: None,
        annotations: Vec::new(),
        tags,
        precondition,
    }))
}
