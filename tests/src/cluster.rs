//! Regions on this machine: started, killed, cut off, wiped and brought back as a test likes.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

use crate::binaries::binaries;
use crate::client::Client;
use crate::config::{self, Settings};
use crate::content::Random;
use crate::logs;
use crate::mesh::Mesh;
use crate::network::{Admin, ClusterStatus, NodeStatus};
use crate::process::Process;
use crate::registry::Registry;
use crate::wait;

/// Names of the regions, in the order they join.
pub const NAMES: &[&str] = &["paris", "virginia", "tokyo", "sydney", "oslo", "santiago", "nairobi"];

/// Warnings that every cluster may give: a busy machine, a start and an end make regions miss each other for a moment.
/// The last is openraft's word on an append that reaches it after its end.
const ALWAYS_ALLOWED: &[&str] = &["quorum is not heard", "no quorum confirms reads", "raft stopped"];

/// How long anything that should happen by itself may take on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// How a cluster is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// `lan` or `wan`.
    pub profile: &'static str,
    /// Durability of all repositories.
    pub durability: &'static str,
    /// Lay a proxy under every connection between regions.
    pub meshed: bool,
    /// Round trip between regions; needs `meshed`.
    pub round_trip: Duration,
    /// `section.key` and TOML value, for every region.
    pub settings: Vec<(&'static str, String)>,
    /// Texts of WARN and ERROR lines that this test expects.
    pub allowed: Vec<&'static str>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            profile: "lan",
            durability: "majority",
            meshed: false,
            round_trip: Duration::ZERO,
            settings: Vec::new(),
            allowed: Vec::new(),
        }
    }
}

impl Options {
    /// With proxies between the regions.
    pub fn meshed() -> Options {
        Options { meshed: true, ..Options::default() }
    }
}

/// One region.
#[derive(Debug)]
pub struct Region {
    /// Its name.
    pub name: &'static str,
    /// Its registry.
    pub http: SocketAddr,
    /// Its peer door.
    pub peer: SocketAddr,
    /// Its node's id; 0 until it was born.
    pub node: u64,
    directory: PathBuf,
    process: Option<Process>,
}

impl Region {
    /// Directory of everything it stores.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Its running process.
    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("the region runs")
    }

    /// The same, to wait for it.
    pub fn process_mut(&mut self) -> &mut Process {
        self.process.as_mut().expect("the region runs")
    }

    /// Whether it has a process.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    fn log(&self) -> PathBuf {
        self.directory.join("node.log")
    }

    /// Starts its process.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let config = self.directory.join("node.toml");
        self.process = Some(Process::start(&binaries().node, &config, &self.log()));
    }

    /// Its admin door.
    pub async fn admin(&self) -> Result<Admin, String> {
        Admin::connect(&self.peer.to_string()).await
    }

    /// What its node says of itself.
    pub async fn status(&self) -> Result<NodeStatus, String> {
        self.admin().await?.node_status().await
    }

    /// Its files whose path contains `part`, largest first.
    pub fn files(&self, part: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open = vec![self.data()];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    open.push(path);
                } else if path.to_string_lossy().contains(part) {
                    found.push((entry.metadata().map_or(0, |metadata| metadata.len()), path));
                }
            }
        }
        found.sort_by(|left, right| right.cmp(left));
        found.into_iter().map(|(_, path)| path).collect()
    }
}

/// A cluster of regions. Clusters of one test program run one after the other: two cores are few.
pub struct Cluster {
    /// The regions, in the order they joined.
    pub regions: Vec<Region>,
    /// The links between them, when the options asked for some.
    pub mesh: Option<Mesh>,
    options: Options,
    nodes_minted: u64,
    directory: Option<TempDir>,
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    /// Starts `count` regions and waits until all of them take pushes.
    pub async fn start(count: usize, options: Options) -> Cluster {
        let mut cluster = Cluster::unborn(count, options).await;
        for index in 0..count {
            cluster.regions[index].start();
        }
        cluster.init(0).await;
        for index in 1..count {
            cluster.join(index, 0, None).await;
        }
        cluster.await_ready().await;
        cluster
    }

