//! Goal: what this program writes, other archivers restore. Method: one stream with every kind of entry, name and date
//! is unpacked by GNU tar, bsdtar and Python's `tarfile`, and each file is compared with the entry that it comes from.
//!
//! Archivers that are missing are skipped with a message; with `CELLSYNC_REQUIRE_ARCHIVERS` set the test fails instead.
//! Owners, capabilities and trusted attributes are compared if the test runs as root.

// Test helpers outside of test functions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stderr)]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cellsync::archive::{END, Entry, Extent, Kind, Owner, Timestamp, acl, header, padding};

/// An entry with the bytes of its data.
type Item = (Entry, Vec<u8>);

/// What an archiver restores.
struct Archiver {
    command: &'static [&'static str],
    /// Owners, nanoseconds, extended attributes and access control lists. Without them, times are floating-point.
    is_complete: bool,
    /// bsdtar (libarchive 3.6) takes -1.5 for half a second after -1, also in its own archives.
    reads_negative_fractions: bool,
}

/// It warns of dates before 1970 and in the future, and of the record that states the encoding of a long name that is not
/// UTF-8, and restores them.
const GNU_TAR: Archiver = Archiver {
    command: &[
        "tar",
        "--warning=no-timestamp",
        "--warning=no-unknown-keyword",
        "--xattrs",
        "--xattrs-include=*",
        "--acls",
        "-xpf",
        "-",
    ],
    is_complete: true,
    reads_negative_fractions: true,
};
const BSDTAR: Archiver = Archiver {
    command: &["bsdtar", "--xattrs", "--acls", "-xpf", "-"],
    is_complete: true,
    reads_negative_fractions: false,
};
const PYTHON: Archiver = Archiver {
    command: &[
        "python3",
        "-c",
        "import sys, tarfile\nwith tarfile.open(fileobj=sys.stdin.buffer, mode='r|') as archive: archive.extractall()",
    ],
    is_complete: false,
    reads_negative_fractions: true,
};

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn entry(path: impl AsRef<[u8]>, kind: Kind) -> Entry {
    let owner = Owner { id: if is_root() { 12_345 } else { rustix::process::getuid().as_raw() }, name: None };
    let modified = Timestamp { seconds: 1_700_000_000, nanoseconds: 0 };
    let (path, user, group, xattrs) = (path.as_ref().to_vec(), owner.clone(), owner, Vec::new());
    Entry { path, kind, mode: 0o644, user, group, modified, xattrs, access_acl: None, default_acl: None }
}

fn file(path: impl AsRef<[u8]>, data: &[u8]) -> Item {
    (entry(path, Kind::File { size: data.len() as u64, extents: None }), data.to_vec())
}

fn directory(path: impl AsRef<[u8]>) -> Item {
    (Entry { mode: 0o755, ..entry(path, Kind::Directory) }, Vec::new())
}

fn dated(path: &str, seconds: i64, nanoseconds: u32) -> Item {
    let (entry, data) = file(path, b"dated");
    (Entry { modified: Timestamp { seconds, nanoseconds }, ..entry }, data)
}

/// A file of `size` bytes with data at these offsets, 4 KiB each or up to its end.
fn sparse(path: &str, size: u64, offsets: &[u64]) -> Item {
    let extent = |&offset: &u64| Extent { offset, length: 4096.min(size - offset) };
    let extents: Vec<Extent> = offsets.iter().map(extent).collect();
    let bytes = extents.iter().flat_map(|extent| vec![b'd'; extent.length.try_into().unwrap()]).collect();
    let kind = Kind::File { size, extents: Some(extents) };
    (Entry { modified: Timestamp { seconds: 1_700_000_000, nanoseconds: 7 }, ..entry(path, kind) }, bytes)
}

fn names() -> Vec<Item> {
    let long = |byte: &[u8], len: usize| byte.repeat(len / byte.len());
    let deep = [&b"deep/"[..], &long(b"n", 120), b"/", &long(b"m", 120)].concat();
    let mut names = vec![
        file("plain", b"content"),
        file("empty", b""),
        file("exactly one unit", &[b'u'; 512]),
        file("-rf", b"dash"),
        file("new\nline", b"newline"),
        file(" spaces ", b"spaces"),
        file("back\\slash", b"backslash"),
        file("\u{e9}\u{4e16}", b"unicode"),
        file(long(b"l", 255), b"long"),
        file(long("\u{e9}".as_bytes(), 254), b"long unicode"),
        file([b'h'; 100], b"exactly 100 bytes"),
        file([b'h'; 101], b"101 bytes"),
        directory("deep"),
        directory([&b"deep/"[..], &long(b"n", 120)].concat()),
        file(&deep, b"deep"),
        (entry("symlink", Kind::SymbolicLink { target: b"plain".to_vec() }), Vec::new()),
        (entry("dangling", Kind::SymbolicLink { target: long(b"../target/", 1000) }), Vec::new()),
        (entry("hard link", Kind::HardLink { target: b"plain".to_vec() }), Vec::new()),
        (entry("long hard link", Kind::HardLink { target: deep }), Vec::new()),
    ];
    // Python decodes names as the locale demands.
    names.extend([
        file(b"raw \xff bytes", b"not UTF-8"),
        file([&b"\xff"[..], &[b'r'; 200]].concat(), b"long and not UTF-8"),
        (entry(b"raw symlink \xfe", Kind::SymbolicLink { target: b"raw \xff bytes".repeat(10) }), Vec::new()),
    ]);
    names
}

