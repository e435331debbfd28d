//! The life of the process: check, bind, open, serve, drain, exit.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use runtime::{TaskKind, Tasks};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::arguments::{Arguments, ConfigFile, ConfigVerb, Run, StoreVerb, Verb};
use crate::assemble::House;
use crate::config::{self, Config, Loaded, Profile};
use crate::telemetry::{self, Identity};
use crate::{health, http};

const MIB: u32 = 1024 * 1024;
/// Exit code of a node that ran, and ends in order to be started again (`EX_TEMPFAIL` of sysexits).
const START_AGAIN: u8 = 75;
/// Longest wait for another voter to take leadership over from a node that stops.
const HAND_OVER_MAX: Duration = Duration::from_secs(1);
/// Longest wait for work that no client waits for.
const ROOMS_END_MAX: Duration = Duration::from_secs(2);
/// Longest wait for Raft: a leader first waits for its successor, up to an election of the wan profile.
const RAFT_END_MAX: Duration = Duration::from_secs(6);

/// Runs what the command line asks for.
pub fn main(arguments: Arguments) -> ExitCode {
    match arguments.verb {
        None => run(&arguments.run),
        Some(Verb::Config(ConfigVerb::Example)) => {
            say(&config::render_example());
            ExitCode::SUCCESS
        }
        Some(Verb::Config(ConfigVerb::Check(file))) => match load(&file) {
            Ok(_) => {
                say(&format!("{} is in order\n", file.config.display()));
                ExitCode::SUCCESS
            }
            Err(code) => code,
        },
        Some(Verb::Store(StoreVerb::Format { file, replace })) => match load(&file) {
            Ok(loaded) => format_store(&loaded.config, replace),
            Err(code) => code,
        },
    }
}

/// Prints. A reader that went away (`| head`) is no failure of what was done.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _heard = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn load(file: &ConfigFile) -> Result<Loaded, ExitCode> {
    match Config::load(&file.config, file.allow_unknown_config) {
        Ok(loaded) => {
            if !loaded.warnings.is_empty() {
                eprintln!("warning: unknown keys are ignored\n{}", config::table(&loaded.warnings));
            }
            Ok(loaded)
        }
        Err(mistakes) => {
            eprintln!("error: {mistakes}");
            Err(ExitCode::from(config::EXIT_CODE))
        }
    }
}

fn fail(what: &str, next: &str) -> ExitCode {
    eprintln!("error: {what}");
    if !next.is_empty() {
        eprintln!("next: {next}");
    }
    ExitCode::FAILURE
}

/// Gives the blob store up, so that the next birth formats it.
fn format_store(config: &Config, replace: bool) -> ExitCode {
    let root = config.blobs_directory();
    let shown = root.display();
    if !replace {
        let what = format!("every blob in {shown} would be given up here and fetched again from the other regions");
        eprintln!("error: {what}");
        eprintln!("next: run it again with --replace; nothing was changed");
        return ExitCode::from(2);
    }
    match blobs::give_up(&root) {
        Ok(()) => {
            let (data, peer) = (config.storage.data.display(), config.peer_address());
            say(&format!(
                "the blob store at {shown} was given up; the next init or join formats it\nnext: empty {data} too, start \
                 the node, and let it join in place of the old one:\n  cluster-cli join MEMBER --node {peer} --region \
                 REGION --replace NODE\n"
            ));
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error.to_string(), "stop the node, look at the disk, then run it again"),
    }
}

fn run(arguments: &Run) -> ExitCode {
    let loaded = match load(&arguments.file) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("threads cannot be started: {error}"), "look at the process limits"),
    };
    let code = runtime.block_on(serve(loaded.config, arguments.stop_when_stdin_closes));
    // Blocking work that is still running (a hash, a sync) must not hold the exit up.
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

async fn serve(config: Config, stop_when_stdin_closes: bool) -> ExitCode {
    let identity = Identity::default();
    telemetry::start_logs(config.log.format, &config.log.level.0, identity.clone());
    let (http, peers) = match (bind(config.http.listen, "http").await, bind(config.peer.listen, "peer").await) {
        (Ok(http), Ok(peers)) => (http, peers),
        (Err(code), _) | (_, Err(code)) => return code,
    };
    warn_if_insecure(&config);
    let work = Work { rooms: Tasks::new(), requests: Tasks::new(), peers: CancellationToken::new() };
    let house = House::new(config, work.rooms.clone(), work.requests.clone(), identity);
    open_doors(&house, &work, http, peers);
    let parent = watch_parent(stop_when_stdin_closes);
    let code = tokio::select! {
        opened = house.open() => match opened {
            Err(error) => fail(&error.to_string(), ""),
            Ok(()) => wait_for_end(&work, &parent).await,
        },
        code = wait_for_end(&work, &parent) => code,
    };
    drain(&house, &work).await;
    code
}

