//! Goal: an archive becomes the directory that it describes, and nothing outside of it changes. Method: archives made by
//! the encoder, or by hand where it refuses, restored to temporary directories.

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
use crate::client::get::omission::{RestoreOmission, RestoreOmissionReason as Reason};
use crate::client::get::restore_options::{RestoreOptions, RestoreOwners};
use crate::client::usage_error::UsageError;

const PLAIN: RestoreOptions = RestoreOptions { owners: RestoreOwners::None, xattrs: false };
const FULL: RestoreOptions = RestoreOptions { owners: RestoreOwners::ByNumber, xattrs: true };

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
    let mut output = TreeOutput::open(path, options)?;
    let mut omissions = Vec::new();
    // Blocks that end anywhere.
    for block in archive.chunks(1300) {
        output.write(block.to_vec())?;
        omissions.extend(output.omissions());
    }
    omissions.extend(output.finish()?);
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

/// Links in an archive are made, and never followed.
#[test]
fn nothing_is_written_outside_the_directory() {
    let place = Place::new();
    let outside = place.0.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), b"keep").unwrap();
    let before = listing(&outside);
    let to = outside.to_str().unwrap();
    let entries = [
        link("a", to),
        file("a/new", 0o644, 1),
        file("a/file", 0o644, 1),
        directory("a/dir"),
        hard_link("a/hard", "b"),
        link("b", &format!("{to}/file")),
        file("b", 0o600, 1),
        hard_link("c", "a/file"),
        entry("a", 0o777, Kind::Directory),
        directory("d"),
        link("d/e", "../../outside"),
        link("d/e/f", "x"),
    ];
    let omissions = reasons(place.restore(&Archive::of(&entries), PLAIN).unwrap());
    let expected = [
        ("a/new", Reason::NotInDirectory),
        ("a/file", Reason::NotInDirectory),
        ("a/dir", Reason::NotInDirectory),
        ("a/hard", Reason::NotInDirectory),
        ("b", Reason::Collision),
        ("c", Reason::LinkTarget { target: b"a/file".to_vec() }),
        ("a", Reason::Collision),
        ("d/e/f", Reason::NotInDirectory),
    ];
    assert_eq!(omissions, expected.map(|(path, reason)| (path.to_owned(), reason)));
    assert_eq!(listing(&outside), before);
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
fn paths_out_of_the_directory_are_refused() {
    for path in ["..", "../x", "a/../../x", "/x", "/", "a/.."] {
        let place = Place::new();
        for entry in [raw(b'0', path, ""), raw(b'1', "link", path), raw(b'5', path, "")] {
            let error = place.restore(&[raw(b'5', "a", ""), entry, END.to_vec()].concat(), PLAIN).unwrap_err();
            assert!(error.to_string().contains("leads out of the directory"), "{path}: {error}");
            assert!(place.names().is_empty(), "{path}");
        }
    }
}

#[test]
fn the_second_entry_of_a_name_overwrites_nothing() {
    let place = Place::new();
    let mut archive = Archive::default();
    archive.add(&file("f", 0o600, 5), b"first");
    archive.add(&file("f", 0o644, 6), b"second");
    archive.add(&directory("d"), b"");
    archive.add(&file("d/kept", 0o644, 0), b"");
    archive.add(&entry("d", 0o700, Kind::Directory), b"");
    archive.add(&file("d/added", 0o644, 0), b"");
    archive.add(&link("d", "f"), b"");
    archive.add(&directory("f"), b"");
    archive.add(&file("f/in", 0o644, 0), b"");
    let omissions = reasons(place.restore(&archive.end(), PLAIN).unwrap());
    let expected = [
        ("f", Reason::Collision),
        ("d", Reason::Collision),
        ("f", Reason::Collision),
        ("f/in", Reason::InOmittedDirectory),
    ];
    assert_eq!(omissions, expected.map(|(path, reason)| (path.to_owned(), reason)));
    assert_eq!(fs::read(place.out().join("f")).unwrap(), b"first");
    // The same directory twice is one directory.
    let d = place.out().join("d");
    assert!(d.join("kept").exists() && d.join("added").exists());
    assert_eq!(fs::metadata(d).unwrap().mode() & 0o7777, 0o700);
}

#[test]
fn directories_that_only_have_entries_are_private() {
    let place = Place::new();
    place.restore_whole(&[file("a/b/c", 0o644, 1), file("a/d", 0o644, 1)]);
    for name in ["a", "a/b"] {
        assert_eq!(fs::metadata(place.out().join(name)).unwrap().mode() & 0o7777, 0o700);
    }
}

