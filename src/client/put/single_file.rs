//! A single file as a source. A change to it is noticed while it is read.

use std::fs::{self, File, Metadata};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::client::error::{ClientError, FileAction};
#[cfg(unix)]
use crate::client::put::attributes::{self, Target};
use crate::client::put::fingerprint::Fingerprint;
use crate::client::put::input::{Reader, read_stream};
use crate::client::put::omission::{Omission, OmissionReason, SpecialMetadata};
use crate::client::put::position::{Position, PutBlock};
use crate::client::put::source::SourceLength;
use crate::client::usage_error::UsageError;
use crate::id::BLOCK_BYTES;
use crate::pipeline::{Blocks, FileMetadata};

/// The number of blocks between two checks of the file for changes.
const BLOCKS_PER_CHECK: usize = 16;

/// A file that is stored.
#[derive(Debug, Clone)]
pub(in crate::client) struct SingleFile {
    path: PathBuf,
    /// How it is recognized; `None` for a pipe or a device, which cannot be read twice.
    pub(in crate::client) fingerprint: Option<Fingerprint>,
    /// What the manifest states about it.
    pub(in crate::client) metadata: FileMetadata,
    /// What the manifest has no place for.
    special: SpecialMetadata,
}

impl SingleFile {
    pub(in crate::client) fn new(path: &Path) -> Result<Self, ClientError> {
        let metadata = fs::metadata(path).map_err(ClientError::file(FileAction::Read, path))?;
        let is_file = metadata.is_file();
        Ok(Self {
            path: path.to_owned(),
            fingerprint: is_file.then(|| Fingerprint::of_file(&metadata)),
            metadata: if is_file { file_metadata(path, &metadata) } else { FileMetadata::default() },
            special: if is_file { special_metadata(path, &metadata) } else { SpecialMetadata::default() },
        })
    }

    /// What will be missing of it even if it does not change.
    pub(in crate::client) fn omission(&self) -> Option<Omission> {
        let is_missing = self.special != SpecialMetadata::default();
        let reason = OmissionReason::NotInManifest(self.special);
        is_missing.then(|| Omission { path: self.path.clone(), reason })
    }

    /// Passes the blocks that are needed to the reader; the others are not read. A file that was written to is an
    /// error, unless it only grew: then it is stored up to its size at the beginning.
    pub(in crate::client) fn read(&self, reader: Reader<'_>) -> Result<Option<SourceLength>, ClientError> {
        let read_error = |error| ClientError::file(FileAction::Read, &self.path)(error);
        let mut file = File::open(&self.path).map_err(read_error)?;
        match self.fingerprint {
            Some(before) if before.size > 0 => self.read_blocks(&mut file, before, reader),
            // A pipe, a device, or a kernel file such as those in /proc, which reports no length.
            _ => read_stream(file, reader).map_err(read_error),
        }
    }

    fn read_blocks(
        &self,
        file: &mut File,
        before: Fingerprint,
        reader: Reader<'_>,
    ) -> Result<Option<SourceLength>, ClientError> {
        let read_error = |error| ClientError::file(FileAction::Read, &self.path)(error);
        let Reader { is_needed, take, report, .. } = reader;
        let bytes = before.size;
        let blocks = usize::try_from(bytes.div_ceil(BLOCK_BYTES as u64)).map_err(|_| UsageError::SourceTooLarge)?;
        let mut is_reported = false;
        let mut index = 0;
        while index < blocks {
            self.check(file, before, &mut is_reported, report)?;
            if !is_needed(index) {
                index += 1;
                continue;
            }
            let start = index as u64 * BLOCK_BYTES as u64;
            let run = (index..blocks).take(BLOCKS_PER_CHECK).take_while(|&index| is_needed(index)).count();
            let expected = (start + run as u64 * BLOCK_BYTES as u64).min(bytes) - start;
            file.seek(SeekFrom::Start(start)).map_err(read_error)?;
            let mut read = 0;
            for (index, block) in (index..).zip(Blocks::new(file.by_ref().take(expected))) {
                let block = block.map_err(read_error)?;
                read += block.bytes.len() as u64;
                if read < expected && block.bytes.len() < BLOCK_BYTES {
                    break;
                }
                if !take(PutBlock { position: Position::Data(index), bytes: block.bytes }) {
                    return Ok(None);
                }
            }
            if read < expected {
                // It may have become shorter than what was read of it.
                let size = file.metadata().map_err(read_error)?.len().min(start + read);
                return Err(ClientError::SourceTruncated { path: self.path.clone(), read: size, expected: bytes });
            }
            index += run;
        }
        self.check(file, before, &mut is_reported, report)?;
        Ok(Some(SourceLength { blocks, bytes, index_blocks: 0 }))
    }

