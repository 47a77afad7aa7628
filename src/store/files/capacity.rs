//! How much room there is: the reserve, the quota, what is on its way, and the ballast.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::store::files::locked;
use crate::store::files::shard::Held;
use crate::store::{StoreError, Usage};

const BALLAST: &str = "ballast";

/// Enough for the catalogue to open, write and tidy up: eight of its segments.
pub(super) const BALLAST_BYTES: u64 = 4 << 20;

/// The default reserve is this, or a share of the disk where that is less.
const RESERVE_MAX_BYTES: u64 = 1 << 30;
const RESERVE_SHARE: u64 = 20;

/// Files take whole blocks of the disk; nearly all have this size.
const BLOCK_BYTES: u64 = 4096;

/// The store's account of its disk.
pub(super) struct Room {
    root: PathBuf,
    reserve: Option<u64>,
    quota: Option<u64>,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    chunks: u64,
    bytes: u64,
    /// Bytes of puts that are under way.
    coming: u64,
    counted: bool,
    ballast: bool,
}

/// Bytes set apart for one put, given back when dropped.
pub(super) struct Coming<'a> {
    room: &'a Room,
    len: u64,
}

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        let mut books = locked(&self.room.books);
        books.coming = books.coming.saturating_sub(self.len);
    }
}

impl Room {
    pub(super) fn new(root: &Path, reserve: Option<u64>, quota: Option<u64>) -> Self {
        Self { root: root.to_owned(), reserve, quota, books: Mutex::default() }
    }

    /// Sets `len` bytes apart, if neither the reserve nor the quota is touched by them and all that is coming.
    pub(super) fn claim(&self, len: u64) -> Result<Coming<'_>, StoreError> {
        let mut books = locked(&self.books);
        if self.quota.is_some() && !books.counted {
            return Err(StoreError::Counting);
        }
        let on_disk = self.disk_free(&books);
        let in_quota = self.quota_free(&books);
        if len.next_multiple_of(BLOCK_BYTES) > on_disk || len > in_quota {
            return Err(StoreError::NoRoom { needed: len, free: on_disk.min(in_quota) });
        }
        books.coming += len;
        Ok(Coming { room: self, len })
    }

    pub(super) fn usage(&self) -> Usage {
        let books = locked(&self.books);
        let free_bytes = self.disk_free(&books).min(self.quota_free(&books));
        Usage { chunks: books.chunks, bytes: books.bytes, free_bytes, counted: books.counted }
    }

    /// A folder holds `after` where `before` was thought.
    pub(super) fn correct(&self, before: Held, after: Held) {
        let mut books = locked(&self.books);
        books.chunks = (books.chunks + after.chunks).saturating_sub(before.chunks);
        books.bytes = (books.bytes + after.bytes).saturating_sub(before.bytes);
    }

    pub(super) fn set_counted(&self) {
        locked(&self.books).counted = true;
    }

    pub(super) fn counted(&self) -> bool {
        locked(&self.books).counted
    }

    /// Bytes that the file system would still give to an ordinary user.
    pub(super) fn available(&self) -> u64 {
        rustix::fs::statvfs(&self.root).map_or(0, |fs| fs.f_bavail.saturating_mul(fs.f_frsize))
    }

    fn disk_free(&self, books: &Books) -> u64 {
        let Ok(fs) = rustix::fs::statvfs(&self.root) else { return 0 };
        let size = fs.f_blocks.saturating_mul(fs.f_frsize);
        let reserve = self.reserve.unwrap_or_else(|| RESERVE_MAX_BYTES.min(size / RESERVE_SHARE));
        // While the ballast is given up, its room belongs to the catalogue, not to chunks.
        let ballast = if books.ballast { 0 } else { BALLAST_BYTES };
        fs.f_bavail.saturating_mul(fs.f_frsize).saturating_sub(reserve + ballast + books.coming)
    }

    fn quota_free(&self, books: &Books) -> u64 {
        self.quota.map_or(u64::MAX, |quota| quota.saturating_sub(books.bytes + books.coming))
    }

    /// Makes the ballast where it is missing and the disk has room for twice as much.
    pub(super) fn take_on_ballast(&self) {
        let path = self.root.join(BALLAST);
        let there = fs::metadata(&path).is_ok_and(|meta| meta.len() >= BALLAST_BYTES);
        let made = there || (self.available() >= 2 * BALLAST_BYTES && self.make_ballast(&path));
        locked(&self.books).ballast = made;
    }

    fn make_ballast(&self, path: &Path) -> bool {
        match allocate(path) {
            Ok(()) => true,
            Err(e) => {
                log::warn!("no ballast could be made in {}: {e}", self.root.display());
                let _ = fs::remove_file(path);
                false
            }
        }
    }

    /// Gives the ballast up, so that the catalogue has room on a full disk.
    pub(super) fn drop_ballast(&self) {
        let path = self.root.join(BALLAST);
        match fs::remove_file(&path) {
            Ok(()) => log::warn!("{} is full: its ballast was given up for the catalogue", self.root.display()),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => log::warn!("removing {}: {e}", path.display()),
        }
        locked(&self.books).ballast = false;
    }
}

fn allocate(path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    if rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, BALLAST_BYTES).is_err() {
        // Not every file system can; written bytes hold the room as well, if they are not all zero.
        io::copy(&mut io::Read::take(io::repeat(0xa5), BALLAST_BYTES), &mut file)?;
        file.flush()?;
    }
    file.sync_all()
}
