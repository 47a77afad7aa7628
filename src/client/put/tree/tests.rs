//! Goal: the stream of a directory has what is there, and the plan knows its length. Method: real directories, whose
//! streams are read with the crate `tar`.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tar::EntryType::{self, Directory, Link, Regular, Symlink};
use tempfile::TempDir;

use super::*;
use crate::archive::index::IndexReader;
use crate::client::discover::colony::ColonyScope;
use crate::client::put::omission::SpecialFile;
use crate::id::ChunkId;
use crate::pipeline::{Key, Level};

fn options() -> PutOptions {
    PutOptions {
        copies: 1,
        min_copies: None,
        level: Level::default(),
        jobs: 1,
        force: false,
        skip_room_check: false,
        allow_empty: false,
        exclude: Vec::new(),
        exclude_caches: false,
        one_file_system: false,
        xattrs: true,
        strict: false,
        scope: ColonyScope { nodes: Vec::new(), udp_port: 1, loopback: true },
    }
}

/// What came out of a tree.
struct Packed {
    stream: Vec<u8>,
    index: Vec<u8>,
    planned_bytes: u64,
    /// Names and reasons, of the plan and of the stream.
    planned: Vec<(String, OmissionReason)>,
    omitted: Vec<(String, OmissionReason)>,
}

impl Packed {
    /// The paths in the stream with their types.
    fn entries(&self) -> Vec<(String, EntryType)> {
        let mut archive = tar::Archive::new(&self.stream[..]);
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            (path_of(&entry), entry.header().entry_type())
        });
        entries.collect()
    }

    fn names(&self) -> Vec<String> {
        self.entries().into_iter().map(|(name, _)| name).collect()
    }

    fn data(&self, name: &str) -> Vec<u8> {
        let mut archive = tar::Archive::new(&self.stream[..]);
        let mut entries = archive.entries().unwrap().map(Result::unwrap);
        let mut entry = entries.find(|entry| path_of(entry) == name).expect("the entry");
        let mut data = Vec::new();
        io::Read::read_to_end(&mut entry, &mut data).unwrap();
        data
    }
}

/// The path of an entry, without `./` before it.
fn path_of(entry: &tar::Entry<'_, impl io::Read>) -> String {
    let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    path.strip_prefix("./").map_or(path.clone(), ToOwned::to_owned)
}

fn plan_and_pack(root: &Path, options: &PutOptions, before_pack: &dyn Fn()) -> Packed {
    let tree = Tree::new(root, options).unwrap();
    let (mut planned, mut omitted) = (Vec::new(), Vec::new());
    let named = |omission: Omission| (omission.path.file_name().unwrap().display().to_string(), omission.reason);
    let stop = StopSignal::default();
    let planned_bytes = tree.plan(&stop, &mut |omission| planned.push(named(omission))).unwrap();
    before_pack();
    let mut stream = Vec::new();
    let mut index = Vec::new();
    let mut take = |block: PutBlock| {
        match block.position {
            Position::Data(_) => stream.extend(block.bytes),
            Position::Index(_) => index.extend(block.bytes),
        }
        true
    };
    let length = pack(&tree, &mut take, &mut |omission| omitted.push(named(omission))).unwrap().unwrap();
    assert_eq!(length.bytes, stream.len() as u64);
    Packed { stream, index, planned_bytes, planned, omitted }
}

/// Packs a tree whose blocks all have the hash of nothing.
fn pack(
    tree: &Tree,
    take: &mut dyn FnMut(PutBlock) -> bool,
    report: &mut dyn FnMut(Omission),
) -> Result<Option<SourceLength>, ClientError> {
    let hash = BlockHash::of(b"", &Key::generate());
    tree.pack(Reader { is_needed: &|_| true, take, hashes: &mut |count| Some(vec![hash; count]), report })
}

fn packed(root: &Path, options: &PutOptions) -> Packed {
    plan_and_pack(root, options, &|| {})
}

/// A directory of these files. A name that ends in `/` is a directory.
fn tree_of(names: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in names {
        let path = dir.path().join(name);
        if name.ends_with('/') {
            fs::create_dir_all(&path).unwrap();
        } else {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, name).unwrap();
        }
    }
    dir
}

fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

#[test]
fn a_directory_gives_the_same_stream_every_time() {
    let dir = tree_of(&["b/two", "a", "c/"]);
    symlink("a", dir.path().join("d")).unwrap();
    let first = packed(dir.path(), &options());
    assert!(first.stream == packed(dir.path(), &options()).stream);
    let expected =
        [(".", Directory), ("a", Regular), ("b", Directory), ("b/two", Regular), ("c", Directory), ("d", Symlink)];
    assert_eq!(first.entries(), expected.map(|(name, kind)| (name.to_owned(), kind)));
    assert_eq!(first.data("b/two"), b"b/two");
}

