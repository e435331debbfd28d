//! Opening log and state, replaying to the committed index, and starting Raft with its tasks.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use domain::{Durability, Revision};
use kv::ledger::{Ledger, Sync};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{InitializeError, RaftError};
use openraft::impls::BasicNode;
use runtime::{TaskKind, Tasks, random};
use tokio::sync::mpsc;

use super::identity::File;
use super::{Config, Error};
use crate::command::{Command, NewNode};
use crate::handle::{Handle, Identity, Origin, ProposeError};
use crate::outcome::Refusal;
use crate::raft::agreement;
use crate::raft::config::{Timing, raft_config};
use crate::raft::leader;
use crate::raft::log::LogStore;
use crate::raft::log_writer::{ENTRIES, FACTS, STAMP};
use crate::raft::machine::{self, Machine, StateFile, TABLES};
use crate::raft::member::{Member, Parts};
use crate::raft::network::client;
use crate::raft::peers::Peers;
use crate::raft::reads::ROUND_WAITERS_MAX;
use crate::raft::standing;
use crate::raft::types::Raft;
use crate::view::Freshness;

const LOG_TABLES: &[&str] = &[ENTRIES, FACTS];
/// Longest wait for Genesis to be applied.
const GENESIS_MAX: Duration = Duration::from_secs(60);

/// How Raft begins.
pub(crate) enum Begin {
    /// With what log and state hold.
    Existing,
    /// As the first node of a new cluster.
    Genesis(NewNode, Durability),
}

pub(super) fn storage(error: impl ToString) -> Error {
    Error::Storage { detail: error.to_string() }
}

pub(super) fn log_path(config: &Config) -> PathBuf {
    config.data.join("raft.redb")
}

pub(super) fn state_path(config: &Config) -> PathBuf {
    config.data.join("state.redb")
}

pub(super) fn open_log(config: &Config) -> Result<Ledger, Error> {
    Ledger::open(&log_path(config), config.log_cache_bytes, LOG_TABLES)
        .map_err(|error| Error::Storage { detail: format!("{}: {error}", log_path(config).display()) })
}

pub(super) fn open_state(config: &Config) -> Result<Ledger, Error> {
    Ledger::open(&state_path(config), config.state_cache_bytes, TABLES)
        .map_err(|error| Error::Storage { detail: format!("{}: {error}", state_path(config).display()) })
}

pub(super) fn stamp_of(ledger: &Ledger, table: &str) -> Result<Option<Vec<u8>>, Error> {
    ledger.read().and_then(|snapshot| snapshot.get(table, STAMP)).map_err(storage)
}

/// Creates and stamps log and state, durably. Files of an unfinished birth are taken over.
pub(crate) fn create_files(config: &Config, identity: &File) -> Result<(), Error> {
    std::fs::create_dir_all(&config.data).map_err(storage)?;
    let stamp = identity.stamp();
    let log = open_log(config)?;
    let write = log.write().map_err(storage)?;
    write.table(FACTS).and_then(|mut facts| facts.put(STAMP, &stamp)).map_err(storage)?;
    write.commit(Sync::Durable).map_err(storage)?;
    machine::write_stamp(&open_state(config)?, &stamp).map_err(storage)?;
    let sync = || -> io::Result<()> {
        std::fs::File::open(&config.data)?.sync_all()?;
        match config.data.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => std::fs::File::open(parent)?.sync_all(),
            _ => Ok(()),
        }
    };
    sync().map_err(storage)
}

fn check_files(config: &Config, identity: &File) -> Result<(Ledger, Ledger), Error> {
    let remedy = format!(
        "restore it, or empty the data directory and join anew with `cluster-cli join --replace {}`",
        identity.node
    );
    for path in [log_path(config), state_path(config)] {
        if !path.exists() {
            let detail =
                format!("{} is missing, but this node is a member: what it promised is lost; {remedy}", path.display());
            return Err(Error::Identity { detail });
        }
    }
    let (log, state) = (open_log(config)?, open_state(config)?);
    let stamps = [(stamp_of(&log, FACTS)?, log_path(config)), (stamp_of(&state, "stamp")?, state_path(config))];
    for (stamp, path) in stamps {
        if stamp.as_deref() != Some(identity.stamp().as_slice()) {
            let detail = format!(
                "{} belongs to another node, store or cluster than the identity file; {remedy}",
                path.display()
            );
            return Err(Error::Identity { detail });
        }
    }
    Ok((log, state))
}

