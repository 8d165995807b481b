//! A disk of a test's own: a file system in a file, on a loop device. What it holds can be looked at and changed under
//! the mount, copied at any instant, cut off from its power, and put back.

use super::needs::{has, is_installed, is_root};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A file system in an image; unmounted, and its loop device given back, with this value.
pub struct Disk {
    image: PathBuf,
    dir: PathBuf,
    device: String,
    is_mounted: bool,
}

/// Runs a tool; its output when all went well.
fn tool<A: AsRef<OsStr>>(name: &str, args: &[A]) -> Result<String, String> {
    let done =
        Command::new(name).args(args).stdin(Stdio::null()).output().map_err(|error| format!("{name}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if done.status.success() { Ok(text(&done.stdout)) } else { Err(format!("{name}: {}", text(&done.stderr))) }
}

/// Makes a file system of so many MiB in the file `image`; whether that could be done.
pub fn make_image(kind: &str, image: &Path, (size_mib, options): (u64, &[&str])) -> bool {
    let file = std::fs::File::create(image).expect("a file for the image");
    file.set_len(size_mib << 20).expect("a length");
    let mut args: Vec<&OsStr> = vec![OsStr::new("-q")];
    args.extend(options.iter().map(OsStr::new));
    args.push(image.as_os_str());
    is_installed(&format!("mkfs.{kind}")) && tool(&format!("mkfs.{kind}"), &args).is_ok()
}

/// A copy with its holes.
pub fn copy_image(from: &Path, to: &Path) {
    let args = ["--sparse=always".as_ref(), from.as_os_str(), to.as_os_str()];
    tool("cp", &args).expect("a copy of the image");
}

impl Disk {
    /// Makes an ext4 of so many MiB at `image` and mounts it at `dir`, which is made; `None` where that is not allowed.
    pub fn ext4(image: &Path, dir: &Path, size: (u64, &[&str])) -> Option<Self> {
        let disk = is_root().then(|| make_image("ext4", image, size).then(|| Self::mount(image, dir, "")).flatten());
        let disk = disk.flatten();
        has("root, mkfs.ext4 and a loop device", disk.is_some()).then_some(disk).flatten()
    }

    /// Mounts what is in `image`, with options; `None` where there is no loop device or no such file system.
    pub fn mount(image: &Path, dir: &Path, options: &str) -> Option<Self> {
        std::fs::create_dir_all(dir).expect("a mount point");
        let device = tool("losetup", &["--find".as_ref(), "--show".as_ref(), image.as_os_str()]).ok()?;
        let mut disk = Self { image: image.to_owned(), dir: dir.to_owned(), device, is_mounted: false };
        disk.mount_again(options).ok()?;
        Some(disk)
    }

    /// Mounts it at its place again.
    pub fn mount_again(&mut self, options: &str) -> Result<(), String> {
        let mut args: Vec<&OsStr> = Vec::new();
        if !options.is_empty() {
            args.extend(["-o", options].map(OsStr::new));
        }
        args.extend([OsStr::new(&self.device), self.dir.as_os_str()]);
        tool("mount", &args)?;
        self.is_mounted = true;
        Ok(())
    }

    /// Unmounts it; waits for what the system still writes.
    pub fn unmount(&mut self) {
        if self.is_mounted {
            let unmounted = tool("umount", &[&self.dir]);
            unmounted.expect("nobody uses the disk any more");
            self.is_mounted = false;
        }
    }

    /// Off and on again: what the journal has is replayed.
    pub fn replug(&mut self) {
        self.unmount();
        self.mount_again("").expect("a file system that can be mounted again");
    }

    /// The power goes: what was not made durable is lost, every call fails from now on. The disk stays mounted.
    pub fn cut_power(&self) {
        // Without -f the log is not flushed.
        let mut cut = Command::new("xfs_io");
        let status = cut.args(["-x", "-c", "shutdown"]).arg(&self.dir).stderr(Stdio::null()).status();
        assert!(status.is_ok_and(|status| status.success()), "a file system that can be shut down");
    }

    /// Changes the mount's options.
    pub fn remount(&self, option: &str) -> Result<(), String> {
        let option = format!("remount,{option}");
        tool("mount", &["-o".as_ref(), option.as_ref(), self.dir.as_os_str()]).map(drop)
    }

    /// Writes the device's own cache out and drops it, so that the next read of the disk is one of the image.
    pub fn drop_device_cache(&self) {
        tool("blockdev", &["--flushbufs", &self.device]).expect("a device that can be flushed");
    }

    /// The file that it lies in.
    pub fn image(&self) -> &Path {
        &self.image
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.is_mounted && tool("umount", &[&self.dir]).is_err() {
            let _ = tool("umount", &["-l".as_ref(), self.dir.as_os_str()]);
        }
        let _ = tool("losetup", &["-d", &self.device]);
    }
}
