//! Gets of a part: entries of a directory, ranges of a file, and what is left after losses.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use cellsync::id::ChunkId;
use cellsync::net::client::PutHints;
use cellsync::pipeline::{Blocks, Content, Key, Level, Manifest, open_chunk, seal_block};
use serde_json::Value;

use crate::harness::{Colony, assert_facts, random_bytes, run};

/// Random sets of lost chunks that are tried of each kind; `SETS=20 cargo test --test colony salvage` tries more.
fn sets() -> u64 {
    std::env::var("SETS").ok().and_then(|sets| sets.parse().ok()).unwrap_or(2)
}

/// A tree with large and small files, links and a closed directory.
pub(crate) fn make_tree(root: &Path) {
    for directory in ["a/deep", "b", "closed"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    for (number, (name, size)) in
        [("a/large", 3_500_000), ("a/deep/one", 5000), ("b/other", 2_200_000), ("b/x", 0)].into_iter().enumerate()
    {
        fs::write(root.join(name), random_bytes(number as u64, size)).unwrap();
    }
    for number in 0..300 {
        fs::write(root.join(format!("a/small{number}")), random_bytes(number, 7000)).unwrap();
    }
    fs::write(root.join("closed/new\nline"), b"secret").unwrap();
    fs::set_permissions(root.join("closed"), PermissionsExt::from_mode(0o500)).unwrap();
    fs::set_permissions(root.join("a/large"), PermissionsExt::from_mode(0o750)).unwrap();
    fs::hard_link(root.join("a/large"), root.join("b/linked")).unwrap();
    symlink("../a/large", root.join("b/soft")).unwrap();
}

/// Goal: one entry of a directory costs its own blocks and the index, and is as it was. Method: a tree of 8 MiB in one
/// copy, of which files, links and directories are restored alone.
#[test]
fn one_entry_is_listed_and_restored_from_its_blocks() {
    let colony = Colony::start(2);
    let tree = colony.path("tree");
    make_tree(&tree);
    run(colony.put().args(["tree", "--copies", "1", "--compress", "0"])).expect_success();
    let manifest: Value = serde_json::from_slice(&fs::read(colony.path("tree.manifest")).unwrap()).unwrap();
    let (chunks, index) = (manifest["chunks"].as_array().unwrap().len(), manifest["tree"].as_array().unwrap().len());
    assert_eq!(manifest["version"], 2);

    // The index has copies like the data, and counts with it.
    let check = run(colony.tool("check").args(["tree.manifest", "--json", "--copies", "2"])).expect_code(3).json();
    assert_eq!(check["chunks"].as_array().unwrap().len(), chunks + index);
    run(colony.tool("repair").args(["tree.manifest", "--copies", "2"])).expect_success();
    assert!(colony.copies().values().all(|cells| cells.len() == 2));

    let ls = |words: &[&str]| run(colony.tool("ls").arg("tree.manifest").args(words));
    let listed = ls(&[]).expect_success();
    let names: Vec<&str> = listed.text().lines().collect();
    assert_eq!(names.len(), walkdir::WalkDir::new(&tree).into_iter().count());
    assert!(names.contains(&".") && names.contains(&"closed/new\\nline") && names.contains(&"b/soft"), "{names:?}");
    assert_eq!(ls(&["./a/deep/"]).expect_success().text(), "a/deep\na/deep/one\n");
    let long = ls(&["b", "-l"]).expect_success();
    for facts in [&["2200000", "b/other"][..], &["lrwxrwxrwx", "b/soft -> ../a/large"], &["= a/large"]] {
        assert!(long.text().lines().any(|line| facts.iter().all(|fact| line.contains(fact))), "{}", long.text());
    }
    let json: Value = serde_json::from_str(ls(&["a/large", "--json"]).expect_success().text()).unwrap();
    assert_eq!((&json["size"], &json["mode"]), (&3_500_000.into(), &0o750.into()));
    ls(&["b", "none"]).expect_error(2, &["no entry none"]);
    ls(&["../b"]).expect_error(2, &["without .."]);

    // What is verified is all of it, with the index.
    let verified = run(colony.get().args(["tree.manifest", "--check", "--json"])).expect_success().json();
    assert_eq!(verified["wanted_chunks"], chunks + index);

    let pick = |paths: &[&str], out: &str| {
        let mut get = colony.get();
        get.args(["tree.manifest", "--json", "-o", out]);
        for path in paths {
            get.args(["--path", path]);
        }
        run(&mut get)
    };
    let got = pick(&["a/large"], "large").expect_success().json();
    assert_eq!((&got["chunks"], &got["wanted_chunks"]), (&(chunks + index).into(), &(4 + index).into()));
    assert!(got["fetched_bytes"].as_u64().unwrap() < 3_700_000 + 100_000, "{got}");
    let large = colony.path("large/a/large");
    assert!(fs::read(&large).unwrap() == fs::read(tree.join("a/large")).unwrap());
    let metadata = [&large, &tree.join("a/large")].map(|path| fs::metadata(path).unwrap());
    assert_eq!(metadata[0].mode(), metadata[1].mode());
    assert_eq!(metadata[0].mtime_nsec(), metadata[1].mtime_nsec());
    assert_eq!(fs::read_dir(colony.path("large/a")).unwrap().count(), 1);
    // A hard link alone is the file.
    pick(&["b/linked", "closed"], "links").expect_success();
    assert!(fs::read(colony.path("links/b/linked")).unwrap() == fs::read(tree.join("a/large")).unwrap());
    assert_eq!(fs::read(colony.path("links/closed/new\nline")).unwrap(), b"secret");
    assert_eq!(fs::metadata(colony.path("links/closed")).unwrap().mode() & 0o7777, 0o500);
    // A name can be typed as it is shown.
    assert_eq!(ls(&["closed/new\\nline"]).expect_success().text(), "closed/new\\nline\n");
    pick(&["closed/new\\nline"], "shown").expect_success();
    assert_eq!(fs::read(colony.path("shown/closed/new\nline")).unwrap(), b"secret");
    pick(&["b/none"], "none").expect_error(2, &["no entry b/none", "cellsync ls"]);
    assert!(!colony.path("none").exists());
    pick(&["."], "all").expect_success();
    for name in ["a/small7", "a/deep/one", "b/x"] {
        assert_eq!(fs::read(colony.path("all").join(name)).unwrap(), fs::read(tree.join(name)).unwrap());
    }
    assert_eq!(fs::metadata(colony.path("all/b/linked")).unwrap().nlink(), 2);
}

/// Goal: a truncated index is noticed, and everything can be restored without it. Method: an index is stored once more
/// without the end of its last line.
#[test]
fn a_truncated_index_is_noticed() {
    let colony = Colony::start(1);
    let (tree, path) = (colony.path("tree"), colony.path("tree.manifest"));
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("f"), b"bytes").unwrap();
    run(colony.put().args(["tree", "--copies", "1"])).expect_success();
    let ls = || run(colony.tool("ls").arg("tree.manifest")).expect_success();
    let names = ls().stdout;
    let mut manifest = Manifest::read(fs::File::open(&path).unwrap()).unwrap();
    let (key, mut version2) = (manifest.tree_key(0), manifest.version2.take().unwrap());
    let id = version2.tree[0];
    let chunk = fs::read(colony.cells[0].chunk_file(&id.to_string())).unwrap();
    let mut index = open_chunk(chunk, &id, &key).unwrap().bytes;
    index.truncate(index.len() - 10);
    let chunk = seal_block(&index, &key, "0".parse().unwrap(), 1).unwrap();
    let hints = PutHints { copies: 1, ..PutHints::default() };
    colony.http.put_chunk(&colony.cells[0].url, &chunk.id, &chunk.bytes, &hints).unwrap();
    (version2.tree[0], version2.tree_ends[0]) = (chunk.id, index.len() as u64);
    manifest.version2 = Some(version2);
    manifest.write(fs::File::create(&path).unwrap()).unwrap();
    run(colony.get().args(["tree.manifest", "--check"])).expect_error(5, &["index"]);
    let listed = ls();
    assert_facts(&listed.stderr, &["index", "reading everything"]);
    assert_eq!(listed.stdout, names, "nothing is listed twice");
    run(colony.get().args(["tree.manifest", "-o", "out"])).expect_success();
    assert_eq!(fs::read(colony.path("out/f")).unwrap(), b"bytes");
}

