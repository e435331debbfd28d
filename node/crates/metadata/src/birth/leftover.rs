//! What a data directory without an identity holds: the files of an unfinished birth, or those of a member whose
//! identity is lost. The latter hold promises, and are never taken over.

use std::path::Path;

use domain::ClusterId;
use kv::ledger::Ledger;

use super::identity::File;
use super::start::{log_path, open_log, open_state, stamp_of, state_path, storage};
use super::{Config, Error, intent};
use crate::raft::log_writer::{COMMITTED, ENTRIES, FACTS, PURGED, VOTE};
use crate::view::View;

/// Log and state that were stamped before.
#[derive(Debug)]
pub(super) struct Leftover {
    /// Cluster, incarnation, node and store, as one text.
    stamp: Vec<u8>,
    /// Whether anything was promised: a vote, an entry, an applied state.
    used: bool,
    /// The name of the file that says so.
    file: &'static str,
}

impl Leftover {
    /// What lies in the data directory; none when nothing there is stamped.
    pub(super) fn find(config: &Config) -> Result<Option<Self>, Error> {
        let mut found = None;
        if state_path(config).exists() {
            let state = open_state(config)?;
            let applied = state.read().map_err(storage).and_then(|rows| View::last_applied(&rows).map_err(storage))?;
            let stamp = stamp_of(&state, "stamp")?;
            found = stamp.map(|stamp| Leftover { stamp, used: applied.is_some(), file: "state.redb" });
        }
        if log_path(config).exists() {
            let log = open_log(config)?;
            if let Some(stamp) = stamp_of(&log, FACTS)? {
                let used = has_promised(&log)?;
                let state_used = found.is_some_and(|state| state.used);
                found = Some(Leftover { stamp, used: used || state_used, file: "raft.redb" });
            }
        }
        Ok(found)
    }

    /// `part` 0 is the cluster, 2 the node.
    fn part(&self, part: usize) -> Option<&str> {
        std::str::from_utf8(&self.stamp).ok()?.split('.').nth(part)
    }

    fn name(&self) -> String {
        let node = self.part(2).unwrap_or("of another name");
        let cluster = self.part(0).unwrap_or("that is not known");
        format!("node {node} of cluster {cluster}")
    }

    /// Refuses the files of a member whose identity is lost. An `init` that broke off is none: it may go on.
    pub(super) fn refuse_member(&self, data: &Path) -> Result<(), Error> {
        if !self.used || intent::exists(data) {
            return Ok(());
        }
        let remedy = match self.part(2) {
            Some(node) => format!("join anew with `cluster-cli join --replace {node}`"),
            None => "join anew".to_owned(),
        };
        Err(Error::Identity {
            detail: format!(
                "{} is missing, but {} belongs to {}, and what it promised lies there; restore the identity file, or \
                 empty the data directory and {remedy}",
                data.join("identity").display(),
                self.file,
                self.name()
            ),
        })
    }

    /// For `join`: refuses an `init` that broke off after it decided something.
    pub(super) fn refuse_init(&self) -> Result<(), Error> {
        if self.used { Err(self.unfinished()) } else { Ok(()) }
    }

    /// For `init`: refuses a `join` that broke off.
    pub(super) fn refuse_join(&self, data: &Path) -> Result<(), Error> {
        if intent::exists(data) { Ok(()) } else { Err(self.unfinished()) }
    }

    /// For `join`: refuses files of another cluster. Those of the same one promised nothing and may take another node's
    /// stamp: the join is repeated.
    pub(super) fn refuse_cluster(&self, cluster: ClusterId) -> Result<(), Error> {
        if self.part(0).and_then(ClusterId::from_hex) == Some(cluster) { Ok(()) } else { Err(self.unfinished()) }
    }

    /// For `init`: refuses files that are not those of `identity`, which is about to be born.
    pub(super) fn refuse_other(&self, identity: &File) -> Result<(), Error> {
        if self.stamp == identity.stamp() { Ok(()) } else { Err(self.unfinished()) }
    }

    fn unfinished(&self) -> Error {
        let whose = self.name();
        Error::Identity {
            detail: format!("the data directory holds an unfinished start as {whose}; empty the data directory first"),
        }
    }
}

fn has_promised(log: &Ledger) -> Result<bool, Error> {
    let rows = log.read().map_err(storage)?;
    for fact in [VOTE, COMMITTED, PURGED] {
        if rows.get(FACTS, fact).map_err(storage)?.is_some() {
            return Ok(true);
        }
    }
    let entry = rows.scan_all(ENTRIES).map_err(storage)?.next().transpose().map_err(storage)?;
    Ok(entry.is_some())
}

