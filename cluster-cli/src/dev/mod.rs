//! `dev`: several regions on this machine, each a process of its own.
//!
//! Owns the processes and the terminal; what the regions do among themselves is theirs. Starting again on the same data
//! continues. The nodes hold a pipe to this program and end with it, however it ends.

mod binary;
mod birth;
mod children;
mod plan;
mod screen;

use std::fs::File;
use std::io::{BufRead, IsTerminal};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::args::Dev;
use crate::cluster::{Cluster, RegionState};
use crate::failure::{Exit, Failure, explain};
use crate::network::Endpoints;
use crate::show::out::say;
use crate::show::units;
use children::RegionProcess;
use plan::{Kept, RegionPlan};
use screen::{Frame, Line, Screen};

const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long ports of a former run may stay busy: its nodes drain.
const PORT_PATIENCE: Duration = Duration::from_secs(12);
const READY_PATIENCE: Duration = Duration::from_secs(120);
/// After so long it is told what is waited for.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// The file of what the data was made with.
const KEPT: &str = "dev.json";

/// Everything `dev` holds while it runs.
struct Session {
    options: Dev,
    data: PathBuf,
    binary: PathBuf,
    regions: Vec<RegionProcess>,
    screen: Screen,
    _lock: File,
}

pub(crate) async fn run(options: Dev) -> Result<(), Failure> {
    plan::check(&options)?;
    let mut stop = Stop::new()?;
    let binary = binary::find(options.node_binary.clone()).await?;
    let data = data_directory(&options)?;
    let result = run_in(options.clone(), data.clone(), binary, &mut stop).await;
    if options.ephemeral
        && let Err(error) = std::fs::remove_dir_all(&data)
    {
        eprintln!("warning: {} could not be removed: {}", data.display(), explain(&error));
    }
    result
}

async fn run_in(options: Dev, data: PathBuf, binary: PathBuf, stop: &mut Stop) -> Result<(), Failure> {
    let lock = lock(&data)?;
    let plans = plan::regions(&options, &data);
    let again = compare(&options, &data)?;
    await_ports(&plans, again).await?;
    keep(&options, &data)?;
    let mut session = Session { options, data, binary, regions: Vec::new(), screen: Screen::new(), _lock: lock };
    say!("{}", session.headline());
    let outcome = tokio::select! {
        outcome = session.live(plans) => outcome,
        () = stop.asked() => Ok(()),
    };
    session.stop(stop).await;
    outcome
}

impl Session {
    async fn live(&mut self, plans: Vec<RegionPlan>) -> Result<(), Failure> {
        for plan in plans {
            let profile = self.options.profile.name();
            self.regions.push(RegionProcess::start(plan, &self.binary, profile)?);
        }
        let durability = self.options.durability;
        birth::bring_up(&mut self.regions, durability, |line| say!("  {line}")).await?;
        self.await_ready().await?;
        self.supervise().await
    }

    fn headline(&self) -> String {
        let regions = units::count(u64::from(self.options.regions), "region", "regions");
        let end = if self.options.ephemeral {
            "Ctrl-C stops it and removes the data"
        } else {
            "Ctrl-C stops it, starting again continues"
        };
        format!("Longshore dev cluster · {regions} · data in {}   ({end})", self.shown_data())
    }

    /// The data directory as the person at the terminal named it.
    fn shown_data(&self) -> String {
        if self.options.ephemeral {
            return self.data.display().to_string();
        }
        let named = self.options.data.display().to_string();
        if self.options.data.is_absolute() || named.starts_with('.') { named } else { format!("./{named}") }
    }

    fn frame(&self) -> Frame {
        let up: Vec<&RegionProcess> = self.regions.iter().filter(|region| region.pid().is_some()).collect();
        let registry = |region: Option<&&RegionProcess>| region.map_or(String::new(), |region| region.plan.registry());
        let peers: Vec<String> = self.regions.iter().map(|region| region.plan.peer()).collect();
        let endpoints = if crate::args::DEFAULT_ENDPOINTS.starts_with(&peers.join(",")) {
            String::new()
        } else {
            format!(" --endpoint {}", peers.join(","))
        };
        Frame {
            first_registry: registry(up.first()),
            last_registry: registry(up.last()),
            look: format!("cluster-cli status --watch{endpoints}"),
            logs: format!("{}/*/node.log", self.shown_data()),
        }
    }

