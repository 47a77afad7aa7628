//! A restore that continues where another one was interrupted.

use super::*;
use crate::client::get::file_output::Kept;

/// Files of all sizes in directories of all modes, links, holes, and entries that are omitted.
fn entries() -> Vec<(Entry, Vec<u8>)> {
    let data = |entry: Entry, seed: u64| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let data = (0..entry.data_bytes()).map(|_| rng.u8(..)).collect();
        (entry, data)
    };
    let mut entries = vec![data(entry(".", 0o555, Kind::Directory), 0)];
    for outer in 0..4 {
        entries.push(data(entry(format!("d{outer}"), 0o500, Kind::Directory), 0));
        for inner in 0..3 {
            entries.push(data(entry(format!("d{outer}/e{inner}"), [0o500, 0o555, 0o711][inner], Kind::Directory), 0));
            for number in 0..40 {
                let file = file(format!("d{outer}/e{inner}/f{number}"), 0o400, 997 * number);
                entries.push(data(file, number as u64));
            }
            entries.push(data(link(&format!("d{outer}/e{inner}/link"), "f1"), 0));
            entries.push(data(hard_link(&format!("d{outer}/e{inner}/name"), &format!("d{outer}/e{inner}/f2")), 0));
        }
        let extent = |offset, length| Extent { offset, length };
        let extents = Some(vec![extent(1 << 20, 700_416), extent(5 << 20, 1 << 20), extent(9 << 20, 512)]);
        let sparse = Kind::File { size: 12 << 20, extents };
        entries.push(data(entry(format!("d{outer}/sparse"), 0o640, sparse), outer));
        entries.push(data(file(format!("d{outer}/large"), 0o444, 3_000_001), outer));
        // An entry of a name that is there: it is omitted, and so is the link to it.
        entries.push(data(file(format!("d{outer}/large"), 0o600, 5000), 7));
        entries.push(data(hard_link(&format!("d{outer}/again"), &format!("d{outer}/large")), 0));
        entries.push(data(file("implicit/deeper/".to_owned() + &outer.to_string(), 0o600, 10), 8));
    }
    // Links that are omitted because of an entry far before them.
    for outer in 0..4 {
        entries.push(data(hard_link(&format!("implicit/again{outer}"), &format!("d{outer}/large")), 0));
    }
    entries
}

fn archive() -> Vec<u8> {
    let mut archive = Archive::default();
    for (entry, data) in entries() {
        archive.add(&entry, &data);
    }
    archive.end()
}

/// The content of all files, and what `listing` has.
fn everything(root: &Path) -> Vec<(Vec<u8>, String)> {
    let mut all = Vec::new();
    for (path, mut facts) in listing(root) {
        // Directories that the archive does not list have the time at which they were made.
        if path.starts_with(b"implicit") {
            (facts.2, facts.3) = (0, 0);
        }
        let full = root.join(OsStr::from_bytes(&path));
        let metadata = fs::symlink_metadata(&full).unwrap();
        let content = if metadata.is_file() {
            crate::id::ChunkId::of(&fs::read(&full).unwrap_or_default()).to_string()
        } else {
            String::new()
        };
        all.push((path, format!("{facts:?} {content} {}", if metadata.is_file() { metadata.nlink() } else { 0 })));
    }
    all
}

/// Restores the blocks from the one on that is kept, up to a number of blocks. Returns what was kept.
fn restore_until(out: &Path, blocks: &[&[u8]], end: usize, omissions: &mut Vec<RestoreOmission>) -> Kept {
    let mut output = TreeOutput::open(out, &manifest(), &get_with(PLAIN, false)).unwrap();
    let kept = output.kept();
    omissions.clear();
    assert_eq!(kept.bytes, blocks[..kept.blocks].iter().map(|block| block.len() as u64).sum::<u64>());
    for block in blocks.iter().take(end).skip(kept.blocks) {
        output.write(block.to_vec()).unwrap();
        omissions.extend(output.omissions());
    }
    if end >= blocks.len() {
        omissions.extend(output.finish().unwrap().omissions);
    } else {
        // As if it were killed after it has done all of it.
        drop(output);
    }
    kept
}

