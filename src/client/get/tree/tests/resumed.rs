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

/// What is done to a folder, in words and as a function.
type Damage<'a> = (&'a str, &'a dyn Fn(&Path));

#[test]
fn a_state_that_is_damaged_starts_anew() {
    let archive = archive();
    let blocks: Vec<&[u8]> = archive.chunks(1 << 20).collect();
    let folder = |place: &Place| place.0.path().join("out.cellsync-part");
    let damages: [Damage; 3] = [
        ("no checkpoints", &|folder| {
            fs::remove_file(folder.join("checkpoint.0")).unwrap();
            fs::write(folder.join("checkpoint.1"), b"{}\n").unwrap();
        }),
        ("no omissions", &|folder| fs::remove_file(folder.join("omissions")).unwrap()),
        ("no entries", &|folder| {
            for directory in ["d0", "d1"] {
                let path = folder.join("tree").join(directory);
                if path.exists() {
                    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
                    fs::rename(path, folder.join("tree/elsewhere".to_owned() + directory)).unwrap();
                }
            }
        }),
    ];
    for (what, damage) in damages {
        let place = Place::new();
        let mut omissions = Vec::new();
        restore_until(&place.out(), &blocks, 9, &mut omissions);
        damage(&folder(&place));
        restore_until(&place.out(), &blocks, blocks.len(), &mut omissions);
        assert_eq!(omissions.len(), 12, "{what}");
        assert_eq!(place.names(), ["out"], "{what}");
        let names = listing(&place.out());
        assert!(names.contains_key(&b"d0/large"[..]) && !names.contains_key(&b"elsewhered0"[..]), "{what}");
    }
}