#[test]
fn set_id_bits_are_kept_for_their_owner_only() {
    let place = Place::new();
    let other = |id| Owner { id: id + 12_345, name: None };
    let mine = file("mine", 0o6755, 1);
    let user = Entry { user: other(mine.user.id), ..file("user", 0o6755, 1) };
    let group = Entry { group: other(mine.group.id), ..file("group", 0o6711, 1) };
    let named = Entry { user: Owner { id: mine.user.id, name: Some("daemon".into()) }, ..file("named", 0o4755, 1) };
    let archive = Archive::of(&[mine, user, group, named]);
    let modes = |place: &Place| {
        ["mine", "user", "group", "named"].map(|name| fs::metadata(place.out().join(name)).unwrap().mode() & 0o7777)
    };
    let options = RestoreOptions { owners: RestoreOwners::None, xattrs: false };
    let omissions = reasons(place.restore(&archive, options).unwrap());
    assert_eq!(omissions, ["user", "group", "named"].map(|name| (name.to_owned(), Reason::SetId)));
    assert_eq!(modes(&place), [0o6755, 0o2755, 0o4711, 0o755]);
    if is_root() {
        let place = Place::new();
        assert_eq!(
            place.restore(&archive, RestoreOptions { owners: RestoreOwners::ByName, xattrs: true }).unwrap(),
            []
        );
        assert_eq!(modes(&place), [0o6755, 0o6755, 0o6711, 0o4755]);
    }
}

#[test]
fn owners_are_restored_by_name_or_by_number() {
    if !is_root() {
        eprintln!("NOT RUN: owners_are_restored_by_name_or_by_number: this is not root");
        return;
    }
    let owned = |path: &str, id, name: Option<&str>, kind| {
        let owner = Owner { id, name: name.map(ToOwned::to_owned) };
        Entry { user: owner.clone(), group: owner, ..entry(path, 0o755, kind) }
    };
    let file = Kind::File { size: 0, extents: None };
    let archive = Archive::of(&[
        owned(".", 70_000, None, Kind::Directory),
        owned("daemon", 70_001, Some("daemon"), file.clone()),
        owned("nobody here", 70_002, Some("no such user"), file),
        owned("link", 70_003, None, Kind::SymbolicLink { target: b"nowhere".to_vec() }),
    ]);
    for (owners, daemon) in [(RestoreOwners::ByName, 1), (RestoreOwners::ByNumber, 70_001)] {
        let place = Place::new();
        assert_eq!(place.restore(&archive, RestoreOptions { owners, xattrs: false }).unwrap(), []);
        for (name, id) in [("", 70_000), ("daemon", daemon), ("nobody here", 70_002), ("link", 70_003)] {
            let metadata = fs::symlink_metadata(place.out().join(name)).unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (id, id), "{name}");
        }
    }
}

#[cfg(target_os = "linux")]
mod attributes {
    use rustix::fs::{XattrFlags, getxattr, lgetxattr, setxattr};

    use super::*;
    use crate::archive::acl;
    use crate::client::get::tree::metadata::MetadataSetter;
    use crate::client::get::tree::restorer::copy_link;

