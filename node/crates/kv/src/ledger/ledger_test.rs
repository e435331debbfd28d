use std::ops::Bound;

use super::*;

const TABLES: &[&str] = &["rows", "meta"];

fn keys(scan: impl Iterator<Item = Result<Entry, Error>>) -> Vec<Vec<u8>> {
    scan.map(|item| item.unwrap().0).collect()
}

fn filled() -> Ledger {
    let ledger = Ledger::in_memory(TABLES).unwrap();
    let write = ledger.write().unwrap();
    {
        let mut table = write.table("rows").unwrap();
        for key in [&b"a"[..], b"b\x00", b"b\xff", b"c", b"\xff\xff"] {
            table.put(key, key).unwrap();
        }
    }
    write.commit(Sync::Visible).unwrap();
    ledger
}

#[test]
fn a_snapshot_shows_one_commit_while_writes_go_on() {
    let ledger = filled();
    let before = ledger.read().unwrap();
    let write = ledger.write().unwrap();
    write.table("rows").unwrap().put(b"a", b"new").unwrap();
    assert_eq!(ledger.read().unwrap().get("rows", b"a").unwrap().unwrap(), b"a");
    write.commit(Sync::Visible).unwrap();
    assert_eq!(before.get("rows", b"a").unwrap().unwrap(), b"a");
    assert_eq!(ledger.read().unwrap().get("rows", b"a").unwrap().unwrap(), b"new");
    assert_eq!(ledger.read().unwrap().get("meta", b"a").unwrap(), None);
}

#[test]
fn a_dropped_transaction_changes_nothing() {
    let ledger = filled();
    let write = ledger.write().unwrap();
    write.table("rows").unwrap().delete(b"a").unwrap();
    drop(write);
    assert!(ledger.read().unwrap().get("rows", b"a").unwrap().is_some());
}

#[test]
fn scans_honour_prefix_bounds_and_direction() {
    let snapshot = filled().read().unwrap();
    assert_eq!(keys(snapshot.scan_prefix("rows", b"b").unwrap()), [b"b\x00", b"b\xff"]);
    assert_eq!(keys(snapshot.scan_prefix("rows", b"b").unwrap().rev()), [b"b\xff", b"b\x00"]);
    assert_eq!(keys(snapshot.scan_prefix("rows", b"\xff").unwrap()), [b"\xff\xff"]);
    assert_eq!(keys(snapshot.scan_prefix("rows", b"").unwrap()).len(), 5);
    let after = (Bound::Excluded(&b"b\x00"[..]), Bound::Excluded(&b"c"[..]));
    assert_eq!(keys(snapshot.scan("rows", after).unwrap()), [b"b\xff"]);
    let crossed = (Bound::Excluded(&b"c"[..]), Bound::Excluded(&b"a"[..]));
    assert_eq!(keys(snapshot.scan("rows", crossed).unwrap()).len(), 0);
    assert!(matches!(snapshot.get("other", b"a"), Err(Error::NoTable { .. })));
}

#[test]
fn prefix_end_is_above_every_key_with_the_prefix() {
    assert_eq!(prefix_end(b"a\xff"), Some(b"b".to_vec()));
    assert_eq!(prefix_end(b"ab"), Some(b"ac".to_vec()));
    assert_eq!(prefix_end(b"\xff\xff"), None);
    assert_eq!(prefix_end(b""), None);
}

#[test]
fn ranges_are_deleted_in_bounded_steps() {
    let ledger = filled();
    let write = ledger.write().unwrap();
    {
        let mut table = write.table("rows").unwrap();
        let below = (Bound::Unbounded, Bound::Excluded(&b"c"[..]));
        assert_eq!(table.delete_range(below, 2).unwrap(), 2);
        assert_eq!(table.range((Bound::Unbounded, Bound::Unbounded), 9).unwrap()[0].0, b"b\xff");
        assert_eq!(table.delete_range(below, 2).unwrap(), 1);
        assert_eq!(table.delete_range(below, 2).unwrap(), 0);
        assert_eq!(table.last().unwrap().unwrap().0, b"\xff\xff");
    }
    write.commit(Sync::Durable).unwrap();
    assert_eq!(keys(ledger.read().unwrap().scan_all("rows").unwrap()).len(), 2);
}

#[test]
fn what_was_committed_is_there_after_reopening_and_the_file_is_held_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let ledger = Ledger::open(&path, 1 << 20, TABLES).unwrap();
    let write = ledger.write().unwrap();
    write.table("meta").unwrap().put(b"k", b"v").unwrap();
    write.commit(Sync::Visible).unwrap();
    ledger.sync().unwrap();
    assert!(matches!(Ledger::open(&path, 1 << 20, TABLES), Err(Error::InUse)));
    drop(ledger);
    let ledger = Ledger::open(&path, 1 << 20, TABLES).unwrap();
    assert_eq!(ledger.read().unwrap().get("meta", b"k").unwrap().unwrap(), b"v");
}

#[test]
fn foreign_bytes_are_refused_as_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    std::fs::write(&path, vec![7; 8192]).unwrap();
    let Err(error) = Ledger::open(&path, 1 << 20, TABLES) else { panic!("opened garbage") };
    assert!(matches!(error, Error::Format { .. } | Error::Corrupt { .. }), "{error:?}");
}

#[test]
fn a_file_is_built_from_the_rows_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy");
    let mut builder = Builder::create(&path, 1 << 20, TABLES).unwrap();
    // Above one batch, so that several commits are needed.
    for number in 0..100_u64 {
        builder.push("rows", number.to_be_bytes().to_vec(), vec![1; 100_000]).unwrap();
    }
    let copy = builder.finish().unwrap();
    assert_eq!(keys(copy.read().unwrap().scan_all("rows").unwrap()).len(), 100);
    assert!(Builder::create(&path, 1 << 20, TABLES).is_err());
}

#[test]
fn what_an_unfinished_creation_left_does_not_stop_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.redb");
    std::fs::write(directory.path().join("state.redb.new"), vec![0; 1_000_000]).unwrap();
    let ledger = Ledger::open(&path, 1 << 20, &["a"]).unwrap();
    let write = ledger.write().unwrap();
    write.table("a").unwrap().put(b"key", b"value").unwrap();
    write.commit(Sync::Durable).unwrap();
    drop(ledger);
    assert!(!directory.path().join("state.redb.new").exists());
    let ledger = Ledger::open(&path, 1 << 20, &["a"]).unwrap();
    assert_eq!(ledger.read().unwrap().get("a", b"key").unwrap().as_deref(), Some(b"value".as_slice()));
}