/// A salvage restores another stream. What was restored before may be all that is left.
#[test]
fn a_salvage_keeps_what_an_interrupted_get_left() {
    let archive = archive();
    let blocks: Vec<&[u8]> = archive.chunks(1 << 20).collect();
    let place = Place::new();
    restore_until(&place.out(), &blocks, 4, &mut Vec::new());
    let options = GetOptions { salvage: true, ..get_with(PLAIN, false) };
    let error = TreeOutput::open(&place.out(), &manifest(), &options).map(drop).unwrap_err();
    assert!(matches!(&error, ClientError::Usage(_)), "{error}");
    assert!(restore_until(&place.out(), &blocks, blocks.len(), &mut Vec::new()).blocks > 0);
}

#[test]
fn a_directory_continues_wherever_it_was_interrupted() {
    let archive = archive();
    let whole = Place::new();
    let mut expected_omissions = whole.restore(&archive, PLAIN).unwrap();
    let expected = everything(&whole.out());
    expected_omissions.sort_by_key(|omission| omission.path.clone());
    assert_eq!(expected_omissions.len(), 12);
    for (round, size) in [300_000, 1 << 20, 700_001].into_iter().enumerate() {
        let blocks: Vec<&[u8]> = archive.chunks(size).collect();
        let place = Place::new();
        if round == 1 {
            fs::create_dir(place.out()).unwrap();
        }
        let (mut omissions, mut last, mut before) = (Vec::new(), 0, 0);
        // A checkpoint is up to 1 MiB behind, and one block more.
        let behind = 2 + (1 << 20) / size;
        for end in (1..blocks.len()).step_by(1 + round).chain([blocks.len()]) {
            let kept = restore_until(&place.out(), &blocks, end, &mut omissions);
            assert!(kept.blocks >= last, "it went back to {kept:?}");
            assert!(kept.blocks + behind >= before, "of {before} blocks it kept {kept:?}");
            (last, before) = (kept.blocks, end);
        }
        for (entry, expected) in everything(&place.out()).iter().zip(&expected) {
            assert_eq!(entry, expected, "blocks of {size} bytes");
        }
        assert_eq!(everything(&place.out()).len(), expected.len());
        omissions.sort_by_key(|omission| omission.path.clone());
        assert_eq!(omissions, expected_omissions);
        assert_eq!(place.names(), ["out"]);
        if round == 1 {
            assert!(!place.out().join("restore.cellsync-part").exists());
        }
    }
}

#[test]
fn a_directory_of_another_manifest_or_with_other_options_is_refused() {
    let archive = archive();
    let blocks: Vec<&[u8]> = archive.chunks(1 << 20).collect();
    let place = Place::new();
    restore_until(&place.out(), &blocks, 5, &mut Vec::new());
    let mut other = manifest();
    other.chunks.push(crate::id::ChunkId::of(b"other"));
    let numbers = RestoreOptions { owners: RestoreOwners::ByNumber, ..PLAIN };
    for (manifest, options) in [(&other, PLAIN), (&manifest(), numbers)] {
        let error = TreeOutput::open(&place.out(), manifest, &get_with(options, false)).err().unwrap().to_string();
        assert!(error.contains("out.cellsync-part") && error.contains("rm -r -- "), "{error}");
    }
    let output = TreeOutput::open(&place.out(), &other, &get_with(PLAIN, true)).unwrap();
    assert_eq!(output.kept(), Kept::default());
    assert!(matches!(
        TreeOutput::open(&place.out(), &other, &get_with(PLAIN, true)).err().unwrap(),
        ClientError::RestoreInUse { .. }
    ));
    drop(output);
    assert!(place.names().is_empty(), "nothing was written");
    // What is not ours stays.
    let mine = place.0.path().join("out.cellsync-part");
    fs::create_dir(&mine).unwrap();
    fs::write(mine.join("precious"), b"").unwrap();
    for force in [false, true] {
        let error = TreeOutput::open(&place.out(), &manifest(), &get_with(PLAIN, force)).err().unwrap();
        assert!(matches!(error, ClientError::Usage(UsageError::NotAPartialRestore { .. })), "{error}");
    }
    assert!(mine.join("precious").exists());
}