/// Goal: a range of a file costs its blocks, and mistakes are named. Method: ranges within a block, over several, and
/// to the end.
#[test]
fn a_range_of_a_file_is_restored() {
    let colony = Colony::start(1);
    let bytes = random_bytes(1, 3_500_000);
    let stored = colony.put_bytes("file", &bytes);
    let range = |range: &str| run(colony.get().arg(&stored.manifest).args(["-o", "-", "--range", range]));
    for (text, part) in [("0-0", 0..1), ("1048570-2097155", 1_048_570..2_097_156), ("3000000-", 3_000_000..3_500_000)] {
        assert!(range(text).expect_success().stdout == bytes[part], "{text}");
    }
    assert!(range("3499999-9999999").expect_success().stdout == bytes[3_499_999..]);
    range("3500000-").expect_error(2, &["behind the end", "3500000 bytes"]);
    let got = run(colony.get().arg(&stored.manifest).args(["-o", "part", "--json", "--range", "5-9"])).expect_success();
    assert_eq!(
        (fs::read(colony.path("part")).unwrap(), &got.json()["wanted_chunks"]),
        (bytes[5..10].to_vec(), &1.into())
    );
    run(colony.get().arg(&stored.manifest).args(["--range", "5-9"])).expect_error(2, &["--range requires -o"]);
    run(colony.get().arg(&stored.manifest).args(["-o", "x", "--path", "y"])).expect_error(2, &["single file"]);
    run(colony.tool("ls").arg(&stored.manifest)).expect_error(2, &["single file"]);
    fs::create_dir(colony.path("tree")).unwrap();
    run(colony.put().args(["tree", "--copies", "1"])).expect_success();
    run(colony.get().args(["tree.manifest", "-o", "x", "--range", "0-1"])).expect_error(2, &["directory"]);
}

