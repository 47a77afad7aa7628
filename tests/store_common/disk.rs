//! Small real disks: ext4 in a file on a loop device.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::until;

/// `EXT4_IOC_SHUTDOWN` (linux/fs/ext4/ext4.h) with `EXT4_GOING_FLAGS_NOLOGFLUSH`: from now on nothing reaches the
/// disk, and what was not fsynced is lost. Through perl, as an ioctl is unsafe code.
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
        // Whatever holds it open is killed by its own guard by now; the loop device goes with the mount.
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).output();
    }
}

impl Disk {
    /// A new disk of this many MiB, or `None` with a word on standard error where this machine does not let us.
    /// `CELLSYNC_REQUIRE_ROOT_TESTS=1` makes that a failure.
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
        std::fs::create_dir(disk.path()).unwrap();
        File::create(disk.image()).unwrap().set_len(mib << 20).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(disk.image()))?;
        disk.mount()?;
        Ok(disk)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    /// The file that the disk is in.
    pub(crate) fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    fn mount(&self) -> Result<(), String> {
        // No commit of the journal but when an fsync asks for it, so that a missing one shows.
        run(Command::new("mount").args(["-o", "loop,commit=300"]).arg(self.image()).arg(self.path()))
    }

    /// Takes the power away.
    pub(crate) fn cut(&self) {
        run(Command::new("perl").args(["-e", SHUT_DOWN]).arg(self.path())).unwrap();
    }

    /// Unmounts, if it is mounted, and mounts, as a machine does that comes up again.
    pub(crate) fn mount_again(&self) {
        self.unmount();
        self.mount().unwrap();
    }

    /// Also waits until the loop device lets go of the image.
    pub(crate) fn unmount(&self) {
        let mounted = || run(Command::new("mountpoint").arg("-q").arg(self.path())).is_ok();
        until("unmounting", || !mounted() || run(Command::new("umount").arg(self.path())).is_ok());
    }

    /// Where on the disk blocks of 512 bytes begin with this, also those in the journal.
    pub(crate) fn find_blocks(&self, begin: &[u8]) -> Vec<u64> {
        let image = std::fs::read(self.image()).unwrap();
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

/// Bytes that the file system of this path would still give.
pub(crate) fn free_bytes(path: &Path) -> u64 {
    let disk = rustix::fs::statvfs(path).unwrap();
    disk.f_bavail * disk.f_frsize
}
