//! Goal: an archive becomes the directory that it describes, and nothing outside of it changes. Method: archives made by
//! the encoder, or by hand where it refuses, restored to temporary directories.

mod hostile;
mod metadata;
mod resumed;
mod targets;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::output::TreeOutput;
use crate::archive::{END, Entry, Extent, Kind, Owner, Timestamp, header, padding};
use crate::client::error::ClientError;
use crate::client::fixtures::get_options;
use crate::client::get::GetOptions;
use crate::client::get::omission::{RestoreOmission, RestoreOmissionReason as Reason};
use crate::client::get::restore_options::{RestoreOptions, RestoreOwners};
use crate::client::usage_error::UsageError;
use crate::pipeline::{Content, Manifest};

const PLAIN: RestoreOptions = RestoreOptions { owners: RestoreOwners::None, xattrs: false };
const FULL: RestoreOptions = RestoreOptions { owners: RestoreOwners::ByNumber, xattrs: true };

/// A manifest, always the same.
fn manifest() -> Manifest {
    let key = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=".parse().unwrap();
    Manifest { key, size: None, copies: 1, content: Content::Tar, chunks: Vec::new(), version2: None }
}

fn get_with(restore: RestoreOptions, force: bool) -> GetOptions {
    GetOptions { force, restore, ..get_options() }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn entry(path: impl AsRef<[u8]>, mode: u32, kind: Kind) -> Entry {
    let owner = |id| Owner { id, name: None };
    Entry {
        path: path.as_ref().to_vec(),
        kind,
        mode,
        user: owner(rustix::process::geteuid().as_raw()),
        group: owner(rustix::process::getegid().as_raw()),
        modified: Timestamp { seconds: 1_700_000_000, nanoseconds: 123_456_789 },
        xattrs: Vec::new(),
        access_acl: None,
        default_acl: None,
    }
}

fn directory(path: impl AsRef<[u8]>) -> Entry {
    entry(path, 0o755, Kind::Directory)
}

fn link(path: &str, target: &str) -> Entry {
    entry(path, 0o777, Kind::SymbolicLink { target: target.into() })
}

fn hard_link(path: &str, target: &str) -> Entry {
    entry(path, 0o644, Kind::HardLink { target: target.into() })
}

fn file(path: impl AsRef<[u8]>, mode: u32, size: usize) -> Entry {
    entry(path, mode, Kind::File { size: size as u64, extents: None })
}

/// An archive in progress.
#[derive(Default)]
struct Archive(Vec<u8>);

impl Archive {
    fn of(entries: &[Entry]) -> Vec<u8> {
        let mut archive = Self::default();
        for entry in entries {
            archive.add(entry, &vec![b'x'; usize::try_from(entry.data_bytes()).unwrap()]);
        }
        archive.end()
    }

    fn add(&mut self, entry: &Entry, data: &[u8]) {
        self.0.extend(header(entry).unwrap());
        self.0.extend(data);
        self.0.resize(self.0.len() + padding(data.len() as u64), 0);
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend(END);
        self.0
    }
}

/// A directory in which others are restored.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn out(&self) -> PathBuf {
        self.0.path().join("out")
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).collect()
    }

    fn restore(&self, archive: &[u8], options: RestoreOptions) -> Result<Vec<RestoreOmission>, ClientError> {
        restore(archive, &self.out(), options)
    }

    /// Restores an archive without owners and attributes. Nothing may be omitted.
    fn restore_whole(&self, entries: &[Entry]) {
        assert_eq!(self.restore(&Archive::of(entries), PLAIN).unwrap(), []);
    }
}

fn restore(archive: &[u8], path: &Path, options: RestoreOptions) -> Result<Vec<RestoreOmission>, ClientError> {
    let mut output = TreeOutput::open(path, &manifest(), &get_with(options, false))?;
    let mut omissions = Vec::new();
    // Blocks that end anywhere.
    for block in archive.chunks(1300) {
        output.write(block.to_vec())?;
        omissions.extend(output.omissions());
    }
    omissions.extend(output.finish()?.omissions);
    Ok(omissions)
}