#[cfg(test)]
mod tests {
    use domain::{Durability, Incarnation, NodeId, Place, RegionId, RegionName, StoreId};
    use runtime::Tasks;

    use super::super::{FormatStore, Opened, Profile, born_alone, identity, init, open, start};
    use super::*;
    use crate::command::NewNode;

    const LIMIT: std::time::Duration = std::time::Duration::from_secs(60);

    async fn try_init(config: &Config, region: &str) -> Result<(), Error> {
        let node = NewNode {
            region: RegionName::parse(region).expect("valid"),
            place: Place::default(),
            public_url: String::new(),
            peer_address: config.peer_address.clone(),
            certificate: Vec::new(),
        };
        let format: FormatStore = Box::new(|_| Ok(StoreId([1; 16])));
        init(config.clone(), node, Durability::Local, format, Tasks::new()).await.map(drop)
    }

    fn refusal(result: Result<(), Error>) -> String {
        match result {
            Err(Error::Identity { detail }) => detail,
            other => panic!("not refused for its identity: {other:?}"),
        }
    }

    /// Opens once the files are free: the last task of the run before may still hold them.
    async fn open_again(config: &Config, tasks: &Tasks) -> Result<Opened, Error> {
        let deadline = runtime::clock::now() + LIMIT;
        loop {
            match open(config.clone(), Some(StoreId([1; 16])), tasks.clone()).await {
                Err(Error::Storage { .. }) if runtime::clock::now() < deadline => tokio::task::yield_now().await,
                opened => return opened,
            }
        }
    }

    #[tokio::test]
    async fn a_member_without_its_identity_neither_starts_nor_is_born_again() {
        let folder = tempfile::tempdir().expect("folder");
        let mut kept = None;
        let (handle, tasks) = born_alone(folder.path(), |config| kept = Some(config.clone())).await;
        let config = kept.expect("configured");
        handle.shutdown().await;
        tasks.cancel();
        assert!(tasks.drain(LIMIT).await, "every task ends");
        drop(handle);
        // A stop right after the identity was written left this file; the next start removes it, or the member whose
        // identity is lost after that would pass for an `init` that broke off.
        let intent = config.data.join("birth");
        std::fs::write(&intent, "left").expect("writes");
        let tasks = Tasks::new();
        let Ok(Opened::Member(handle)) = open_again(&config, &tasks).await else { panic!("a member starts again") };
        assert!(!intent.exists());
        handle.shutdown().await;
        tasks.cancel();
        assert!(tasks.drain(LIMIT).await, "every task ends");
        drop(handle);
        std::fs::remove_file(config.data.join("identity")).expect("it was there");
        let words = refusal(open_again(&config, &Tasks::new()).await.map(drop));
        assert!(words.contains("identity is missing") && words.contains("--replace 1`"), "{words}");
        let before = Leftover::find(&config).expect("reads").expect("stamped").stamp;
        let words = refusal(try_init(&config, "paris").await);
        assert!(words.contains("identity is missing"), "{words}");
        assert_eq!(Leftover::find(&config).expect("reads").expect("stamped").stamp, before, "nothing was taken over");
    }

    #[tokio::test]
    async fn an_unfinished_join_starts_unjoined_and_is_no_place_for_an_init() {
        let folder = tempfile::tempdir().expect("folder");
        let config = Config {
            data: folder.path().join("data"),
            peer_address: "127.0.0.1:7001".to_owned(),
            ..Config::for_tests(Profile::Lan)
        };
        let joining = identity::File {
            cluster: ClusterId([7; 16]),
            incarnation: Incarnation(1),
            node: NodeId(4),
            region: RegionId(4),
            region_name: RegionName::parse("paris").expect("valid"),
            store: StoreId([1; 16]),
        };
        start::create_files(&config, &joining).expect("created");
        let opened = open(config.clone(), None, Tasks::new()).await.expect("nothing was promised");
        assert!(matches!(opened, super::super::Opened::Unjoined));
        let words = refusal(try_init(&config, "paris").await);
        assert!(words.contains("unfinished start as node 4"), "{words}");
        let found = Leftover::find(&config).expect("reads").expect("stamped");
        found.refuse_init().expect("nothing was promised");
        found.refuse_cluster(joining.cluster).expect("the same join goes on");
        assert!(found.refuse_cluster(ClusterId([8; 16])).is_err());
        found.refuse_other(&joining).expect("its own files");
        assert!(found.refuse_other(&identity::File { node: NodeId(5), ..joining }).is_err());
    }
}
