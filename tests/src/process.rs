//! A node as the operating system sees it.

use std::fs;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// A running node. Its standard input is a pipe of ours: it ends with the test, however that one ends.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `longshore-node` with a configuration; everything it says is appended to `log`.
    pub fn start(binary: &Path, config: &Path, log: &Path) -> Process {
        let out = File::options().append(true).create(true).open(log).expect("the test directory is writable");
        let err = out.try_clone().expect("a file can be shared");
        let child = Command::new(binary)
            .arg("--config")
            .arg(config)
            .arg("--stop-when-stdin-closes")
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(err)
            .spawn()
            .expect("the node starts");
        Process { child, log: log.to_path_buf() }
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where it writes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    fn signal(&self, signal: Signal) {
        let id = Pid::from_child(&self.child);
        // A process that has ended already needs no signal.
        kill_process(id, signal).ok();
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().expect("a killed child can be waited for");
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGSTOP: it stands still, its connections stay open.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// How it ended; none while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be asked")
    }

    /// Waits until it has ended by itself.
    pub async fn exit(&mut self, within: Duration) -> ExitStatus {
        let child = &mut self.child;
        let log = self.log.clone();
        let what = format!("process {} to end (log {})", child.id(), log.display());
        let mut ended = move || child.try_wait().expect("a child can be asked").ok_or("it runs".to_owned());
        wait::until(&what, within, || std::future::ready(ended())).await
    }

    /// Forgets the peak of the resident set so far.
    pub fn reset_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.id()), "5").expect("our own child's peak can be reset");
    }

    /// Peak of the resident set since [`Process::reset_peak`]. Unit: bytes.
    pub fn peak(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// Resident set now. Unit: bytes.
    pub fn resident(&self) -> u64 {
        self.memory("VmRSS:")
    }

    fn memory(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap_or(0);
        kib * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.kill();
        }
    }
}
