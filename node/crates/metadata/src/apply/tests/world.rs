//! A state to try commands on, with names instead of ids.

use bytes::Bytes;
use domain::{
    Blake3Root, Boot, ClusterId, CopyId, Digest, Durability, NodeId, Place, RegionId, RegionName, RepositoryName,
    RequestId, Revision, StoreId, Tag,
};
use kv::ledger::{Ledger, Sync};

use crate::apply::{Answer, apply};
use crate::command::{Command, HeldCopy, ManifestChild, NewNode, Precondition, Proposal, PutManifest, StoreClaim};
use crate::outcome::{Outcome, Refusal};
use crate::rows::RegionState;
use crate::state::{Batch, TABLE, Touched};
use crate::view::{Freshness, View};

pub(crate) struct World {
    pub(crate) ledger: Ledger,
    pub(crate) index: u64,
    pub(crate) requests: u64,
    /// Region the next commands are accepted in.
    pub(crate) region: RegionId,
    pub(crate) touched: Touched,
}

pub(crate) fn is_refused(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused(_))
}

pub(crate) fn repo(name: &str) -> RepositoryName {
    RepositoryName::parse(name).unwrap()
}

pub(crate) fn tag(name: &str) -> Tag {
    Tag::parse(name).unwrap()
}

/// A digest that is easy to recognise.
pub(crate) fn digest(number: u8) -> Digest {
    Digest::Sha256([number; 32])
}

pub(crate) fn copy(number: u64) -> CopyId {
    CopyId((u128::from(number) << 32).to_be_bytes())
}

pub(crate) fn store_id(number: u8) -> StoreId {
    StoreId([number; 16])
}

pub(crate) fn size(digest: &Digest) -> u64 {
    1000 + u64::from(digest.raw()[0])
}

pub(crate) fn new_node(region: &str) -> NewNode {
    NewNode {
        region: RegionName::parse(region).unwrap(),
        place: Place { latitude_micros: 52_500_000, longitude_micros: -13_400_000 },
        public_url: format!("https://{region}.example.com"),
        peer_address: format!("{region}.example.com:7001"),
        certificate: Vec::new(),
    }
}

/// A manifest put of `number` over children, without subject or condition.
pub(crate) fn put(repository: &str, number: u8, children: &[u8], tags: &[&str]) -> PutManifest {
    let child = |number: &u8| ManifestChild { digest: digest(*number), exempt: false, may_be_manifest: false };
    PutManifest {
        repository: repo(repository),
        digest: digest(number),
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        body: Bytes::from(vec![number; 10]),
        children: children.iter().map(child).collect(),
        subject: None,
        artifact_type: None,
        annotations: Vec::new(),
        tags: tags.iter().map(|name| tag(name)).collect(),
        precondition: None,
    }
}

pub(crate) fn only_if(mut put: PutManifest, condition: Precondition) -> PutManifest {
    put.precondition = Some(condition);
    put
}

impl World {
    pub(crate) fn unborn() -> Self {
        let ledger = Ledger::in_memory(&[TABLE]).unwrap();
        World { ledger, index: 0, requests: 0, region: RegionId(1), touched: Touched::default() }
    }

    /// One region `a`, ready, with node 1 and store 1 open.
    pub(crate) fn one() -> Self {
        let mut world = World::unborn();
        world.done(Command::Genesis {
            cluster: ClusterId([9; 16]),
            mac_key: [8; 32],
            node: new_node("a"),
            durability: Durability::Majority,
        });
        world.open(1, 1, 1);
        world
    }

    /// Regions `a`, `b` and `c` (1, 2, 3), all ready, each with the node and store of its number.
    pub(crate) fn three() -> Self {
        let mut world = World::one();
        for (number, name) in [(2, "b"), (3, "c")] {
            let minted = world.run(Command::MintNode { node: new_node(name), replace: None });
            assert_eq!(minted, Outcome::Minted { node: NodeId(number), region: RegionId(number as u32) });
            world.open(number as u8, number, number as u32);
            world.set_state(number as u32, RegionState::Backfilling);
            world.set_state(number as u32, RegionState::Ready);
        }
        world
    }

    pub(crate) fn proposal(&mut self, command: Command) -> Proposal {
        self.requests += 1;
        Proposal {
            request: RequestId(u128::from(self.requests).to_be_bytes()),
            as_of: Revision(self.index),
            wall_ms: 1_700_000_000_000 + self.index,
            actor: "anonymous".to_owned(),
            region: self.region,
            command,
        }
    }