#[test]
fn the_plan_knows_the_exact_length_of_the_stream() {
    let dir = tree_of(&["a", "empty/", "sub/file"]);
    fs::write(dir.path().join("l".repeat(250)), vec![1; 3_000_000]).unwrap();
    let sparse = File::create(dir.path().join("sparse")).unwrap();
    sparse.set_len(50 << 20).unwrap();
    for n in 0..40 {
        sparse.write_all_at(b"data", n << 20).unwrap();
    }
    fs::hard_link(dir.path().join("a"), dir.path().join("z")).unwrap();
    // Not every file system has attributes; what is set counts in both passes.
    let _ = rustix::fs::setxattr(dir.path().join("a"), "user.comment", &[7; 900], rustix::fs::XattrFlags::empty());
    let packed = packed(dir.path(), &options());
    assert_eq!(packed.planned_bytes, packed.stream.len() as u64);
    assert!(packed.stream.len() < 5_000_000, "{} bytes: holes are not stored", packed.stream.len());
    assert_eq!((packed.planned.len(), packed.omitted.len()), (0, 0));
}

/// Goal: with the index, one file can be found and read alone. Method: each entry is read from its range of the stream.
#[test]
fn the_index_has_each_entry_and_its_range() {
    let dir = tree_of(&["a", "sub/b", "z"]);
    fs::write(dir.path().join("large"), vec![1; 3_000_000]).unwrap();
    fs::write(dir.path().join("l".repeat(250)), b"long").unwrap();
    symlink("a", dir.path().join("link")).unwrap();
    let packed = packed(dir.path(), &options());
    let (mut reader, mut entries, mut blocks) = (IndexReader::default(), Vec::new(), 0);
    let mut take = |line| match line {
        IndexLine::Entry(entry) if blocks == 0 => entries.push(entry),
        IndexLine::Entry(entry) => panic!("an entry after the blocks: {entry:?}"),
        IndexLine::Block(_) => blocks += 1,
    };
    reader.read(&packed.index, &mut take).unwrap();
    reader.finish().unwrap();
    assert_eq!(blocks, 5, "one with small entries, three of the large one, and the rest");
    let names: Vec<_> = entries.iter().map(|entry| String::from_utf8(entry.path.clone()).unwrap()).collect();
    assert_eq!(names, packed.names());
    let mut end = 0;
    for (entry, name) in entries.iter().zip(names) {
        assert_eq!(entry.offset, end);
        end += entry.length;
        let data = usize::try_from(entry.data_offset()).unwrap();
        let len = usize::try_from(entry.kind.data_bytes()).unwrap();
        assert!(packed.stream[data..data + len] == packed.data(&name), "{name}");
    }
    assert_eq!(end + archive::END.len() as u64, packed.stream.len() as u64);
}

/// The hashes of the blocks of a tree, those of the index among them.
fn block_hashes(root: &Path) -> BTreeSet<ChunkId> {
    let mut hashes = BTreeSet::new();
    let mut take = |block: PutBlock| {
        hashes.insert(ChunkId::of(&block.bytes));
        true
    };
    pack(&Tree::new(root, &options()).unwrap(), &mut take, &mut |_| {}).unwrap().unwrap();
    hashes
}

/// Goal: a change to one small file makes few new blocks, wherever it is. Method: of 10,000 files of 1 KiB to 20 KiB one
/// at a time changes, grows, or is replaced.
#[test]
fn a_changed_file_makes_few_new_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(11);
    let path = |n: u32| dir.path().join(format!("folder{:02}/file{:03}", n / 100, n % 100));
    for n in 0..10_000 {
        fs::create_dir_all(path(n).parent().unwrap()).unwrap();
        let len = if n % 9 == 0 { random.usize(1..20_000) } else { 1024 };
        fs::write(path(n), std::iter::repeat_with(|| random.u8(..)).take(len).collect::<Vec<_>>()).unwrap();
    }
    let mut before = block_hashes(dir.path());
    let mut counts = Vec::new();
    for round in 0..20 {
        let path = path(random.u32(0..10_000));
        match round % 3 {
            0 => File::options().write(true).open(&path).unwrap().write_all_at(&[random.u8(..)], 0).unwrap(),
            1 => fs::write(&path, vec![random.u8(..); 1024 + random.usize(512..4096)]).unwrap(),
            _ => {
                fs::remove_file(&path).unwrap();
                fs::write(&path, vec![random.u8(..); 1024]).unwrap();
            }
        }
        let after = block_hashes(dir.path());
        counts.push(after.difference(&before).count());
        before = after;
    }
    counts.sort_unstable();
    assert!(counts[17] <= 6, "{counts:?} of {}", before.len());
}

