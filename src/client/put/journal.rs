//! The journal of a put under way: `NAME.manifest.part`, private to its user (it holds the key).
//!
//! ```text
//! {"version":1,"key":"…","source":{"size":…,"modified_ns":…}}     once
//! {"index":0,"id":"…"}                                            for each chunk, before its first copy is sent
//! ```
//!
//! A line says under which id a block was sealed, not that its copies are safe: what is safe, the cells are asked. So
//! a put that was cut off at any point is gone on with from what is really there. A line that was cut off is passed
//! over.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::client::error::{ClientError, FileAction, UsageError};
use crate::client::put::source::Fingerprint;
use crate::id::ChunkId;
use crate::pipeline::Key;

const VERSION: u32 = 1;
/// How far a block can be ahead of those before it that are not sealed yet; some more than there can be workers.
const MAX_AHEAD: usize = 256;

#[derive(Serialize, Deserialize)]
struct Head {
    version: u32,
    key: String,
    source: Fingerprint,
}

#[derive(Serialize, Deserialize)]
struct Line {
    index: usize,
    id: ChunkId,
}

/// An open journal. Locked for this process, so that two puts of one file do not mix.
pub(in crate::client) struct Journal {
    path: PathBuf,
    file: File,
}

/// What an earlier put left behind.
pub(in crate::client) struct Earlier {
    pub(in crate::client) key: Key,
    /// Ids by the number of their block.
    pub(in crate::client) ids: BTreeMap<usize, ChunkId>,
}

/// Where the journal of this manifest is.
pub fn journal_path(manifest: &Path) -> PathBuf {
    let mut name = manifest.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

impl Journal {
    /// Opens the journal of a manifest, and tells what an earlier put of the same source left in it.
    pub(in crate::client) fn open(
        manifest: &Path,
        source: &Fingerprint,
    ) -> Result<(Self, Option<Earlier>), ClientError> {
        let path = journal_path(manifest);
        if fs::symlink_metadata(&path).is_ok_and(|there| !there.is_file()) {
            return Err(UsageError::JournalNotRegular { path }.into());
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let wrong = |error| ClientError::file(FileAction::Write, &path)(error);
        let file = options.open(&path).map_err(wrong)?;
        // One that was there may have been open to others, by a careless copy.
        #[cfg(unix)]
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600)).map_err(wrong)?;
        // Not every file system can lock; on one that cannot, going on without is what its users expect.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(ClientError::JournalInUse { path });
        }
        let mut journal = Self { path, file };
        let earlier = journal.read(source)?;
        Ok((journal, earlier))
    }

    fn read(&mut self, source: &Fingerprint) -> Result<Option<Earlier>, ClientError> {
        let mut lines = BufReader::new(&mut self.file).lines();
        let Some(head) = lines.next() else { return Ok(None) };
        let head = head.map_err(ClientError::file(FileAction::Read, &self.path))?;
        // One that was cut off in its first line says nothing.
        let Ok(head) = serde_json::from_str::<Head>(&head) else { return Ok(None) };
        if head.version != VERSION {
            return Err(UsageError::JournalVersion { path: self.path.clone() }.into());
        }
        if head.source != *source {
            return Ok(None);
        }
        let Ok(key) = head.key.parse() else { return Ok(None) };
        let mut ids = BTreeMap::new();
        for line in lines {
            let line = line.map_err(ClientError::file(FileAction::Read, &self.path))?;
            // What was cut off is passed over.
            if let Ok(Line { index, id }) = serde_json::from_str(&line) {
                ids.insert(index, id);
            }
        }
        // Blocks are sealed nearly in order: one far beyond all others was never sealed by us.
        let end = ids.len() + MAX_AHEAD;
        ids.retain(|&index, _| index < end);
        Ok(Some(Earlier { key, ids }))
    }

    /// Begins anew.
    pub(in crate::client) fn begin(&mut self, key: &Key, source: &Fingerprint) -> Result<(), ClientError> {
        let head = Head { version: VERSION, key: key.to_text(), source: source.clone() };
        let text = serde_json::to_string(&head).unwrap_or_default() + "\n";
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        let written = emptied.and_then(|_| self.file.write_all(text.as_bytes()));
        written.map_err(ClientError::file(FileAction::Write, &self.path))
    }

    /// Goes on behind what is there. Nothing of it is written again, so that being cut off now loses none of it.
    pub(in crate::client) fn go_on(&mut self) -> Result<(), ClientError> {
        // Ends a line that was cut off; it is passed over when it is read, and so is an empty one.
        let written = self.file.seek(SeekFrom::End(0)).and_then(|_| self.file.write_all(b"\n"));
        written.map_err(ClientError::file(FileAction::Write, &self.path))
    }

    /// Notes under which id a block was sealed. Call it before the first copy is sent.
    pub(in crate::client) fn note(&mut self, index: usize, id: ChunkId) -> Result<(), ClientError> {
        self.file.write_all(line(index, id).as_bytes()).map_err(ClientError::file(FileAction::Write, &self.path))
    }

    /// Removes the journal: its manifest is whole.
    pub(in crate::client) fn finish(self) -> Result<(), ClientError> {
        fs::remove_file(&self.path).map_err(ClientError::file(FileAction::Remove, &self.path))
    }
}

