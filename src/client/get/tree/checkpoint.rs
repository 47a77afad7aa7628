//! A checkpoint: how far an archive was restored, so that another get continues there.
//!
//! It is one line of JSON. Entries are in it as the bytes of their headers in an archive, numbers are in bytes:
//!
//! | key | value |
//! |---|---|
//! | `sequence` | a number that grows with each checkpoint; its last bit selects the file |
//! | `boot` | the id of the boot of the machine (`/proc/sys/kernel/random/boot_id`) |
//! | `block`, `block_start` | the number of a block of the manifest, and where it begins in the stream |
//! | `offset` | the position in the stream that the restore had reached, in this block or after it |
//! | `file` | the entry of an unfinished file, how many bytes of its data are in it, and their CRC-64; else null |
//! | `levels` | the directories that are open, from the root down: the name, and what the directory gets when it is left |
//! | `root` | the entry of the root, if the archive has had it |
//! | `entries`, `omissions` | the parts of these files that count (see `record_log`) |
//! | `without_attributes` | entries whose attributes were not to be restored |
//! | `complete` | whether everything is restored, and only has to get to its final place |
//!
//! The second line is the [`BlockHash`] of the first one, without its end, under the manifest's key.

use serde::{Deserialize, Serialize};

use crate::archive::{Decoder, Entry, header};
use crate::client::get::tree::record_log::LogEnd;
use crate::pipeline::{BlockHash, Key};

/// The largest checkpoint in bytes. An entry with more attributes has none.
pub(super) const MAX_CHECKPOINT_BYTES: u64 = 4 << 20;

/// The files of the last two checkpoints.
pub(super) const CHECKPOINTS: [&str; 2] = ["checkpoint.0", "checkpoint.1"];

/// The file of the last checkpoint of which everything is on the disk.
pub(super) const SYNCED: &str = "checkpoint.synced";

/// How far an archive was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    pub(super) sequence: u64,
    pub(super) boot: String,
    pub(super) block: usize,
    pub(super) block_start: u64,
    pub(super) offset: u64,
    pub(super) file: Option<UnfinishedFile>,
    pub(super) levels: Vec<SavedLevel>,
    pub(super) root: Option<SavedEntry>,
    pub(super) entries: LogEnd,
    pub(super) omissions: LogEnd,
    pub(super) without_attributes: usize,
    #[serde(rename = "complete")]
    pub(super) is_complete: bool,
}

/// A file in the middle of which a checkpoint was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct UnfinishedFile {
    pub(super) entry: SavedEntry,
    /// Bytes of its data in the stream that are in the file.
    pub(super) done: u64,
    /// Their [`BlockChecksum`](crate::pipeline::BlockChecksum).
    pub(super) crc64: String,
}

/// An open directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedLevel {
    pub(super) name: Vec<u8>,
    pub(super) leave: SavedLeave,
}

/// What an open directory gets when it is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum SavedLeave {
    Entry(SavedEntry),
    Time { seconds: i64, nanoseconds: u32 },
    Nothing,
}

/// The bytes of an entry's header in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedEntry(Vec<u8>);

impl SavedEntry {
    /// `None` if this program cannot write the entry: another one made the archive.
    pub(super) fn of(entry: &Entry) -> Option<Self> {
        header(entry).ok().map(Self)
    }

    pub(super) fn entry(&self) -> Option<Entry> {
        Decoder::new(&self.0[..]).next_entry().ok().flatten()
    }
}

impl Checkpoint {
    /// Both lines.
    pub(super) fn to_bytes(&self, key: &Key) -> Vec<u8> {
        let line = serde_json::to_string(self).unwrap_or_default();
        let hash = BlockHash::of(line.as_bytes(), key);
        format!("{line}\n{hash}\n").into_bytes()
    }

    /// Reads both lines; `None` if they are damaged. What follows them is ignored.
    pub(super) fn from_bytes(bytes: &[u8], key: &Key) -> Option<Self> {
        let mut lines = bytes.split(|&byte| byte == b'\n');
        let (line, hash) = (lines.next()?, lines.next()?);
        // An incomplete last line has no end.
        lines.next()?;
        let hash: BlockHash = str::from_utf8(hash).ok()?.parse().ok()?;
        if BlockHash::of(line, key) != hash {
            return None;
        }
        serde_json::from_slice(line).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{Kind, Owner, Timestamp};

    fn checkpoint() -> Checkpoint {
        let entry = Entry {
            path: b"d/\xff\n".to_vec(),
            kind: Kind::File { size: 5 << 20, extents: None },
            mode: 0o4750,
            user: Owner { id: 3_000_000_000, name: Some("ada".to_owned()) },
            group: Owner::default(),
            modified: Timestamp { seconds: -5, nanoseconds: 7 },
            xattrs: vec![(b"user.a=b".to_vec(), b"\0\n".to_vec())],
            access_acl: Some("user::rw-,group::r--,other::---".to_owned()),
            default_acl: None,
        };
        let saved = SavedEntry::of(&entry).unwrap();
        assert_eq!(saved.entry(), Some(entry));
        Checkpoint {
            sequence: 7,
            boot: "b".to_owned(),
            block: 3,
            block_start: 3 << 20,
            offset: (3 << 20) + 5,
            file: Some(UnfinishedFile { entry: saved.clone(), done: 4096, crc64: "00".to_owned() }),
            levels: vec![
                SavedLevel { name: b"\xff".to_vec(), leave: SavedLeave::Entry(saved) },
                SavedLevel { name: b"t".to_vec(), leave: SavedLeave::Time { seconds: -1, nanoseconds: 9 } },
                SavedLevel { name: b"n".to_vec(), leave: SavedLeave::Nothing },
            ],
            root: None,
            entries: LogEnd::default(),
            omissions: LogEnd::default(),
            without_attributes: 2,
            is_complete: true,
        }
    }

    #[test]
    fn a_checkpoint_comes_back_and_a_damaged_one_does_not() {
        let (checkpoint, key) = (checkpoint(), Key::generate());
        let bytes = checkpoint.to_bytes(&key);
        assert_eq!(Checkpoint::from_bytes(&bytes, &key), Some(checkpoint.clone()));
        assert_eq!(Checkpoint::from_bytes(&[&bytes, &b"rest of a longer one"[..]].concat(), &key), Some(checkpoint));
        assert_eq!(Checkpoint::from_bytes(&bytes, &Key::generate()), None);
        for length in (0..bytes.len()).step_by(7).chain([bytes.len() - 1]) {
            assert_eq!(Checkpoint::from_bytes(&bytes[..length], &key), None, "{length}");
        }
        for position in (0..bytes.len() - 1).step_by(11) {
            let mut damaged = bytes.clone();
            damaged[position] ^= 4;
            assert_eq!(Checkpoint::from_bytes(&damaged, &key), None, "{position}");
        }
    }
}