    pub(crate) fn propose(&mut self, proposal: &Proposal) -> Answer {
        self.index += 1;
        let mut batch = Batch::begin(&self.ledger).unwrap();
        let answer = apply(&mut batch, self.index, proposal).unwrap();
        batch.set_last_applied(&self.index.to_be_bytes()).unwrap();
        self.touched = batch.commit(Sync::Visible).unwrap();
        answer
    }

    pub(crate) fn run(&mut self, command: Command) -> Outcome {
        let proposal = self.proposal(command);
        self.propose(&proposal).outcome
    }

    pub(crate) fn done(&mut self, command: Command) {
        let text = format!("{command:?}");
        let outcome = self.run(command);
        assert!(!is_refused(&outcome), "{text}: {outcome:?}");
    }

    pub(crate) fn refused(&mut self, command: Command) -> Refusal {
        let text = format!("{command:?}");
        match self.run(command) {
            Outcome::Refused(refusal) => refusal,
            other => panic!("{text} was not refused: {other:?}"),
        }
    }

    pub(crate) fn view(&self) -> View {
        View::new(self.ledger.read().unwrap(), Revision(self.index), Freshness::Local)
    }

    pub(crate) fn tick(&mut self, elapsed_ms: u64) -> Outcome {
        self.run(Command::Tick { elapsed_ms, hash_index: Revision(0), hash: [0; 32] })
    }

    /// Lets cluster time pass, in ticks of at most 60 s.
    pub(crate) fn pass(&mut self, mut elapsed_ms: u64) {
        while elapsed_ms > 0 {
            let step = elapsed_ms.min(60_000);
            assert_eq!(self.tick(step), Outcome::Done);
            elapsed_ms -= step;
        }
    }

    pub(crate) fn open(&mut self, store: u8, node: u64, region: u32) -> Outcome {
        self.run(Command::OpenStore {
            store: store_id(store),
            node: NodeId(node),
            region: RegionId(region),
            format_level_max: 1,
        })
    }

    pub(crate) fn set_state(&mut self, region: u32, state: RegionState) {
        self.done(Command::SetRegionState { region: RegionId(region), state });
    }

    /// The claim a store may make now.
    pub(crate) fn claim(&self, store: u8) -> StoreClaim {
        let row = self.view().store(store_id(store)).unwrap().unwrap();
        StoreClaim { store: row.id, node: row.node, boot: row.boot }
    }

    pub(crate) fn record_command(&self, repository: &str, number: u8, store: u8, copy_number: u64) -> Command {
        let digest = digest(number);
        let claim = if self.view().store(store_id(store)).unwrap().is_some() {
            self.claim(store)
        } else {
            StoreClaim { store: store_id(store), node: NodeId(99), boot: Boot(0) }
        };
        Command::RecordBlob {
            repository: repo(repository),
            digest,
            size: size(&digest),
            root: Blake3Root([number; 32]),
            claim,
            copy: copy(copy_number),
        }
    }

    /// Blob `number` is uploaded to a store; its copy is numbered by the log.
    pub(crate) fn record(&mut self, repository: &str, number: u8, store: u8) {
        let command = self.record_command(repository, number, store, self.index);
        self.done(command);
    }

    pub(crate) fn held_command(&self, store: u8, numbers: &[u8], copy_number: u64) -> Command {
        let one = |number: &u8| HeldCopy { digest: digest(*number), copy: copy(copy_number) };
        Command::Held { claim: self.claim(store), copies: numbers.iter().map(one).collect() }
    }

    /// A store has fetched blobs.
    pub(crate) fn held(&mut self, store: u8, numbers: &[u8]) {
        let command = self.held_command(store, numbers, self.index);
        self.done(command);
    }

    pub(crate) fn put(&mut self, put: PutManifest) -> Outcome {
        self.run(Command::PutManifest(Box::new(put)))
    }

    /// A put that succeeds; its revision.
    pub(crate) fn stored(&mut self, put: PutManifest) -> Revision {
        match self.put(put) {
            Outcome::ManifestPut { revision } => revision,
            other => panic!("not stored: {other:?}"),
        }
    }

    /// A put that is refused.
    pub(crate) fn not_stored(&mut self, put: PutManifest) -> Refusal {
        self.refused(Command::PutManifest(Box::new(put)))
    }
}
