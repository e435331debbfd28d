//! What an `init` is about to do: durable before the blob store is formatted for the new cluster.
//!
//! `init` formats the store for a cluster id that it draws. Stopped between that and the stamp of the log, the next
//! `init` would draw another id and find the store of a cluster that never was. Region and durability stand beside the
//! id, for they are decided in the first entry: an `init` that goes on with one cannot have others.

use std::io::ErrorKind;
use std::path::Path;

use domain::{ClusterId, Durability, RegionName};

use super::{Error, identity};

const NAME: &str = "birth";

/// Whether an `init` in `data` is not through.
pub(super) fn exists(data: &Path) -> bool {
    data.join(NAME).exists()
}

/// The cluster id of an unfinished `init` in `data`, or a new one, made durable. With `stamped`, the log carries that
/// cluster already: the same region and durability are asked for then.
pub(super) fn cluster(
    data: &Path,
    region: &RegionName,
    durability: Durability,
    stamped: bool,
) -> Result<ClusterId, Error> {
    let path = data.join(NAME);
    let wish = format!("region = {region}\ndurability = {durability}\n");
    let cluster = match std::fs::read_to_string(&path) {
        Ok(text) => {
            let (id, begun) = text.split_once('\n').unwrap_or((&text, ""));
            let cluster = ClusterId::from_hex(id).ok_or_else(|| Error::Identity {
                detail: format!("{} is damaged; this node was never born, so empty its data directory", path.display()),
            })?;
            if begun == wish {
                return Ok(cluster);
            }
            if stamped {
                let begun = begun.trim_end().replace('\n', ", ");
                return Err(Error::Identity {
                    detail: format!(
                        "an init that broke off began cluster {cluster} with {begun}; run it with these again, or empty \
                         the data directory"
                    ),
                });
            }
            cluster
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            std::fs::create_dir_all(data).map_err(|error| identity::storage(data, &error))?;
            runtime::random::cluster_id()
        }
        Err(error) => return Err(identity::storage(&path, &error)),
    };
    identity::write_synced(data, NAME, &format!("{cluster}\n{wish}"))?;
    Ok(cluster)
}

/// Removes the file once the identity says the same.
pub(super) fn forget(data: &Path) {
    if let Err(error) = std::fs::remove_file(data.join(NAME))
        && error.kind() != ErrorKind::NotFound
    {
        tracing::debug!(%error, "the file of the birth stays");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_init_that_goes_on_has_the_region_and_durability_it_began_with() {
        let folder = tempfile::tempdir().expect("folder");
        let name = |text: &str| RegionName::parse(text).expect("valid");
        let ask = |region: &str, durability, stamped| cluster(folder.path(), &name(region), durability, stamped);
        let drawn = ask("paris", Durability::Local, false).expect("begins");
        // Nothing but the id is used yet: a mistyped name may be corrected.
        assert_eq!(ask("tokyo", Durability::Majority, false).expect("begins again"), drawn);
        assert_eq!(ask("tokyo", Durability::Majority, true).expect("goes on"), drawn);
        for (region, durability) in [("paris", Durability::Majority), ("tokyo", Durability::Local)] {
            let refused = ask(region, durability, true);
            let Err(Error::Identity { detail }) = refused else { panic!("taken for the same init: {refused:?}") };
            assert!(detail.contains("region = tokyo, durability = majority"), "{detail}");
        }
    }
}
