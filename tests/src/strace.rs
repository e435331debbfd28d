//! strace on a running node: to see its calls, or to let some of them fail.

use std::fs;
use std::process::{Child, Command, Stdio};

use crate::cluster::{PATIENCE, Region};
use crate::wait;

/// A running strace; it lets go of its process when it is dropped.
#[derive(Debug)]
pub struct Strace {
    child: Child,
}

impl Strace {
    /// Attaches to every thread of a region's node, with these arguments; the reason where that is not possible.
    pub async fn attach(region: &Region, arguments: &[&str]) -> Result<Strace, String> {
        let id = region.process().id();
        let child = Command::new("strace")
            .args(["-f", "-p", &id.to_string()])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|_| "strace is not installed".to_owned())?;
        let mut strace = Strace { child };
        let own = strace.child.id();
        let attached = wait::until("strace to attach to every thread", PATIENCE, || {
            let gave_up = strace.child.try_wait().expect("a child can be asked").is_some();
            async move {
                if gave_up {
                    return Ok(false);
                }
                let tasks = fs::read_dir(format!("/proc/{id}/task")).map_err(|error| error.to_string())?;
                let traced = |task: fs::DirEntry| {
                    let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
                    status.lines().any(|line| line == format!("TracerPid:\t{own}"))
                };
                if tasks.flatten().all(traced) { Ok(true) } else { Err("some threads are not traced".to_owned()) }
            }
        })
        .await;
        if attached { Ok(strace) } else { Err("strace may not attach to a process here".to_owned()) }
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::INT).ok();
        self.child.wait().ok();
    }
}