fn dates_and_modes() -> Vec<Item> {
    let with_mode = |path: &str, mode| {
        let (entry, data) = file(path, b"mode");
        (Entry { mode, ..entry }, data)
    };
    vec![
        dated("1955", -450_000_000, 0),
        dated("1955 with nanoseconds", -450_000_001, 123_456_789),
        dated("just before 1970", -1, 999_999_999),
        dated("1970", 0, 0),
        dated("nanoseconds", 1_700_000_000, 1),
        dated("2250", 8_900_000_000, 5),
        dated("2400", 13_600_000_000, 0),
        with_mode("private", 0o600),
        with_mode("unreadable", 0),
        with_mode("setuid", 0o4755),
        with_mode("setgid", 0o2755),
        (Entry { mode: 0o1777, ..directory("sticky").0 }, Vec::new()),
    ]
}

fn sparse_files() -> Vec<Item> {
    let thirty: Vec<u64> = (0..30).map(|n| n * 65_536).collect();
    vec![
        sparse("no extent", 1 << 20, &[]),
        sparse("one extent at the beginning", 1 << 20, &[0]),
        sparse("one extent at the end", (1 << 20) + 100, &[1 << 20]),
        sparse("hole at the end, odd length", (1 << 20) + 100, &[65_536]),
        sparse("five extents", 1 << 20, &[0, 65_536, 131_072, 262_144, 524_288]),
        sparse("thirty extents", 4 << 20, &thirty),
        sparse("data beyond 8 GiB", (9 << 30) + 7, &[4096, 9 << 30]),
        sparse(&format!("long name {}", "s".repeat(200)), 1 << 20, &[4096]),
    ]
}

fn attributes() -> Vec<Item> {
    let (mut owned, data) = file("owned", b"owned");
    if is_root() {
        owned.user = Owner { id: 3_000_000_000, name: Some("a name that no machine has, and longer than 32".into()) };
        owned.group = Owner { id: 2_097_152, name: Some("nogroup-of-this-name".into()) };
    }
    let (mut attributed, _) = file("attributed", b"owned");
    attributed.xattrs = vec![
        (b"user.comment".to_vec(), b"bytes \0\n\xff=".to_vec()),
        (b"user.empty".to_vec(), Vec::new()),
        (b"user.large".to_vec(), vec![b'x'; 2000]),
    ];
    if is_root() {
        let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].to_vec();
        attributed.xattrs.insert(0, (b"security.capability".to_vec(), capability));
    }
    let (mut listed, _) = file("listed", b"owned");
    listed.mode = 0o670;
    listed.access_acl = Some("user::rw-,user:1000:r--,group::r--,group:27:rwx,mask::rwx,other::---".into());
    let (mut parent, _) = directory("parent");
    parent.default_acl = Some("user::rwx,user:1000:r-x,group::r-x,mask::r-x,other::---".into());
    vec![(owned, data.clone()), (attributed, data.clone()), (listed, data), (parent, Vec::new())]
}

fn stream(items: &[Item]) -> Vec<u8> {
    let mut stream = Vec::new();
    for (entry, data) in items {
        assert_eq!(entry.data_bytes(), data.len() as u64);
        stream.extend(header(entry).unwrap());
        stream.extend(data);
        stream.resize(stream.len() + padding(data.len() as u64), 0);
    }
    stream.extend(END);
    assert_eq!(stream.len() % 512, 0);
    stream
}

/// Unpacks a stream in a folder. False if the archiver is missing.
fn unpack(archiver: &Archiver, stream: &[u8], folder: &Path) -> bool {
    let [program, arguments @ ..] = archiver.command else { panic!("no program") };
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).env("LC_ALL", "C.UTF-8").stdin(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        assert!(std::env::var_os("CELLSYNC_REQUIRE_ARCHIVERS").is_none(), "{program} is missing");
        eprintln!("skipped: {program} is missing");
        return false;
    };
    let mut stdin = child.stdin.take().unwrap();
    let bytes = stream.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{program}: {errors}");
    writer.join().unwrap().unwrap();
    true
}

