//! One node process per region.

use std::fs::{File, OpenOptions};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdin, Command};

use super::plan::RegionPlan;
use crate::failure::{Failure, explain};

/// Grace between the polite signal and the other one: a little more than a node's own drain.
const STOP_PATIENCE: Duration = Duration::from_secs(12);
/// Settings of the environment that would make every node the same one.
const OWN_SECTIONS: [&str; 3] = ["LONGSHORE_HTTP_", "LONGSHORE_PEER_", "LONGSHORE_STORAGE_"];

/// A region's process: running, or how it ended.
pub(crate) enum Process {
    /// It runs.
    Running(Box<Running>),
    /// It ended, and how.
    Ended(String),
}

/// A running node. The pipe is held, never written: the node ends when it closes, also when this program is killed.
pub(crate) struct Running {
    child: Child,
    _lifeline: Option<ChildStdin>,
}

/// A region and its process.
pub(crate) struct RegionProcess {
    pub(crate) plan: RegionPlan,
    pub(crate) process: Process,
}

impl RegionProcess {
    /// Writes the configuration and starts the node; its log is appended to.
    pub(crate) fn start(plan: RegionPlan, binary: &Path, profile: &str) -> Result<Self, Failure> {
        let process = Process::Running(Box::new(spawn(&plan, binary, profile)?));
        Ok(RegionProcess { plan, process })
    }

    /// Starts it again.
    pub(crate) fn restart(&mut self, binary: &Path, profile: &str) -> Result<(), Failure> {
        self.process = Process::Running(Box::new(spawn(&self.plan, binary, profile)?));
        Ok(())
    }

    /// The process id while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        match &self.process {
            Process::Running(running) => running.child.id(),
            Process::Ended(_) => None,
        }
    }

    /// Notices an end; tells it once, when it is new.
    pub(crate) fn notice_end(&mut self) -> Option<String> {
        let Process::Running(running) = &mut self.process else { return None };
        let ended = match running.child.try_wait() {
            Ok(None) => return None,
            Ok(Some(status)) => describe(status),
            Err(error) => format!("lost: {error}"),
        };
        self.process = Process::Ended(ended.clone());
        Some(ended)
    }

    /// Asks it to stop.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.pid().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended meanwhile: then there is nobody to tell.
            let _ended = kill_process(pid, signal);
        }
    }

    /// Waits for its end; false when it had to be killed.
    pub(crate) async fn wait(&mut self) -> bool {
        let Process::Running(running) = &mut self.process else { return true };
        let (status, polite) = match tokio::time::timeout(STOP_PATIENCE, running.child.wait()).await {
            Ok(status) => (status, true),
            Err(_) => {
                // An error here means that it is gone already; waiting tells.
                let _gone = running.child.start_kill();
                (running.child.wait().await, false)
            }
        };
        self.process = Process::Ended(status.map_or_else(|error| format!("lost: {error}"), describe));
        polite
    }

    /// The last lines of its log, for an error.
    pub(crate) fn log_tail(&self, lines: usize) -> Vec<String> {
        let text = std::fs::read(self.plan.log_file()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text[text.len().saturating_sub(16 * 1024)..]).into_owned();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect()
    }
}

fn spawn(plan: &RegionPlan, binary: &Path, profile: &str) -> Result<Running, Failure> {
    let fail = |what: &str, error: &std::io::Error| {
        let what = format!("{what} of {} failed: {}", plan.name, explain(error));
        Failure::failed(what, format!("look at {}, or name another directory with --data", plan.directory.display()))
    };
    std::fs::create_dir_all(&plan.directory).map_err(|error| fail("making the directory", &error))?;
    std::fs::write(plan.config_file(), plan.config(profile))
        .map_err(|error| fail("writing the configuration", &error))?;
    let log = OpenOptions::new().create(true).append(true).open(plan.log_file());
    let log: File = log.map_err(|error| fail("opening the log", &error))?;
    let copy = log.try_clone().map_err(|error| fail("opening the log", &error))?;
    let mut command = Command::new(binary);
    command.arg("--config").arg(plan.config_file()).arg("--stop-when-stdin-closes");
    command.stdin(Stdio::piped()).stdout(copy).stderr(log);
    // A group of its own: Ctrl-C reaches this program alone, which then stops the nodes in good order.
    command.process_group(0);
    for (key, _) in std::env::vars_os() {
        if key.to_str().is_some_and(|key| OWN_SECTIONS.iter().any(|section| key.starts_with(section))) {
            command.env_remove(key);
        }
    }
    let mut child = command.spawn().map_err(|error| {
        let what = format!("{} could not be started: {}", binary.display(), explain(&error));
        Failure::failed(what, "name a working binary with --node-binary")
    })?;
    let lifeline = child.stdin.take();
    Ok(Running { child, _lifeline: lifeline })
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(0), _) => "stopped".to_owned(),
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(9)) => "killed".to_owned(),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}
