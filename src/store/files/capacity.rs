//! The capacity of a store: counts of what it holds, and how much more it accepts within the reserve and the quota.
//!
//! ```text
//! free space of the disk (statvfs: f_bavail × f_frsize)
//! ├─ reserve      kept free for others
//! ├─ ballast      4 MiB, while its file does not exist
//! ├─ in flight    puts in progress
//! └─ free_bytes   what a further chunk may take, also bounded by quota − bytes stored − in flight − quarantine
//! ```
//!
//! It is 0 on a disk without free inodes, and on one that cannot be written to.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{StatVfs, StatVfsMountFlags};

use crate::store::contract::{StoreError, Usage};
use crate::sync::lock;

const BALLAST: &str = "ballast";

/// Enough for the catalogue to open, write and compact itself: eight of sled's segments (512 KiB each).
const BALLAST_BYTES: u64 = 4 << 20;

/// With less than this available, the ballast is released before the catalogue opens.
const CATALOGUE_OPEN_BYTES: u64 = BALLAST_BYTES / 2;

/// With less than this available, the catalogue is neither opened nor written: on a full disk sled fails, panics or
/// hangs.
const CATALOGUE_MIN_BYTES: u64 = BALLAST_BYTES / 4;

/// The default reserve is the smaller of this and `1 / RESERVE_SHARE` of the disk.
const RESERVE_MAX_BYTES: u64 = 1 << 30;
const RESERVE_SHARE: u64 = 20;

/// Files occupy whole blocks. Nearly every file system uses this size.
const BLOCK_BYTES: u64 = 4096;

/// With fewer free inodes the disk is full: a put needs one, as do the store's own files. File systems without a fixed
/// number of them report none in total.
const MIN_INODES: u64 = 64;

/// What one shard folder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ShardUsage {
    pub(super) chunks: u64,
    pub(super) bytes: u64,
}

/// The store's account of its disk.
pub(super) struct Capacity {
    root: PathBuf,
    reserve_bytes: Option<u64>,
    quota_bytes: Option<u64>,
    counters: Mutex<Counters>,
    /// A disk that cannot be written to is only read, until a trial succeeds (`DataFolder::try_writing`).
    is_read_only: AtomicBool,
    /// An operation failed as on a disk that cannot be written to. Only a trial tells.
    is_in_doubt: AtomicBool,
}

#[derive(Default)]
struct Counters {
    chunks: u64,
    bytes: u64,
    /// Bytes of puts in progress.
    in_flight_bytes: u64,
    /// Bytes in quarantine.
    quarantined_bytes: u64,
    counted: bool,
    has_ballast: bool,
}

/// Bytes set aside for a put in progress, until dropped.
pub(super) struct Allocation<'a> {
    capacity: &'a Capacity,
    len: u64,
}

impl Drop for Allocation<'_> {
    fn drop(&mut self) {
        let mut counters = lock(&self.capacity.counters);
        counters.in_flight_bytes = counters.in_flight_bytes.saturating_sub(self.len);
    }
}

impl Capacity {
    pub(super) fn new(root: &Path, reserve_bytes: Option<u64>, quota_bytes: Option<u64>) -> Self {
        Self {
            root: root.to_owned(),
            reserve_bytes,
            quota_bytes,
            counters: Mutex::default(),
            is_read_only: AtomicBool::new(false),
            is_in_doubt: AtomicBool::new(false),
        }
    }

    /// Whether the disk is only read.
    pub(super) fn is_read_only(&self) -> bool {
        self.is_read_only.load(Ordering::SeqCst)
    }

    /// The disk failed in a way that can mean that it cannot be written to.
    pub(super) fn doubt_writing(&self) {
        self.is_in_doubt.store(true, Ordering::SeqCst);
    }

    /// Whether a trial must tell if the disk can be written to.
    pub(super) fn needs_trial(&self) -> bool {
        self.is_read_only() || self.is_in_doubt.load(Ordering::SeqCst)
    }

    /// Before a trial.
    pub(super) fn end_doubt(&self) {
        self.is_in_doubt.store(false, Ordering::SeqCst);
    }

    pub(super) fn set_read_only(&self, why: &dyn fmt::Display) {
        if !self.is_read_only.swap(true, Ordering::SeqCst) {
            let root = self.root.display();
            log::error!("{root} cannot be written to, so this cell only serves what it has: {why}; check the disk");
        }
    }

    pub(super) fn set_writable(&self) {
        if self.is_read_only.swap(false, Ordering::SeqCst) {
            log::info!("{} can be written to again", self.root.display());
        }
    }

    /// Fails if the disk is only read.
    pub(super) fn ensure_writable(&self) -> Result<(), StoreError> {
        self.statvfs();
        if self.is_read_only() { Err(self.read_only()) } else { Ok(()) }
    }

    pub(super) fn read_only(&self) -> StoreError {
        StoreError::ReadOnly { path: self.root.clone() }
    }

    /// Asks the disk how full it is, and whether it is mounted read-only.
    fn statvfs(&self) -> Option<StatVfs> {
        let disk = rustix::fs::statvfs(&self.root).ok()?;
        if disk.f_flag.contains(StatVfsMountFlags::RDONLY) {
            self.set_read_only(&"it is mounted read-only");
        }
        Some(disk)
    }