#[test]
fn what_is_excluded_is_neither_stored_nor_entered() {
    let dir = tree_of(&["a.o", "keep", "sub/b.o", "sub/keep", "cache/x", "sub/cache/y", "top", "sub/top"]);
    let exclude = vec!["*.o".to_owned(), "cache/".to_owned(), "/top".to_owned()];
    let packed = packed(dir.path(), &PutOptions { exclude, ..options() });
    assert_eq!(packed.names(), [".", "keep", "sub", "sub/keep", "sub/top"]);
    assert_eq!(packed.planned_bytes, packed.stream.len() as u64);
    assert!(packed.planned.is_empty(), "what is excluded is no omission");
}

#[test]
fn only_the_tag_of_a_cache_is_stored() {
    let tag = "sub/cache/CACHEDIR.TAG";
    let dir = tree_of(&["sub/cache/data", "sub/cache/deep/data", tag, "sub/other", "wrong/CACHEDIR.TAG", "wrong/data"]);
    fs::write(dir.path().join(tag), "Signature: 8a477f597d28d172789f06886806bc55\n# a comment").unwrap();
    let exclude_caches = PutOptions { exclude_caches: true, ..options() };
    let names = packed(dir.path(), &exclude_caches).names();
    assert_eq!(names, [".", "sub", "sub/cache", tag, "sub/other", "wrong", "wrong/CACHEDIR.TAG", "wrong/data"]);
    assert_eq!(packed(dir.path(), &options()).names().len(), 11);
}

#[test]
fn special_files_are_named_once_and_skipped() {
    let dir = tree_of(&["a", "z"]);
    fifo(&dir.path().join("fifo"));
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
    let packed = packed(dir.path(), &options());
    assert_eq!(packed.names(), [".", "a", "z"]);
    let special = |name: &str, kind| (name.to_owned(), OmissionReason::Special(kind));
    assert_eq!(packed.planned, [special("fifo", SpecialFile::Fifo), special("socket", SpecialFile::Socket)]);
    assert!(packed.omitted.is_empty());
}

#[test]
fn the_first_name_of_a_file_carries_its_data() {
    let dir = tree_of(&["b", "s"]);
    for name in ["c", "d"] {
        fs::hard_link(dir.path().join("b"), dir.path().join(name)).unwrap();
    }
    symlink("s", dir.path().join("link")).unwrap();
    fs::hard_link(dir.path().join("link"), dir.path().join("link2")).unwrap();
    let all = packed(dir.path(), &options());
    let kinds: Vec<_> = all.entries().into_iter().map(|(_, kind)| kind).collect();
    assert_eq!(kinds, [Directory, Regular, Link, Link, Symlink, Link, Regular]);
    let exclude = vec!["b".to_owned()];
    let rest = packed(dir.path(), &PutOptions { exclude, ..options() });
    assert_eq!((rest.data("c"), rest.entries()[2].1), (b"b".to_vec(), Link));
}

#[test]
fn a_linked_directory_is_stored_as_the_directory() {
    let dir = tree_of(&["real/file"]);
    fs::set_permissions(dir.path().join("real"), Permissions::from_mode(0o750)).unwrap();
    symlink("real", dir.path().join("link")).unwrap();
    let packed = packed(&dir.path().join("link"), &options());
    assert_eq!(packed.names(), [".", "file"]);
    let mut archive = tar::Archive::new(&packed.stream[..]);
    let root = archive.entries().unwrap().next().unwrap().unwrap();
    assert_eq!((root.header().mode().unwrap(), root.header().entry_type()), (0o750, Directory));
}

/// The group bits of a file with an access control list are the list's mask, which may grant more than the group has.
#[test]
fn the_mode_of_a_list_that_is_left_out_grants_no_more() {
    let list = archive::acl::from_text("user::rw-,user:70000:rw-,group::---,mask::rw-,other::---").unwrap();
    let dir = tree_of(&["file", "other"]);
    fs::set_permissions(dir.path().join("file"), Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(dir.path().join("other"), Permissions::from_mode(0o660)).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    if rustix::fs::setxattr(dir.path().join("file"), "system.posix_acl_access", &list, flags).is_err() {
        return; // Not every file system has such lists.
    }
    for (xattrs, expected) in [(true, [0o660, 0o660]), (false, [0o600, 0o660])] {
        let packed = packed(dir.path(), &PutOptions { xattrs, ..options() });
        let mut archive = tar::Archive::new(&packed.stream[..]);
        let files = archive.entries().unwrap().map(Result::unwrap).skip(1);
        let modes: Vec<_> = files.map(|entry| entry.header().mode().unwrap()).collect();
        assert_eq!(modes, expected, "{xattrs}");
    }
}

#[test]
fn times_before_1970_have_their_nanoseconds() {
    let dir = tree_of(&["old"]);
    let file = File::options().write(true).open(dir.path().join("old")).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH - Duration::from_millis(450_000_000_250)).unwrap();
    let packed = packed(dir.path(), &options());
    let text = String::from_utf8_lossy(&packed.stream);
    assert!(text.contains("mtime=-450000000.25\n"), "the record is missing");
}

