//! The log of an unfinished file: which blocks were written to it.
//!
//! # Format
//!
//! Text. After the [first line](super::partial), one JSON object a line for each block, in the order of the blocks from
//! the beginning of the file:
//!
//! ```text
//! {"cellsync-get":1,"manifest":"8f434346648f6b96df89dda901c5176b"}
//! {"index":0,"length":1048576,"crc64":"995dc9bbdf1939fa"}
//! {"index":1,"length":1048576,"crc64":"6c40df5f0b497347"}
//! ```
//!
//! `index` is the number of the block, `length` its bytes, `crc64` its [`BlockChecksum`]. A line is written after its block.
//! Nothing is synced: a get that continues reads each block from the file and compares its checksum, so that it does not
//! matter what a power cut took of the file or of its log. It keeps the blocks up to the first one that is not recorded
//! or not the same, and truncates the log and the file to them.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::client::error::{ClientError, FileAction};
use crate::client::get::partial::{Found, Header, find_header, open_locked};
use crate::id::BLOCK_BYTES;
use crate::pipeline::BlockChecksum;

/// The longest line of a block, in bytes. One that is written has less than 100.
const MAX_LINE_BYTES: u64 = 256;

#[derive(Serialize, Deserialize)]
struct Line {
    index: usize,
    length: usize,
    crc64: String,
}

/// An open log. It is locked, so that two gets of one target do not mix.
#[derive(Debug)]
pub(in crate::client) struct BlockLog {
    path: PathBuf,
    file: File,
    /// The bytes up to the last line that counts.
    end: u64,
}

/// A block that the log has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::client) struct RecordedBlock {
    /// Its length in bytes.
    pub(in crate::client) length: usize,
    pub(in crate::client) checksum: BlockChecksum,
    /// Where its line ends in the log, in bytes.
    line_end: u64,
}

impl BlockLog {
    /// Opens or makes the log, and finds out to which restore it belongs. Changes nothing in it.
    pub(in crate::client) fn open(path: &Path, partial: &Path, header: &Header) -> Result<(Self, Found), ClientError> {
        let file = open_locked(path, partial)?;
        let found = find_header(&file, header).map_err(ClientError::file(FileAction::Read, path))?;
        let end = if let Found::Same { header_bytes } = found { header_bytes } else { 0 };
        Ok((Self { path: path.to_owned(), file, end }, found))
    }

    /// Empties the log and starts it for a new restore.
    pub(in crate::client) fn start(&mut self, header: &Header) -> Result<(), ClientError> {
        self.end = 0;
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.and_then(|_| self.append(&header.line())).map_err(ClientError::file(FileAction::Write, &self.path))
    }