    /// Sets `len` bytes aside, if they fit within the reserve and the quota beside all other puts in progress. `released`
    /// bytes count as free: their room is released when the put has succeeded.
    pub(super) fn allocate(&self, len: u64, released: u64) -> Result<Allocation<'_>, StoreError> {
        let mut counters = lock(&self.counters);
        if self.quota_bytes.is_some() && !counters.counted {
            return Err(StoreError::Counting);
        }
        let disk_free = self.disk_free_bytes(&counters).saturating_add(released);
        let quota_free = self.quota_free_bytes(&counters).saturating_add(released);
        if len.next_multiple_of(BLOCK_BYTES) > disk_free || len > quota_free {
            return Err(StoreError::NoRoom { needed_bytes: len, free_bytes: disk_free.min(quota_free) });
        }
        counters.in_flight_bytes += len;
        Ok(Allocation { capacity: self, len })
    }

    pub(super) fn usage(&self) -> Usage {
        let counters = lock(&self.counters);
        let free_bytes = self.disk_free_bytes(&counters).min(self.quota_free_bytes(&counters));
        let (chunks, bytes, counted) = (counters.chunks, counters.bytes, counters.counted);
        Usage { chunks, bytes, free_bytes, counted, read_only: self.is_read_only() }
    }

    /// Corrects the totals: a shard that was accounted with `before` holds `after`.
    pub(super) fn correct(&self, before: ShardUsage, after: ShardUsage) {
        let mut counters = lock(&self.counters);
        counters.chunks = (counters.chunks + after.chunks).saturating_sub(before.chunks);
        counters.bytes = (counters.bytes + after.bytes).saturating_sub(before.bytes);
    }

    pub(super) fn set_quarantined(&self, bytes: u64) {
        lock(&self.counters).quarantined_bytes = bytes;
    }

    pub(super) fn set_counted(&self) {
        lock(&self.counters).counted = true;
    }

    pub(super) fn is_counted(&self) -> bool {
        lock(&self.counters).counted
    }

    /// Bytes that the file system would still give to an unprivileged user.
    fn available_bytes(&self) -> u64 {
        self.statvfs().map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    fn disk_free_bytes(&self, counters: &Counters) -> u64 {
        let Some(fs) = self.statvfs() else { return 0 };
        if self.is_read_only() || (fs.f_files > 0 && fs.f_favail < MIN_INODES) {
            return 0;
        }
        let disk_bytes = fs.f_blocks.saturating_mul(fs.f_frsize);
        let reserve = self.reserve_bytes.unwrap_or_else(|| RESERVE_MAX_BYTES.min(disk_bytes / RESERVE_SHARE));
        // Released, the ballast's space belongs to the catalogue and not to chunks.
        let ballast = if counters.has_ballast { 0 } else { BALLAST_BYTES };
        let available = fs.f_bavail.saturating_mul(fs.f_frsize);
        available.saturating_sub(reserve + ballast + counters.in_flight_bytes)
    }

    fn quota_free_bytes(&self, counters: &Counters) -> u64 {
        let used_bytes = counters.bytes + counters.in_flight_bytes + counters.quarantined_bytes;
        self.quota_bytes.map_or(u64::MAX, |quota_bytes| quota_bytes.saturating_sub(used_bytes))
    }

    /// Creates the ballast if it is missing and the disk has room for twice its size.
    pub(super) fn create_ballast(&self) {
        let path = self.root.join(BALLAST);
        let exists = fs::metadata(&path).is_ok_and(|meta| meta.len() >= BALLAST_BYTES);
        let has_ballast = exists || (self.available_bytes() >= 2 * BALLAST_BYTES && Self::try_create_ballast(&path));
        lock(&self.counters).has_ballast = has_ballast;
    }

    fn try_create_ballast(path: &Path) -> bool {
        match write_ballast(path) {
            Ok(()) => true,
            Err(e) => {
                log::warn!("cannot create {}, so a full disk can close the catalogue: {e}", path.display());
                let _ = fs::remove_file(path);
                false
            }
        }
    }

    /// Removes the ballast, so that its space is available to the catalogue and the saved state.
    pub(super) fn release_ballast(&self) {
        let path = self.root.join(BALLAST);
        match fs::remove_file(&path) {
            Ok(()) => log::warn!("{} is full: removed its ballast for the store's own files", self.root.display()),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => log::warn!("cannot remove {}: {e}", path.display()),
        }
        lock(&self.counters).has_ballast = false;
    }

    /// Before the catalogue opens: fails with `StorageFull` if the disk is too full for it even without the ballast, and
    /// with `ReadOnlyFilesystem` if it is only read.
    pub(super) fn ensure_catalogue_can_open(&self) -> io::Result<()> {
        self.ensure_catalogue_space(CATALOGUE_OPEN_BYTES)
    }

    /// Before the catalogue writes: fails as [`Self::ensure_catalogue_can_open`] does.
    pub(super) fn ensure_catalogue_can_write(&self) -> io::Result<()> {
        self.ensure_catalogue_space(CATALOGUE_MIN_BYTES)
    }

    /// Releases the ballast if less than `wanted_bytes` are available.
    fn ensure_catalogue_space(&self, wanted_bytes: u64) -> io::Result<()> {
        let available_bytes = self.available_bytes();
        if self.is_read_only() {
            return Err(ErrorKind::ReadOnlyFilesystem.into());
        }
        if available_bytes < wanted_bytes {
            self.release_ballast();
        }
        if self.available_bytes() < CATALOGUE_MIN_BYTES {
            return Err(ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

fn write_ballast(path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    if rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, BALLAST_BYTES).is_err() {
        // Not every file system can allocate without writing. Zeros could become a hole that holds no space.
        io::copy(&mut io::repeat(0xa5).take(BALLAST_BYTES), &mut file)?;
        file.flush()?;
    }
    file.sync_all()
}
