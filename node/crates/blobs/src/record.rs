//! A session's record: two checksummed slots in one small file, written in turn.
//!
//! A write touches only the older slot and ends with one fdatasync, so a crash at any moment leaves the newer slot of
//! before. The slots lie 4 KiB apart: no torn page or sector reaches both.
//!
//! ```text
//! slot:  version u8 = 1 | sequence u64 | offset u64 | touched_ms u64 | repository length u8 | repository
//!        | placed u8 (0, 1) [| digest key | size u64 | root 32 | copy 16] | blake3 of all before, first 16 bytes
//! ```
//! Numbers are little-endian. The file is 8 KiB from the start, so that a write changes no metadata.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use domain::{Blake3Root, CopyId, Digest, RepositoryName};

use crate::handle::PlacedBlob;

const SLOT_BYTES: usize = 4096;
const FILE_BYTES: usize = 2 * SLOT_BYTES;
const VERSION: u8 = 1;
const SUM_BYTES: usize = 16;

/// What is durable of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) sequence: u64,
    pub(crate) offset: u64,
    /// Last progress on the caller's clock; 0 when the caller had none. Unit: milliseconds of cluster time.
    pub(crate) touched_ms: u64,
    pub(crate) repository: RepositoryName,
    pub(crate) placed: Option<PlacedBlob>,
}

impl Record {
    /// Writes the first record to a new file; the next one makes it durable.
    pub(crate) fn create(&self, file: &File) -> io::Result<()> {
        file.write_all_at(&[0; FILE_BYTES], 0)?;
        file.write_all_at(&self.encode(), self.slot())
    }

    /// Replaces the older slot, durably. The sequence must be the one after what is stored.
    pub(crate) fn write(&self, file: &File) -> io::Result<()> {
        file.write_all_at(&self.encode(), self.slot())?;
        file.sync_data()
    }

    fn slot(&self) -> u64 {
        if self.sequence.is_multiple_of(2) { 0 } else { SLOT_BYTES as u64 }
    }

    /// The record to write next, at a time.
    pub(crate) fn next(&self, now_ms: u64) -> Self {
        Record { sequence: self.sequence + 1, touched_ms: self.touched_ms.max(now_ms), ..self.clone() }
    }

    /// Writes to the session's file, durably.
    pub(crate) fn replace(&self, path: &Path) -> io::Result<()> {
        self.write(&OpenOptions::new().write(true).open(path)?)
    }

