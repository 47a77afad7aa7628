//! The journal of a put: `NAME.manifest.part`, readable only by its user, since it holds the key.
//!
//! ```text
//! {"version":1,"key":"…","source":{"size":…,"modified_ns":…,…}}   the first line of a file's
//! {"version":2,"key":"…","source":"directory"}                    the first line of a directory's
//! {"index":0,"id":"…","hash":"…"}                                 for each block, before its first copy is sent
//! {"tree":0,"id":"…","hash":"…"}                                  the same for a block of the index of a directory
//! {"source":{"size":…,"modified_ns":…,…}}                         the file changed: what follows is of the new one
//! ```
//!
//! The source may change between two puts. So its blocks are recognized one by one, by a keyed hash of their content. The
//! blocks of a file that did not change are not even read.
//!
//! A line states the id under which a block was sealed, not that its copies are stored: that, the cells are asked. So a
//! put can continue from whatever is in the colony, wherever it was interrupted. An incomplete line is ignored.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::client::error::{ClientError, FileAction};
use crate::client::paths::with_suffix;
use crate::client::put::fingerprint::Fingerprint;
use crate::client::put::position::Position;
use crate::client::usage_error::UsageError;
use crate::id::{BLOCK_BYTES, ChunkId};
use crate::pipeline::{BlockHash, Key};

/// The version for files, whose chunks all have the key of the journal.
const FILE_VERSION: u32 = 1;
/// The version for directories, whose chunks have the keys of their positions. Directories had version 1 and one key for
/// all chunks; such a put starts anew.
const DIRECTORY_VERSION: u32 = 2;
/// What every journal begins with.
const FIRST_BYTES: &[u8] = br#"{"version":"#;
/// How far the index of a block can be ahead of the number of blocks in the journal. Sealers finish out of order, but
/// there are fewer of them than this.
const MAX_INDEX_GAP: usize = 256;

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    key: String,
    source: JournalSource,
}

/// What a journal states about the source of its put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(in crate::client) enum JournalSource {
    /// A file. Its blocks are those of the interrupted put if it is unchanged.
    File(Fingerprint),
    /// A directory. Each of its blocks has a hash.
    Directory(DirectoryMark),
}

/// How a journal marks a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::client) enum DirectoryMark {
    Directory,
}

impl JournalSource {
    fn version(&self) -> u32 {
        match self {
            Self::File(_) => FILE_VERSION,
            Self::Directory(DirectoryMark::Directory) => DIRECTORY_VERSION,
        }
    }

    pub(in crate::client) fn directory() -> Self {
        Self::Directory(DirectoryMark::Directory)
    }
}

/// A line after the first.
#[derive(Serialize, Deserialize, Default)]
struct Line {
    /// The position of a block of the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    /// The position of a block of the index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tree: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<ChunkId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    /// The bytes of a block that is not full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    len: Option<usize>,
    /// The file, after a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<JournalSource>,
}

/// A block that was sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::client) struct SealedBlock {
    /// Its position then. Its chunk may have the key of this position.
    pub(in crate::client) position: Position,
    pub(in crate::client) id: ChunkId,
    /// Earlier versions did not record the hashes of files.
    pub(in crate::client) hash: Option<BlockHash>,
    /// Its length in bytes.
    pub(in crate::client) len: usize,
}

impl Line {
    fn of(block: &SealedBlock) -> Self {
        let (index, tree) = match block.position {
            Position::Data(index) => (Some(index), None),
            Position::Index(index) => (None, Some(index)),
        };
        let hash = block.hash.map(|hash| hash.to_string());
        let len = Some(block.len).filter(|len| *len != BLOCK_BYTES);
        Self { index, tree, id: Some(block.id), hash, len, source: None }
    }

    fn sealed_block(&self) -> Option<SealedBlock> {
        let position = match (self.index, self.tree) {
            (Some(index), None) => Position::Data(index),
            (None, Some(index)) => Position::Index(index),
            (Some(_), Some(_)) | (None, None) => return None,
        };
        let hash = self.hash.as_ref().and_then(|hash| hash.parse().ok());
        Some(SealedBlock { position, id: self.id?, hash, len: self.len.unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES) })
    }
}