    fn value(path: &Path, name: &str) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 1000];
        let length = lgetxattr(path, name, &mut buffer).ok()?;
        buffer.truncate(length);
        Some(buffer)
    }

    /// Whether the file system for temporary files has this attribute, set to this value.
    fn is_supported(test: &str, name: &str, value: &[u8]) -> bool {
        let directory = tempfile::tempdir().unwrap();
        let set = setxattr(directory.path(), name, value, XattrFlags::empty());
        if let Err(error) = set {
            eprintln!("NOT RUN: {test}: {name}: {error}");
        }
        set.is_ok()
    }

    #[test]
    fn attributes_and_capabilities_come_back() {
        if !is_supported("attributes_and_capabilities_come_back", "user.a", b"1") {
            return;
        }
        let place = Place::new();
        let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
        let mut attributes = vec![(b"user.a".to_vec(), b"1\n=\0\xff".to_vec()), (b"user.empty".to_vec(), vec![])];
        if is_root() {
            attributes.insert(0, (b"security.capability".to_vec(), capability));
        }
        let with = |entry: Entry| Entry { xattrs: attributes.clone(), ..entry };
        let read_only = with(file("f", 0o555, 3));
        let folder = Entry { xattrs: attributes[usize::from(is_root())..].to_vec(), ..directory("d") };
        assert_eq!(place.restore(&Archive::of(&[read_only, folder]), FULL).unwrap(), []);
        for (name, expected) in &attributes {
            let name = str::from_utf8(name).unwrap();
            assert_eq!(value(&place.out().join("f"), name).as_ref(), Some(expected), "{name}");
        }
        assert_eq!(value(&place.out().join("d"), "user.empty"), Some(vec![]));
        // They are not restored unasked, and what the target refuses is named.
        let place = Place::new();
        let bad = Entry { xattrs: vec![(b"nonsense".to_vec(), vec![])], ..file("bad", 0o600, 0) };
        let archive = Archive::of(&[with(file("f", 0o555, 3)), bad]);
        assert_eq!(place.restore(&archive, PLAIN).unwrap(), []);
        assert_eq!(value(&place.out().join("f"), "user.a"), None);
        let place = Place::new();
        let omissions = place.restore(&archive, FULL).unwrap();
        assert!(matches!(&omissions[..], [RestoreOmission { reason: Reason::Attribute { .. }, .. }]), "{omissions:?}");
    }

    #[test]
    fn access_control_lists_come_back_or_grant_nothing() {
        const LIST: &str = "user::rwx,user:70000:r--,group::r--,mask::rwx,other::r-x";
        let stored = acl::from_text(LIST).unwrap();
        if !is_supported("access_control_lists_come_back_or_grant_nothing", "system.posix_acl_access", &stored) {
            return;
        }
        let list = || Some(LIST.to_owned());
        let place = Place::new();
        let archive = Archive::of(&[
            Entry { access_acl: list(), default_acl: list(), ..entry("d", 0o775, Kind::Directory) },
            Entry { access_acl: list(), ..file("d/f", 0o775, 1) },
            Entry { access_acl: Some("user:bob:rwx".into()), ..file("bad", 0o666, 1) },
            file("none", 0o660, 1),
        ]);
        assert_eq!(
            reasons(place.restore(&archive, FULL).unwrap()),
            [("bad".to_owned(), Reason::Acl { os_error: None })]
        );
        let out = place.out();
        for (name, attribute, expected) in [
            ("d", "system.posix_acl_access", Some(stored.clone())),
            ("d", "system.posix_acl_default", Some(stored.clone())),
            ("d/f", "system.posix_acl_access", Some(stored.clone())),
            ("d/f", "system.posix_acl_default", None),
            ("none", "system.posix_acl_access", None),
        ] {
            assert_eq!(value(&out.join(name), attribute), expected, "{name} {attribute}");
        }
        let mode = |place: &Place, name: &str| fs::metadata(place.out().join(name)).unwrap().mode() & 0o7777;
        assert_eq!([mode(&place, "d"), mode(&place, "d/f"), mode(&place, "bad")], [0o775, 0o775, 0o600]);
        // The mask is no permission of the group.
        let place = Place::new();
        assert_eq!(place.restore(&archive, PLAIN).unwrap(), []);
        assert_eq!([mode(&place, "d"), mode(&place, "d/f"), mode(&place, "none")], [0o744, 0o744, 0o660]);
    }

    #[test]
    fn a_copy_for_a_hard_link_grants_no_more_than_the_file() {
        let list = acl::from_text("user::rw-,user:70000:rw-,group::---,mask::rw-,other::---").unwrap();
        let test = "a_copy_for_a_hard_link_grants_no_more_than_the_file";
        if !is_supported(test, "system.posix_acl_access", &list) {
            return;
        }
        let place = Place::new();
        let [original, plain, with_list] = ["original", "plain", "list"].map(|name| place.0.path().join(name));
        fs::write(&original, b"bytes").unwrap();
        setxattr(&original, "system.posix_acl_access", &list, XattrFlags::empty()).unwrap();
        assert_eq!(fs::metadata(&original).unwrap().mode() & 0o777, 0o660, "the mask");
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        for (path, options) in [(&plain, PLAIN), (&with_list, FULL)] {
            let mut original = fs::File::open(&original).unwrap();
            let entry = entry("copy", 0o660, Kind::HardLink { target: b"original".to_vec() });
            let copy = fs::File::create_new(path).unwrap();
            assert_eq!(copy_link(&mut original, copy, &entry, &MetadataSetter::new(options)).unwrap(), []);
            assert_eq!(fs::read(path).unwrap(), b"bytes");
        }
        assert_eq!((mode(&plain), value(&plain, "system.posix_acl_access")), (0o600, None));
        assert_eq!((mode(&with_list), value(&with_list, "system.posix_acl_access")), (0o660, Some(list)));
    }

    /// A list for new files of the folder around must not grant anything on restored ones.
    #[test]
    fn lists_of_the_folder_around_are_not_inherited() {
        let list = acl::from_text("user::rwx,user:70000:rwx,group::rwx,mask::rwx,other::rwx").unwrap();
        if !is_supported("lists_of_the_folder_around_are_not_inherited", "system.posix_acl_default", &list) {
            return;
        }
        let place = Place::new();
        setxattr(place.0.path(), "system.posix_acl_default", &list, XattrFlags::empty()).unwrap();
        place.restore_whole(&[directory("d"), file("d/f", 0o640, 1)]);
        for name in ["", "d", "d/f"] {
            let path = place.out().join(name);
            assert_eq!(value(&path, "system.posix_acl_access"), None, "{name}");
            assert!(getxattr(&path, "system.posix_acl_default", &mut [0; 100][..]).is_err(), "{name}");
        }
    }
}

