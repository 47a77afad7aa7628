use super::*;
use crate::client::fixtures::NoProgress;
use crate::id::ChunkId;
use crate::pipeline::{BlockChecksum, Content, Key};

/// A manifest with this many chunks.
fn manifest(chunks: usize) -> Manifest {
    let chunks = (0..chunks).map(|number| ChunkId::of(&number.to_le_bytes())).collect();
    Manifest { key: Key::generate(), size: None, copies: 1, content: Content::default(), chunks, version2: None }
}

fn open(path: &Path, manifest: &Manifest, force: bool) -> Result<FileOutput, ClientError> {
    FileOutput::open(path, manifest, FileMetadata::default(), None, force)
}

fn restore(path: &Path, metadata: FileMetadata, force: bool) -> Vec<RestoreOmission> {
    let mut output = FileOutput::open(path, &manifest(1), metadata, None, force).unwrap();
    output.write(b"bytes", None).unwrap();
    output.finish().unwrap()
}

#[cfg(unix)]
#[test]
fn a_file_has_the_mode_and_time_of_the_manifest() {
    use std::os::unix::fs::MetadataExt;
    let directory = tempfile::tempdir().unwrap();
    for (number, ns) in [0, -463_449_600_123_456_789, 1_700_000_000_000_000_001, -1].into_iter().enumerate() {
        let path = directory.path().join(number.to_string());
        let mode = Some(0o751 >> number);
        assert_eq!(restore(&path, FileMetadata { mode, mtime_ns: Some(ns) }, false), []);
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(Some(metadata.mode() & 0o7777), mode);
        let modified_ns = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
        assert_eq!(modified_ns, i128::from(ns));
    }
}

#[cfg(unix)]
#[test]
fn a_file_without_a_known_mode_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    for force in [false, true] {
        restore(&path, FileMetadata::default(), force);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    }
}

#[test]
fn long_runs_of_zeros_become_holes() {
    let zeros = |length: usize| vec![0; length];
    let sparse = |end| [zeros(3 << 20), b"data".to_vec(), zeros(4 << 20), b"more".to_vec(), zeros(end)].concat();
    let contents = [sparse(0), sparse(1), sparse(5000), sparse(2 << 20), zeros(1 << 20)];
    let few = [zeros(0), zeros(1), zeros(5000), [zeros(9000), b"x".to_vec(), zeros(65_535)].concat()];
    let directory = tempfile::tempdir().unwrap();
    for (number, content) in contents.iter().chain(&few).enumerate() {
        for block in [997, 4096, 65_537, 1 << 20, 16 << 20] {
            let path = directory.path().join(format!("{number} {block}"));
            let mut output = open(&path, &manifest(1), false).unwrap();
            for bytes in content.chunks(block) {
                output.write(bytes, None).unwrap();
            }
            output.finish().unwrap();
            assert!(fs::read(&path).unwrap() == *content, "{number} in blocks of {block} bytes");
            #[cfg(target_os = "linux")]
            {
                use std::os::unix::fs::MetadataExt;
                let stored = fs::metadata(&path).unwrap().blocks() * 512;
                assert!(stored <= 4 * 65_536, "{number} in blocks of {block} bytes: {stored} bytes are stored");
            }
        }
    }
}

#[test]
fn a_file_that_appeared_meanwhile_is_kept_and_the_new_one_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let mut output = open(&path, &manifest(1), false).unwrap();
    output.write(b"restored", None).unwrap();
    fs::write(&path, b"other").unwrap();
    match output.finish().unwrap_err() {
        ClientError::RestoredElsewhere { saved_as, .. } => assert_eq!(fs::read(saved_as).unwrap(), b"restored"),
        error => panic!("{error}"),
    }
    assert_eq!(fs::read(&path).unwrap(), b"other");
}

/// Blocks with data, with zeros at their ends, and of zeros alone.
fn blocks() -> Vec<Vec<u8>> {
    let zeros = |length: usize| vec![0; length];
    let data = |byte: u8, length: usize| vec![byte; length];
    vec![
        zeros(200_000),
        [data(1, 70_000), zeros(100_000)].concat(),
        zeros(300_000),
        [zeros(10), data(2, 5)].concat(),
        data(3, 1),
        [data(4, 9000), zeros(9000)].concat(),
    ]
}