/// Path, mode, size or target, and time of everything below a directory, and of itself.
fn listing(root: &Path) -> BTreeMap<Vec<u8>, (u32, String, i64, i64)> {
    let entries = walkdir::WalkDir::new(root).into_iter().map(Result::unwrap);
    let line = |entry: walkdir::DirEntry| {
        let metadata = fs::symlink_metadata(entry.path()).unwrap();
        let what = match entry.file_type() {
            kind if kind.is_dir() => "directory".to_owned(),
            kind if kind.is_symlink() => format!("-> {}", fs::read_link(entry.path()).unwrap().display()),
            _ => format!("{} bytes", metadata.len()),
        };
        let mode = if entry.file_type().is_symlink() { 0o777 } else { metadata.mode() & 0o7777 };
        let path = entry.path().strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
        (path, (mode, what, metadata.mtime(), metadata.mtime_nsec()))
    };
    entries.map(line).collect()
}

fn reasons(omissions: Vec<RestoreOmission>) -> Vec<(String, Reason)> {
    omissions.into_iter().map(|omission| (String::from_utf8(omission.path).unwrap(), omission.reason)).collect()
}

/// A header with names as they are given. The encoder writes no absolute ones.
fn raw(flag: u8, path: &str, target: &str) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    let fields = header.as_gnu_mut().unwrap();
    fields.typeflag = [flag];
    for (field, name) in [(&mut fields.name, path), (&mut fields.linkname, target)] {
        field[..name.len()].copy_from_slice(name.as_bytes());
    }
    for set in [tar::Header::set_size, tar::Header::set_uid, tar::Header::set_gid, tar::Header::set_mtime] {
        set(&mut header, 0);
    }
    header.set_mode(0o755);
    header.set_cksum();
    header.as_bytes().to_vec()
}

#[test]
fn modes_times_links_and_names_come_back() {
    let place = Place::new();
    let long = "n".repeat(255);
    let at = |entry: Entry, seconds, nanoseconds| Entry { modified: Timestamp { seconds, nanoseconds }, ..entry };
    let entries = [
        at(entry(".", 0o750, Kind::Directory), 1_000_000_000, 1),
        at(entry("closed", 0o500, Kind::Directory), -460_000_000, 5),
        file("closed/secret", 0o000, 0),
        at(file("closed/set", 0o1777, 700_000), 1, 0),
        entry("closed/sub", 0o555, Kind::Directory),
        file("closed/sub/f", 0o400, 3),
        at(file(b"new\nline\xff", 0o644, 1), -1, 999_999_999),
        file(&long, 0o640, 2),
        at(link("link", "closed/se\u{301}t"), -5, 7),
        file("-rf", 0o600, 0),
    ];
    place.restore_whole(&entries);
    let expected: BTreeMap<_, _> = entries
        .iter()
        .map(|entry| {
            let path = if entry.path == b"." { Vec::new() } else { entry.path.clone() };
            let what = match &entry.kind {
                Kind::File { size, .. } => format!("{size} bytes"),
                Kind::SymbolicLink { target } => format!("-> {}", OsStr::from_bytes(target).display()),
                _ => "directory".to_owned(),
            };
            (path, (entry.mode, what, entry.modified.seconds, i64::from(entry.modified.nanoseconds)))
        })
        .collect();
    assert_eq!(listing(&place.out()), expected);
    assert_eq!(place.names(), ["out"]);
}

#[test]
fn hard_links_are_one_file() {
    let place = Place::new();
    place.restore_whole(&[
        entry("a", 0o500, Kind::Directory),
        file("a/one", 0o400, 10),
        link("a/soft", "one"),
        directory("b"),
        hard_link("b/two", "a/one"),
        hard_link("soft again", "a/soft"),
    ]);
    let out = place.out();
    let [one, two] = ["a/one", "b/two"].map(|name| fs::metadata(out.join(name)).unwrap());
    assert_eq!((one.ino(), one.nlink(), one.mode() & 0o7777, one.mtime()), (two.ino(), 2, 0o400, 1_700_000_000));
    assert_eq!(fs::symlink_metadata(out.join("a/soft")).unwrap().nlink(), 2);
    // The second link did not touch the directory of the first.
    assert_eq!(fs::metadata(out.join("a")).unwrap().mtime(), 1_700_000_000);
}