#[test]
fn special_files_are_named_and_skipped() {
    let place = Place::new();
    let archive = [raw(b'6', "pipe\n", ""), Archive::of(&[file("after", 0o644, 3)])].concat();
    let omissions = place.restore(&archive, PLAIN).unwrap();
    assert_eq!(omissions.len(), 1);
    assert_eq!(omissions[0].to_string(), "pipe\\n: not restored: it is a FIFO");
    assert_eq!(fs::read(place.out().join("after")).unwrap(), b"xxx");
}

/// What cannot be in any target is omitted, and the rest is restored.
#[test]
fn names_that_the_target_refuses_are_omitted() {
    let place = Place::new();
    let name = "n".repeat(256);
    let inside = format!("{name}/inside");
    let entries = [directory(&name), file(&inside, 0o644, 1), file("good", 0o644, 1), link("long", &"t".repeat(5000))];
    let omissions = reasons(place.restore(&Archive::of(&entries), PLAIN).unwrap());
    let too_long = Reason::Refused { os_error: rustix::io::Errno::NAMETOOLONG.raw_os_error() };
    let expected = [(name, too_long.clone()), (inside, Reason::InOmittedDirectory), ("long".to_owned(), too_long)];
    assert_eq!(omissions, expected);
    assert_eq!(fs::read(place.out().join("good")).unwrap(), b"x");
}

/// Goal: the depth of a tree needs neither open files nor stack. Method: a tree deeper than the usual 1,024 files that a
/// process may open, and one beyond the limit.
#[test]
fn deep_trees_are_restored_to_a_limit() {
    let place = Place::new();
    let depths = [1, 2, 63, 64, 65, 66, 130, 1100, 2049, 100_000];
    let mut entries = vec![];
    for depth in 1..=200 {
        entries.push(entry("d/".repeat(depth), 0o500, Kind::Directory));
    }
    entries.extend(depths.map(|depth| file("e/".repeat(depth - 1) + "f", 0o644, 1)));
    for entry in &mut entries[..200] {
        entry.path.pop();
    }
    let omissions = place.restore(&Archive::of(&entries), PLAIN).unwrap();
    assert_eq!(
        omissions.iter().map(|omission| omission.reason.clone()).collect::<Vec<_>>(),
        [Reason::TooDeep, Reason::TooDeep]
    );
    let mut path = place.out();
    for _ in 0..200 {
        path.push("d");
        if !is_root() {
            break;
        }
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(
            (metadata.mode() & 0o7777, metadata.mtime(), metadata.mtime_nsec()),
            (0o500, 1_700_000_000, 123_456_789)
        );
    }
    assert!(place.out().join("e/".repeat(1099) + "f").exists());
}

#[test]
fn a_failed_restore_leaves_nothing_even_of_closed_directories() {
    let place = Place::new();
    let whole = Archive::of(&[entry("a", 0o500, Kind::Directory), file("a/f", 0o000, 1), directory("b")]);
    for length in [0, 600, 2000, whole.len() - 600] {
        let error = place.restore(&whole[..length], PLAIN).unwrap_err();
        assert!(error.to_string().contains("the archive is truncated"), "{error}");
        assert!(place.names().is_empty(), "{length} bytes");
    }
    // Stopped in between.
    let mut output = TreeOutput::open(&place.out(), PLAIN).unwrap();
    output.write(whole[..1500].to_vec()).unwrap();
    drop(output);
    assert!(place.names().is_empty());
}

