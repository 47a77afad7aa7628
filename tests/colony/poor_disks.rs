//! Cells on disks that lack something: sockets, room, or the permission to write. A disk that can be read is used.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Command;

use cellsync::id::ChunkId;
use cellsync::wire::beacon::Status;
use cellsync::wire::status::CellStatus;
use tempfile::TempDir;

use crate::harness::{Cell, PoorDisk, UdpPort, random_bytes, request};
use crate::wait::wait_until;

/// A mounted file system, unmounted when dropped.
struct Disk(TempDir);

impl Disk {
    /// A file system in memory, of 64 MiB and 1,000 inodes.
    fn in_memory() -> Option<Self> {
        let disk = Self::new();
        let mounted =
            run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=64m,nr_inodes=1000", "tmpfs"]).arg(disk.path()));
        disk.if_mounted(mounted)
    }

    /// An ext4 in a file, which becomes read-only after an error.
    fn ext4() -> Option<Self> {
        let disk = Self::new();
        let image = disk.0.path().join("image");
        File::create(&image).unwrap().set_len(64 << 20).unwrap();
        let made = run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image));
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop,errors=remount-ro"]).arg(&image).arg(disk.path());
        disk.if_mounted(made.and_then(|_| run(&mut mount)))
    }

    fn new() -> Self {
        let disk = Self(tempfile::tempdir().unwrap());
        fs::create_dir(disk.path()).unwrap();
        disk
    }

    fn if_mounted(self, mounted: Result<String, String>) -> Option<Self> {
        let Err(why) = mounted else { return Some(self) };
        assert!(std::env::var_os("CELLSYNC_REQUIRE_ROOT_TESTS").is_none(), "{why}");
        eprintln!("skipped: cannot mount a file system (it needs root): {why}");
        None
    }

    /// A cell's log is beside its data folder, so it is not on this disk if this is the data folder.
    fn path(&self) -> PathBuf {
        self.0.path().join("disk")
    }

    fn remount(&self, option: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,{option}")]).arg(self.path())).unwrap();
    }

    /// Makes the kernel find an error in an ext4.
    fn cause_error(&self) {
        let device = run(Command::new("findmnt").args(["-n", "-o", "SOURCE"]).arg(self.path())).unwrap();
        let name = device.trim().strip_prefix("/dev/").unwrap();
        fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "test").unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A cell that still uses it is about to be killed by its guard.
        drop(Command::new("umount").arg("--lazy").arg(self.path()).output());
    }
}

/// Runs a command and returns its output, or what it complains about.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn put(cell: &Cell, bytes: &[u8]) -> u16 {
    request(cell.address(), "PUT", &format!("/chunk/{}", ChunkId::of(bytes)), &[], bytes).status
}

fn get(cell: &Cell, bytes: &[u8]) -> bool {
    let response = request(cell.address(), "GET", &format!("/chunk/{}", ChunkId::of(bytes)), &[], &[]);
    response.status == 200 && response.body == bytes
}

/// Whether it is asked for by `/chunks/have` and found.
fn has(cell: &Cell, bytes: &[u8]) -> bool {
    let id = ChunkId::of(bytes).to_string();
    let response = request(cell.address(), "POST", "/chunks/have", &[], id.as_bytes());
    String::from_utf8(response.body).unwrap().trim() == id
}

fn status(cell: &Cell) -> CellStatus {
    serde_json::from_slice(&request(cell.address(), "GET", "/status", &[], &[]).body).unwrap()
}

/// Asserts that a cell serves its only chunk, says so, and accepts neither that nor another one.
fn assert_only_serves(cell: &Cell, stored: &[u8], is_read_only: bool) {
    wait_until("full", || status(cell).beacon.status == Status::Full);
    assert_eq!(status(cell).read_only, is_read_only);
    wait_until("counted", || (status(cell).beacon.chunks, status(cell).beacon.free) == (Some(1), Some(0)));
    assert!(get(cell, stored) && has(cell, stored));
    assert_eq!(put(cell, &random_bytes(99, 50_000)), 507);
    if is_read_only {
        assert_eq!(put(cell, stored), 507);
    }
    assert!(get(cell, stored) && has(cell, stored));
}

