//! Goal: this program and others can always read the chunks that are stored in colonies.
//! Method: golden chunks in `tests/vectors`, and a reader in Python that shares no code.
//!
//! * `older`: written by `make.py`, as a client in Python writes them, in binary form and as base64 text.
//! * `ours`: written by this program when its format was settled; one chunk is compressed, one is in stored form. They
//!   are never written again: a change that cannot read them loses users' files.
//! * `ours/directory-2.manifest`: a directory with an index, in version 2 of the manifest. Its put was interrupted, and a
//!   file added, so some chunks have keys of their own.
//! * `ours/directory.tar`: the stream of a directory as this program wrote it before it wrote pax records.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stderr)]

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use cellsync::archive::index::{IndexEntry, IndexLine, IndexReader};
use cellsync::archive::{Decoder, Entry, Kind, Owner, Timestamp};
use cellsync::id::{BLOCK_BYTES, ChunkId};
use cellsync::pipeline::{BlockHash, Blocks, Content, Key, Level, Manifest, open_chunk, seal_block};

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn manifest(path: &Path) -> Manifest {
    Manifest::read(File::open(path).unwrap()).unwrap()
}

/// Opens the chunks in `folder` and joins their blocks.
fn restore(manifest: &Manifest, folder: &Path) -> Vec<u8> {
    let mut restored = Vec::new();
    for (index, id) in manifest.chunks.iter().enumerate() {
        let chunk = fs::read(folder.join(id.to_string())).unwrap();
        let block = open_chunk(chunk, id, &manifest.chunk_key(index)).unwrap().bytes;
        assert!(manifest.block_len(index).is_none_or(|len| len == block.len()), "{index}");
        restored.extend(block);
    }
    restored
}

/// Two blocks: a full one that compresses well, and `noise_bytes` of incompressible data.
fn lines_and_noise(noise_bytes: usize) -> Vec<u8> {
    let mut lines = String::new();
    for i in 0..30_000 {
        writeln!(lines, "line {i:06} of a file that is stored now").unwrap();
    }
    let noise = (0_u64..).flat_map(|i| *ChunkId::of(&i.to_le_bytes()).as_bytes()).take(noise_bytes);
    lines.into_bytes().into_iter().take(BLOCK_BYTES).chain(noise).collect()
}

/// Seals `data` as a client does, into files in `folder` that are named by their ids.
fn store(data: &[u8], content: Content, folder: &Path) -> Manifest {
    let key = Key::generate();
    let chunks = Blocks::new(data)
        .map(|block| {
            let chunk = seal_block(&block.unwrap().bytes, &key, Level::default(), 1_800_000_000).unwrap();
            fs::write(folder.join(chunk.id.to_string()), &chunk.bytes).unwrap();
            chunk.id
        })
        .collect();
    Manifest { key, size: Some(data.len() as u64), copies: 5, content, chunks, version2: None }
}

#[test]
fn chunks_of_earlier_versions_restore_in_both_forms() {
    let older = vectors().join("older");
    for form in ["raw", "base64"] {
        let whole = manifest(&older.join(format!("{form}.manifest")));
        assert_eq!((whole.size, whole.copies, whole.content), (Some(2_370_000), 5, Content::default()));
        let bare = manifest(&older.join(format!("{form}-bare.manifest")));
        assert_eq!(bare, Manifest { size: None, ..whole.clone() });
        let restored = restore(&whole, &older.join(form));
        assert_eq!(restored.len(), 2_370_000);
        // As make.py prints it.
        let expected = "ef58c7bab5029168160c72e6137c98673b8b24695a64038253147140a7f49642";
        assert_eq!(ChunkId::of(&restored).to_string(), expected, "{form}");
    }
}

#[test]
fn chunks_of_the_first_release_restore() {
    let ours = vectors().join("ours");
    let manifest = manifest(&ours.join("tar.manifest"));
    assert_eq!(manifest.content, Content::Tar);
    assert!(restore(&manifest, &ours.join("chunks")) == lines_and_noise(66_000));
}

#[test]
fn a_directory_of_an_earlier_version_is_read() {
    let stream = fs::read(vectors().join("ours/directory.tar")).unwrap();
    let read = entries(&stream);
    let entry = |path: &str, kind, mode, seconds| Entry {
        path: path.into(),
        kind,
        mode,
        user: Owner::default(),
        group: Owner::default(),
        modified: Timestamp { seconds, nanoseconds: 0 },
        xattrs: Vec::new(),
        access_acl: None,
        default_acl: None,
    };
    let file = |size| Kind::File { size, extents: None };
    let link = |target: &str| Kind::SymbolicLink { target: target.into() };
    let long_name = format!("folder/{}", "a long name ".repeat(20));
    let expected = [
        (entry(".", Kind::Directory, 0o700, 1_700_000_004), Vec::new()),
        (entry("folder", Kind::Directory, 0o555, 1_700_000_003), Vec::new()),
        (entry(&long_name, file(600), 0o600, 1_700_000_002), vec![b'x'; 600]),
        (entry("folder/from 1955", file(5), 0o644, -463_449_600), b"then\n".to_vec()),
        (entry("folder/link", link("program"), 0o777, 1_700_000_000), Vec::new()),
        (entry("folder/long link", link(&"nowhere/".repeat(20)), 0o777, 1_700_000_000), Vec::new()),
        (entry("folder/program", file(10), 0o4750, 1_700_000_001), b"#!/bin/sh\n".to_vec()),
    ];
    assert_eq!(read, expected);
}