/// An upload in one copy on one cell, of which chunks can be lost.
pub(crate) struct Upload<'c> {
    pub(crate) colony: &'c Colony,
    pub(crate) manifest: Value,
    pub(crate) path: &'static str,
    /// The bytes of each chunk on the cell.
    copies: BTreeMap<String, Vec<u8>>,
}

impl<'c> Upload<'c> {
    pub(crate) fn new(colony: &'c Colony, path: &'static str) -> Self {
        let manifest: Value = serde_json::from_slice(&fs::read(colony.path(path)).unwrap()).unwrap();
        let cell = &colony.cells[0];
        let lists = ["chunks", "tree"].iter().filter_map(|list| manifest[*list].as_array()).flatten();
        let ids = lists.map(|chunk| chunk["id"].as_str().unwrap().to_owned());
        let copies = ids.map(|id| (id.clone(), fs::read(cell.chunk_file(&id)).unwrap())).collect();
        Self { colony, manifest, path, copies }
    }

    /// The stored bytes that are in each chunk.
    pub(crate) fn blocks(&self) -> Vec<Range<u64>> {
        let size = self.manifest["size"].as_u64().unwrap();
        let mut start = 0;
        let chunks = self.manifest["chunks"].as_array().unwrap().iter();
        chunks
            .map(|chunk| {
                let length = chunk["len"].as_u64().unwrap_or(1 << 20);
                let block = start..(start + length).min(size);
                start = block.end;
                block
            })
            .collect()
    }

    /// Puts back every chunk.
    pub(crate) fn restore_chunks(&self) {
        for (id, bytes) in &self.copies {
            // A cell that found a copy bad has set it aside.
            self.colony
                .http
                .put_chunk(
                    &self.colony.cells[0].url,
                    &id.parse().unwrap(),
                    bytes,
                    &PutHints { copies: 1, ..PutHints::default() },
                )
                .unwrap();
        }
    }

    /// Loses these chunks of the data and of the index, every other one by a flipped bit. All others are there. Returns
    /// the ranges of bytes that are lost.
    fn lose(&self, chunks: &[usize], index: &[usize]) -> Vec<Range<u64>> {
        self.restore_chunks();
        let chunks_lost = chunks.iter().map(|position| ("chunks", *position));
        for (list, position) in chunks_lost.chain(index.iter().map(|position| ("tree", *position))) {
            let id = self.manifest[list][position]["id"].as_str().unwrap();
            if position % 2 == 0 {
                fs::remove_file(self.colony.cells[0].chunk_file(id)).unwrap();
            } else {
                self.colony.cells[0].flip_bit(id);
            }
        }
        let blocks = self.blocks();
        chunks.iter().filter_map(|&position| blocks.get(position).cloned()).collect()
    }

    pub(crate) fn get(&self, out: &str) -> crate::harness::Finished {
        let path = self.colony.path(out);
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap();
        } else if path.exists() {
            fs::remove_file(&path).unwrap();
        }
        run(self.colony.get().args([self.path, "--salvage", "--json", "--wait", "0", "-o", out]))
    }
}

/// Bytes with zeros in the ranges that are lost.
fn with_zeros(bytes: &[u8], begin: u64, lost: &[Range<u64>]) -> Vec<u8> {
    let is_lost = |at: u64| lost.iter().any(|range| range.contains(&at));
    (begin..).zip(bytes).map(|(at, byte)| if is_lost(at) { 0 } else { *byte }).collect()
}

