//! Small real disks: ext4 in an image file on a loop device.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::harness::wait_until;

/// `EXT4_IOC_SHUTDOWN` (linux/fs/ext4/ext4.h) with `EXT4_GOING_FLAGS_NOLOGFLUSH`: from then on nothing reaches the
/// disk, and what was not fsynced is lost. In Perl, because an ioctl is unsafe code.
const SHUT_DOWN: &str = r#"
    opendir(my $dir, $ARGV[0]) or die "opendir: $!";
    open(my $fd, "<&=", fileno($dir)) or die "open: $!";
    my $flags = pack("L", 2);
    ioctl($fd, 0x8004587d, $flags) or die "ioctl: $!";
"#;

/// A mounted ext4, unmounted when dropped.
pub(crate) struct Disk {
    dir: TempDir,
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A process that still holds it open is about to be killed by its guard; the loop device goes with the mount.
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).output();
    }
}

impl Disk {
    /// Makes a disk of this many MiB, or prints why that is not possible and returns `None`.
    pub(crate) fn new(mib: u64) -> Option<Self> {
        match Self::try_new(mib) {
            Ok(disk) => Some(disk),
            Err(why) => {
                assert!(std::env::var_os("CELLSYNC_REQUIRE_ROOT_TESTS").is_none(), "{why}");
                eprintln!("NOT TESTED, as it needs root and loop devices: {why}");
                None
            }
        }
    }

    fn try_new(mib: u64) -> Result<Self, String> {
        let dir = tempfile::tempdir().unwrap();
        let disk = Self { dir };
        fs::create_dir(disk.path()).unwrap();
        File::create(disk.image()).unwrap().set_len(mib << 20).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(disk.image()))?;
        disk.mount()?;
        Ok(disk)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    /// The file that contains the disk.
    pub(crate) fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    fn mount(&self) -> Result<(), String> {
        // The journal is committed only when an fsync demands it, so that a missing fsync shows.
        run(Command::new("mount").args(["-o", "loop,commit=300"]).arg(self.image()).arg(self.path()))
    }

    /// Cuts the power.
    pub(crate) fn cut(&self) {
        run(Command::new("perl").args(["-e", SHUT_DOWN]).arg(self.path())).unwrap();
    }

    /// Mounts the disk anew, as a machine does after a power cut.
    pub(crate) fn mount_again(&self) {
        self.unmount();
        self.mount().unwrap();
    }

    /// Unmounts the disk, and waits until the loop device releases the image.
    pub(crate) fn unmount(&self) {
        let is_mounted = || run(Command::new("mountpoint").arg("-q").arg(self.path())).is_ok();
        wait_until("unmounted", || !is_mounted() || run(Command::new("umount").arg(self.path())).is_ok());
    }

    /// Offsets of the blocks of 512 bytes that begin with these bytes, also of those in the journal.
    pub(crate) fn find_blocks(&self, begin: &[u8]) -> Vec<u64> {
        let image = fs::read(self.image()).unwrap();
        let found = (0..).zip(image.chunks(512)).filter(|(_, block)| block.starts_with(begin));
        let found: Vec<_> = found.map(|(n, _)| n * 512).collect();
        assert!(!found.is_empty());
        found
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|e| format!("{name}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// Bytes that the file system of this path would still give to an unprivileged user.
pub(crate) fn free_bytes(path: &Path) -> u64 {
    let disk = rustix::fs::statvfs(path).unwrap();
    disk.f_bavail * disk.f_frsize
}