/// The entries of a stream, with their data.
fn entries(stream: &[u8]) -> Vec<(Entry, Vec<u8>)> {
    let mut decoder = Decoder::new(stream);
    let mut read = Vec::new();
    while let Some(entry) = decoder.next_entry().unwrap() {
        let mut data = Vec::new();
        decoder.read_to_end(&mut data).unwrap();
        read.push((entry, data));
    }
    read
}

/// What the directory of `directory-2.manifest` has: paths and data.
fn directory_of_version_2() -> Vec<(Vec<u8>, Vec<u8>)> {
    let paths: [&[u8]; 7] = [b".", b"a", b"added", b"folder", b"folder/lines", b"folder/\xff", b"link"];
    let data = |path: &[u8]| match path {
        b"a" => b"a\n".to_vec(),
        b"added" => b"added line\n".repeat(100_000),
        b"folder/lines" => b"a line\n".repeat(360_000),
        b"folder/\xff" => b"z\n".to_vec(),
        _ => Vec::new(),
    };
    paths.map(|path| (path.to_vec(), data(path))).into()
}

/// Goal: directories that are stored now can be restored and listed forever. Method: the stream and the index of a golden
/// manifest.
#[test]
fn a_directory_of_version_2_restores_and_has_an_index() {
    let ours = vectors().join("ours");
    let manifest = manifest(&ours.join("directory-2.manifest"));
    let version2 = manifest.version2.clone().unwrap();
    assert!(!version2.keys.is_empty() && version2.keys.len() < manifest.chunks.len());
    let stream = restore(&manifest, &ours.join("chunks"));
    assert_eq!(manifest.size, Some(stream.len() as u64));
    let read = entries(&stream);
    let found: Vec<_> = read.iter().map(|(entry, data)| (entry.path.clone(), data.clone())).collect();
    assert!(found == directory_of_version_2());

    let mut reader = IndexReader::default();
    let mut lines = Vec::new();
    for (index, id) in version2.tree.iter().enumerate() {
        let chunk = fs::read(ours.join("chunks").join(id.to_string())).unwrap();
        let block = open_chunk(chunk, id, &manifest.tree_key(index)).unwrap().bytes;
        reader.read(&block, &mut |line| lines.push(line)).unwrap();
    }
    reader.finish().unwrap();
    let mut offset = 0;
    let mut expected = Vec::new();
    for (entry, data) in &read {
        let header = if entry.modified.nanoseconds == 0 { 512 } else { 3 * 512 };
        let length = (header + data.len().next_multiple_of(512)) as u64;
        expected.push(IndexLine::Entry(IndexEntry::of(entry, offset, length)));
        offset += length;
    }
    for index in 0..manifest.chunks.len() {
        let range = manifest.block(index);
        let [start, end] = [range.start, range.end].map(|at| usize::try_from(at).unwrap());
        expected.push(IndexLine::Block(BlockHash::of(&stream[start..end], &manifest.key)));
    }
    assert_eq!(lines, expected);
}

/// Goal: manifest and chunks suffice to restore without this program. Method: `restore.py` restores a file with a
/// compressed and a stored chunk, and the golden directory of version 2.
#[test]
fn python_restores_a_stored_file_and_a_directory() {
    let python = std::env::var_os("CELLSYNC_PYTHON").unwrap_or_else(|| OsString::from("python3"));
    if let Err(why) = can_restore(&python) {
        let required = std::env::var_os("CELLSYNC_REQUIRE_PYTHON").is_some_and(|value| value == "1");
        assert!(!required, "CELLSYNC_REQUIRE_PYTHON is set and {why}");
        eprintln!("NOT RUN: python_restores_a_stored_file_and_a_directory: {why}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let restored = |recipe: &Path, chunks: &Path| {
        let output = folder.path().join("restored");
        let run = Command::new(&python)
            .arg(vectors().join("restore.py"))
            .args([recipe, chunks, &output].map(AsRef::<Path>::as_ref))
            .output()
            .unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        fs::read(&output).unwrap()
    };
    let data = lines_and_noise(300_000);
    let recipe = folder.path().join("file.manifest");
    store(&data, Content::default(), folder.path()).write(File::create(&recipe).unwrap()).unwrap();
    assert!(restored(&recipe, folder.path()) == data);

    let ours = vectors().join("ours");
    let stream = restored(&ours.join("directory-2.manifest"), &ours.join("chunks"));
    let read: Vec<_> = entries(&stream).into_iter().map(|(entry, data)| (entry.path, data)).collect();
    assert!(read == directory_of_version_2());
}

/// Whether this Python runs and has the packages that `restore.py` needs.
fn can_restore(python: &OsString) -> Result<(), String> {
    let shown = python.display();
    match Command::new(python).args(["-c", "import lzma, cryptography.fernet"]).output() {
        Err(error) => Err(format!("{shown} cannot be started: {error}; name one in CELLSYNC_PYTHON")),
        Ok(run) if !run.status.success() => Err(format!(
            "{shown} lacks lzma or cryptography: {}",
            String::from_utf8_lossy(&run.stderr).lines().last().unwrap_or_default()
        )),
        Ok(_) => Ok(()),
    }
}
