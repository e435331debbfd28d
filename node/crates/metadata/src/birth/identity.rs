//! The identity file: who this node is. Written last at birth, read first at start.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use domain::{ClusterId, Incarnation, NodeId, RegionId, RegionName, StoreId};

use super::Error;

const NAME: &str = "identity";
const HEADER: &str = "longshore identity 1";

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) cluster: ClusterId,
    pub(crate) incarnation: Incarnation,
    pub(crate) node: NodeId,
    pub(crate) region: RegionId,
    pub(crate) region_name: RegionName,
    pub(crate) store: StoreId,
}

impl File {
    /// What log and state file are stamped with: all that must agree.
    pub(crate) fn stamp(&self) -> Vec<u8> {
        format!("{}.{}.{}.{}", self.cluster, self.incarnation, self.node, self.store).into_bytes()
    }

    fn encode(&self) -> String {
        let body = format!(
            "{HEADER}\ncluster = {}\nincarnation = {}\nnode = {}\nregion = {}\nregion_name = {}\nstore = {}\n",
            self.cluster, self.incarnation, self.node, self.region, self.region_name, self.store
        );
        let sum = blake3::hash(body.as_bytes());
        format!("{body}checksum = {}\n", sum.to_hex())
    }

    fn decode(text: &str) -> Option<Self> {
        let (body, rest) = text.split_once("checksum = ")?;
        if blake3::hash(body.as_bytes()).to_hex().as_str() != rest.trim_end() || !body.starts_with(HEADER) {
            return None;
        }
        let fields: BTreeMap<&str, &str> = body.lines().filter_map(|line| line.split_once(" = ")).collect();
        Some(File {
            cluster: ClusterId::from_hex(fields.get("cluster")?)?,
            incarnation: Incarnation(fields.get("incarnation")?.parse().ok()?),
            node: NodeId(fields.get("node")?.parse().ok()?),
            region: RegionId(fields.get("region")?.parse().ok()?),
            region_name: RegionName::parse(fields.get("region_name")?).ok()?,
            store: StoreId::from_hex(fields.get("store")?)?,
        })
    }
}

pub(super) fn storage(path: &Path, error: &std::io::Error) -> Error {
    Error::Storage { detail: format!("{} cannot be read or written: {error}", path.display()) }
}

/// Reads the file; none when the node was never born.
pub(crate) fn read(data: &Path) -> Result<Option<File>, Error> {
    let path = data.join(NAME);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(storage(&path, &error)),
    };
    File::decode(&text).map(Some).ok_or_else(|| Error::Identity {
        detail: format!(
            "{} is damaged; restore it from a backup, or join anew with an empty data directory",
            path.display()
        ),
    })
}

/// Writes the file durably.
pub(crate) fn write(data: &Path, identity: &File) -> Result<(), Error> {
    write_synced(data, NAME, &identity.encode())
}

/// Writes a small file durably: content, then name, so that it is there whole or not at all.
pub(super) fn write_synced(data: &Path, name: &str, text: &str) -> Result<(), Error> {
    let path = data.join(name);
    let staged = data.join(format!("{name}.new"));
    let writing = || -> std::io::Result<()> {
        let mut file = std::fs::File::create(&staged)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&staged, &path)?;
        std::fs::File::open(data)?.sync_all()
    };
    writing().map_err(|error| storage(&path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_round_trips_and_damage_is_found() {
        let folder = tempfile::tempdir().expect("folder");
        assert_eq!(read(folder.path()).expect("reads"), None);
        let identity = File {
            cluster: ClusterId([1; 16]),
            incarnation: Incarnation(1),
            node: NodeId(2),
            region: RegionId(3),
            region_name: RegionName::parse("paris").expect("valid"),
            store: StoreId([4; 16]),
        };
        write(folder.path(), &identity).expect("writes");
        assert_eq!(read(folder.path()).expect("reads"), Some(identity));
        let path = folder.path().join(NAME);
        let text = std::fs::read_to_string(&path).expect("reads").replace("node = 2", "node = 3");
        std::fs::write(&path, text).expect("writes");
        assert!(matches!(read(folder.path()), Err(Error::Identity { .. })));
    }
}