    /// Lays out `count` regions; none has a process yet.
    pub async fn unborn(count: usize, options: Options) -> Cluster {
        static TURN: Mutex<()> = Mutex::const_new(());
        let turn = TURN.lock().await;
        let directory = tempfile::Builder::new().prefix("longshore-").tempdir().expect("a temporary directory");
        let mesh = if options.meshed { Some(Mesh::lay(count).await) } else { None };
        let ports = free_ports(2 * count);
        let mut regions = Vec::new();
        for (name, pair) in NAMES.iter().zip(ports.chunks(2)).take(count) {
            let own = directory.path().join(name);
            fs::create_dir_all(&own).expect("the temporary directory is writable");
            let [http, peer] = *pair else { unreachable!("ports come in pairs") };
            regions.push(Region { name, http, peer, node: 0, directory: own, process: None });
        }
        let directory = Some(directory);
        let cluster = Cluster { regions, mesh, options, nodes_minted: 0, directory, _turn: turn };
        for index in 0..count {
            cluster.configure(index, &[]);
        }
        cluster
    }

    /// Writes the configuration of a region, with `more` beyond the options; it counts from the next start.
    pub fn configure(&self, index: usize, more: &[(&str, String)]) {
        let region = &self.regions[index];
        let mut settings: Settings = config::base(region.http, region.peer, &region.data(), self.options.profile);
        if let Some(mesh) = &self.mesh {
            settings.set("peer.via", config::via(&mesh.via(index)));
        }
        for (key, value) in &self.options.settings {
            settings.set(key, value.clone());
        }
        for (key, value) in more {
            settings.set(key, value.clone());
        }
        fs::write(region.directory.join("node.toml"), settings.render()).expect("the temporary directory is writable");
    }

    /// Directory of the whole test.
    pub fn directory(&self) -> &Path {
        self.directory.as_ref().expect("kept until the end").path()
    }

    /// Makes a region the first of the cluster.
    pub async fn init(&mut self, index: usize) {
        self.foresee(index);
        let region = &self.regions[index];
        let durability = self.options.durability;
        let what = format!("{} to begin the cluster", region.name);
        let node = wait::until(&what, PATIENCE, || async {
            let mut admin = region.admin().await?;
            let status = admin.node_status().await?;
            if status.is_member { Ok(status.node) } else { admin.init(region.name, durability).await }
        })
        .await;
        self.born(index, node);
    }

    /// Makes a region a member, through `member`.
    pub async fn join(&mut self, index: usize, member: usize, replace: Option<u64>) {
        self.foresee(index);
        let region = &self.regions[index];
        let member = self.regions[member].peer.to_string();
        let what = format!("{} to join", region.name);
        let node = wait::until(&what, PATIENCE, || async {
            let mut admin = region.admin().await?;
            let status = admin.node_status().await?;
            if status.is_member { Ok(status.node) } else { admin.join(&member, region.name, replace).await }
        })
        .await;
        self.born(index, node);
    }

    /// The others dial a node as soon as it is minted: its links must lead somewhere by then.
    fn foresee(&mut self, index: usize) {
        let peer = self.regions[index].peer;
        let next = self.nodes_minted + 1;
        let round_trip = self.options.round_trip;
        if let Some(mesh) = &mut self.mesh {
            mesh.settle(next, index, peer);
            mesh.delay_all(round_trip);
        }
    }

    fn born(&mut self, index: usize, node: u64) {
        self.nodes_minted += 1;
        assert_eq!(node, self.nodes_minted, "ids are minted in the order of births");
        self.regions[index].node = node;
    }