/// Compares a restored directory with the tree. A file whose header is lost is there only if the index was.
fn assert_salvaged(restored: &Path, tree: &Path, index: &[Value], lost: &[Range<u64>], has_index: bool) {
    let is_lost = |range: Range<u64>| lost.iter().any(|lost| lost.start < range.end && range.start < lost.end);
    for entry in index.iter().filter(|entry| entry["type"] == "file") {
        let number = |key: &str| entry[key].as_u64().unwrap();
        let (name, size) = (entry["path"].as_str().unwrap(), number("size"));
        let data = number("offset") + number("length") - size.next_multiple_of(512);
        if !has_index && is_lost(number("offset")..data) {
            continue;
        }
        let original = fs::read(tree.join(name)).unwrap();
        let restored = fs::read(restored.join(name)).unwrap_or_else(|error| panic!("{name}: {error}; lost: {lost:?}"));
        assert!(restored == with_zeros(&original, data, lost), "{name}; lost: {lost:?}");
    }
}

/// Goal: a salvage returns every byte that is there, names what is not, and ends with exit code 4. Method: random sets
/// of lost and damaged chunks of a file, and of a directory with and without an index, compared with the originals.
#[test]
fn a_salvage_returns_every_byte_that_is_there() {
    let colony = Colony::start(1);
    let tree = colony.path("tree");
    make_tree(&tree);
    let bytes = random_bytes(9, 6_300_000);
    colony.write_file("file", &bytes);
    for name in ["file", "tree"] {
        run(colony.put().args([name, "--copies", "1", "--compress", "0"])).expect_success();
    }
    let listing = run(colony.tool("ls").args(["tree.manifest", "--json"])).expect_success();
    let index: Vec<Value> = listing.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let stream = run(colony.get().args(["tree.manifest", "-o", "-"])).expect_success().stdout;
    put_version_1(&colony, &stream, "old.manifest");

    let file = Upload::new(&colony, "file.manifest");
    let new = Upload::new(&colony, "tree.manifest");
    let old = Upload::new(&colony, "old.manifest");
    let mut rng = fastrand::Rng::with_seed(1);
    for set in 0..sets() {
        let mut some = |upload: &Upload<'_>| {
            let chunks = upload.blocks().len();
            let mut lost: Vec<usize> = (0..chunks).filter(|_| rng.u8(..4) == 0).collect();
            if lost.is_empty() {
                lost.push(rng.usize(..chunks));
            }
            lost
        };
        let lost = file.lose(&some(&file), &[]);
        let got = file.get("out").expect_code(4);
        assert!(fs::read(colony.path("out")).unwrap() == with_zeros(&bytes, 0, &lost), "set {set}: {lost:?}");
        let mut reported = got.json()["lost"][0]["bytes"].as_array().unwrap().clone();
        let reported: Vec<u64> =
            reported.drain(..).flat_map(|range| range[0].as_u64().unwrap()..=range[1].as_u64().unwrap()).collect();
        assert!(reported == lost.iter().cloned().flatten().collect::<Vec<u64>>(), "set {set}: {lost:?}");

        let lost = new.lose(&some(&new), &[]);
        let got = new.get("out").expect_code(4);
        assert!(got.stderr.lines().any(|line| line.contains(" lost")), "{}", got.stderr);
        assert_salvaged(&colony.path("out"), &tree, &index, &lost, true);
        // Without the index, what has a header is found.
        let lost = new.lose(&some(&new), &[0]);
        new.get("out").expect_code(4).expect_line(&["no index that can be used"]);
        assert_salvaged(&colony.path("out"), &tree, &index, &lost, false);

        let lost = old.lose(&some(&old), &[]);
        old.get("out").expect_code(4);
        assert_salvaged(&colony.path("out"), &tree, &index, &lost, false);
    }
    // A get that fails says what a salvage could do.
    file.lose(&[2], &[]);
    run(colony.get().args(["file.manifest", "-o", "no", "--wait", "0"])).expect_error(4, &["5.0 MiB with --salvage"]);
}

/// Stores a stream as earlier versions did.
pub(crate) fn put_version_1(colony: &Colony, stream: &[u8], name: &str) {
    let key = Key::generate();
    let level: Level = "0".parse().unwrap();
    let chunks: Vec<ChunkId> = Blocks::new(stream)
        .map(|block| {
            let chunk = seal_block(&block.unwrap().bytes, &key, level, 1).unwrap();
            colony
                .http
                .put_chunk(
                    &colony.cells[0].url,
                    &chunk.id,
                    &chunk.bytes,
                    &PutHints { copies: 1, ..PutHints::default() },
                )
                .unwrap();
            chunk.id
        })
        .collect();
    let size = Some(stream.len() as u64);
    let manifest = Manifest { key, size, copies: 1, content: Content::Tar, chunks, version2: None };
    manifest.write(fs::File::create(colony.path(name)).unwrap()).unwrap();
}