/// Starts Raft and every task of the room.
pub(crate) async fn start(config: Config, identity: File, begin: Begin, tasks: Tasks) -> Result<Handle, Error> {
    let timing = Timing::of(&config);
    if let Begin::Genesis(..) = &begin {
        create_files(&config, &identity)?;
    }
    let (log, state) = check_files(&config, &identity)?;
    let log = LogStore::open(log).map_err(storage)?;
    let own = (identity.region, identity.store);
    let path = state_path(&config);
    let file = StateFile::new(path, config.state_cache_bytes, state, own, identity.stamp()).map_err(storage)?;
    let file = Arc::new(file);
    check_format(&file)?;
    replay(&log, &file).await.map_err(storage)?;
    let peers = Peers::new(identity.cluster, identity.incarnation, config.via.clone(), timing);
    let raft_config = raft_config(&timing, identity.cluster.to_string()).map_err(storage)?;
    let factory = client::Factory { peers: peers.clone() };
    let machine = Machine { file: file.clone() };
    let raft = Raft::new(identity.node.0, raft_config, factory, log.clone(), machine).await.map_err(storage)?;
    let (waiters, waiting) = mpsc::channel(ROUND_WAITERS_MAX);
    let address = config.peer_address.clone();
    let member = Member::new(Parts {
        raft,
        identity: Identity {
            node: identity.node,
            region: identity.region,
            region_name: identity.region_name.clone(),
            cluster: identity.cluster,
            store: identity.store,
        },
        incarnation: identity.incarnation,
        config,
        timing,
        peers,
        file: file.clone(),
        log,
        tasks: tasks.clone(),
        waiters,
    });
    tasks.spawn(TaskKind::Raft, "contact", member.clone().run_contact());
    tasks.spawn(TaskKind::Raft, "read-rounds", member.clone().run_rounds(waiting));
    tasks.spawn(TaskKind::Raft, "read-probe", member.clone().run_probe());
    tasks.spawn(TaskKind::Raft, "state-commits", file.run_commits(tasks.clone()));
    tasks.spawn(TaskKind::Raft, "agreement", agreement::run(member.clone()));
    tasks.spawn(TaskKind::Raft, "stand-aside", agreement::stand_aside(member.clone()));
    if let Begin::Genesis(node, durability) = begin {
        genesis(&member, &address, node, durability).await?;
    }
    if member.removal().is_some() {
        // It was told before its last stop, and takes no part.
        member.retire().await;
        return Ok(Handle::new(member));
    }
    tasks.spawn(TaskKind::Worker, "standing", standing::run(member.clone()));
    tasks.spawn(TaskKind::Worker, "leader", leader::run(member.clone()));
    tasks.spawn(TaskKind::Worker, "log-maintenance", leader::maintain_log(member.clone()));
    tasks.spawn(TaskKind::Worker, "addresses", leader::follow_addresses(member.clone()));
    tasks.spawn(TaskKind::Worker, "open-store", leader::open_store(member.clone()));
    Ok(Handle::new(member))
}

/// A node below the cluster's format level would apply other decisions than its peers: it does not start.
fn check_format(file: &StateFile) -> Result<(), Error> {
    let view = file.view(Freshness::Local).map_err(storage)?;
    match view.meta().map_err(storage)? {
        Some(meta) if meta.format_level > crate::state::FORMAT_LEVEL => Err(Error::Identity {
            detail: format!(
                "the cluster is at format level {}, this release understands {}; install a newer release",
                meta.format_level,
                crate::state::FORMAT_LEVEL
            ),
        }),
        _ => Ok(()),
    }
}

/// Applies the log up to the committed index in bounded batches, so that the library has nothing left to replay
/// without a bound (ground.md §4).
async fn replay(log: &LogStore, file: &Arc<StateFile>) -> io::Result<()> {
    let Some(committed) = log.committed() else { return Ok(()) };
    let mut next = file.next_index()?;
    if next > committed.index {
        return Ok(());
    }
    tracing::info!(from = next, to = committed.index, "replaying the log");
    while next <= committed.index {
        let entries = log.read_some(next, committed.index + 1).await?;
        let Some(last) = entries.last().map(|entry| entry.log_id.index) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("log entry {next} is missing")));
        };
        for chunk in entries.chunks(domain::limits::BATCH_ENTRIES_MAX) {
            let (file, chunk) = (file.clone(), chunk.to_vec());
            tokio::task::spawn_blocking(move || file.apply(&chunk)).await.map_err(io::Error::other)??;
        }
        next = last + 1;
    }
    Ok(())
}

async fn genesis(member: &Member, address: &str, node: NewNode, durability: Durability) -> Result<(), Error> {
    let me = member.identity().node.0;
    let members = BTreeMap::from([(me, BasicNode::new(address))]);
    match member.raft().initialize(members).await {
        Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
        Err(error) => return Err(storage(error)),
    }
    let leads = async {
        let mut metrics = member.raft().metrics();
        while metrics.borrow_watched().current_leader != Some(me) {
            if metrics.changed().await.is_err() {
                return;
            }
        }
    };
    let too_slow =
        || Error::Unavailable { detail: "the new cluster did not elect its only node; try again".to_owned() };
    tokio::time::timeout(GENESIS_MAX, leads).await.map_err(|_| too_slow())?;
    // What an unfinished init committed is applied before its state is judged.
    let index = tokio::time::timeout(GENESIS_MAX, member.leader_read_index()).await.map_err(|_| too_slow())?;
    let index = index.map_err(|_| too_slow())?;
    member.wait_applied(index, GENESIS_MAX).await;
    let born = member.local_view(Freshness::Local).and_then(|view| view.meta()).map_err(storage)?;
    if born.is_some() {
        return Ok(());
    }
    let command = Command::Genesis { cluster: member.identity().cluster, mac_key: random::bytes(), node, durability };
    let applied = match member.propose(Origin { actor: "operator".to_owned() }, command).await {
        Ok(applied) => applied.revision,
        Err(ProposeError::Refused(Refusal::Lifecycle { .. })) => member.applied(),
        Err(error) => return Err(Error::Unavailable { detail: error.to_string() }),
    };
    member.wait_applied(applied.max(Revision(1)), GENESIS_MAX).await;
    Ok(())
}
