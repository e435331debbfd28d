//! Power cuts: a file system of its own in an image, whose unsynced bytes are dropped at once. Needs root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Drops everything that was not synced and stops the file system, as a power cut does (ext4's shutdown, no log flush).
const SHUT_DOWN: &str = r#"open(my $d, "<", $ARGV[0]) or die "open: $!"; my $how = pack("L", 2); ioctl($d, 0x8004587d, $how) // die "ioctl: $!";"#;

/// A mounted file system that can lose its power. Unmounted when dropped.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    mounted: PathBuf,
}

impl Disk {
    /// Makes a file system of `mebibytes` and mounts it at `directory`; none, with the reason, where that is not allowed.
    pub fn mount(image: &Path, directory: &Path, mebibytes: u64) -> Result<Disk, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("mounting an image needs root".to_owned());
        }
        let file = fs::File::create(image).map_err(|error| error.to_string())?;
        file.set_len(mebibytes * 1024 * 1024).map_err(|error| error.to_string())?;
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(image))?;
        fs::create_dir_all(directory).map_err(|error| error.to_string())?;
        let disk = Disk { image: image.to_path_buf(), mounted: directory.to_path_buf() };
        disk.power_on()?;
        Ok(disk)
    }

    /// Mounts what survived.
    pub fn power_on(&self) -> Result<(), String> {
        run(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.mounted))
    }

    /// Drops what was not synced. Whoever writes to it must stand still already.
    pub fn cut_power(&self) -> Result<(), String> {
        run(Command::new("perl").args(["-e", SHUT_DOWN]).arg(&self.mounted))
    }

    /// Unmounts; nothing may have a file open.
    pub fn unmount(&self) -> Result<(), String> {
        run(Command::new("umount").arg(&self.mounted))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Not mounted any more is as good.
        run(Command::new("umount").arg("--lazy").arg(&self.mounted)).ok();
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let shown = format!("{command:?}");
    let output = command.output().map_err(|error| format!("{shown}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{shown}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
