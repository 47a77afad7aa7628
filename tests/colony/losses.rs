//! Gets and listings when chunks of the index or of the data are lost.

use std::fs;

use serde_json::Value;

use crate::harness::{Colony, Finished, NO_AUDITS, random_bytes, run};
use crate::parts::{Upload, make_tree, put_version_1};

/// How a copy is lost, and the exit code for that.
const LOSSES: [(Loss, i32); 2] = [(Loss::Removed, 4), (Loss::Flipped, 5)];

#[derive(Debug, Clone, Copy)]
enum Loss {
    Removed,
    Flipped,
}

/// Loses these chunks, by the list of the manifest and the position in it. All others are there.
fn lose(upload: &Upload<'_>, chunks: &[(&str, usize)], loss: Loss) {
    upload.restore_chunks();
    for (list, position) in chunks {
        let id = upload.manifest[*list][*position]["id"].as_str().unwrap();
        match loss {
            Loss::Removed => fs::remove_file(upload.colony.cells[0].chunk_file(id)).unwrap(),
            Loss::Flipped => upload.colony.cells[0].flip_bit(id),
        }
    }
}

/// A tree in one copy on one cell, and its listing as JSON.
fn stored_tree(colony: &Colony) -> (Upload<'_>, Vec<Value>) {
    make_tree(&colony.path("tree"));
    run(colony.put().args(["tree", "--copies", "1", "--compress", "0"])).expect_success();
    let listing = run(colony.tool("ls").args(["tree.manifest", "--json"])).expect_success();
    let index = listing.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (Upload::new(colony, "tree.manifest"), index)
}

/// The chunks in which an entry is.
fn chunks_of(upload: &Upload<'_>, index: &[Value], path: &str) -> Vec<usize> {
    let entry = index.iter().find(|entry| entry["path"] == path).unwrap();
    let (start, length) = (entry["offset"].as_u64().unwrap(), entry["length"].as_u64().unwrap());
    let blocks = upload.blocks().into_iter().enumerate();
    blocks.filter(|(_, block)| block.start < start + length && start < block.end).map(|(number, _)| number).collect()
}

fn pick(upload: &Upload<'_>, path: &str, options: &[&str]) -> Finished {
    let out = upload.colony.path("out");
    if out.exists() {
        fs::remove_dir_all(out).unwrap();
    }
    run(upload.colony.get().arg(upload.path).args(["--path", path, "-o", "out"]).args(options))
}

/// Goal: without an index, entries are found in the stream, and a listing is the same. Method: loses and damages the
/// index of a tree, and then parts of the stream too.
#[test]
fn without_an_index_the_stream_is_read() {
    let colony = Colony::start_with(1, &NO_AUDITS);
    let (upload, index) = stored_tree(&colony);
    let ls = || run(colony.tool("ls").args(["tree.manifest"]));
    let names = ls().expect_success().text().to_owned();
    let large = chunks_of(&upload, &index, "a/large");
    let small = chunks_of(&upload, &index, "a/small7");
    assert!(large.len() > 2 && small.len() == 1 && !large.contains(&small[0]));
    for (loss, code) in LOSSES {
        let why = if code == 4 { "on no cell that responds" } else { "only bad copies" };
        lose(&upload, &[("tree", 0)], loss);
        let listed = ls().expect_success();
        assert_eq!(listed.text(), names, "{loss:?}");
        listed.expect_line(&["the index", why, "reading everything"]);
        for path in ["a/large", "b/linked"] {
            pick(&upload, path, &[]).expect_success().expect_line(&["the index", why, "reading everything"]);
            assert!(fs::read(colony.path("out").join(path)).unwrap() == fs::read(colony.path("tree/a/large")).unwrap());
        }
        pick(&upload, "a/none", &[]).expect_code(2).expect_last_line(&["no entry a/none"]);

        // Data that is lost concerns its file alone.
        lose(&upload, &[("tree", 0), ("chunks", large[1])], loss);
        assert_eq!(ls().expect_success().text(), names, "{loss:?}");
        pick(&upload, "b", &[]).expect_code(code);
        pick(&upload, "a/small7", &[]).expect_success();
        pick(&upload, "a/large", &[]).expect_code(code).expect_last_line(&["bytes"]);

        // Where headers are lost, there may be anything.
        lose(&upload, &[("tree", 0), ("chunks", small[0])], loss);
        let listed = ls().expect_code(code).expect_last_line(&["further entries", "cellsync-get --salvage"]);
        assert!(listed.text().contains("a/large\n") && !listed.text().contains("a/small7\n"), "{}", listed.text());
        pick(&upload, "a/large", &[]).expect_code(code).expect_last_line(&["--salvage"]);
        pick(&upload, "a/small7", &["--salvage"]).expect_code(code).expect_last_line(&["no entry a/small7"]);
        let got = pick(&upload, "a/large", &["--salvage", "--json"]).expect_code(4);
        let block = upload.blocks()[small[0]].clone();
        let lost = &got.json()["lost"][0];
        assert!(lost["path"].is_null(), "{lost}");
        assert!(lost["bytes"][0][0].as_u64().unwrap() <= block.start, "{lost}: {block:?}");
        assert!(lost["bytes"][0][1].as_u64().unwrap() + 1 >= block.end, "{lost}: {block:?}");
        assert!(fs::read(colony.path("out/a/large")).unwrap() == fs::read(colony.path("tree/a/large")).unwrap());
    }
}