    /// Waits until every running region takes pushes and counts as ready.
    pub async fn await_ready(&self) {
        for region in self.regions.iter().filter(|region| region.is_running()) {
            self.await_pushable(region).await;
        }
        let names: Vec<&str> =
            self.regions.iter().filter(|region| region.is_running()).map(|region| region.name).collect();
        wait::until("all regions to be ready", PATIENCE, || async {
            let status = self.cluster_status().await?;
            let is_ready = |name: &&str| status.regions.iter().any(|row| row.name == **name && row.is_ready);
            if names.iter().all(is_ready) { Ok(()) } else { Err(format!("{:?}", status.regions)) }
        })
        .await;
    }

    /// Waits until a region says that it takes pushes.
    pub async fn await_pushable(&self, region: &Region) {
        let client = Client::new(region.http.to_string());
        let what = format!("{} to take pushes (log {})", region.name, region.log().display());
        wait::until(&what, PATIENCE, || async {
            let ask = crate::client::Ask::new(http::Method::GET, "/readyz?for=push").within(Duration::from_secs(3));
            let answer = client.send(ask).await.map_err(|failure| format!("{failure:?}"))?;
            if answer.status.is_success() { Ok(()) } else { Err(format!("{} {}", answer.status, answer.text())) }
        })
        .await;
    }