/// Restores as `get` does, up to a number of blocks. Returns how many were kept from before.
fn restore_until(path: &Path, manifest: &Manifest, end: usize) -> usize {
    let mut output = open(path, manifest, false).unwrap();
    let kept = output.resume(&NoProgress, &StopSignal::default()).unwrap();
    let blocks = blocks();
    assert_eq!(kept.bytes, blocks[..kept.blocks].iter().map(|block| block.len() as u64).sum::<u64>());
    for block in blocks.iter().take(end).skip(kept.blocks) {
        output.write(block, Some(BlockChecksum::of(block))).unwrap();
    }
    if end >= blocks.len() {
        output.finish().unwrap();
    }
    kept.blocks
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_restore_continues_wherever_it_was_interrupted() {
    let (folder, count) = (tempfile::tempdir().unwrap(), blocks().len());
    for first in 0..count {
        for second in first..count {
            let (path, manifest) = (folder.path().join(format!("{first} {second}")), manifest(count));
            assert_eq!(restore_until(&path, &manifest, first), 0);
            assert_eq!(restore_until(&path, &manifest, second), first);
            assert_eq!(restore_until(&path, &manifest, count), second);
            assert!(fs::read(&path).unwrap() == blocks().concat(), "{first} {second}");
        }
    }
    assert!(names(folder.path()).iter().all(|name| !name.contains("cellsync")), "{:?}", names(folder.path()));
}

#[test]
fn damaged_blocks_and_those_after_them_are_not_kept() {
    let (folder, count) = (tempfile::tempdir().unwrap(), blocks().len());
    let damages: [(&str, u64, usize); 3] =
        [("first", 5, 0), ("data", 200_007, 1), ("last", 200_000 + 170_000 + 300_011, 3)];
    for (what, at, kept) in damages {
        let (path, manifest) = (folder.path().join(what), manifest(count));
        restore_until(&path, &manifest, 5);
        let mut partial = OpenOptions::new().write(true).open(beside(&path, SUFFIX)).unwrap();
        partial.seek(SeekFrom::Start(at)).unwrap();
        partial.write_all(b"\x55").unwrap();
        assert_eq!(restore_until(&path, &manifest, count), kept, "{what}");
        assert!(fs::read(&path).unwrap() == blocks().concat(), "{what}");
    }
    // A power cut may take the end of the file, and keep the log.
    let (path, manifest) = (folder.path().join("cut"), manifest(count));
    restore_until(&path, &manifest, 5);
    OpenOptions::new().write(true).open(beside(&path, SUFFIX)).unwrap().set_len(100_000).unwrap();
    assert_eq!(restore_until(&path, &manifest, count), 1);
    assert!(fs::read(&path).unwrap() == blocks().concat());
}

#[test]
fn the_restore_of_another_manifest_stays_unless_forced() {
    let folder = tempfile::tempdir().unwrap();
    let (path, partial, log) =
        (folder.path().join("f"), folder.path().join("f.cellsync-part"), folder.path().join("f.cellsync-part.log"));
    let (first, second) = (manifest(9), manifest(9));
    restore_until(&path, &first, 3);
    let before = [fs::read(&partial).unwrap(), fs::read(&log).unwrap()];
    let error = open(&path, &second, false).err().unwrap().to_string();
    assert!(error.contains("f.cellsync-part is") && error.contains("rm -r -- /"), "{error}");
    assert!([fs::read(&partial).unwrap(), fs::read(&log).unwrap()] == before);
    drop(open(&path, &second, true).unwrap());
    assert!(names(folder.path()).is_empty(), "nothing was written");
    // A log that is left after its file got its name does not disturb a new get.
    restore_until(&path, &first, 3);
    fs::remove_file(&partial).unwrap();
    assert_eq!(restore_until(&path, &second, 9), 0);
    assert_eq!(names(folder.path()), ["f"]);
}

#[test]
fn files_of_the_user_are_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let (path, manifest) = (folder.path().join("f"), manifest(1));
    for name in ["f.cellsync-part", "f.cellsync-part.log"] {
        let other = folder.path().join(name);
        for force in [false, true] {
            fs::write(&other, b"precious").unwrap();
            let error = open(&path, &manifest, force).err().unwrap();
            assert!(
                matches!(&error, ClientError::Usage(UsageError::NotAPartialRestore { path }) if *path == other),
                "{error}"
            );
            assert_eq!(names(folder.path()), [name]);
            assert_eq!(fs::read(&other).unwrap(), b"precious");
            fs::remove_file(&other).unwrap();
            fs::create_dir(&other).unwrap();
            assert!(matches!(open(&path, &manifest, force), Err(ClientError::Usage(_))));
            assert_eq!(names(folder.path()), [name]);
            fs::remove_dir(&other).unwrap();
        }
    }
}

#[test]
fn a_second_restore_to_one_path_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (path, manifest) = (folder.path().join("f"), manifest(6));
    let first = open(&path, &manifest, false).unwrap();
    assert!(matches!(open(&path, &manifest, true), Err(ClientError::RestoreInUse { .. })));
    drop(first);
    assert!(names(folder.path()).is_empty());
}

#[test]
fn a_failure_keeps_what_can_be_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let (path, manifest) = (folder.path().join("f"), manifest(6));
    let block = &blocks()[1];
    let nothing = open(&path, &manifest, false).unwrap().fail(ClientError::Stopped);
    assert!(matches!(nothing, ClientError::Stopped));
    assert!(names(folder.path()).is_empty());

    let mut output = open(&path, &manifest, false).unwrap();
    output.write(block, Some(BlockChecksum::of(block))).unwrap();
    let text = output.fail(ClientError::Stopped).to_string();
    assert!(text.contains("stopped") && text.contains("f.cellsync-part"), "{text}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(folder.path().join("f.cellsync-part")).unwrap().permissions().mode() & 0o777, 0o600);
        // As an interrupted get leaves it that was about to rename it.
        fs::set_permissions(folder.path().join("f.cellsync-part"), fs::Permissions::from_mode(0o000)).unwrap();
    }
    let mut output = open(&path, &manifest, false).unwrap();
    assert_eq!(output.resume(&NoProgress, &StopSignal::default()).unwrap().blocks, 1);
    let damage = Damage::WrongSize { expected: 1 };
    let bytes = crate::client::byte_ranges::ByteRange { start: 0, end: 1 }.into();
    assert!(matches!(output.fail(ClientError::Corrupt { bytes, damage }), ClientError::Corrupt { .. }));
    assert!(names(folder.path()).is_empty(), "no get of this manifest can succeed");
}

#[test]
fn an_unfinished_directory_at_the_same_name_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let partial = folder.path().join("out.cellsync-part");
    fs::create_dir(&partial).unwrap();
    let error = || open(&path, &manifest(1), true).err().unwrap().to_string();
    assert!(error().contains("is not an unfinished restore"), "{}", error());
    fs::write(partial.join("state"), Header::new(ManifestHash::of(&[], &Key::generate()), None).line()).unwrap();
    let error = error();
    assert!(error.contains("unfinished restore of a directory") && error.contains("rm -r -- "), "{error}");
    assert_eq!(names(folder.path()), ["out.cellsync-part"]);
}