fn xattr(path: &Path, name: &[u8]) -> Option<Vec<u8>> {
    let mut value = vec![0; 65_536];
    let length = rustix::fs::lgetxattr(path, name, &mut value).ok()?;
    value.truncate(length);
    Some(value)
}

/// Asserts that a file is as its entry has it.
fn assert_restored((entry, data): &Item, folder: &Path, archiver: &Archiver) {
    let path = folder.join(OsStr::from_bytes(&entry.path));
    let name = path.display();
    let found = fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    match &entry.kind {
        Kind::Directory => assert!(found.is_dir(), "{name}"),
        Kind::SymbolicLink { target } => {
            assert_eq!(fs::read_link(&path).unwrap().into_os_string().into_vec(), *target, "{name}");
            return;
        }
        Kind::HardLink { target } => {
            let target = fs::symlink_metadata(folder.join(OsStr::from_bytes(target))).unwrap();
            assert_eq!(found.ino(), target.ino(), "{name}");
            return;
        }
        Kind::File { size, extents } => {
            assert_eq!(found.len(), *size, "{name}");
            let whole = [Extent { offset: 0, length: *size }];
            // Only root can read a file whose mode is 0.
            let file = if is_root() { Some(File::open(&path).unwrap()) } else { File::open(&path).ok() };
            let mut rest = &data[..];
            for extent in extents.as_deref().unwrap_or(&whole) {
                let mut bytes = vec![0; extent.length.try_into().unwrap()];
                if let Some(file) = &file {
                    file.read_exact_at(&mut bytes, extent.offset).unwrap();
                    assert!(rest.starts_with(&bytes), "{name} at {}", extent.offset);
                }
                rest = &rest[bytes.len()..];
            }
            assert!(found.blocks() * 512 <= data.len() as u64 + 65_536, "{name} has holes");
        }
        Kind::Other { .. } => unreachable!(),
    }
    assert_eq!(found.mode() & 0o7777, entry.mode, "{name}");
    let Timestamp { seconds, nanoseconds } = entry.modified;
    if !archiver.is_complete {
        // A floating-point number has some 15 digits.
        let difference = (found.mtime() - seconds) * 1_000_000_000 + found.mtime_nsec() - i64::from(nanoseconds);
        assert!(difference.abs() < 10_000, "{name}: {difference}");
        return;
    }
    if archiver.reads_negative_fractions || seconds >= 0 || nanoseconds == 0 {
        assert_eq!((found.mtime(), found.mtime_nsec()), (seconds, nanoseconds.into()), "{name}");
    } else {
        assert!(found.mtime().abs_diff(seconds) <= 1, "{name}");
    }
    assert_eq!((found.uid(), found.gid()), (entry.user.id, entry.group.id), "{name}");
    for (attribute, value) in &entry.xattrs {
        assert_eq!(xattr(&path, attribute).as_ref(), Some(value), "{name}: {}", attribute.escape_ascii());
    }
    for (attribute, list) in
        [(&b"system.posix_acl_access"[..], &entry.access_acl), (b"system.posix_acl_default", &entry.default_acl)]
    {
        let text = xattr(&path, attribute).map(|stored| acl::to_text(&stored).unwrap());
        assert_eq!(&text, list, "{name}");
    }
}

fn assert_unpacks(archiver: &Archiver, items: &[Item]) {
    let folder = tempfile::tempdir().unwrap();
    let folder: PathBuf = folder.path().canonicalize().unwrap();
    if unpack(archiver, &stream(items), &folder) {
        for item in items {
            assert_restored(item, &folder, archiver);
        }
    }
}

#[test]
fn names_and_links_are_restored_by_other_archivers() {
    for archiver in [GNU_TAR, BSDTAR, PYTHON] {
        assert_unpacks(&archiver, &names());
    }
}

#[test]
fn dates_and_modes_are_restored_by_other_archivers() {
    for archiver in [GNU_TAR, BSDTAR, PYTHON] {
        assert_unpacks(&archiver, &dates_and_modes());
    }
}

#[test]
fn sparse_files_are_restored_by_other_archivers() {
    for archiver in [GNU_TAR, BSDTAR, PYTHON] {
        assert_unpacks(&archiver, &sparse_files());
    }
}

#[test]
fn owners_and_attributes_are_restored_by_other_archivers() {
    for archiver in [GNU_TAR, BSDTAR, PYTHON] {
        assert_unpacks(&archiver, &attributes());
    }
}
