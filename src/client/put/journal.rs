//! The journal of a put: `NAME.manifest.part`, readable only by its user, since it holds the key.
//!
//! ```text
//! {"version":1,"key":"…","source":{"size":…,"modified_ns":…,…}}   the first line of a file's
//! {"version":1,"key":"…","source":"directory"}                    the first line of a directory's
//! {"index":0,"id":"…"}                                            for each block, before its first copy is sent
//! {"index":0,"id":"…","hash":"…"}                                 the same in a directory
//! ```
//!
//! A directory may change between two puts. So its blocks are recognized one by one, by a keyed hash of their content.
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
use crate::client::usage_error::UsageError;
use crate::id::ChunkId;
use crate::pipeline::{BlockHash, Key};

const VERSION: u32 = 1;
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
    /// Is this the source that a journal has?
    fn matches(&self, recorded: &Self) -> bool {
        match (self, recorded) {
            (Self::File(now), Self::File(recorded)) => now.matches(recorded),
            (Self::Directory(DirectoryMark::Directory), Self::Directory(DirectoryMark::Directory)) => true,
            (Self::File(_), Self::Directory(_)) | (Self::Directory(_), Self::File(_)) => false,
        }
    }

    pub(in crate::client) fn directory() -> Self {
        Self::Directory(DirectoryMark::Directory)
    }
}

#[derive(Serialize, Deserialize)]
struct SealedBlock {
    index: usize,
    id: ChunkId,
    /// The hash of the block, in a directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
}

/// An open journal. It is locked, so that two puts of one file do not mix.
pub(in crate::client) struct Journal {
    path: PathBuf,
    file: File,
}

/// What the journal has of an interrupted put.
pub(in crate::client) struct InterruptedPut {
    pub(in crate::client) key: Key,
    /// Chunk ids by the position of their block.
    pub(in crate::client) ids: BTreeMap<usize, ChunkId>,
    /// For a directory, the hashes of the blocks.
    pub(in crate::client) hashes: Option<BTreeMap<usize, BlockHash>>,
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
        if header.version != VERSION {
            return Err(UsageError::JournalVersion { path: self.path.clone() }.into());
        }
        if !source.matches(&header.source) {
            return Ok(None);
        }
        let Ok(key) = header.key.parse() else { return Ok(None) };
        let (mut ids, mut hashes) = (BTreeMap::new(), BTreeMap::new());
        for line in lines {
            let line = line.map_err(ClientError::file(FileAction::Read, &self.path))?;
            if let Ok(SealedBlock { index, id, hash }) = serde_json::from_slice(&line) {
                ids.insert(index, id);
                // The hash is that of the last line, or none.
                match hash.and_then(|hash| hash.parse().ok()) {
                    Some(hash) => hashes.insert(index, hash),
                    None => hashes.remove(&index),
                };
            }
        }
        // Blocks are sealed nearly in order. An index far beyond all others is not from a put.
        let end = ids.len() + MAX_INDEX_GAP;
        ids.retain(|&index, _| index < end);
        let hashes = matches!(source, JournalSource::Directory(_)).then_some(hashes);
        Ok(Some(InterruptedPut { key, ids, hashes }))
    }

    /// Empties the journal and starts it for a new put.
    pub(in crate::client) fn start(&mut self, key: &Key, source: &JournalSource) -> Result<(), ClientError> {
        let header = Header { version: VERSION, key: key.to_text(), source: *source };
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        let written = emptied.and_then(|_| self.file.write_all(json_line(&header).as_bytes()));
        written.map_err(ClientError::file(FileAction::Write, &self.path))
    }

    /// Continues behind what the journal has. None of it is written again, so that an interruption now loses nothing.
    pub(in crate::client) fn resume(&mut self) -> Result<(), ClientError> {
        // The line break ends an incomplete line. Otherwise it makes an empty one, which is ignored.
        let written = self.file.seek(SeekFrom::End(0)).and_then(|_| self.file.write_all(b"\n"));
        written.map_err(ClientError::file(FileAction::Write, &self.path))
    }

    /// Records the id under which a block was sealed, and in a directory its hash. Must be called before the first copy
    /// is sent.
    pub(in crate::client) fn record(
        &mut self,
        index: usize,
        id: ChunkId,
        hash: Option<BlockHash>,
    ) -> Result<(), ClientError> {
        let hash = hash.map(|hash| hash.to_string());
        let line = json_line(&SealedBlock { index, id, hash });
        self.file.write_all(line.as_bytes()).map_err(ClientError::file(FileAction::Write, &self.path))
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

    #[test]
    fn records_survive_an_interruption_and_incomplete_lines_do_not() {
        let fixture = Fixture::new();
        let key = Key::generate();
        let (mut journal, interrupted) = Journal::open(&fixture.manifest(), &fixture.source).unwrap();
        assert!(interrupted.is_none());
        journal.start(&key, &fixture.source).unwrap();
        let ids = [ChunkId::of(b"0"), ChunkId::of(b"1"), ChunkId::of(b"again")];
        journal.record(0, ids[0], None).unwrap();
        journal.record(1, ids[1], None).unwrap();
        journal.record(0, ids[2], None).unwrap();
        journal.file.write_all(br#"{"index":2,"id":"00"#).unwrap();
        drop(journal);
        let (mut journal, interrupted) = Journal::open(&fixture.manifest(), &fixture.source).unwrap();
        let interrupted = interrupted.unwrap();
        assert_eq!(interrupted.key.to_text(), key.to_text());
        assert_eq!(interrupted.ids, BTreeMap::from([(0, ids[2]), (1, ids[1])]), "a later line replaces an earlier one");

        journal.resume().unwrap();
        journal.record(1_000_000_000_000, ids[1], None).unwrap();
        journal.record(3, ids[1], None).unwrap();
        drop(journal);
        let (_, interrupted) = Journal::open(&fixture.manifest(), &fixture.source).unwrap();
        assert_eq!(interrupted.unwrap().ids, BTreeMap::from([(0, ids[2]), (1, ids[1]), (3, ids[1])]));
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
        let (id, hash) = (ChunkId::of(b"chunk"), BlockHash::of(b"block", &key));
        for index in 0..3 {
            journal.record(index, id, Some(hash)).unwrap();
        }
        // A line without a hash, as an earlier version writes it.
        journal.record(1, id, None).unwrap();
        drop(journal);
        let (_, interrupted) = Journal::open(&fixture.manifest(), &source).unwrap();
        let interrupted = interrupted.unwrap();
        assert_eq!(interrupted.hashes, Some(BTreeMap::from([(0, hash), (2, hash)])));
        assert_eq!(interrupted.ids.len(), 3);
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