#[test]
fn a_hard_link_to_an_omitted_file_is_omitted() {
    let place = Place::new();
    let entries = [
        file("f", 0o600, 1),
        hard_link("before", "f"),
        file("./f", 0o600, 2),
        hard_link("after", "f"),
        hard_link("after again", "after"),
        directory("f"),
        file("f/in", 0o600, 1),
        hard_link("in", "f/in"),
        // What is in the directory that was restored is not omitted with the link of its name.
        file("x/y", 0o600, 1),
        link("x", "f"),
        hard_link("z", "x/y"),
    ];
    let omissions = reasons(place.restore(&Archive::of(&entries), PLAIN).unwrap());
    let target = |target: &str| Reason::LinkTarget { target: target.into() };
    let expected = [
        ("f", Reason::Collision),
        ("after", target("f")),
        ("after again", target("after")),
        ("f", Reason::Collision),
        ("f/in", Reason::InOmittedDirectory),
        ("in", target("f/in")),
        ("x", Reason::Collision),
    ];
    assert_eq!(omissions, expected.map(|(path, reason)| (path.to_owned(), reason)));
    let names = listing(&place.out());
    let names: Vec<_> = names.keys().map(|name| str::from_utf8(name).unwrap()).collect();
    assert_eq!(names, ["", "before", "f", "x", "x/y", "z"]);
}

#[test]
fn a_hard_link_leads_into_a_directory_that_nobody_can_read() {
    let place = Place::new();
    let entries = [
        entry("d", 0o300, Kind::Directory),
        file("d/f", 0o600, 3),
        entry("locked", 0o000, Kind::Directory),
        file("locked/f", 0o600, 3),
        hard_link("g", "d/f"),
        hard_link("none", "d/none"),
        hard_link("nowhere", "e/f"),
        hard_link("locked again", "locked/f"),
    ];
    let omissions = place.restore(&Archive::of(&entries), PLAIN).unwrap();
    let out = place.out();
    for name in ["d", "locked"] {
        fs::set_permissions(out.join(name), fs::Permissions::from_mode(0o700)).unwrap();
    }
    assert_eq!(fs::metadata(out.join("g")).unwrap().ino(), fs::metadata(out.join("d/f")).unwrap().ino());
    let mut expected = vec![
        ("none", Reason::LinkTarget { target: b"d/none".to_vec() }),
        ("nowhere", Reason::LinkTarget { target: b"e/f".to_vec() }),
    ];
    // What root may do.
    if !is_root() {
        expected.push(("locked again", Reason::Refused { os_error: rustix::io::Errno::ACCESS.raw_os_error() }));
    }
    let expected: Vec<_> = expected.into_iter().map(|(path, reason)| (path.to_owned(), reason)).collect();
    assert_eq!(reasons(omissions), expected);
}

#[test]
fn holes_stay_holes() {
    let place = Place::new();
    let extent = |offset, length| Extent { offset, length };
    let sparse = |path: &str, size, extents| entry(path, 0o644, Kind::File { size, extents: Some(extents) });
    place.restore_whole(&[
        sparse("end", 1 << 33, vec![extent(1 << 20, 4096), extent(1 << 32, 8192)]),
        sparse("hole", 1 << 30, vec![]),
        sparse("last", (1 << 20) + 5, vec![extent(1 << 20, 5)]),
    ]);
    let metadata = |name| fs::metadata(place.out().join(name)).unwrap();
    for (name, size, data) in [("end", 1 << 33, 12_288), ("hole", 1 << 30, 0), ("last", (1 << 20) + 5, 5)] {
        let metadata = metadata(name);
        assert_eq!(metadata.len(), size, "{name}");
        assert!(metadata.blocks() * 512 <= data + 16 * 4096, "{name}: {} blocks", metadata.blocks());
    }
    let last = fs::read(place.out().join("last")).unwrap();
    assert!(last[..1 << 20].iter().all(|&byte| byte == 0) && last.ends_with(b"\0xxxxx"));
}
