use std::io::Write;
use std::path::Path;

use lz4_flex::frame::FrameEncoder;
use proto::raft as pb;

use super::*;

/// State files, built or begun, that lie where snapshots are received.
fn states(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let names = entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains(".state")).collect()
}

/// An install that fails while it builds, and one that Raft has no use for, leave no state file behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_installed_is_removed() {
    let folder = tempfile::tempdir().expect("folder");
    let (handle, tasks) = crate::birth::born_alone(folder.path(), |_| {}).await;
    let member = handle.member().clone();
    let state = member.file().clone();
    let snapshots = state.snapshots().to_path_buf();
    let meta = tokio::task::spawn_blocking(move || {
        let meta = crate::raft::machine::StateFile::meta_of(&state.read().expect("reads")).expect("a state");
        let hold = Spools::get(&state, &meta).expect("spooled");
        hold.file.clone()
    });
    let whole = meta.await.expect("runs");
    let files = incoming(&member);
    // An old leader of term 0: whatever it sends is answered with the newer vote.
    let old = head_of(&Vote::new_committed(0, 1), &whole);

    let mut cut = FrameEncoder::new(Vec::new());
    cut.write_all(b"LSSNAP\x00\x01").expect("into memory");
    let cut = cut.finish().expect("into memory");
    let blake3 = blake3::hash(&cut);
    std::fs::write(&files.part, &cut).expect("writes");
    let head =
        pb::SnapshotHead { bytes: cut.len() as u64, blake3: Bytes::copy_from_slice(blake3.as_bytes()), ..old.clone() };
    install(&member, head).await.expect_err("it ends before its rows do");
    assert_eq!(states(&snapshots), Vec::<String>::new());

    std::fs::copy(&whole.path, &files.part).expect("copies");
    let vote = install(&member, old).await.expect("is answered");
    assert!(vote > Vote::new_committed(0, 1), "{vote}");
    assert_eq!(states(&snapshots), Vec::<String>::new());
    assert!(!files.part.exists(), "the next offer begins anew");
    handle.shutdown().await;
    tasks.cancel();
}