    fn lines(&self) -> Vec<Line> {
        let line = |region: &RegionProcess| Line {
            region: region.plan.name,
            registry: region.plan.registry(),
            pid: region.pid(),
            ended: match &region.process {
                children::Process::Running(_) => None,
                children::Process::Ended(how) => Some(how.clone()),
            },
        };
        self.regions.iter().map(line).collect()
    }

    /// The cluster, from any node whose process runs.
    async fn look(&self) -> Option<Cluster> {
        let running: Vec<String> =
            self.regions.iter().filter(|region| region.pid().is_some()).map(|region| region.plan.peer()).collect();
        Endpoints::new(running).quiet().cluster().await.ok()
    }

    /// Waits until every region is ready, so that what is printed can be tried at once.
    async fn await_ready(&mut self) -> Result<(), Failure> {
        let began = tokio::time::Instant::now();
        let mut rows = String::new();
        let mut told = false;
        while began.elapsed() < READY_PATIENCE {
            if !told && began.elapsed() > SILENCE_MAX {
                told = true;
                say!(
                    "  waiting for every region to be ready: {}",
                    if rows.is_empty() { "none answers yet" } else { rows.trim_end() }
                );
            }
            if let Some(cluster) = self.look().await {
                let ready = |region: &RegionProcess| {
                    cluster.region(region.plan.name).is_some_and(|row| row.state == RegionState::Ready)
                };
                if self.regions.iter().all(ready) && cluster.writes_ok {
                    if !self.screen.is_terminal() {
                        self.screen.show(&self.frame(), &self.lines(), Some(&cluster));
                        say!("{}", screen::hints(&self.frame(), None).trim_end());
                        say!("ready");
                    }
                    return Ok(());
                }
                if let Some(gone) = self.regions.iter().find(|region| cluster.region(region.plan.name).is_none()) {
                    let what = format!("{} has left this cluster", gone.plan.name);
                    let next = format!("remove {} to let it join again", gone.plan.directory.display());
                    return Err(Failure::failed(what, next));
                }
                rows = cluster.regions.iter().map(|row| format!("{} {}  ", row.name, row.state.word())).collect();
            }
            if let Some(region) =
                self.regions.iter_mut().find_map(|region| region.notice_end().map(|how| (region, how)))
            {
                let (region, how) = region;
                let what = format!("the node of {} {how} while the cluster was being started", region.plan.name);
                return Err(
                    Failure::failed(what, "the lines above are the end of its log").with_details(region.log_tail(12))
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let what = format!("the regions are not ready after {} s: {rows}", READY_PATIENCE.as_secs());
        Err(Failure::new(Exit::NotNow, what, format!("look at {}; starting again continues", self.frame().logs)))
    }

    /// The live page, until the end. A killed region stays down until Enter.
    async fn supervise(&mut self) -> Result<(), Failure> {
        let (keep, mut enter) = mpsc::channel(1);
        watch_enter(keep.clone());
        loop {
            for region in &mut self.regions {
                // The page tells it; nothing else happens until somebody wants it back.
                let _told_on_the_page = region.notice_end();
            }
            let cluster = self.look().await;
            let (frame, lines) = (self.frame(), self.lines());
            self.screen.show(&frame, &lines, cluster.as_ref());
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                Some(()) = enter.recv() => {
                    self.screen.enter_was_pressed();
                    self.restart().await?;
                }
            }
        }
    }

    async fn restart(&mut self) -> Result<(), Failure> {
        let profile = self.options.profile.name();
        let mut any = false;
        for region in self.regions.iter_mut().filter(|region| region.pid().is_none()) {
            region.restart(&self.binary, profile)?;
            any = true;
        }
        if !any {
            return Ok(());
        }
        let mut told = Vec::new();
        let said = std::cell::RefCell::new(&mut told);
        let up = birth::bring_up(&mut self.regions, self.options.durability, |line| {
            said.borrow_mut().push(line.to_owned());
        });
        let outcome = up.await;
        for line in told {
            self.screen.say(&line);
        }
        match outcome {
            // It went down again: the page says so, and the log why.
            Err(failure) => {
                self.screen.say(&failure.to_string());
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Stops all nodes, politely; asked again, at once.
    async fn stop(&mut self, stop: &mut Stop) {
        say!("stopping");
        for region in &self.regions {
            region.signal(Signal::TERM);
        }
        let regions = &mut self.regions;
        let polite = async {
            let mut all = true;
            for region in regions.iter_mut() {
                all &= region.wait().await;
            }
            all
        };
        let all_polite = tokio::select! {
            all = polite => all,
            () = stop.asked() => false,
        };
        if !all_polite {
            eprintln!("warning: not every node stopped in time; what was left is killed");
            for region in &self.regions {
                region.signal(Signal::KILL);
            }
        }
    }
}

/// The signals that end `dev`.
struct Stop {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Stop {
    fn new() -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::failed(format!("signals cannot be received: {error}"), ""));
        Ok(Stop {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// Tells when somebody presses Enter; silent without a terminal.
fn watch_enter(pressed: mpsc::Sender<()>) {
    if !std::io::stdin().is_terminal() {
        return;
    }
    // A blocking read has no end; its thread ends with the process.
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if line.is_err() || pressed.blocking_send(()).is_err() {
                break;
            }
        }
    });
}

fn data_directory(options: &Dev) -> Result<PathBuf, Failure> {
    let data = if options.ephemeral {
        std::env::temp_dir().join(format!("longshore-dev-{}", std::process::id()))
    } else {
        options.data.clone()
    };
    std::fs::create_dir_all(&data).map_err(|error| {
        let what = format!("the directory {} cannot be made: {}", data.display(), explain(&error));
        Failure::failed(what, "name another with --data")
    })?;
    // Nodes get absolute paths, wherever they are started from.
    data.canonicalize().map_err(|error| {
        Failure::failed(format!("{} cannot be used: {}", data.display(), explain(&error)), "name another with --data")
    })
}

fn lock(data: &Path) -> Result<File, Failure> {
    let path = data.join("dev.lock");
    let file = File::create(&path).map_err(|error| {
        Failure::failed(
            format!("{} cannot be written: {}", path.display(), explain(&error)),
            "name another directory with --data",
        )
    })?;
    file.try_lock().map_err(|_| {
        let what = format!("another `cluster-cli dev` runs on {}", data.display());
        Failure::failed(
            what,
            "stop it, or name another directory with --data (and other ports with --http-port and --peer-port)",
        )
    })?;
    Ok(file)
}

/// Compares the options with what the data was made with. True when the data was there before.
fn compare(options: &Dev, data: &Path) -> Result<bool, Failure> {
    let path = data.join(KEPT);
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(false) };
    match serde_json::from_str::<Kept>(&text) {
        Ok(kept) => kept.fits(options, data).map(|()| true),
        Err(_) => {
            let what = format!("{} is not readable as JSON", path.display());
            Err(Failure::failed(what, "remove the directory to begin anew, or name another with --data"))
        }
    }
}

/// Remembers in the data what it is made with: regions know each other by their ports.
fn keep(options: &Dev, data: &Path) -> Result<(), Failure> {
    let path = data.join(KEPT);
    std::fs::write(&path, serde_json::json!(Kept::of(options)).to_string()).map_err(|error| {
        Failure::failed(
            format!("{} cannot be written: {}", path.display(), explain(&error)),
            "name another directory with --data",
        )
    })
}

/// Makes sure that the ports are free; after a former run it waits for its nodes to let go.
async fn await_ports(plans: &[RegionPlan], again: bool) -> Result<(), Failure> {
    let began = tokio::time::Instant::now();
    loop {
        let ports = plans.iter().flat_map(|plan| [plan.http_port, plan.peer_port]);
        let busy: Vec<u16> = ports.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_err()).collect();
        if busy.is_empty() {
            return Ok(());
        }
        if !again || began.elapsed() > PORT_PATIENCE {
            let list: Vec<String> = busy.iter().map(|port| format!("127.0.0.1:{port}")).collect();
            let what = format!("other programs listen on {}", list.join(", "));
            let next = "stop them (another `cluster-cli dev`?), or choose others with --http-port and --peer-port";
            return Err(Failure::failed(what, next));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