#[test]
fn an_existing_empty_directory_is_filled() {
    let place = Place::new();
    let out = place.out();
    fs::create_dir(&out).unwrap();
    fs::create_dir(out.join("lost+found")).unwrap();
    let inode = fs::metadata(&out).unwrap().ino();
    let entries = [
        entry(".", 0o555, Kind::Directory),
        entry("closed", 0o500, Kind::Directory),
        file("closed/f", 0o600, 1),
        file("f", 0o600, 1),
        link("link", "f"),
        directory("lost+found"),
    ];
    place.restore_whole(&entries);
    let metadata = fs::metadata(&out).unwrap();
    assert_eq!((metadata.ino(), metadata.mode() & 0o7777, metadata.mtime()), (inode, 0o555, 1_700_000_000));
    let listing = listing(&out);
    let names: Vec<_> = listing.keys().map(|name| str::from_utf8(name).unwrap()).collect();
    assert_eq!(names, ["", "closed", "closed/f", "f", "link", "lost+found"]);
    assert_eq!((listing[&b"closed"[..]].0, listing[&b"closed"[..]].2), (0o500, 1_700_000_000));
    // It is not empty now.
    let error = place.restore(&Archive::of(&entries), PLAIN).unwrap_err();
    assert!(matches!(error, ClientError::Usage(UsageError::OutputDirectoryNotEmpty { .. })), "{error}");
}

#[test]
fn a_directory_that_takes_the_path_of_the_target_gets_nothing() {
    let place = Place::new();
    let [out, moved, other] = ["out", "moved", "other"].map(|name| place.0.path().join(name));
    fs::create_dir(&out).unwrap();
    fs::create_dir(&other).unwrap();
    let before = listing(&other);
    let entries = [
        entry(".", 0o751, Kind::Directory),
        entry("closed", 0o500, Kind::Directory),
        file("closed/f", 0o600, 1),
        file("f", 0o600, 1),
    ];
    let mut output = TreeOutput::open(&out, PLAIN).unwrap();
    output.write(Archive::of(&entries)).unwrap();
    fs::rename(&out, &moved).unwrap();
    std::os::unix::fs::symlink(&other, &out).unwrap();
    assert_eq!(output.finish().unwrap(), []);
    assert_eq!(listing(&other), before);
    let listing = listing(&moved);
    let modes: Vec<_> = listing.iter().map(|(name, entry)| (str::from_utf8(name).unwrap(), entry.0)).collect();
    assert_eq!(modes, [("", 0o751), ("closed", 0o500), ("closed/f", 0o600), ("f", 0o600)]);
}

#[test]
fn what_appeared_meanwhile_is_kept_and_so_is_what_was_restored() {
    for is_inside in [true, false] {
        let place = Place::new();
        let out = place.out();
        if is_inside {
            fs::create_dir(&out).unwrap();
        }
        let mut output = TreeOutput::open(&out, PLAIN).unwrap();
        output.write(Archive::of(&[file("f", 0o600, 8), file("g", 0o600, 1)])).unwrap();
        fs::create_dir_all(&out).unwrap();
        fs::write(out.join("f"), b"other").unwrap();
        match output.finish().unwrap_err() {
            ClientError::RestoredElsewhere { saved_as, .. } => {
                assert_eq!(fs::read(saved_as.join("f")).unwrap(), b"xxxxxxxx");
            }
            error => panic!("{error}"),
        }
        assert_eq!(fs::read(out.join("f")).unwrap(), b"other");
        assert_eq!(out.join("g").exists(), is_inside);
    }
}

#[test]
fn only_an_empty_directory_is_a_place() {
    let place = Place::new();
    let out = place.out();
    fs::write(&out, b"keep").unwrap();
    let error = place.restore(&Archive::of(&[]), PLAIN).unwrap_err();
    assert!(matches!(error, ClientError::Usage(UsageError::OutputDirectoryExists { .. })), "{error}");
    fs::remove_file(&out).unwrap();
    std::os::unix::fs::symlink("nowhere", &out).unwrap();
    let error = place.restore(&Archive::of(&[]), PLAIN).unwrap_err();
    assert!(matches!(error, ClientError::Usage(UsageError::OutputDirectoryExists { .. })), "{error}");
    fs::set_permissions(place.0.path(), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(place.names(), ["out"]);
}