    /// Fails if the file was written to. If it only grew, or only its status changed, this is reported once.
    fn check(
        &self,
        file: &File,
        before: Fingerprint,
        is_reported: &mut bool,
        report: &mut dyn FnMut(Omission),
    ) -> Result<(), ClientError> {
        let now = file.metadata().map_err(ClientError::file(FileAction::Read, &self.path))?;
        let now = Fingerprint::of_file(&now);
        let path = self.path.clone();
        if now == before {
            Ok(())
        } else if now.has_same_content_times(&before) {
            // Its permissions changed, or its content did and the time was set back.
            if !*is_reported {
                *is_reported = true;
                report(Omission { path, reason: OmissionReason::Changed });
            }
            Ok(())
        } else if now.size < before.size {
            Err(ClientError::SourceTruncated { path, read: now.size, expected: before.size })
        } else if now.size == before.size {
            Err(ClientError::SourceChanged { path })
        } else {
            if !*is_reported {
                *is_reported = true;
                report(Omission { path, reason: OmissionReason::Grew { stored: before.size } });
            }
            Ok(())
        }
    }
}

/// What the manifest states about a file.
#[cfg(unix)]
fn file_metadata(path: &Path, metadata: &Metadata) -> FileMetadata {
    use std::os::unix::fs::MetadataExt;

    let seconds_ns = metadata.mtime().checked_mul(1_000_000_000);
    let mtime_ns = seconds_ns.and_then(|seconds| seconds.checked_add(metadata.mtime_nsec()));
    let mode = attributes::mode_without_acl(Target::Followed(path), metadata.mode() & 0o777);
    FileMetadata { mode: Some(mode), mtime_ns }
}

/// What the manifest has no place for. Attributes of users are not named: they grant nothing, and many files have some
/// that nobody has set.
#[cfg(unix)]
fn special_metadata(path: &Path, metadata: &Metadata) -> SpecialMetadata {
    use std::os::unix::fs::MetadataExt;

    let (capabilities, access_acl) = attributes::special(Target::Followed(path));
    SpecialMetadata { set_id: metadata.mode() & 0o6000 != 0, capabilities, access_acl }
}

#[cfg(not(unix))]
fn special_metadata(_: &Path, _: &Metadata) -> SpecialMetadata {
    SpecialMetadata::default()
}