/// An open journal. It is locked, so that two puts of one file do not mix.
pub(in crate::client) struct Journal {
    path: PathBuf,
    file: File,
}

/// What the journal has of an interrupted put.
pub(in crate::client) struct InterruptedPut {
    pub(in crate::client) key: Key,
    /// Chunk ids by the position of their block, if the source is a file that did not change.
    pub(in crate::client) unchanged: BTreeMap<usize, ChunkId>,
    /// All other blocks. Their chunks are used where the source has the same block.
    pub(in crate::client) others: Vec<SealedBlock>,
    /// Is the source a file that changed since the last line?
    pub(in crate::client) has_changed: bool,
}

/// The path of the journal of this manifest.
pub(in crate::client) fn journal_path(manifest: &Path) -> PathBuf {
    with_suffix(manifest, ".part")
}

impl Journal {
    /// Opens the journal of a manifest, or makes one. Returns with it the interrupted put of the same source, if it has
    /// one.
    pub(in crate::client) fn open(
        manifest: &Path,
        source: &JournalSource,
    ) -> Result<(Self, Option<InterruptedPut>), ClientError> {
        let path = journal_path(manifest);
        if fs::symlink_metadata(&path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(UsageError::JournalNotRegular { path }.into());
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let write_error = |error| ClientError::file(FileAction::Write, &path)(error);
        let file = options.open(&path).map_err(write_error)?;
        check_is_journal(&file, &path)?;
        // One that existed may be readable by others.
        #[cfg(unix)]
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600)).map_err(write_error)?;
        // Not every file system can lock. On one that cannot, the user must see to it.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(ClientError::JournalInUse { path });
        }
        let mut journal = Self { path, file };
        let interrupted = journal.read(source)?;
        Ok((journal, interrupted))
    }

    fn read(&mut self, source: &JournalSource) -> Result<Option<InterruptedPut>, ClientError> {
        let read_error = ClientError::file(FileAction::Read, &self.path);
        self.file.seek(SeekFrom::Start(0)).map_err(read_error)?;
        // After a power cut, lines may be any bytes.
        let mut lines = BufReader::new(&mut self.file).split(b'\n');
        let Some(header) = lines.next() else { return Ok(None) };
        let header = header.map_err(ClientError::file(FileAction::Read, &self.path))?;
        let Ok(header) = serde_json::from_slice::<Header>(&header) else { return Ok(None) };
        if header.version != FILE_VERSION && header.version != DIRECTORY_VERSION {
            return Err(UsageError::JournalVersion { path: self.path.clone() }.into());
        }
        if header.version != header.source.version() {
            return Ok(None);
        }
        let Ok(key) = header.key.parse() else { return Ok(None) };
        let mut recorded = header.source;
        let mut blocks: BTreeMap<Position, SealedBlock> = BTreeMap::new();
        let mut others = Vec::new();
        for line in lines {
            let line = line.map_err(ClientError::file(FileAction::Read, &self.path))?;
            let Ok(line) = serde_json::from_slice::<Line>(&line) else { continue };
            if let Some(changed) = line.source {
                recorded = changed;
                others.extend(std::mem::take(&mut blocks).into_values());
            }
            if let Some(block) = line.sealed_block() {
                others.extend(blocks.insert(block.position, block));
            }
        }
        let (unchanged, has_changed) = match (source, recorded) {
            (JournalSource::File(now), JournalSource::File(recorded)) if now.matches(&recorded) => {
                (without_gaps(std::mem::take(&mut blocks)), false)
            }
            (JournalSource::File(_), JournalSource::File(_)) => (BTreeMap::new(), true),
            (JournalSource::Directory(_), JournalSource::Directory(_)) => (BTreeMap::new(), false),
            (JournalSource::File(_), JournalSource::Directory(_))
            | (JournalSource::Directory(_), JournalSource::File(_)) => return Ok(None),
        };
        others.extend(blocks.into_values());
        others.retain(|block| block.hash.is_some());
        if has_changed && others.is_empty() {
            return Ok(None);
        }
        Ok(Some(InterruptedPut { key, unchanged, others, has_changed }))
    }

    /// Empties the journal and starts it for a new put.
    pub(in crate::client) fn start(&mut self, key: &Key, source: &JournalSource) -> Result<(), ClientError> {
        let header = Header { version: source.version(), key: key.to_text(), source: *source };
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        let written = emptied.and_then(|_| self.file.write_all(json_line(&header).as_bytes()));
        written.map_err(ClientError::file(FileAction::Write, &self.path))
    }

    /// Continues behind what the journal has. None of it is written again, so that an interruption now loses nothing.
    /// `changed` is the file if it has changed.
    pub(in crate::client) fn resume(&mut self, changed: Option<&JournalSource>) -> Result<(), ClientError> {
        // The line break ends an incomplete line. Otherwise it makes an empty one, which is ignored.
        let line = |source: &JournalSource| json_line(&Line { source: Some(*source), ..Line::default() });
        let text = format!("\n{}", changed.map(line).unwrap_or_default());
        let written = self.file.seek(SeekFrom::End(0)).and_then(|_| self.file.write_all(text.as_bytes()));
        written.map_err(ClientError::file(FileAction::Write, &self.path))
    }

    /// Records a block that was sealed. Must be called before the first copy of its chunk is sent.
    pub(in crate::client) fn record(&mut self, block: &SealedBlock) -> Result<(), ClientError> {
        self.file
            .write_all(json_line(&Line::of(block)).as_bytes())
            .map_err(ClientError::file(FileAction::Write, &self.path))
    }

    /// Removes the journal after its manifest was written.
    pub(in crate::client) fn remove(self) -> Result<(), ClientError> {
        fs::remove_file(&self.path).map_err(ClientError::file(FileAction::Remove, &self.path))
    }
}

