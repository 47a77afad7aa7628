//! The log of the entries that were restored: how each was when it was complete.
//!
//! Records of a [`RecordLog`], as text:
//!
//! ```text
//!  e MODE UID GID SIZE INODE MTIME.NANOSECONDS CTIME.NANOSECONDS␀PATH
//!  t INODE
//! ```
//!
//! All numbers are decimal; the size of a directory is 0. A directory has its record when it is left, and another one if
//! the archive returns to it. A hard link has one with the inode of its file. `t` means that a get that continues touches
//! the file or directory, which sets a time of change (ctime) that is not in any record.

use std::io;

use rustix::fs::{FileType, Stat};

use crate::client::get::tree::record_log::{LogEnd, RecordLog};

/// The log.
#[derive(Debug)]
pub(super) struct EntryLog {
    /// `None` if the restore cannot be continued anyway.
    log: Option<RecordLog>,
}

/// A record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryRecord<'a> {
    Entry { facts: Facts<'a>, path: &'a [u8] },
    Touched { inode: u64 },
}

/// What is recorded of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts<'a> {
    /// Mode with type, user, group, size.
    pub(super) what: &'a str,
    pub(super) inode: u64,
    /// Time of modification.
    pub(super) modified: &'a str,
    /// Time of change.
    pub(super) changed: &'a str,
}

impl<'a> Facts<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (rest, changed) = text.rsplit_once(' ')?;
        let (rest, modified) = rest.rsplit_once(' ')?;
        let (what, inode) = rest.rsplit_once(' ')?;
        Some(Self { what, inode: inode.parse().ok()?, modified, changed })
    }
}

impl EntryLog {
    pub(super) fn new(log: Option<RecordLog>) -> Self {
        Self { log }
    }

    /// Records an entry that is complete.
    pub(super) fn record(&mut self, path: &[u8], status: &Stat) -> io::Result<()> {
        let Some(log) = &mut self.log else { return Ok(()) };
        log.push(&[b"e ", text(status).as_bytes(), b"\0", path].concat())
    }

    /// Records that a get that continues touches this file or directory.
    pub(super) fn record_touched(&mut self, inode: u64) -> io::Result<()> {
        let Some(log) = &mut self.log else { return Ok(()) };
        log.push(format!("t {inode}").as_bytes())
    }

    pub(super) fn flush(&mut self) -> io::Result<LogEnd> {
        self.log.as_mut().map_or(Ok(LogEnd::default()), RecordLog::flush)
    }
}

/// The facts of an entry as text, from which [`Facts`] are read.
pub(super) fn text(status: &Stat) -> String {
    let is_directory = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
    let size = if is_directory { 0 } else { status.st_size };
    // The types of these fields differ between systems.
    format!(
        "{} {} {} {size} {} {}.{} {}.{}",
        status.st_mode,
        status.st_uid,
        status.st_gid,
        status.st_ino,
        status.st_mtime,
        status.st_mtime_nsec,
        status.st_ctime,
        status.st_ctime_nsec
    )
}

/// Reads the facts in a text.
pub(super) fn facts(text: &str) -> io::Result<Facts<'_>> {
    Facts::parse(text).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Reads a record.
pub(super) fn parse(record: &[u8]) -> io::Result<EntryRecord<'_>> {
    let entry = |bytes: &'static [u8]| record.strip_prefix(bytes);
    let parsed = if let Some(inode) = entry(b"t ") {
        str::from_utf8(inode).ok().and_then(|inode| inode.parse().ok()).map(|inode| EntryRecord::Touched { inode })
    } else {
        entry(b"e ").and_then(|rest| {
            let end = rest.iter().position(|&byte| byte == 0)?;
            let facts = Facts::parse(str::from_utf8(rest.get(..end)?).ok()?)?;
            Some(EntryRecord::Entry { facts, path: rest.get(end + 1..)? })
        })
    };
    parsed.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::os::unix::fs::MetadataExt;

    use rustix::fs::{AtFlags, CWD, statat};

    use super::*;
    use crate::client::get::tree::record_log::read;

    #[test]
    fn records_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let file = OpenOptions::new().create(true).read(true).append(true).open(&path).unwrap();
        let mut log = EntryLog::new(Some(RecordLog::new(file.try_clone().unwrap(), LogEnd::default())));
        let status = statat(CWD, folder.path(), AtFlags::SYMLINK_NOFOLLOW).unwrap();
        log.record(b"d/\n\xff f", &status).unwrap();
        log.record_touched(u64::MAX).unwrap();
        let end = log.flush().unwrap();
        let mut seen = Vec::new();
        let expected = text(&status);
        read(&file, end, |record| {
            seen.push(match parse(record).unwrap() {
                EntryRecord::Entry { facts: recorded, path } => {
                    assert_eq!(recorded, facts(&expected).unwrap());
                    assert_eq!(recorded.inode, fs::metadata(folder.path()).unwrap().ino());
                    path.to_vec()
                }
                EntryRecord::Touched { inode } => inode.to_string().into_bytes(),
            });
            Ok::<(), ()>(())
        })
        .unwrap()
        .unwrap();
        assert_eq!(seen, [b"d/\n\xff f".to_vec(), u64::MAX.to_string().into_bytes()]);
        for damaged in ["", "e 1 2 3\0f", "e 1 2 3 4 5 6.7 8.9", "t", "t x", "e 1 2 3 4 x 6.7 8.9\0f"] {
            assert!(parse(damaged.as_bytes()).is_err(), "{damaged}");
        }
    }
}