/// Goal: a cell on a read-only disk serves what it has, and stores again once it can, without a restart. Method: the
/// disk is remounted while the cell is off, after a clean stop and after a kill, and remounted while it runs.
#[test]
fn a_cell_starts_on_a_read_only_disk_and_recovers() {
    let Some(disk) = Disk::in_memory() else { return };
    let port = UdpPort::free();
    let mut cell = Cell::start(&disk.path(), port.number, &[]);
    let stored = random_bytes(1, 100_000);
    assert_eq!(put(&cell, &stored), 200);
    for round in 2..4 {
        if round == 2 {
            cell.terminate();
            assert_eq!(cell.wait_exit(), Some(0));
        } else {
            cell.kill();
            fs::write(cell.data.join("tmp/0"), "left").unwrap();
        }
        disk.remount("ro");
        cell.restart();
        assert_only_serves(&cell, &stored, true);
        disk.remount("rw");
        wait_until("active", || status(&cell).beacon.status == Status::Active);
        assert!(!status(&cell).read_only);
        assert_eq!(put(&cell, &stored), 200);
        let other = random_bytes(round, 50_000);
        assert_eq!(put(&cell, &other), 200);
        assert!(get(&cell, &stored) && get(&cell, &other));
        fs::remove_file(cell.chunk_file(&ChunkId::of(&other).to_string())).unwrap();
    }
}

/// Goal: a cell goes on serving when the kernel makes its disk read-only, and starts there again. Method: an error that
/// the kernel finds in an ext4.
#[test]
fn a_cell_serves_after_its_disk_became_read_only() {
    let Some(disk) = Disk::ext4() else { return };
    let port = UdpPort::free();
    let mut cell = Cell::start(&disk.path(), port.number, &[]);
    let stored = random_bytes(1, 100_000);
    assert_eq!(put(&cell, &stored), 200);
    disk.cause_error();
    assert_eq!(put(&cell, &random_bytes(2, 1000)), 507);
    assert_only_serves(&cell, &stored, true);
    cell.kill();
    cell.restart();
    assert_only_serves(&cell, &stored, true);
}

/// Goal: a cell on a disk that others have filled starts, serves, and stores again once there is room. Method: takes
/// all bytes, and in another round all inodes, from a running cell.
#[test]
fn a_cell_starts_on_a_full_disk_and_recovers() {
    for takes_inodes in [false, true] {
        let Some(disk) = Disk::in_memory() else { return };
        let port = UdpPort::free();
        let mut cell = Cell::start(&disk.path(), port.number, &[]);
        let stored = random_bytes(1, 100_000);
        assert_eq!(put(&cell, &stored), 200);
        let hog = disk.path().join("hog");
        let take = || {
            fs::create_dir_all(&hog).unwrap();
            if takes_inodes {
                let _ = (0..).try_for_each(|n: u32| File::create(hog.join(n.to_string())).map(drop));
            } else {
                let mut file = File::create(hog.join("bytes")).unwrap();
                io::copy(&mut io::repeat(1), &mut file).unwrap_err();
                file.flush().unwrap();
            }
        };
        take();
        assert_only_serves(&cell, &stored, false);
        cell.kill();
        take();
        cell.restart();
        assert_only_serves(&cell, &stored, false);
        fs::remove_dir_all(&hog).unwrap();
        wait_until("active", || status(&cell).beacon.status == Status::Active);
        assert_eq!(put(&cell, &random_bytes(2, 50_000)), 200);
    }
}

/// Goal: a data folder needs no sockets, links or modes. Method: a cell on such a disk stores a chunk, is killed,
/// stopped and started again.
#[test]
fn a_data_folder_needs_no_sockets() {
    let Some(disk) = PoorDisk::mount() else { return };
    let port = UdpPort::free();
    let mut cell = Cell::start(&disk.path().join("cell"), port.number, &[]);
    let bytes = random_bytes(1, 100_000);
    assert_eq!(put(&cell, &bytes), 200);
    cell.kill();
    cell.restart();
    assert!(get(&cell, &bytes));
    cell.terminate();
    assert_eq!(cell.wait_exit(), Some(0));
    cell.restart();
    assert!(get(&cell, &bytes));
}