    /// The cluster as the first region sees it that answers.
    pub async fn cluster_status(&self) -> Result<ClusterStatus, String> {
        let mut last = "no region runs".to_owned();
        for region in self.regions.iter().filter(|region| region.is_running()) {
            match async { region.admin().await?.cluster_status().await }.await {
                Ok(status) => return Ok(status),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The region that leads, by its own word; the newest term wins.
    pub async fn leader(&self) -> usize {
        wait::until("a leader", PATIENCE, || async {
            let mut found: Option<(u64, usize)> = None;
            for (index, region) in self.regions.iter().enumerate().filter(|(_, region)| region.is_running()) {
                if let Ok(status) = region.status().await
                    && status.is_leader
                    && status.is_quorum_heard
                {
                    found = found.max(Some((status.term, index)));
                }
            }
            found.map(|(_, index)| index).ok_or_else(|| "nobody leads".to_owned())
        })
        .await
    }

    /// A region that does not lead.
    pub async fn follower(&self) -> usize {
        let leader = self.leader().await;
        let follows = |(index, region): (usize, &Region)| (index != leader && region.is_running()).then_some(index);
        self.regions.iter().enumerate().find_map(follows).expect("more than one region runs")
    }

    /// `kill -9`.
    pub fn kill(&mut self, index: usize) {
        self.regions[index].process.take().expect("the region runs").kill();
    }

    /// `kill -9`, and all its data is gone.
    pub fn destroy(&mut self, index: usize) {
        self.kill(index);
        fs::remove_dir_all(self.regions[index].data()).expect("a dead region's data can be removed");
    }

    /// SIGTERM, and waits for a clean end.
    pub async fn stop(&mut self, index: usize) {
        let mut process = self.regions[index].process.take().expect("the region runs");
        process.terminate();
        let status = process.exit(PATIENCE).await;
        assert!(status.success(), "{} ended with {status} after SIGTERM", self.regions[index].name);
    }

    /// Starts a region again that was killed or stopped.
    pub fn restart(&mut self, index: usize) {
        self.regions[index].start();
    }

    /// Brings a destroyed region back: a new node with a new store under the region's name.
    pub async fn rejoin(&mut self, index: usize, member: usize) {
        let old = self.regions[index].node;
        self.regions[index].start();
        self.join(index, member, Some(old)).await;
    }

    fn links(&self) -> &Mesh {
        self.mesh.as_ref().expect("the options asked for a mesh")
    }

    /// Cuts a region off from all others; its clients still reach it.
    pub fn cut(&self, index: usize) {
        self.links().cut(index);
    }

    /// Closes every connection between a region and the others.
    pub fn reset(&self, index: usize) {
        self.links().reset(index);
    }

    /// Undoes [`Cluster::cut`].
    pub fn heal(&self, index: usize) {
        self.links().heal(index);
    }

    /// A client of one region.
    pub fn at(&self, index: usize) -> Registry {
        Registry::at(self.regions[index].http.to_string())
    }

    /// A client whose every request goes to the next region.
    pub fn rotating(&self) -> Registry {
        Registry::rotating(self.regions.iter().map(|region| region.http.to_string()))
    }

    /// Waits until no running region wants anything, and all of them have applied the same.
    pub async fn await_quiet(&self, within: Duration) {
        wait::until("the backlog to be empty", within, || async {
            let status = self.cluster_status().await?;
            let running = |name: &str| self.regions.iter().any(|region| region.name == name && region.is_running());
            let open: Vec<_> =
                status.regions.iter().filter(|row| running(&row.name) && row.backlog_blobs > 0).collect();
            if open.is_empty() { Ok(()) } else { Err(format!("{open:?}")) }
        })
        .await;
    }

    /// Waits until all running regions have applied the same index, and compares their state hashes.
    pub async fn assert_same_state(&self, within: Duration) {
        let hashes = wait::until("all regions to apply the same index", within, || async {
            let mut hashes = Vec::new();
            for region in self.regions.iter().filter(|region| region.is_running()) {
                let status = region.status().await?;
                hashes.push((region.name, status.state_hash));
            }
            let first = hashes.first().map(|(_, (index, _))| *index);
            let same = hashes.iter().all(|(_, (index, _))| Some(*index) == first);
            if same { Ok(hashes) } else { Err(format!("{hashes:?}")) }
        })
        .await;
        let differ = hashes.iter().any(|(_, hash)| *hash != hashes[0].1 || hash.1.is_empty());
        assert!(!differ, "equal indexes, different states: {hashes:?}");
    }

    /// Ends all regions cleanly and looks through what they wrote.
    pub async fn finish(mut self) {
        for region in self.regions.iter().filter(|region| region.is_running()) {
            region.process().terminate();
        }
        for region in &mut self.regions {
            if let Some(mut process) = region.process.take() {
                let status = process.exit(PATIENCE).await;
                assert!(status.success(), "{} ended with {status} after SIGTERM", region.name);
            }
        }
        let complaints = self.complaints();
        assert!(complaints.is_empty(), "unlisted lines in the logs:\n{}", complaints.join("\n"));
    }

    fn complaints(&self) -> Vec<String> {
        let mut all = Vec::new();
        let allowed = [self.options.allowed.as_slice(), ALWAYS_ALLOWED].concat();
        for region in &self.regions {
            let found = logs::complaints(&region.log(), &allowed);
            all.extend(found.into_iter().map(|line| format!("{}: {line}", region.name)));
        }
        all
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for region in &mut self.regions {
            region.process = None;
        }
        // A failed test leaves its files, so that a person can look.
        if std::thread::panicking()
            && let Some(directory) = self.directory.take()
        {
            println!("files of the failed test are kept in {}", directory.keep().display());
            self.complaints().iter().take(20).for_each(|line| println!("{line}"));
        }
    }
}

/// Free loopback ports below the range that outgoing connections take theirs from, so that a restarted region finds its own again.
fn free_ports(count: usize) -> Vec<SocketAddr> {
    let mut held = Vec::new();
    while held.len() < count {
        held.extend(TcpListener::bind(("127.0.0.1", random_port())));
    }
    held.iter().map(|listener| listener.local_addr().expect("it listens")).collect()
}

/// The first of `count` free loopback ports in a row.
pub fn consecutive_ports(count: u16) -> u16 {
    loop {
        let first = random_port();
        let all = (first..first + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
        if all {
            return first;
        }
    }
}

fn random_port() -> u16 {
    static RANDOM: OnceLock<std::sync::Mutex<Random>> = OnceLock::new();
    let random = RANDOM.get_or_init(|| std::sync::Mutex::new(Random::new(u64::from(std::process::id()) << 20)));
    let mut random = random.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    u16::try_from(15_000 + random.below(15_000)).expect("below 30,000")
}