    /// Reads the blocks that the log has from the beginning, up to a line that is damaged or out of order.
    pub(in crate::client) fn blocks(&mut self) -> io::Result<impl Iterator<Item = RecordedBlock>> {
        let (mut reader, mut line_end) = (BufReader::new(self.file.try_clone()?), self.end);
        reader.seek(SeekFrom::Start(line_end))?;
        Ok((0..).map_while(move |number: usize| {
            let mut line = Vec::new();
            // What cannot be read does not count.
            reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line).ok()?;
            let Line { index, length, crc64 } = serde_json::from_slice(line.strip_suffix(b"\n")?).ok()?;
            line_end += line.len() as u64;
            let is_next = index == number && (1..=BLOCK_BYTES).contains(&length);
            Some(RecordedBlock { length, checksum: crc64.parse().ok().filter(|_| is_next)?, line_end })
        }))
    }

    /// Drops the lines after that of `last`, or all of them.
    pub(in crate::client) fn truncate(&mut self, last: Option<RecordedBlock>) -> Result<(), ClientError> {
        self.end = last.map_or(self.end, |last| last.line_end);
        let truncated = self.file.set_len(self.end).and_then(|()| self.file.seek(SeekFrom::Start(self.end)));
        truncated.map(drop).map_err(ClientError::file(FileAction::Write, &self.path))
    }

    /// Records a block that was written.
    pub(in crate::client) fn record(&mut self, index: usize, length: usize, checksum: BlockChecksum) -> io::Result<()> {
        let line = serde_json::to_string(&Line { index, length, crc64: checksum.to_string() })?;
        self.append(&(line + "\n"))
    }

    fn append(&mut self, line: &str) -> io::Result<()> {
        self.file.write_all(line.as_bytes())?;
        self.end += line.len() as u64;
        Ok(())
    }

    /// Removes the log. Errors are ignored: without its file, it means nothing.
    pub(in crate::client) fn remove(&self) {
        drop(fs::remove_file(&self.path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::{Key, ManifestHash};

    fn checksum(number: usize) -> BlockChecksum {
        BlockChecksum::of(&number.to_le_bytes())
    }

    struct Fixture {
        folder: tempfile::TempDir,
        header: Header,
    }

    impl Fixture {
        fn new() -> Self {
            let key = Key::generate();
            let header = Header::new(ManifestHash::of(&[], &key), None);
            Self { folder: tempfile::tempdir().unwrap(), header }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("f.cellsync-part.log")
        }

        fn open(&self) -> (BlockLog, Found) {
            BlockLog::open(&self.path(), Path::new("f"), &self.header).unwrap()
        }

        /// A log with blocks of these lengths.
        fn write(&self, lengths: &[usize]) {
            let (mut log, found) = self.open();
            assert_eq!(found, Found::Nothing);
            log.start(&self.header).unwrap();
            for (number, &length) in lengths.iter().enumerate() {
                log.record(number, length, checksum(number)).unwrap();
            }
        }

        fn lengths(&self) -> Vec<usize> {
            let (mut log, found) = self.open();
            assert!(matches!(found, Found::Same { .. }));
            let blocks: Vec<_> = log.blocks().unwrap().collect();
            assert!(blocks.iter().enumerate().all(|(number, block)| block.checksum == checksum(number)));
            blocks.iter().map(|block| block.length).collect()
        }
    }

    #[test]
    fn a_log_continues_behind_the_block_that_is_kept() {
        let fixture = Fixture::new();
        fixture.write(&[BLOCK_BYTES, 7, BLOCK_BYTES, 1]);
        assert_eq!(fixture.lengths(), [BLOCK_BYTES, 7, BLOCK_BYTES, 1]);
        for kept in [3, 1, 0] {
            let (mut log, _) = fixture.open();
            let last = log.blocks().unwrap().take(kept).last();
            log.truncate(last).unwrap();
            log.record(kept, 9, checksum(kept)).unwrap();
            drop(log);
            let lengths = fixture.lengths();
            assert_eq!((lengths.len(), lengths.last()), (kept + 1, Some(&9)));
        }
    }

    #[test]
    fn lines_count_up_to_one_that_is_damaged() {
        type Damage = (&'static str, fn(&mut String));
        let damages: [Damage; 7] = [
            ("an incomplete line", |text| text.truncate(text.len() - 3)),
            ("no line end", |text| text.truncate(text.len() - 1)),
            ("zeros", |text| *text = text.replace("\"index\":2", "\0\0\0\0\0\0\0\0\0")),
            ("another index", |text| *text = text.replace("\"index\":2", "\"index\":3")),
            ("no length", |text| *text = text.replace("{\"index\":2,\"length\":3", "{\"index\":2,\"length\":0")),
            ("too long", |text| *text = text.replace("\"length\":3", "\"length\":1048577")),
            ("a line of any length", |text| {
                *text = text.replace("{\"index\":2", &(" ".repeat(100_000) + "{\"index\":2"));
            }),
        ];
        for (what, damage) in damages {
            let fixture = Fixture::new();
            fixture.write(&[1, 2, 3]);
            let mut text = fs::read_to_string(fixture.path()).unwrap();
            damage(&mut text);
            fs::write(fixture.path(), text).unwrap();
            assert_eq!(fixture.lengths(), [1, 2], "{what}");
        }
    }

    #[test]
    fn the_log_is_private_and_locked() {
        let fixture = Fixture::new();
        fixture.write(&[1]);
        let (log, _) = fixture.open();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(fixture.path()).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let second = BlockLog::open(&fixture.path(), Path::new("f"), &fixture.header);
        assert!(matches!(second, Err(ClientError::RestoreInUse { .. })));
        log.remove();
        assert!(!fixture.path().exists());
    }
}