/// Fails if this is a file of something else, which must not be overwritten. An empty file is no journal yet, and after a
/// power cut the first line may be incomplete.
fn check_is_journal(file: &File, path: &Path) -> Result<(), ClientError> {
    let mut start = Vec::new();
    let read = file.take(FIRST_BYTES.len() as u64).read_to_end(&mut start);
    read.map_err(ClientError::file(FileAction::Read, path))?;
    if FIRST_BYTES.starts_with(&start) { Ok(()) } else { Err(UsageError::NotAJournal { path: path.to_owned() }.into()) }
}

/// The chunks of a file by their positions. Blocks are sealed nearly in order: a position far beyond all others is not from
/// a put.
fn without_gaps(blocks: BTreeMap<Position, SealedBlock>) -> BTreeMap<usize, ChunkId> {
    let end = blocks.len() + MAX_INDEX_GAP;
    let ids = blocks.into_values().filter_map(|block| match block.position {
        Position::Data(index) => Some((index, block.id)),
        Position::Index(_) => None,
    });
    ids.filter(|(index, _)| *index < end).collect()
}

fn json_line(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        dir: tempfile::TempDir,
        source: JournalSource,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("f"), b"x").unwrap();
            let metadata = fs::metadata(dir.path().join("f")).unwrap();
            let source = JournalSource::File(Fingerprint::of_file(&metadata));
            Self { dir, source }
        }

        fn manifest(&self) -> PathBuf {
            self.dir.path().join("f.manifest")
        }
    }

    fn block(position: Position, id: &[u8], hash: Option<BlockHash>) -> SealedBlock {
        SealedBlock { position, id: ChunkId::of(id), hash, len: BLOCK_BYTES }
    }

    #[test]
    fn records_survive_an_interruption_and_incomplete_lines_do_not() {
        let fixture = Fixture::new();
        let key = Key::generate();
        let (mut journal, interrupted) = Journal::open(&fixture.manifest(), &fixture.source).unwrap();
        assert!(interrupted.is_none());
        journal.start(&key, &fixture.source).unwrap();
        let ids = [ChunkId::of(b"0"), ChunkId::of(b"1"), ChunkId::of(b"again")];
        journal.record(&block(Position::Data(0), b"0", None)).unwrap();
        journal.record(&block(Position::Data(1), b"1", None)).unwrap();
        journal.record(&block(Position::Data(0), b"again", None)).unwrap();
        journal.file.write_all(br#"{"index":2,"id":"00"#).unwrap();
        drop(journal);
        let (mut journal, interrupted) = Journal::open(&fixture.manifest(), &fixture.source).unwrap();
        let interrupted = interrupted.unwrap();
        assert_eq!(interrupted.key.to_text(), key.to_text());
        let expected = BTreeMap::from([(0, ids[2]), (1, ids[1])]);
        assert_eq!(interrupted.unchanged, expected, "a later line replaces an earlier one");

        journal.resume(None).unwrap();
        journal.record(&block(Position::Data(1_000_000_000_000), b"1", None)).unwrap();
        journal.record(&block(Position::Data(3), b"1", None)).unwrap();
        drop(journal);
        let (_, interrupted) = Journal::open(&fixture.manifest(), &fixture.source).unwrap();
        let interrupted = interrupted.unwrap();
        assert_eq!(interrupted.unchanged, BTreeMap::from([(0, ids[2]), (1, ids[1]), (3, ids[1])]));
        assert!(interrupted.others.is_empty() && !interrupted.has_changed);
    }

    /// Goal: no block of a changed file is used without its hash. Method: a file changes twice, the second time back.
    #[test]
    fn blocks_of_a_changed_file_have_to_be_compared() {
        let fixture = Fixture::new();
        let JournalSource::File(mut other) = fixture.source else { panic!("not a file") };
        other.size = 2;
        let changed = JournalSource::File(other);
        let key = Key::generate();
        let open = |source| Journal::open(&fixture.manifest(), source).unwrap();
        let hashed = |number: usize, text: &[u8]| block(Position::Data(number), text, Some(BlockHash::of(text, &key)));
        let mut journal = open(&fixture.source).0;
        journal.start(&key, &fixture.source).unwrap();
        for known in [hashed(0, b"a"), hashed(1, b"b"), block(Position::Data(2), b"without a hash", None)] {
            journal.record(&known).unwrap();
        }
        drop(journal);

        let (mut journal, interrupted) = open(&changed);
        let interrupted = interrupted.unwrap();
        assert!(interrupted.has_changed && interrupted.unchanged.is_empty());
        assert_eq!(interrupted.others, [hashed(0, b"a"), hashed(1, b"b")]);
        journal.resume(Some(&changed)).unwrap();
        journal.record(&hashed(0, b"new")).unwrap();
        drop(journal);

        let (journal, interrupted) = open(&changed);
        let interrupted = interrupted.unwrap();
        assert_eq!(interrupted.unchanged, BTreeMap::from([(0, ChunkId::of(b"new"))]));
        assert_eq!(interrupted.others, [hashed(0, b"a"), hashed(1, b"b")]);
        assert!(!interrupted.has_changed);
        drop(journal);
        let interrupted = open(&fixture.source).1.unwrap();
        assert!(interrupted.has_changed && interrupted.unchanged.is_empty());
        assert_eq!(interrupted.others.len(), 3);
    }

    #[test]
    fn the_journal_of_another_source_is_ignored() {
        let fixture = Fixture::new();
        let (mut journal, _) = Journal::open(&fixture.manifest(), &fixture.source).unwrap();
        journal.start(&Key::generate(), &fixture.source).unwrap();
        drop(journal);
        let JournalSource::File(mut other) = fixture.source else { panic!("not a file") };
        other.size = 2;
        for other in [JournalSource::File(other), JournalSource::directory()] {
            assert!(Journal::open(&fixture.manifest(), &other).unwrap().1.is_none());
        }
    }

    #[test]
    fn the_journal_of_a_directory_has_the_hash_of_each_block() {
        let (fixture, source) = (Fixture::new(), JournalSource::directory());
        let (mut journal, _) = Journal::open(&fixture.manifest(), &source).unwrap();
        let key = Key::generate();
        journal.start(&key, &source).unwrap();
        let hash = BlockHash::of(b"block", &key);
        let mut blocks = [Position::Data(0), Position::Data(1), Position::Index(1), Position::Data(1)]
            .map(|position| block(position, b"chunk", Some(hash)));
        blocks[3].len = 7;
        for block in &blocks {
            journal.record(block).unwrap();
        }
        drop(journal);
        let (_, interrupted) = Journal::open(&fixture.manifest(), &source).unwrap();
        let interrupted = interrupted.unwrap();
        assert!(interrupted.unchanged.is_empty() && !interrupted.has_changed);
        assert_eq!(interrupted.others.len(), 4);
        assert!(blocks.iter().all(|block| interrupted.others.contains(block)), "also those of the same position");
        let text = fs::read_to_string(journal_path(&fixture.manifest())).unwrap();
        assert!(text.starts_with("{\"version\":2,"), "earlier programs must refuse it");
        assert!(Journal::open(&fixture.manifest(), &fixture.source).unwrap().1.is_none());
    }

    /// Chunks of a directory had the key of the journal in version 1, and other blocks.
    #[test]
    fn the_journal_of_a_directory_of_version_1_is_not_resumed() {
        let fixture = Fixture::new();
        let key = Key::generate();
        let id = ChunkId::of(b"chunk");
        let text = format!(
            "{{\"version\":1,\"key\":\"{}\",\"source\":\"directory\"}}\n\
             {{\"index\":0,\"id\":\"{id}\",\"hash\":\"{}\"}}\n",
            key.to_text(),
            BlockHash::of(b"block", &key)
        );
        fs::write(journal_path(&fixture.manifest()), text).unwrap();
        assert!(Journal::open(&fixture.manifest(), &JournalSource::directory()).unwrap().1.is_none());
    }

    /// Earlier versions recorded a directory by the metadata of its entries, and its stream had another form.
    #[test]
    fn the_journal_of_a_directory_of_an_earlier_version_is_not_resumed() {
        let fixture = Fixture::new();
        let JournalSource::File(file) = fixture.source else { panic!("not a file") };
        let mut source = serde_json::to_value(file).unwrap();
        source["entries"] = serde_json::to_value(ChunkId::of(b"entries")).unwrap();
        let key = Key::generate().to_text();
        let header = format!("{{\"version\":1,\"key\":\"{key}\",\"source\":{source}}}\n");
        fs::write(journal_path(&fixture.manifest()), header).unwrap();
        for source in [fixture.source, JournalSource::directory()] {
            assert!(Journal::open(&fixture.manifest(), &source).unwrap().1.is_none());
        }
    }

    /// Regression: a put overwrote a file of the user that happened to have the name of the journal.
    #[test]
    fn a_file_that_is_no_journal_is_left_alone() {
        let fixture = Fixture::new();
        let path = journal_path(&fixture.manifest());
        for content in [&b"precious"[..], b"\xff\0", b"{\"versions\":1}"] {
            fs::write(&path, content).unwrap();
            let result = Journal::open(&fixture.manifest(), &fixture.source);
            assert!(matches!(result, Err(ClientError::Usage(UsageError::NotAJournal { .. }))));
            assert_eq!(fs::read(&path).unwrap(), content);
        }
        for content in [&b""[..], b"{\"ver", b"{\"version\":1,\"key\":\"\xff"] {
            fs::write(&path, content).unwrap();
            assert!(Journal::open(&fixture.manifest(), &fixture.source).unwrap().1.is_none());
        }
    }

    #[test]
    fn the_journal_is_private_and_locked() {
        let fixture = Fixture::new();
        let (journal, _) = Journal::open(&fixture.manifest(), &fixture.source).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&journal.path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert!(matches!(Journal::open(&fixture.manifest(), &fixture.source), Err(ClientError::JournalInUse { .. })));
        journal.remove().unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::write(journal_path(&fixture.manifest()), b"").unwrap();
            let readable = PermissionsExt::from_mode(0o644);
            fs::set_permissions(journal_path(&fixture.manifest()), readable).unwrap();
            let (journal, _) = Journal::open(&fixture.manifest(), &fixture.source).unwrap();
            let mode = fs::metadata(&journal.path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "also one that others could read");
            journal.remove().unwrap();
            std::os::unix::fs::symlink("elsewhere", journal_path(&fixture.manifest())).unwrap();
            assert!(Journal::open(&fixture.manifest(), &fixture.source).is_err(), "a link is not followed");
            fs::remove_file(journal_path(&fixture.manifest())).unwrap();
        }
        assert!(!journal_path(&fixture.manifest()).exists());
    }
}