/// Without permission bits, the mode is unknown.
#[cfg(not(unix))]
fn file_metadata(_: &Path, metadata: &Metadata) -> FileMetadata {
    let since = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    FileMetadata { mode: None, mtime_ns: since.and_then(|since| i64::try_from(since.as_nanos()).ok()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Read {
        /// The positions and sizes of the blocks that were read.
        blocks: Vec<(Position, usize)>,
        omissions: Vec<Omission>,
        length: Result<Option<SourceLength>, ClientError>,
    }

    /// Reads a file. `act` is called for each block that is taken, and returns whether to go on.
    fn read(file: &SingleFile, is_needed: &dyn Fn(usize) -> bool, act: &mut dyn FnMut() -> bool) -> Read {
        let (mut blocks, mut omissions) = (Vec::new(), Vec::new());
        let mut take = |block: PutBlock| {
            blocks.push((block.position, block.bytes.len()));
            act()
        };
        let report = &mut |omission| omissions.push(omission);
        let length = file.read(Reader { is_needed, take: &mut take, hashes: &mut |_| None, report });
        Read { blocks, omissions, length }
    }

    fn file_of(blocks: usize, rest: usize) -> (tempfile::TempDir, SingleFile) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, vec![7; blocks * BLOCK_BYTES + rest]).unwrap();
        let file = SingleFile::new(&path).unwrap();
        (dir, file)
    }

    #[test]
    fn only_needed_blocks_are_read_and_all_are_counted() {
        let (_dir, file) = file_of(3, 10);
        let length = SourceLength { blocks: 4, bytes: 3 * BLOCK_BYTES as u64 + 10, index_blocks: 0 };
        let all = vec![(0, BLOCK_BYTES), (1, BLOCK_BYTES), (2, BLOCK_BYTES), (3, 10)];
        let needed: [(&dyn Fn(usize) -> bool, _); 3] =
            [(&|_| true, all), (&|index| index % 2 == 1, vec![(1, BLOCK_BYTES), (3, 10)]), (&|_| false, vec![])];
        for (is_needed, expected) in needed {
            let read = read(&file, is_needed, &mut || true);
            let expected: Vec<_> = expected.into_iter().map(|(index, len)| (Position::Data(index), len)).collect();
            assert_eq!((read.blocks, read.length.unwrap()), (expected, Some(length)));
        }
    }

    #[test]
    fn a_file_that_shrinks_while_it_is_read_is_an_error() {
        for left in [0, 10, BLOCK_BYTES, BLOCK_BYTES + 10, 3 * BLOCK_BYTES] {
            let (_dir, file) = file_of(3, 10);
            let read = read(&file, &|_| true, &mut || {
                File::options().write(true).open(&file.path).unwrap().set_len(left as u64).unwrap();
                true
            });
            assert!(
                matches!(read.length, Err(ClientError::SourceTruncated { read, .. }) if read == left as u64),
                "{left}: {:?}",
                read.length
            );
        }
    }

    #[test]
    fn a_change_is_noticed_before_the_file_was_read_to_its_end() {
        let (_dir, file) = file_of(3 * BLOCKS_PER_CHECK, 0);
        let touched = std::time::SystemTime::UNIX_EPOCH;
        let read = read(&file, &|_| true, &mut || {
            File::options().write(true).open(&file.path).unwrap().set_modified(touched).unwrap();
            true
        });
        assert!(matches!(read.length, Err(ClientError::SourceChanged { .. })), "{:?}", read.length);
        assert_eq!(read.blocks.len(), BLOCKS_PER_CHECK);
    }

    #[test]
    fn a_file_that_grows_is_stored_up_to_its_first_size() {
        use std::io::Write;
        let (_dir, file) = file_of(2 * BLOCKS_PER_CHECK, 5);
        let read = read(&file, &|_| true, &mut || {
            File::options().append(true).open(&file.path).unwrap().write_all(b"more").unwrap();
            true
        });
        let bytes = 2 * BLOCKS_PER_CHECK as u64 * BLOCK_BYTES as u64 + 5;
        assert_eq!(
            read.length.unwrap(),
            Some(SourceLength { blocks: 2 * BLOCKS_PER_CHECK + 1, bytes, index_blocks: 0 })
        );
        let grew = Omission { path: file.path.clone(), reason: OmissionReason::Grew { stored: bytes } };
        assert_eq!(read.omissions, [grew], "it is reported once");
    }

    #[test]
    fn reading_stops_when_no_block_is_taken() {
        let (_dir, file) = file_of(5, 0);
        assert_eq!(read(&file, &|_| true, &mut || false).length.unwrap(), None);
    }

    #[cfg(unix)]
    #[test]
    fn the_manifest_gets_permission_bits_and_nanoseconds() {
        use std::os::unix::fs::PermissionsExt;
        use std::time::{Duration, SystemTime};
        let (_dir, file) = file_of(0, 1);
        let open = File::options().write(true).open(&file.path).unwrap();
        open.set_permissions(PermissionsExt::from_mode(0o4751)).unwrap();
        open.set_modified(SystemTime::UNIX_EPOCH - Duration::from_nanos(1_500_000_001)).unwrap();
        let special = SingleFile::new(&file.path).unwrap();
        assert_eq!(special.metadata, FileMetadata { mode: Some(0o751), mtime_ns: Some(-1_500_000_001) });
        let reason = OmissionReason::NotInManifest(SpecialMetadata { set_id: true, ..SpecialMetadata::default() });
        assert_eq!((file.omission(), special.omission().map(|omission| omission.reason)), (None, Some(reason)));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_mode_of_a_file_with_a_list_grants_no_more() {
        use std::os::unix::fs::PermissionsExt;
        let list = "user::rw-,user:70000:rw-,group::---,mask::rw-,other::---";
        let list = crate::archive::acl::from_text(list).unwrap();
        let (dir, file) = file_of(0, 1);
        fs::set_permissions(&file.path, PermissionsExt::from_mode(0o600)).unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        if rustix::fs::setxattr(&file.path, "system.posix_acl_access", &list, flags).is_err() {
            return; // Not every file system has such lists.
        }
        assert_eq!(fs::metadata(&file.path).unwrap().permissions().mode() & 0o777, 0o660, "it shows the mask");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("file", &link).unwrap();
        for path in [&file.path, &link] {
            let file = SingleFile::new(path).unwrap();
            assert_eq!(file.metadata.mode, Some(0o600));
            let special = SpecialMetadata { access_acl: true, ..SpecialMetadata::default() };
            assert_eq!(file.omission().unwrap().reason, OmissionReason::NotInManifest(special));
        }
    }
}