/// Goal: whatever is restored, missing chunks are exit code 4 and corrupt ones 5, and the message says how much a salvage
/// could restore. Method: an entry, a range and a whole file, and a directory of an earlier version.
#[test]
fn the_exit_code_says_how_chunks_were_lost() {
    let colony = Colony::start_with(1, &NO_AUDITS);
    let (upload, index) = stored_tree(&colony);
    let stream = run(colony.get().args(["tree.manifest", "-o", "-"])).expect_success().stdout;
    put_version_1(&colony, &stream, "old.manifest");
    let old = Upload::new(&colony, "old.manifest");
    colony.write_file("file", &random_bytes(9, 3 << 20));
    run(colony.put().args(["file", "--copies", "1", "--compress", "0"])).expect_success();
    let file = Upload::new(&colony, "file.manifest");
    let large = chunks_of(&upload, &index, "a/large");
    for (loss, code) in LOSSES {
        // What a missing chunk leaves is known at once.
        let sizes = if code == 4 { ["2.0 MiB", "1.0 MiB"] } else { ["", ""] };
        lose(&file, &[("chunks", 1)], loss);
        run(colony.get().args(["file.manifest", "-o", "x"]))
            .expect_code(code)
            .expect_last_line(&[sizes[0], "--salvage"]);
        run(colony.get().args(["file.manifest", "-o", "z", "--range", "1572864-"]))
            .expect_code(code)
            .expect_last_line(&[sizes[1], "--salvage"]);
        run(colony.get().args(["file.manifest", "-o", "y", "--range", "5-9"])).expect_success();
        fs::remove_file(colony.path("y")).unwrap();
        lose(&upload, &[("chunks", large[1])], loss);
        pick(&upload, "a/large", &[]).expect_code(code).expect_last_line(&["--salvage"]);
        let small = chunks_of(&old, &index, "a/small7");
        lose(&old, &[("chunks", small[0])], loss);
        run(colony.tool("ls").arg("old.manifest")).expect_code(code).expect_last_line(&["cellsync-get --salvage"]);
        pick(&old, "a/large", &[]).expect_code(code).expect_last_line(&["cellsync-get --salvage"]);
        pick(&old, "a/large", &["--salvage"]).expect_code(4);
        assert!(fs::read(colony.path("out/a/large")).unwrap() == fs::read(colony.path("tree/a/large")).unwrap());
    }
}

/// Goal: every name of a file that has lost bytes is named, and what was not restored does not count as restored. Method:
/// loses a chunk of a file with two names, with and without the index.
#[test]
fn every_name_of_a_damaged_file_is_named() {
    let colony = Colony::start_with(1, &NO_AUDITS);
    let (upload, index) = stored_tree(&colony);
    let whole = run(colony.get().args(["tree.manifest", "-o", "whole", "--json"])).expect_success().json();
    let position = chunks_of(&upload, &index, "a/large")[1];
    let block = upload.blocks()[position].clone();
    for lost in [&[("chunks", position)][..], &[("chunks", position), ("tree", 0)]] {
        lose(&upload, lost, Loss::Removed);
        let got = upload.get("out").expect_code(4);
        got.expect_line(&["a/large: bytes"]).expect_line(&["b/linked: bytes"]);
        let got = upload.get("out").expect_code(4).json();
        let parts = got["lost"].as_array().unwrap();
        let names: Vec<_> = parts.iter().map(|part| part["path"].as_str().unwrap()).collect();
        assert_eq!(names, ["a/large", "b/linked"]);
        assert_eq!(parts[0]["bytes"], parts[1]["bytes"]);
        assert_eq!(got["lost_bytes"], block.end - block.start, "{got}");
        assert_eq!(got["size"].as_u64().unwrap(), whole["size"].as_u64().unwrap() - (block.end - block.start));
        assert_eq!(got["lost_chunks"], 1);
    }
    fs::remove_dir_all(colony.path("out")).unwrap();
    let text = run(colony.get().args(["tree.manifest", "-o", "out", "--salvage"])).expect_code(4);
    crate::harness::assert_facts(text.text(), &["1.0 MiB are lost", "see above"]);
}

/// Goal: a check looks at everything, and reports all that is wrong. Method: loses and damages chunks of the data and of
/// the index of a directory, and replaces the index by one of other data.
#[test]
fn a_check_reports_all_that_is_lost() {
    let colony = Colony::start_with(1, &NO_AUDITS);
    let (upload, _) = stored_tree(&colony);
    let chunks = upload.blocks().len() + 1;
    let check = || run(colony.get().args(["tree.manifest", "--check"]));
    check().expect_success();
    for (loss, code) in LOSSES {
        lose(&upload, &[("chunks", 1), ("chunks", 4), ("tree", 0)], loss);
        let [first, second] = [1, 4].map(|position: usize| upload.blocks()[position].clone());
        let facts = [first, second].map(|block| format!("{}-{}", block.start, block.end - 1));
        let facts = [&format!("3 of {chunks}"), &facts[0], &facts[1], "of the index", "--salvage"];
        let error = check().expect_error(code, &facts).stderr;
        assert!(!error.contains("cannot be used"), "what is lost of the index is said once: {error}");
    }
    // What is missing comes first, as in other checks.
    lose(&upload, &[("chunks", 4)], Loss::Removed);
    upload.colony.cells[0].flip_bit(upload.manifest["chunks"][1]["id"].as_str().unwrap());
    check().expect_error(4, &["1 of", "on no cell", "all copies found", "--salvage"]);
    lose(&upload, &[], Loss::Removed);
    check().expect_success();
}
