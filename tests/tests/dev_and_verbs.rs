//! The command line as its users meet it: `dev` from start to end, and verbs that scripts can trust.

use std::fs::File;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use http::{Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tests::binaries::binaries;
use tests::client::Ask;
use tests::cluster::{Cluster, Options, PATIENCE, consecutive_ports};
use tests::image::Image;
use tests::registry::Registry;
use tests::{scale, wait};

/// A running `cluster-cli dev`.
struct Dev {
    child: Child,
    http: u16,
    peer: u16,
    log: std::path::PathBuf,
}

impl Dev {
    async fn start(directory: &Path, ports: (u16, u16)) -> Dev {
        let log = directory.join("dev.log");
        let out = File::create(&log).expect("a temporary directory is writable");
        let err = out.try_clone().expect("a file can be shared");
        let (http, peer) = ports;
        let child = Command::new(&binaries().cli)
            .args(["dev", "--regions", "3", "--data"])
            .arg(directory.join("data"))
            .arg("--node-binary")
            .arg(&binaries().node)
            .args(["--http-port", &http.to_string(), "--peer-port", &peer.to_string()])
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .expect("cluster-cli starts");
        let dev = Dev { child, http, peer, log };
        wait::until("dev to say that it is ready", PATIENCE, || async {
            let said = dev.said();
            if said.lines().any(|line| line == "ready") { Ok(()) } else { Err(said) }
        })
        .await;
        dev
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn region(&self, index: u16) -> Registry {
        Registry::at(format!("127.0.0.1:{}", self.http + index))
    }

    fn status(&self) -> Value {
        let endpoint = format!("127.0.0.1:{}", self.peer);
        let output = cli(&["status", "--json", "--endpoint", &endpoint]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("status --json prints JSON")
    }

    /// Process ids of the nodes.
    fn nodes(&self) -> Vec<u64> {
        let status = self.status();
        let regions = status["regions"].as_array().expect("regions").clone();
        regions.iter().filter_map(|region| region["nodes"][0]["status"]["process_id"].as_u64()).collect()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("our own child can be signalled");
    }

    /// Waits until `dev` and every node is gone.
    async fn await_end(&mut self, nodes: &[u64]) -> std::process::ExitStatus {
        let child = &mut self.child;
        let mut ended = || child.try_wait().expect("a child can be asked").ok_or("dev runs".to_owned());
        let status = wait::until("dev to end", PATIENCE, || std::future::ready(ended())).await;
        let ports: Vec<u16> = (0..3).flat_map(|index| [self.http + index, self.peer + index]).collect();
        wait::until("the nodes to end with dev", PATIENCE, || async {
            let open = ports.iter().find(|port| TcpStream::connect(("127.0.0.1", **port)).is_ok());
            let alive = nodes.iter().find(|id| Path::new(&format!("/proc/{id}/cwd")).exists());
            match (open, alive) {
                (None, None) => Ok(()),
                found => Err(format!("a port or process lives on: {found:?}")),
            }
        })
        .await;
        status
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Ended already, or a test failed: its nodes end with it.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn cli(arguments: &[&str]) -> Output {
    Command::new(&binaries().cli).args(arguments).stdin(Stdio::null()).output().expect("cluster-cli runs")
}

fn ports() -> (u16, u16) {
    (consecutive_ports(3), consecutive_ports(3))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dev_starts_three_regions_stops_cleanly_and_continues() {
    let seed = scale::seed("dev");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let ports = ports();
    let image = Image::new(seed, &[100_000]);
    let mut dev = Dev::start(directory.path(), ports).await;
    dev.region(0).push_image("team/app", "v1", &image).await.expect("pushed to the first region");
    dev.region(2).pull_image("team/app", "v1", &image).await.expect("pulled from the third at once");
    let said = dev.said();
    assert!(said.contains("docker push") && said.contains(&format!("127.0.0.1:{}", ports.0)), "{said}");
    let nodes = dev.nodes();
    assert_eq!(nodes.len(), 3);
    dev.signal(Signal::TERM);
    let status = dev.await_end(&nodes).await;
    assert!(status.success(), "dev ended with {status}: {}", dev.said());

    let mut dev = Dev::start(directory.path(), ports).await;
    for index in 0..3 {
        let pulled = dev.region(index).pull_image_patiently("team/app", "v1", &image, PATIENCE).await;
        pulled.expect("it continues with what was there");
    }
    // Killed without a word: the nodes notice and end.
    let nodes = dev.nodes();
    dev.signal(Signal::KILL);
    dev.await_end(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exit_codes_and_words_of_the_verbs_can_be_trusted() {
    let cluster = Cluster::start(2, Options::default()).await;
    let peer = |index: usize| cluster.regions[index].peer.to_string();
    let code = |arguments: &[&str]| {
        let output = cli(arguments);
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (status, words) = code(&["init", "--node", &peer(0), "--region", "paris"]);
    assert_eq!(status, 4, "init of a member: {words}");
    assert!(words.starts_with("error: "), "{words}");
    let (status, words) = code(&["status", "--endpoint", "127.0.0.1:1"]);
    assert_eq!(status, 3, "nobody answers: {words}");
    assert!(words.contains("127.0.0.1:1"), "it does not say whom it asked: {words}");
    let (status, words) = code(&["status", "--endpoint", &format!("127.0.0.1:1,{}", peer(1))]);
    assert_eq!(status, 0, "the next endpoint answers: {words}");
    let (status, words) = code(&["leave", "nowhere", "--yes", "--endpoint", &peer(0)]);
    assert_ne!(status, 0, "{words}");
    assert!(words.contains("nowhere"), "{words}");
    assert_eq!(code(&["no-such-verb"]).0, 2);

    // A reader that goes away, as `| head` does, is no reason to panic.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let shown = Command::new(&binaries().cli).args(["regions", "--endpoint", &peer(0)]).stdout(writer).output();
    let shown = shown.expect("cluster-cli runs");
    assert_eq!((shown.status.code(), shown.stderr.as_slice()), (Some(141), &b""[..]));

    // Blobs that lie in one region only: it cannot leave.
    let (status, words) = code(&["policy", "set", "", "--durability", "local", "--endpoint", &peer(0)]);
    assert_eq!(status, 0, "{words}");
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_is_set_in_parts_and_shown_for_a_repository() {
    let cluster = Cluster::start(1, Options::default()).await;
    let endpoint = cluster.regions[0].peer.to_string();
    let set = |more: &[&str]| cli(&[&["policy", "set", "team", "--endpoint", &endpoint], more].concat());
    for more in [&["--immutable-tags", "v*", "--immutable-tags", "1.?"][..], &["--sparse", "accept"]] {
        let done = set(more);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    let shown = |repository: &str| {
        let output = cli(&["policy", "show", repository, "--json", "--endpoint", &endpoint]);
        let policy: Value = serde_json::from_slice(&output.stdout).expect("one policy is in force");
        (policy["prefix"].clone(), policy["sparse"].clone(), policy["immutable_tags"].clone())
    };
    assert_eq!(shown("team/api"), ("team".into(), true.into(), vec!["v*", "1.?"].into()));
    assert_eq!(shown("teams/api"), ("".into(), false.into(), Value::Array(Vec::new())));
    let refused = set(&["--immutable-tags", "a/b"]);
    assert_eq!(refused.status.code(), Some(2), "{}", String::from_utf8_lossy(&refused.stderr));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("`a/b`"));
    assert!(set(&["--immutable-tags", ""]).status.success());
    assert_eq!(shown("team/api"), ("team".into(), true.into(), Value::Array(Vec::new())));
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_goes_back_to_where_it_pointed() {
    let seed = scale::seed("tags");
    let cluster = Cluster::start(1, Options::default()).await;
    let (registry, endpoint) = (cluster.at(0), cluster.regions[0].peer.to_string());
    let (old, new) = (Image::new(seed, &[1000]), Image::new(seed + 1, &[1000]));
    for image in [&old, &new] {
        registry.push_image("team/api", "latest", image).await.expect("a healthy region takes a push");
    }
    let tags = |verb: &str, more: &[&str]| {
        cli(&[&["tags", verb, "team/api", "latest", "--json", "--endpoint", &endpoint], more].concat())
    };
    let history = || {
        let output = tags("history", &[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        let moves: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        moves
    };
    let first = history().pop().expect("two moves")["revision"].to_string();
    for (more, image) in [(&[][..], &old), (&[], &new), (&["--to", &first], &old)] {
        assert!(tags("rollback", more).status.success());
        registry.pull_image("team/api", "latest", image).await.expect("the tag names it at once");
    }
    let named: Vec<Value> = history().iter().map(|step| step["digest"].clone()).collect();
    let (a, b) = (Value::from(old.manifest.digest.as_str()), Value::from(new.manifest.digest.as_str()));
    assert_eq!(named, [a.clone(), b.clone(), a.clone(), b, a]);
    assert_eq!(history()[0]["actor"], "operator");

    let deleted = Ask::new(Method::DELETE, "/v2/team/api/manifests/latest");
    registry.expect(deleted, StatusCode::ACCEPTED).await.expect("tags can be deleted");
    assert!(tags("rollback", &[]).status.success(), "a deleted tag comes back");
    registry.pull_image("team/api", "latest", &old).await.expect("the tag is there again");

    let gone = Ask::new(Method::DELETE, format!("/v2/team/api/manifests/{}", new.manifest.digest));
    registry.expect(gone, StatusCode::ACCEPTED).await.expect("manifests can be deleted");
    assert_eq!(tags("rollback", &[]).status.code(), Some(4), "what it named before is gone");
    assert_eq!(tags("rollback", &["--to", "1"]).status.code(), Some(2), "the tag is younger");
    let set = cli(&["policy", "set", "team", "--immutable-tags", "latest", "--endpoint", &endpoint]);
    assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
    registry.push_image("team/api", "other", &new).await.expect("other tags are free");
    assert_eq!(tags("rollback", &[]).status.code(), Some(4), "immutable tags stay");
    registry.pull_image("team/api", "latest", &old).await.expect("nothing was changed");
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_with_a_last_copy_does_not_leave() {
    let seed = scale::seed("leave refused");
    // The others hear of the blobs and fetch them too slowly to matter.
    let settings = vec![("replication.bandwidth", "\"1KiB/s\"".to_owned())];
    let cluster = Cluster::start(3, Options { durability: "local", settings, ..Options::default() }).await;
    let image = Image::new(seed, &[3_000_000]);
    let owner = cluster.follower().await;
    cluster.at(owner).push_image("team/app", "v1", &image).await.expect("durable in one region is enough");
    let endpoint = cluster.regions[cluster.leader().await].peer.to_string();
    let name = cluster.regions[owner].name;
    let refused = cli(&["leave", name, "--yes", "--endpoint", &endpoint]);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(4), "{words}");
    assert!(words.contains(&image.blobs[1].digest()[..15]), "the blob is not named: {words}");
    assert!(words.contains("linked by team/app\n"), "its repository is not named: {words}");
    let pulled = cluster.at(owner).pull_image("team/app", "v1", &image).await;
    pulled.expect("the region serves on");
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_leaves_when_nothing_is_lost_and_the_others_go_on() {
    let seed = scale::seed("leave");
    let cluster = Cluster::start(3, Options::default()).await;
    let owner = cluster.follower().await;
    let image = Image::new(seed, &[500_000]);
    cluster.at(owner).push_image("team/app", "v1", &image).await.expect("a healthy region takes a push");
    cluster.await_quiet(PATIENCE).await;
    let endpoint = cluster.regions[cluster.leader().await].peer.to_string();
    let name = cluster.regions[owner].name;
    let dry = cli(&["leave", name, "--dry-run", "--json", "--endpoint", &endpoint]);
    assert!(dry.status.success(), "{}", String::from_utf8_lossy(&dry.stderr));
    let said: Value = serde_json::from_slice(&dry.stdout).expect("--json prints JSON");
    assert_eq!(said["last_copies"].as_u64(), Some(0), "all regions hold everything: {said}");
    let left = cli(&["leave", name, "--yes", "--endpoint", &endpoint]);
    assert!(left.status.success(), "nothing would be lost: {}", String::from_utf8_lossy(&left.stderr));
    for index in (0..3).filter(|index| *index != owner) {
        let pulled = cluster.at(index).pull_image_patiently("team/app", "v1", &image, PATIENCE).await;
        pulled.expect("the others serve on");
        let next = Image::new(seed + 1 + index as u64, &[1000]);
        let pushed = cluster.at(index).push_image_patiently("team/app", "v2", &next, PATIENCE).await;
        pushed.expect("the others take pushes");
    }
}
