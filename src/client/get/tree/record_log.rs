//! A file to which records are appended, and of which a checkpoint counts the beginning.
//!
//! It is a sequence of frames. Numbers are little-endian:
//!
//! ```text
//!  frame    length of the records in bytes: u32 │ chain: u64 │ records
//!  record   length: u32 │ bytes
//! ```
//!
//! The chain is the CRC-64 of the chain of the frame before (0 at first) and of the records. A checkpoint has the length
//! of the part that counts and the chain of its last frame, so that it vouches for every byte of it.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};

use serde::{Deserialize, Serialize};

use crate::client::get::tree::running_checksum::RunningChecksum;

/// Records in memory that make a frame, in bytes. It bounds the memory; a checkpoint makes a frame of fewer.
const FRAME_BYTES: usize = 1 << 20;

/// The longest record in bytes: some have paths as lists of numbers.
const MAX_RECORD_BYTES: usize = 16 << 20;

/// Length and chain.
const FRAME_HEAD_BYTES: usize = 12;

/// The part of a log that counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LogEnd {
    bytes: u64,
    chain: u64,
}

/// A log in progress.
#[derive(Debug)]
pub(super) struct RecordLog {
    /// Opened for reading and appending.
    file: File,
    end: LogEnd,
    pending: Vec<u8>,
}

impl RecordLog {
    /// Continues a log after `end`. What follows is dropped with [`RecordLog::truncate`].
    pub(super) fn new(file: File, end: LogEnd) -> Self {
        Self { file, end, pending: Vec::new() }
    }

    /// Drops what does not count.
    pub(super) fn truncate(&self) -> io::Result<()> {
        self.file.set_len(self.end.bytes)
    }

    /// Appends a record. It counts for the checkpoint that [`RecordLog::flush`] is called for.
    pub(super) fn push(&mut self, record: &[u8]) -> io::Result<()> {
        if record.len() > MAX_RECORD_BYTES {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.pending.extend(u32::try_from(record.len()).map_err(io::Error::other)?.to_le_bytes());
        self.pending.extend(record);
        if self.pending.len() >= FRAME_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes all records. Returns where the log ends then.
    pub(super) fn flush(&mut self) -> io::Result<LogEnd> {
        if self.pending.is_empty() {
            return Ok(self.end);
        }
        let chain = chain(self.end.chain, &self.pending);
        let mut frame = Vec::with_capacity(FRAME_HEAD_BYTES + self.pending.len());
        frame.extend(u32::try_from(self.pending.len()).map_err(io::Error::other)?.to_le_bytes());
        frame.extend(chain.to_le_bytes());
        frame.append(&mut self.pending);
        self.file.write_all(&frame)?;
        self.end = LogEnd { bytes: self.end.bytes.saturating_add(frame.len() as u64), chain };
        Ok(self.end)
    }
}

/// Reads the records of a log up to `end`, frame by frame. The inner error is of `each`.
pub(super) fn read<E>(
    mut file: &File,
    end: LogEnd,
    mut each: impl FnMut(&[u8]) -> Result<(), E>,
) -> io::Result<Result<(), E>> {
    file.rewind()?;
    let mut reader = BufReader::new(file.take(end.bytes));
    let mut read = LogEnd::default();
    while read.bytes < end.bytes {
        let (mut length, mut stated) = ([0; 4], [0; 8]);
        reader.read_exact(&mut length)?;
        reader.read_exact(&mut stated)?;
        let length = usize::try_from(u32::from_le_bytes(length)).map_err(io::Error::other)?;
        if length > FRAME_BYTES + MAX_RECORD_BYTES + 4 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut records = vec![0; length];
        reader.read_exact(&mut records)?;
        let chain = chain(read.chain, &records);
        if chain.to_le_bytes() != stated {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut rest = &records[..];
        while let Some((record, after)) = split_record(rest) {
            if let Err(error) = each(record) {
                return Ok(Err(error));
            }
            rest = after;
        }
        read = LogEnd { bytes: read.bytes.saturating_add((FRAME_HEAD_BYTES + length) as u64), chain };
    }
    if read == end { Ok(Ok(())) } else { Err(io::ErrorKind::InvalidData.into()) }
}

fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

fn chain(before: u64, records: &[u8]) -> u64 {
    let mut checksum = RunningChecksum::default();
    checksum.add(&before.to_le_bytes());
    checksum.add(records);
    checksum.sum()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::os::unix::fs::FileExt;
    use std::path::{Path, PathBuf};

    use super::*;

    fn open(path: &Path) -> File {
        OpenOptions::new().create(true).read(true).append(true).open(path).unwrap()
    }

    fn records(path: &Path, end: LogEnd) -> io::Result<Vec<Vec<u8>>> {
        let mut records = Vec::new();
        read(&open(path), end, |record| {
            records.push(record.to_vec());
            Ok::<(), ()>(())
        })?
        .unwrap();
        Ok(records)
    }

    fn log() -> (tempfile::TempDir, PathBuf, [LogEnd; 2]) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = RecordLog::new(open(&path), LogEnd::default());
        log.push(b"a").unwrap();
        log.push(b"").unwrap();
        let first = log.flush().unwrap();
        log.push(b"long\0\n").unwrap();
        let second = log.flush().unwrap();
        assert_eq!(log.flush().unwrap(), second, "there is nothing new");
        (folder, path, [first, second])
    }

    #[test]
    fn a_log_comes_back_up_to_its_end() {
        let (_folder, path, [first, second]) = log();
        assert_eq!(records(&path, LogEnd::default()).unwrap(), Vec::<Vec<u8>>::new());
        assert_eq!(records(&path, first).unwrap(), [&b"a"[..], b""]);
        assert_eq!(records(&path, second).unwrap(), [&b"a"[..], b"", b"long\0\n"]);
        // Another continuation takes the place of the second frame.
        let mut log = RecordLog::new(open(&path), first);
        log.truncate().unwrap();
        log.push(b"b").unwrap();
        let other = log.flush().unwrap();
        assert_eq!(records(&path, other).unwrap(), [&b"a"[..], b"", b"b"]);
        assert!(records(&path, second).is_err());
    }

    #[test]
    fn every_changed_byte_of_a_log_is_noticed() {
        let (_folder, path, [_, end]) = log();
        let bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            for bit in [1, 0x40] {
                open(&path).set_len(0).unwrap();
                let mut damaged = bytes.clone();
                damaged[at] ^= bit;
                fs::write(&path, &damaged).unwrap();
                assert!(records(&path, end).is_err(), "byte {at}");
            }
        }
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(records(&path, end).is_err());
    }

    #[test]
    fn many_records_become_frames_of_bounded_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = RecordLog::new(open(&path), LogEnd::default());
        for number in 0..40_u8 {
            log.push(&vec![number; 100_000]).unwrap();
            assert!(log.pending.len() < FRAME_BYTES);
        }
        let end = log.flush().unwrap();
        assert_eq!(records(&path, end).unwrap().len(), 40);
        assert!(log.push(&vec![0; MAX_RECORD_BYTES + 1]).is_err());
        // The file may state any length.
        let mut head = [0; 4];
        open(&path).read_exact_at(&mut head, 0).unwrap();
        fs::write(&path, [0xff; 100]).unwrap();
        assert!(records(&path, end).is_err());
    }
}