    /// The newest whole slot; `None` when neither is.
    pub(crate) fn read(file: &File) -> io::Result<Option<Self>> {
        let mut bytes = vec![0; FILE_BYTES];
        let mut filled = 0;
        while filled < FILE_BYTES {
            match file.read_at(&mut bytes[filled..], filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        let slots = [&bytes[..SLOT_BYTES], &bytes[SLOT_BYTES..]];
        Ok(slots.into_iter().filter_map(decode).max_by_key(|record| record.sequence))
    }

    fn encode(&self) -> Vec<u8> {
        let Record { sequence, offset, touched_ms, repository, placed } = self;
        let mut bytes = Vec::with_capacity(512);
        bytes.push(VERSION);
        for number in [sequence, offset, touched_ms] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let name = repository.as_str().as_bytes();
        bytes.push(u8::try_from(name.len()).expect("repository names have at most 255 bytes"));
        bytes.extend_from_slice(name);
        match placed {
            None => bytes.push(0),
            Some(PlacedBlob { digest, size, root, copy }) => {
                bytes.push(1);
                bytes.extend_from_slice(&digest.to_key());
                bytes.extend_from_slice(&size.to_le_bytes());
                bytes.extend_from_slice(&root.0);
                bytes.extend_from_slice(&copy.0);
            }
        }
        let sum = blake3::hash(&bytes);
        bytes.extend_from_slice(&sum.as_bytes()[..SUM_BYTES]);
        bytes
    }
}

fn decode(slot: &[u8]) -> Option<Record> {
    let mut rest = slot;
    let mut take = |count: usize| {
        let (head, tail) = rest.split_at_checked(count)?;
        rest = tail;
        Some(head)
    };
    if take(1)? != [VERSION] {
        return None;
    }
    let mut number = || take(8).and_then(|raw| raw.try_into().ok()).map(u64::from_le_bytes);
    let (sequence, offset, touched_ms) = (number()?, number()?, number()?);
    let length = usize::from(take(1)?[0]);
    let repository = RepositoryName::parse(std::str::from_utf8(take(length)?).ok()?).ok()?;
    let placed = match take(1)?[0] {
        0 => None,
        1 => {
            let (digest, tail) = Digest::split_key(rest).ok()?;
            rest = tail;
            let (size, tail) = rest.split_at_checked(8)?;
            let (root, tail) = tail.split_at_checked(32)?;
            let (copy, tail) = tail.split_at_checked(16)?;
            rest = tail;
            let size = u64::from_le_bytes(size.try_into().ok()?);
            Some(PlacedBlob { digest, size, root: Blake3Root::from_slice(root)?, copy: CopyId::from_slice(copy)? })
        }
        _ => return None,
    };
    let (body, sum) = (&slot[..slot.len() - rest.len()], rest.get(..SUM_BYTES)?);
    let record = Record { sequence, offset, touched_ms, repository, placed };
    (blake3::hash(body).as_bytes()[..SUM_BYTES] == *sum).then_some(record)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any};
    use proptest::{prop_assert_eq, proptest};

    use super::*;

    fn records() -> impl Strategy<Value = Record> {
        let placed = proptest::option::of((any::<bool>(), any::<[u8; 32]>(), any::<u64>(), any::<[u8; 16]>()));
        (any::<u64>(), any::<u64>(), any::<u64>(), "[a-z]{1,255}", placed).prop_map(
            |(sequence, offset, touched_ms, name, placed)| Record {
                sequence,
                offset,
                touched_ms,
                repository: RepositoryName::parse(&name).unwrap(),
                placed: placed.map(|(long, raw, size, copy)| PlacedBlob {
                    digest: if long { Digest::Sha512([raw[0]; 64]) } else { Digest::Sha256(raw) },
                    size,
                    root: Blake3Root(raw),
                    copy: CopyId(copy),
                }),
            },
        )
    }

    proptest! {
        #[test]
        fn records_read_back_and_torn_ones_do_not(record in records(), cut in any::<proptest::sample::Index>()) {
            let bytes = record.encode();
            let mut slot = vec![0; SLOT_BYTES];
            slot[..bytes.len()].copy_from_slice(&bytes);
            prop_assert_eq!(decode(&slot), Some(record));
            slot[cut.index(bytes.len())] ^= 0x10;
            prop_assert_eq!(decode(&slot), None);
        }
    }

    #[test]
    fn golden_bytes() {
        let record = Record {
            sequence: 2,
            offset: 3,
            touched_ms: 4,
            repository: RepositoryName::parse("a/b").unwrap(),
            placed: None,
        };
        let hex = "010200000000000000030000000000000004000000000000000361 2f6200";
        let encoded = record.encode();
        let body = &encoded[..encoded.len() - SUM_BYTES];
        assert_eq!(domain::digest::encode_hex(body), hex.replace(' ', ""));
    }

    #[test]
    fn golden_bytes_of_a_placed_record() {
        let placed = PlacedBlob {
            digest: Digest::Sha256([0xAA; 32]),
            size: 5,
            root: Blake3Root([0xBB; 32]),
            copy: CopyId([0xCC; 16]),
        };
        let repository = RepositoryName::parse("a").unwrap();
        let record = Record { sequence: 1, offset: 5, touched_ms: 0, repository, placed: Some(placed) };
        let head = "0101000000000000000500000000000000000000000000000001610101";
        let tail = format!("{}0500000000000000{}{}", "aa".repeat(32), "bb".repeat(32), "cc".repeat(16));
        let encoded = record.encode();
        assert_eq!(domain::digest::encode_hex(&encoded[..encoded.len() - SUM_BYTES]), format!("{head}{tail}"));
    }

    #[test]
    fn a_torn_write_leaves_the_record_before() {
        let file = tempfile::tempfile().unwrap();
        let mut record = Record {
            sequence: 0,
            offset: 0,
            touched_ms: 0,
            repository: RepositoryName::parse("a").unwrap(),
            placed: None,
        };
        record.create(&file).unwrap();
        for step in 1..5u64 {
            record.sequence = step;
            record.offset = step * 100;
            record.write(&file).unwrap();
            assert_eq!(Record::read(&file).unwrap(), Some(record.clone()));
        }
        // Sequence 4 lies in the first slot; tearing it brings back 3.
        file.write_all_at(&[0xFF; 7], 3).unwrap();
        assert_eq!(Record::read(&file).unwrap().map(|record| record.offset), Some(300));
        file.write_all_at(&[0xFF; 7], SLOT_BYTES as u64).unwrap();
        assert_eq!(Record::read(&file).unwrap(), None);
        file.set_len(10).unwrap();
        assert_eq!(Record::read(&file).unwrap(), None);
    }
}