/// Continues what is in `out` to the end. Returns what was kept, and what was reported of it. All omissions are reported,
/// also those from before.
fn continue_to_end(out: &Path, blocks: &[&[u8]]) -> (Kept, String) {
    let mut output = TreeOutput::open(out, &manifest(), &get_with(PLAIN, false)).unwrap();
    let (kept, notice) = (output.kept(), output.take_notice());
    for block in &blocks[kept.blocks..] {
        output.write(block.to_vec()).unwrap();
    }
    let reported: Vec<_> = output.omissions().collect();
    assert_eq!(reported.len() + output.finish().unwrap().omissions.len(), 12);
    (kept, notice.map(|notice| notice.to_string()).unwrap_or_default())
}

/// Changes the content of a file, and nothing that a user sees of it.
fn change_secretly(path: &Path) {
    let metadata = fs::metadata(path).unwrap();
    let mut bytes = fs::read(path).unwrap();
    bytes[10] ^= 1;
    let replacement = path.with_extension("copy");
    fs::copy(path, &replacement).unwrap();
    fs::set_permissions(&replacement, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&replacement, bytes).unwrap();
    fs::set_permissions(&replacement, metadata.permissions()).unwrap();
    fs::File::open(&replacement).unwrap().set_modified(metadata.modified().unwrap()).unwrap();
    fs::rename(replacement, path).unwrap();
}

/// Gives a directory another mode for a moment and does something in it.
fn inside(path: &Path, act: impl Fn(&Path)) {
    let metadata = fs::metadata(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    act(path);
    fs::set_permissions(path, metadata.permissions()).unwrap();
    fs::File::open(path).unwrap().set_modified(metadata.modified().unwrap()).unwrap();
}

/// What is done to a folder, in words and as a function, and what is reported then.
type Damage<'a> = (&'a str, &'a dyn Fn(&Path), &'a str);