/// What runs, by the order in which it ends: clients' requests first, while the rooms still serve them.
struct Work {
    requests: Tasks,
    rooms: Tasks,
    peers: CancellationToken,
}

async fn bind(address: SocketAddr, section: &str) -> Result<TcpListener, ExitCode> {
    TcpListener::bind(address).await.map_err(|error| {
        let why = match error.kind() {
            std::io::ErrorKind::AddrInUse => "another process listens there".to_owned(),
            std::io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
            std::io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege".to_owned(),
            kind => kind.to_string(),
        };
        fail(&format!("cannot listen on {address}: {why}"), &format!("free it, or set another {section}.listen"))
    })
}

fn warn_if_insecure(config: &Config) {
    if config.peer.insecure {
        let peer = config.peer.listen;
        tracing::warn!(%peer, "peers and operators are not authenticated: whoever reaches the peer door controls this node");
    }
}

fn open_doors(house: &Arc<House>, work: &Work, http: TcpListener, peers: TcpListener) {
    let routes =
        health::router(house.phase().clone(), house.metrics().clone()).fallback_service(house.registry.clone());
    let routes = telemetry::counted(routes, house.metrics());
    let (ended, tasks) = (work.requests.token(), work.requests.clone());
    work.requests.spawn_fallible(
        TaskKind::Door,
        "http door",
        http::serve(http, routes, house.http_settings(), ended, tasks),
    );
    let (stream_mib, connection_mib) = match house.config().raft.profile {
        Profile::Lan => (4, 8),
        Profile::Wan => (32, 64),
    };
    let routes: Router = house.peers.router();
    let ended = work.peers.clone();
    work.rooms.spawn_fallible(TaskKind::Door, "peer door", async move {
        tonic::transport::Server::builder()
            .initial_stream_window_size(stream_mib * MIB)
            .initial_connection_window_size(connection_mib * MIB)
            .http2_keepalive_interval(Some(Duration::from_secs(10)))
            .http2_keepalive_timeout(Some(Duration::from_secs(10)))
            .add_routes(tonic::service::Routes::from(routes))
            .serve_with_incoming_shutdown(http::listen::peers(peers), ended.cancelled_owned())
            .await
    });
}

/// Cancelled when the parent process is gone.
fn watch_parent(wanted: bool) -> CancellationToken {
    let gone = CancellationToken::new();
    if wanted {
        let told = gone.clone();
        // A thread of its own: a blocking read on the runtime's pool would hold the exit up.
        std::thread::spawn(move || {
            let mut buffer = [0u8; 64];
            while matches!(std::io::stdin().read(&mut buffer), Ok(read) if read > 0) {}
            told.cancel();
        });
    }
    gone
}

async fn wait_for_end(work: &Work, parent: &CancellationToken) -> ExitCode {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return fail("signals cannot be received", "");
    };
    tokio::select! {
        _ = terminate.recv() => tracing::info!(signal = "SIGTERM", "stopping"),
        _ = interrupt.recv() => tracing::info!(signal = "SIGINT", "stopping"),
        () = parent.cancelled() => tracing::info!("stopping, the parent process is gone"),
        () = work.rooms.failed() => return failed(),
        () = work.requests.failed() => return failed(),
    }
    ExitCode::SUCCESS
}

fn failed() -> ExitCode {
    fail("a part of the node failed, so it stops", "start it again; the reason is the last error in the log above");
    ExitCode::from(START_AGAIN)
}

/// Closes the clients' door and lets their requests end, then hands leadership on, then ends the rooms, then Raft after
/// a durable commit.
async fn drain(house: &House, work: &Work) {
    let limit = Duration::from_millis(house.config().shutdown.drain_ms_max.0);
    house.phase().drain();
    work.requests.cancel();
    if !work.requests.drain(limit).await {
        tracing::warn!(requests = ?work.requests, limit_ms = limit.as_millis(), "some requests did not end in time and are cut off");
    }
    house.hand_over(HAND_OVER_MAX).await;
    work.peers.cancel();
    work.rooms.cancel();
    house.close(RAFT_END_MAX).await;
    if !work.rooms.drain(ROOMS_END_MAX).await {
        tracing::debug!(rooms = ?work.rooms, "some work was cut off");
    }
    tracing::info!("stopped");
}