fn line(index: usize, id: ChunkId) -> String {
    serde_json::to_string(&Line { index, id }).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Source;

    struct Fixture {
        dir: tempfile::TempDir,
        source: Fingerprint,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("f"), b"x").unwrap();
            let source = Source::named(&dir.path().join("f")).unwrap().fingerprint().unwrap().unwrap();
            Self { dir, source }
        }

        fn manifest(&self) -> PathBuf {
            self.dir.path().join("f.manifest")
        }
    }

    #[test]
    fn what_was_noted_is_there_the_next_time_and_a_line_cut_off_is_passed_over() {
        let fixture = Fixture::new();
        let key = Key::generate();
        let (mut journal, earlier) = Journal::open(&fixture.manifest(), &fixture.source).unwrap();
        assert!(earlier.is_none());
        journal.begin(&key, &fixture.source).unwrap();
        let ids = [ChunkId::of(b"0"), ChunkId::of(b"1"), ChunkId::of(b"again")];
        journal.note(0, ids[0]).unwrap();
        journal.note(1, ids[1]).unwrap();
        journal.note(0, ids[2]).unwrap();
        journal.file.write_all(br#"{"index":2,"id":"00"#).unwrap();
        drop(journal);
        let (mut journal, earlier) = Journal::open(&fixture.manifest(), &fixture.source).unwrap();
        let earlier = earlier.unwrap();
        assert_eq!(earlier.key.to_text(), key.to_text());
        assert_eq!(
            earlier.ids,
            BTreeMap::from([(0, ids[2]), (1, ids[1])]),
            "a later line takes the place of an earlier"
        );

        journal.go_on().unwrap();
        journal.note(1_000_000_000_000, ids[1]).unwrap();
        journal.note(3, ids[1]).unwrap();
        drop(journal);
        let (_, earlier) = Journal::open(&fixture.manifest(), &fixture.source).unwrap();
        assert_eq!(earlier.unwrap().ids, BTreeMap::from([(0, ids[2]), (1, ids[1]), (3, ids[1])]));
    }

    #[test]
    fn another_source_begins_anew() {
        let fixture = Fixture::new();
        let (mut journal, _) = Journal::open(&fixture.manifest(), &fixture.source).unwrap();
        journal.begin(&Key::generate(), &fixture.source).unwrap();
        drop(journal);
        let mut other = fixture.source.clone();
        other.size = 2;
        assert!(Journal::open(&fixture.manifest(), &other).unwrap().1.is_none());
    }

    #[test]
    fn the_journal_is_private_and_used_by_one_at_a_time() {
        let fixture = Fixture::new();
        let (journal, _) = Journal::open(&fixture.manifest(), &fixture.source).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&journal.path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert!(matches!(Journal::open(&fixture.manifest(), &fixture.source), Err(ClientError::JournalInUse { .. })));
        journal.finish().unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::write(journal_path(&fixture.manifest()), b"").unwrap();
            let open = PermissionsExt::from_mode(0o644);
            fs::set_permissions(journal_path(&fixture.manifest()), open).unwrap();
            let (journal, _) = Journal::open(&fixture.manifest(), &fixture.source).unwrap();
            let mode = fs::metadata(&journal.path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "also one that was there and open to others");
            journal.finish().unwrap();
            std::os::unix::fs::symlink("elsewhere", journal_path(&fixture.manifest())).unwrap();
            assert!(Journal::open(&fixture.manifest(), &fixture.source).is_err(), "a link is not followed");
            fs::remove_file(journal_path(&fixture.manifest())).unwrap();
        }
        assert!(!journal_path(&fixture.manifest()).exists());
    }
}