/// Whatever became of an unfinished directory, a get that continues ends with the tree of the archive. Six blocks end in
/// the middle of `d0/large`, nine in `d1`.
fn assert_starts_anew(damages: &[(usize, Damage)]) {
    let archive = archive();
    let blocks: Vec<&[u8]> = archive.chunks(1 << 20).collect();
    let whole = Place::new();
    whole.restore(&archive, PLAIN).unwrap();
    let expected = everything(&whole.out());
    for (end, (what, damage, reported)) in damages {
        let place = Place::new();
        restore_until(&place.out(), &blocks, *end, &mut Vec::new());
        damage(&place.0.path().join("out.cellsync-part"));
        let (kept, notice) = continue_to_end(&place.out(), &blocks);
        assert_eq!(kept.blocks, 0, "{what}: it continued");
        assert!(notice.contains("starts anew: ") && notice.contains(reported), "{what}: {notice}");
        assert!(everything(&place.out()) == expected, "{what}");
        assert_eq!(place.names(), ["out"], "{what}");
    }
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_state_starts_anew() {
    assert_starts_anew(&[
        (
            9,
            (
                "no checkpoints",
                &|folder| {
                    fs::remove_file(folder.join("checkpoint.0")).unwrap();
                    fs::write(folder.join("checkpoint.1"), b"{}\n").unwrap();
                },
                "damaged",
            ),
        ),
        (9, ("no omissions", &|folder| fs::remove_file(folder.join("omissions")).unwrap(), "damaged")),
        (9, ("damaged omissions", &|folder| flip(&folder.join("omissions"), 30), "damaged")),
        (9, ("no log", &|folder| fs::remove_file(folder.join("entries")).unwrap(), "damaged")),
        (9, ("a damaged log", &|folder| flip(&folder.join("entries"), 500), "damaged")),
    ]);
}

#[test]
fn a_directory_that_has_changed_starts_anew() {
    assert_starts_anew(&[
        (
            9,
            (
                "a file that is gone",
                &|folder| {
                    inside(&folder.join("tree/d0/e1"), |path| fs::remove_file(path.join("f3")).unwrap());
                },
                "d0/e1/f3 is gone",
            ),
        ),
        (
            9,
            (
                "a link that is a file",
                &|folder| {
                    inside(&folder.join("tree/d0/e1"), |path| {
                        fs::remove_file(path.join("link")).unwrap();
                        fs::write(path.join("link"), b"f1").unwrap();
                    });
                },
                "d0/e1/link has changed",
            ),
        ),
        (
            9,
            (
                "a renamed directory",
                &|folder| {
                    let tree = folder.join("tree");
                    fs::set_permissions(tree.join("d0"), fs::Permissions::from_mode(0o700)).unwrap();
                    fs::rename(tree.join("d0"), tree.join("elsewhere")).unwrap();
                },
                "is gone",
            ),
        ),
        (
            9,
            (
                "a mode",
                &|folder| {
                    fs::set_permissions(folder.join("tree/d0"), fs::Permissions::from_mode(0o755)).unwrap();
                },
                "d0 has changed",
            ),
        ),
        (9, ("a mode for a moment", &|folder| inside(&folder.join("tree/d0"), |_| {}), "d0 has changed")),
        (
            9,
            (
                "another file of the same facts",
                &|folder| {
                    inside(&folder.join("tree/d0/e2"), |path| change_secretly(&path.join("f9")));
                },
                "d0/e2/f9 has changed",
            ),
        ),
        (
            9,
            (
                "other bytes",
                &|folder| {
                    let path = folder.join("tree/d0/sparse");
                    let time = fs::metadata(&path).unwrap().modified().unwrap();
                    flip(&path, (1 << 20) + 5);
                    fs::File::open(&path).unwrap().set_modified(time).unwrap();
                },
                "d0/sparse has changed",
            ),
        ),
        (6, ("an unfinished file", &|folder| flip(&folder.join("tree/d0/large"), 10), "d0/large has changed")),
    ]);
}

#[test]
fn what_was_added_to_an_unfinished_directory_is_removed() {
    let archive = archive();
    let blocks: Vec<&[u8]> = archive.chunks(1 << 20).collect();
    let whole = Place::new();
    whole.restore(&archive, PLAIN).unwrap();
    let expected = everything(&whole.out());
    let place = Place::new();
    restore_until(&place.out(), &blocks, 9, &mut Vec::new());
    let tree = place.0.path().join("out.cellsync-part/tree");
    fs::create_dir_all(tree.join("mine/deeper")).unwrap();
    fs::write(tree.join("mine/deeper/f"), b"").unwrap();
    fs::hard_link(tree.join("d0/large"), tree.join("mine/deeper/large")).unwrap();
    fs::set_permissions(tree.join("mine"), fs::Permissions::from_mode(0o000)).unwrap();
    if is_root() {
        // Without another mode, which would be a change.
        fs::write(tree.join("d0/e0/added"), b"").unwrap();
    }
    // Killed twice: what was removed explains the times of what was not.
    let kept = restore_until(&place.out(), &blocks, 0, &mut Vec::new());
    assert!(kept.blocks > 0 && !tree.join("mine").exists());
    let (again, notice) = continue_to_end(&place.out(), &blocks);
    assert_eq!((again, &notice[..]), (kept, ""));
    assert!(everything(&place.out()) == expected);
}

/// Goal: a restore continues after a power cut. Method: takes the checkpoints of this boot away, and leaves the same one as
/// if it were synced before another boot, with entries that were made after it.
#[test]
fn a_directory_continues_after_another_boot() {
    let archive = archive();
    let blocks: Vec<&[u8]> = archive.chunks(1 << 20).collect();
    let whole = Place::new();
    whole.restore(&archive, PLAIN).unwrap();
    let place = Place::new();
    let folder = place.0.path().join("out.cellsync-part");
    restore_until(&place.out(), &blocks, 6, &mut Vec::new());
    let sequence = |name: &str| {
        let text = fs::read_to_string(folder.join(name)).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        line["sequence"].as_u64().unwrap()
    };
    let last = ["checkpoint.0", "checkpoint.1"].into_iter().max_by_key(|name| sequence(name)).unwrap();
    let synced = fs::read(folder.join(last)).unwrap();
    let kept = restore_until(&place.out(), &blocks, 14, &mut Vec::new());
    assert!(kept.blocks > 0);
    for name in ["checkpoint.0", "checkpoint.1"] {
        fs::write(folder.join(name), b"").unwrap();
    }
    fs::write(folder.join("checkpoint.synced"), synced).unwrap();
    let (again, notice) = continue_to_end(&place.out(), &blocks);
    assert_eq!((again, &notice[..]), (kept, ""));
    assert!(everything(&place.out()) == everything(&whole.out()));
}

/// A restore to an empty directory that is complete, with some entries in their places.
fn interrupted_moves(place: &Place, archive: &[u8], moved: &[&str]) -> PathBuf {
    fs::create_dir(place.out()).unwrap();
    let blocks: Vec<&[u8]> = archive.chunks(1 << 20).collect();
    let mut output = TreeOutput::open(&place.out(), &manifest(), &get_with(PLAIN, false)).unwrap();
    for block in blocks {
        output.write(block.to_vec()).unwrap();
    }
    drop(output);
    let folder = place.out().join("restore.cellsync-part");
    for name in moved {
        let (from, to) = (folder.join("tree").join(name), place.out().join(name));
        // As it is moved: who may not write to a directory may not move it.
        let is_directory = fs::symlink_metadata(&from).unwrap().is_dir();
        if is_directory {
            fs::set_permissions(&from, fs::Permissions::from_mode(0o700)).unwrap();
        }
        fs::rename(from, to).unwrap();
    }
    folder
}

#[test]
fn a_get_killed_while_it_moves_entries_is_finished() {
    let archive = archive();
    let blocks: Vec<&[u8]> = archive.chunks(1 << 20).collect();
    let whole = Place::new();
    whole.restore(&archive, PLAIN).unwrap();
    let expected = everything(&whole.out());
    for moved in [&[][..], &["d0", "d2"], &["d0", "d1", "d2", "d3", "implicit"]] {
        let place = Place::new();
        interrupted_moves(&place, &archive, moved);
        // The user has a file there meanwhile.
        fs::write(place.out().join("mine"), b"mine").unwrap();
        let (kept, notice) = continue_to_end(&place.out(), &blocks);
        assert_eq!((kept.blocks, &notice[..]), (blocks.len(), ""));
        fs::remove_file(place.out().join("mine")).unwrap();
        let mut there = everything(&place.out());
        // That was in the root.
        there[0] = expected[0].clone();
        assert!(there == expected, "{moved:?}");
    }
}

#[test]
fn moves_that_cannot_be_finished_say_what_to_do() {
    let archive = archive();
    let blocks: Vec<&[u8]> = archive.chunks(1 << 20).collect();
    let open = |place: &Place| TreeOutput::open(&place.out(), &manifest(), &get_with(PLAIN, false)).err().unwrap();
    let place = Place::new();
    let folder = interrupted_moves(&place, &archive, &["d0"]);
    fs::remove_file(place.out().join("d0/sparse")).unwrap();
    for _ in 0..2 {
        let error = open(&place).to_string();
        for part in ["d0/sparse is gone", "restore.cellsync-part", "move everything else out"] {
            assert!(error.contains(part), "{error}");
        }
    }
    assert!(folder.join("tree/d1/sparse").exists() && place.out().join("d0/large").exists());
    // Once that is done, it starts anew.
    inside(&place.out().join("d0"), |_| {});
    fs::rename(place.out().join("d0"), place.0.path().join("moved")).unwrap();
    continue_to_end(&place.out(), &blocks);
    assert!(place.out().join("d0/sparse").exists());

    // One that is not complete does not mix with anything.
    let place = Place::new();
    fs::create_dir(place.out()).unwrap();
    restore_until(&place.out(), &blocks, 9, &mut Vec::new());
    fs::write(place.out().join("mine"), b"mine").unwrap();
    let error = open(&place).to_string();
    assert!(error.contains("restore.cellsync-part in it is an unfinished restore; move everything else"), "{error}");
    fs::remove_file(place.out().join("mine")).unwrap();
    assert!(continue_to_end(&place.out(), &blocks).0.blocks > 0);
}

#[test]
fn an_unfinished_file_at_the_same_name_is_named() {
    let place = Place::new();
    let part = place.0.path().join("out.cellsync-part");
    let line = crate::client::get::partial::Header::new(crate::pipeline::ManifestHash::of(&[], &manifest().key), None);
    fs::write(&part, b"half").unwrap();
    fs::write(part.with_extension("cellsync-part.log"), line.line()).unwrap();
    let open = || TreeOutput::open(&place.out(), &manifest(), &get_with(PLAIN, false)).err().unwrap().to_string();
    let error = open();
    assert!(error.contains("unfinished restore of a file") && error.contains("rm -r -- "), "{error}");
    assert!(error.contains("out.cellsync-part.log"), "{error}");
    fs::remove_file(part.with_extension("cellsync-part.log")).unwrap();
    assert!(open().contains("is not an unfinished restore"));
}
