//! Bytes that were placed, and what becomes of them when they are recorded late, or not at all.

use blobs::handle::{Pin, PlacedBlob, SessionKey};
use domain::{Blake3Root, CopyId, Digest, RepositoryName};
use metadata::command::Command;
use metadata::handle::Origin;

use crate::limits::LIMIT;
use crate::rows_blobs::{bytes, digest};
use crate::world::World;

const REPOSITORY: &str = "p/one";

async fn record(world: &World, placed: PlacedBlob) {
    let PlacedBlob { digest, size, root, copy } = placed;
    let claim = world.metadata(0).claim().unwrap();
    let repository = RepositoryName::parse(REPOSITORY).unwrap();
    let command = Command::RecordBlob { repository, digest, size, root, claim, copy };
    world.metadata(0).propose(Origin { actor: "test".to_owned() }, command).await.unwrap();
}

/// Uploads, and places the bytes without recording them.
async fn place(world: &World, content: &[u8]) -> (String, SessionKey, PlacedBlob, Pin) {
    let answer = world.ask_at(0, "POST", &format!("/v2/{REPOSITORY}/blobs/uploads/")).send().await.expect(202);
    let uuid = answer.header("docker-upload-uuid").unwrap().replace('-', "");
    let key = SessionKey(u128::from_str_radix(&uuid, 16).unwrap().to_be_bytes());
    let session = answer.location();
    world.ask_at(0, "PATCH", &session).body(content.to_vec()).send().await.expect(202);
    let (placed, pin) = world.blobs(0).complete(key, Digest::parse(&digest(content)).unwrap()).await.unwrap();
    (session, key, placed, pin)
}

async fn copies(world: &World, digest: Digest) -> Vec<CopyId> {
    let found = world.blobs(0).inventory(None, 10_000).await.unwrap();
    found.into_iter().filter(|(of, ..)| *of == digest).map(|(_, copy, _)| copy).collect()
}

/// A closing PUT whose answer was lost, whose entry was applied, and whose copy has given way to that of another upload
/// before it is sent again.
pub(crate) async fn given_way(world: &World) {
    let content = bytes(30, 5000);
    let (session, _, placed, _pin) = place(world, &content).await;
    record(world, placed).await;
    let whole = format!("/v2/p/two/blobs/uploads/?digest={}", digest(&content));
    world.ask_at(0, "POST", &whole).body(content.clone()).send().await.expect(201);
    let again = world.ask_at(0, "PUT", &format!("{session}?digest={}", digest(&content))).send().await.expect(201);
    world.get(&again.location()).await.expect(200).is(&content);
}

/// A single post that is refused in the log leaves nothing on the disk.
pub(crate) async fn refused(world: &World) {
    let content = bytes(31, 5000);
    let named = Digest::parse(&digest(&content)).unwrap();
    // Any refusal would do; this one can be had without a broken node.
    let other = PlacedBlob { digest: named, size: 5000, root: Blake3Root([7; 32]), copy: CopyId([7; 16]) };
    record(world, other).await;
    let whole = format!("/v2/p/two/blobs/uploads/?digest={named}");
    world.ask_at(0, "POST", &whole).body(content.clone()).send().await.error(500, "UNKNOWN");
    assert_eq!(copies(world, named).await, []);
}

/// Bytes that nobody recorded are found whenever they came, not only at the start.
pub(crate) async fn swept(world: &World) {
    for seed in [32, 33] {
        let (_, key, placed, pin) = place(world, &bytes(seed, 5000)).await;
        world.blobs(0).finish_upload(key).await;
        drop(pin);
        let deadline = runtime::clock::now() + LIMIT;
        while !copies(world, placed.digest).await.is_empty() {
            assert!(runtime::clock::now() < deadline, "a copy without a row is swept");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}