#[test]
fn what_vanishes_after_the_plan_is_named() {
    let dir = tree_of(&["a", "gone", "became a fifo", "z"]);
    let path = |name| dir.path().join(name);
    let packed = plan_and_pack(dir.path(), &options(), &|| {
        fs::remove_file(path("gone")).unwrap();
        fs::remove_file(path("became a fifo")).unwrap();
        fifo(&path("became a fifo"));
        fs::write(path("new"), b"new").unwrap();
    });
    // What is gone before it is found again is not there. What came is stored.
    assert_eq!(packed.names(), [".", "a", "new", "z"]);
    assert_eq!(packed.omitted, [("became a fifo".to_owned(), OmissionReason::Special(SpecialFile::Fifo))]);
}

#[test]
fn a_missing_directory_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::new(&dir.path().join("missing"), &options()).unwrap();
    assert!(tree.plan(&StopSignal::default(), &mut |_| {}).is_err());
    assert!(pack(&tree, &mut |_| true, &mut |_| {}).is_err());
}

#[test]
fn a_read_that_succeeds_the_second_time_is_no_omission() {
    let dir = tree_of(&["file"]);
    let stat = Stat::of(&fs::metadata(dir.path().join("file")).unwrap());
    let error = SystemError::from(&io::Error::from_raw_os_error(5));
    let copied = |damaged| Copied { end: None, damaged, error: Some(error) };
    assert_eq!(difference(&copied(0), &stat, Ok(stat)), None);
    assert_eq!(difference(&copied(9), &stat, Ok(stat)), Some(OmissionReason::Damaged { bytes: 9, error }));
    let unverified = difference(&copied(0), &stat, Err(io::Error::from_raw_os_error(5)));
    assert_eq!(unverified, Some(OmissionReason::Unverified(error)));
}

/// A change to a file, and whether a reason names it.
type Case<'a> = (&'a dyn Fn(&Path), fn(OmissionReason) -> bool);

/// Goal: the stream stays whole and names each file that changed. Method: a file is changed while its own data passes.
#[test]
fn a_file_that_changes_while_it_is_stored_keeps_its_length() {
    let grow = |path: &Path| {
        let file = File::options().append(true).open(path).unwrap();
        io::Write::write_all(&mut &file, b"more").unwrap();
    };
    let shrink = |path: &Path| File::options().write(true).open(path).unwrap().set_len(100).unwrap();
    let touch = |path: &Path| File::options().write(true).open(path).unwrap().write_all_at(b"x", 0).unwrap();
    let remove = |path: &Path| fs::remove_file(path).unwrap();
    let size = 4_u64 << 20;
    let cases: [Case<'_>; 4] = [
        (&grow, |reason| matches!(reason, OmissionReason::Grew { .. })),
        (&shrink, |reason| {
            matches!(reason, OmissionReason::Shrank { before: 0x40_0000, after: 100, read: 1_000_000.. })
        }),
        (&touch, |reason| reason == OmissionReason::Changed),
        (&remove, |reason| reason == OmissionReason::Changed),
    ];
    for (change, is_expected) in cases {
        let dir = tree_of(&["a", "z"]);
        let path = dir.path().join("big");
        fs::write(&path, vec![7; size.try_into().unwrap()]).unwrap();
        // Otherwise the change may have the same time as the file.
        File::options().write(true).open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let tree = Tree::new(dir.path(), &options()).unwrap();
        let (mut stream, mut omitted) = (Vec::new(), Vec::new());
        let mut take = |block: PutBlock| {
            // The first block has the entries before the large file.
            if block.position == Position::Data(2) {
                change(&path);
            }
            if let Position::Data(_) = block.position {
                stream.extend(block.bytes);
            }
            true
        };
        pack(&tree, &mut take, &mut |omission| omitted.push(omission)).unwrap().unwrap();
        let packed = Packed { stream, index: Vec::new(), planned_bytes: 0, planned: Vec::new(), omitted: Vec::new() };
        assert_eq!(packed.names(), [".", "a", "big", "z"]);
        assert_eq!((packed.data("big").len() as u64, packed.data("z")), (size, b"z".to_vec()));
        assert!(omitted.len() == 1 && omitted[0].path == path && is_expected(omitted[0].reason), "{omitted:?}");
    }
}
