//! An interrupted put resumes from what the colony really has.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::harness::{Colony, NO_AUDITS, Running, StoredFile, compressible_blocks, random_bytes, run};
use crate::wait::wait_until;

/// The number of complete lines of a journal after its head; 0 if there is no journal.
fn journal_lines(journal: &Path) -> usize {
    fs::read_to_string(journal).unwrap_or_default().matches('\n').count().saturating_sub(1)
}

/// Starts a put and suspends it when its journal has this many lines, so that a test can act in the middle of it.
/// `None` if the put ended first.
fn put_until(command: &mut Command, journal: &Path, lines: usize) -> Option<Running> {
    let mut put = Running::start(command);
    wait_until("the journal grows", || journal_lines(journal) >= lines || !put.is_running());
    put.suspend().then_some(put)
}

/// The same for the put of `file`, repeated until the put is suspended in time.
pub(crate) fn suspend_put(colony: &Colony, command: &mut Command, lines: usize) -> Running {
    for _ in 0..100 {
        if let Some(put) = put_until(command, &colony.path("file.manifest.part"), lines) {
            return put;
        }
        fs::remove_file(colony.path("file.manifest")).unwrap();
    }
    panic!("the put always ended first");
}

/// Goal: an interrupted put loses nothing and sends nothing twice. Method: kills a put after a random number of journal
/// lines, twenty times, and repeats the command. The copies on the disks before and after show what was sent.
#[test]
fn a_killed_put_sends_only_missing_copies_when_repeated() {
    let colony = Colony::start_with(6, &NO_AUDITS);
    let (mut killed, mut resumed) = (0, 0);
    // Some puts end before they can be killed.
    for round in 0..60 {
        let name = format!("file{round}");
        let manifest = colony.path(&format!("{name}.manifest"));
        let journal = colony.path(&format!("{name}.manifest.part"));
        let mut bytes = compressible_blocks(round, 10);
        bytes.extend(random_bytes(round, 2 << 20));
        let file = colony.write_file(&name, &bytes);
        let mut put = colony.put();
        put.args(["--compress", "1", "--jobs", "2", "--json"]).arg(&file);

        let Some(mut first) = put_until(&mut put, &journal, fastrand::usize(0..12)) else { continue };
        first.kill();
        assert_eq!(first.finish().code, -9);
        if manifest.exists() {
            continue;
        }
        killed += 1;
        // The cells may still store what was sent.
        colony.wait_idle();
        let before = colony.count_copies();
        let copies = colony.copies();
        let known = fs::read_to_string(&journal).unwrap_or_default();
        let there = copies.keys().filter(|id| known.contains(*id)).count();

        let report = run(&mut put).expect_success().json();
        let stored = StoredFile::read(&manifest);
        assert_eq!(report["resumed_chunks"], there, "a chunk with a copy is resumed");
        assert_eq!(report["sent_copies"].as_u64(), Some(colony.count_copies() - before), "no copy was sent twice");
        let copies = colony.copies();
        assert_eq!(stored.ids.len(), 12);
        assert!(stored.ids.iter().all(|id| copies[id].len() == 5), "every chunk has its copies");
        assert!(!journal.exists());
        assert!(colony.get_bytes(&manifest) == bytes);
        resumed += there;
        if killed == 20 {
            break;
        }
    }
    assert_eq!(killed, 20, "too few puts were killed in time");
    assert!(resumed > 20, "{resumed} chunks were resumed: the test kills too early");
    colony.assert_all_copies_good();
}

/// Goal: a chunk that an interrupted put left with too few copies is completed under the same id. Method: kills a put,
/// deletes some of its copies, and repeats the command.
#[test]
fn a_resumed_put_replaces_copies_lost_meanwhile() {
    let mut colony = Colony::start_with(6, &NO_AUDITS);
    let bytes = random_bytes(1, 12 << 20);
    let file = colony.write_file("file", &bytes);
    let mut put = colony.put();
    put.args(["--compress", "1", "--jobs", "1", "--json"]).arg(&file);
    let mut first = suspend_put(&colony, &mut put, 4);
    first.kill();
    first.finish();
    colony.wait_idle();
    let known = fs::read_to_string(colony.path("file.manifest.part")).unwrap();
    let copies = colony.copies().into_iter().filter(|(id, _)| known.contains(id));
    let (id, holders) = copies.max_by_key(|(_, holders)| holders.len()).expect("a stored chunk");
    // One copy is left, on a cell that is killed and restarted.
    for &holder in holders.iter().skip(1) {
        fs::remove_file(colony.cells[holder].chunk_file(&id)).unwrap();
    }
    let last = *holders.first().unwrap();
    colony.cells[last].kill();
    colony.cells[last].restart();
    colony.wait_all_active();
    run(&mut put).expect_success();
    assert_eq!(colony.copies()[&id].len(), 5);
    assert!(colony.get_bytes(&colony.path("file.manifest")) == bytes);
}

/// The lines of a journal that name a block, and the number of cells that have its chunk.
fn journal_blocks(colony: &Colony, journal: &str) -> Vec<(serde_json::Value, usize)> {
    let copies = colony.copies();
    let lines = journal.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let blocks = lines.filter(|line| line["id"].is_string());
    blocks
        .map(|line| {
            assert!(line["hash"].is_string(), "{line}");
            let holders = copies.get(line["id"].as_str().unwrap()).map_or(0, std::collections::BTreeSet::len);
            (line, holders)
        })
        .collect()
}

/// Goal: the put of a file that changed sends only the blocks that changed, and mixes no two versions. Method: interrupts
/// a put, changes one block, inserts one in front, and repeats the command; then the same with another file.
#[test]
fn a_changed_file_resumes_with_the_blocks_that_are_the_same() {
    let colony = Colony::start_with(3, &NO_AUDITS);
    let journal = colony.path("file.manifest.part");
    let mut bytes = random_bytes(1, 16 << 20);
    let file = colony.write_file("file", &bytes);
    let mut put = colony.put();
    put.args(["--compress", "1", "--jobs", "1", "--json", "--copies", "3", "--force"]).arg(&file);
    let mut first = suspend_put(&colony, &mut put, 9);
    first.kill();
    first.finish();
    colony.wait_idle();
    let old = fs::read_to_string(&journal).unwrap();
    let same = journal_blocks(&colony, &old).iter().filter(|(line, copies)| *copies > 0 && line["index"] != 2).count();
    assert!(same >= 4, "the put was interrupted too early");

    bytes[2 << 20] ^= 1;
    bytes.splice(0..0, random_bytes(2, 1 << 20));
    fs::write(&file, &bytes).unwrap();
    let before = colony.count_copies();
    let again = run(&mut put).expect_success();
    let again = again.expect_line(&["another file, or of this one before it changed", "not sent again"]);
    assert!(!again.stderr.contains("resuming"), "nothing is certain to be of use:\n{}", again.stderr);
    let report = again.json();
    assert_eq!(report["resumed_chunks"], same);
    assert_eq!(report["sent_copies"].as_u64(), Some(colony.count_copies() - before));
    let stored = StoredFile::read(&colony.path("file.manifest"));
    assert_eq!(stored.ids.iter().filter(|id| old.contains(id.as_str())).count(), same);
    assert!(colony.copies().values().filter(|cells| cells.len() == 3).count() >= stored.ids.len());
    assert!(colony.get_bytes(&stored.manifest) == bytes);
    assert!(!journal.exists());

    fs::remove_file(&stored.manifest).unwrap();
    let mut first = suspend_put(&colony, &mut put, 2);
    first.kill();
    first.finish();
    let changed = compressible_blocks(2, 8);
    fs::write(&file, &changed).unwrap();
    assert_eq!(run(&mut put).expect_success().json()["resumed_chunks"], 0);
    assert!(colony.get_bytes(&stored.manifest) == changed);
}

/// Goal: the manifest of a finished put is not replaced by that of a changed file. Method: a journal of the finished put,
/// as an interruption before its removal leaves it.
#[test]
fn a_changed_file_does_not_replace_the_manifest_of_the_former() {
    let colony = Colony::start(1);
    let file = colony.write_file("file", &random_bytes(1, 2 << 20));
    let journal = colony.path("file.manifest.part");
    let mut put = colony.put();
    put.args(["--compress", "0", "--jobs", "1", "--copies", "1"]).arg(&file);
    let mut first = suspend_put(&colony, &mut put, 1);
    let text = fs::read_to_string(&journal).unwrap();
    first.signal(Signal::CONT);
    first.finish().expect_success();
    let manifest = fs::read(colony.path("file.manifest")).unwrap();
    fs::write(&journal, text).unwrap();
    fs::write(&file, b"changed").unwrap();
    run(&mut put).expect_error(2, &["file.manifest", "--force"]);
    assert!(fs::read(colony.path("file.manifest")).unwrap() == manifest);
}

/// Goal: a put of a directory that was changed meanwhile keeps every block that is still the same, and mixes no two
/// versions. Method: interrupts a put, changes a file in the middle of the directory without changing its length, adds
/// one before it and one at the end, and repeats the command.
#[test]
fn a_changed_directory_resumes_with_the_blocks_that_are_the_same() {
    let colony = Colony::start_with(3, &NO_AUDITS);
    let (tree, manifest) = (colony.path("file"), colony.path("file.manifest"));
    fs::create_dir(&tree).unwrap();
    let names: Vec<String> = ('a'..='j').map(String::from).collect();
    for (name, n) in names.iter().zip(0..) {
        fs::write(tree.join(name), random_bytes(n, 2 << 20)).unwrap();
    }
    let mut put = colony.put();
    put.args(["--compress", "1", "--jobs", "1", "--json", "--copies", "3"]).arg(&tree);
    let mut first = suspend_put(&colony, &mut put, 20);
    first.kill();
    first.finish();
    colony.wait_idle();
    let journal = fs::read_to_string(colony.path("file.manifest.part")).unwrap();

    fs::write(tree.join("b"), random_bytes(99, 2 << 20)).unwrap();
    fs::write(tree.join("aa"), b"new").unwrap();
    fs::write(tree.join("z"), b"new").unwrap();
    // The first block has the time of the directory. Each file has three blocks, those of b at 4 to 6; aa is at 4 now.
    let blocks = journal_blocks(&colony, &journal);
    let same = |from: u64| {
        let is_same = |index: u64| index >= from && ![0, 4, 5, 6].contains(&index);
        blocks.iter().filter(|(line, copies)| *copies > 0 && is_same(line["index"].as_u64().unwrap())).count()
    };
    let (same, moved) = (same(0), same(7));
    assert!(moved > 0, "the put was interrupted too early");

    let before = colony.count_copies();
    let again = run(&mut put).expect_success().expect_line(&["put of this manifest left", "not sent again"]);
    let report = again.json();
    assert_eq!(report["resumed_chunks"], same);
    assert_eq!(report["sent_copies"].as_u64(), Some(colony.count_copies() - before), "no copy was sent twice");
    let restored = colony.path("restored");
    run(colony.get().arg(&manifest).arg("-o").arg(&restored)).expect_success();
    for name in names.iter().map(String::as_str).chain(["aa", "z"]) {
        assert!(fs::read(restored.join(name)).unwrap() == fs::read(tree.join(name)).unwrap(), "{name}");
    }
    let stored = StoredFile::read(&manifest);
    let kept = stored.ids.iter().filter(|id| journal.contains(id.as_str())).count();
    assert_eq!(kept, same, "every block that is the same has its former chunk, and no other");
    let keys = stored.json["chunks"].as_array().unwrap().iter().filter(|chunk| chunk["key"].is_string()).count();
    assert_eq!(keys, moved, "a chunk at another position keeps its key");
    assert!(!colony.path("file.manifest.part").exists());
}

/// Goal: one small change to a large tree sends few blocks when its put starts again. Method: ten times, a put of 10,000
/// files is killed shortly before its end, one file changes or grows, and the command is repeated.
#[test]
fn a_put_resumed_after_a_small_change_sends_few_blocks() {
    let colony = Colony::start_with(2, &NO_AUDITS);
    let (tree, manifest) = (colony.path("file"), colony.path("file.manifest"));
    let path = |n: u64| tree.join(format!("folder{:02}/file{:02}", n / 100, n % 100));
    for n in 0..10_000 {
        if n % 100 == 0 {
            fs::create_dir_all(path(n).parent().unwrap()).unwrap();
        }
        fs::write(path(n), random_bytes(n, 1024)).unwrap();
    }
    let mut put = colony.put();
    put.args(["--compress", "0", "--jobs", "1", "--json", "--copies", "1"]).arg(&tree);
    let chunks = run(&mut put).expect_success().json()["chunks"].as_u64().unwrap();
    fs::remove_file(&manifest).unwrap();
    let mut sent = Vec::new();
    for round in 0..10 {
        let mut first = suspend_put(&colony, &mut put, usize::try_from(chunks).unwrap() - 2);
        first.kill();
        first.finish();
        colony.wait_idle();
        fs::write(path(fastrand::u64(0..10_000)), random_bytes(round, 1024 + usize::from(round % 2 == 1) * 700))
            .unwrap();
        let report = run(&mut put).expect_success().json();
        sent.push(report["sent_copies"].as_u64().unwrap());
        if round < 9 {
            fs::remove_file(&manifest).unwrap();
        }
    }
    sent.sort_unstable();
    assert!(sent[8] <= 14, "{sent:?} of {chunks}");
    run(colony.get().arg(&manifest).arg("-o").arg(colony.path("restored"))).expect_success();
    for n in 0..10_000 {
        let restored = colony.path("restored").join(path(n).strip_prefix(&tree).unwrap());
        assert!(fs::read(restored).unwrap() == fs::read(path(n)).unwrap(), "{n}");
    }
}

/// Goal: Ctrl-C stops a put in order, and the message says how to resume. Method: sends SIGINT, then repeats the
/// command.
#[test]
fn a_put_stopped_by_ctrl_c_can_be_resumed_and_says_so() {
    let colony = Colony::start(5);
    let bytes = random_bytes(3, 16 << 20);
    let file = colony.write_file("file", &bytes);
    let mut put = colony.put();
    put.args(["--compress", "1", "--jobs", "1"]).arg(&file);
    let mut first = suspend_put(&colony, &mut put, 2);
    first.signal(Signal::INT);
    first.signal(Signal::CONT);
    first.finish().expect_error(1, &["stopped", "file.manifest.part"]);
    assert_eq!(colony.files(), ["file", "file.manifest.part"]);

    let second = run(&mut put).expect_success();
    let numbers = second.stderr.split(|char: char| !char.is_ascii_digit()).filter_map(|word| word.parse::<u64>().ok());
    assert!(numbers.max() >= Some(1), "it does not report how many chunks it found: {}", second.stderr);
    assert_eq!(colony.files(), ["file", "file.manifest"]);
    assert!(colony.get_bytes(&colony.path("file.manifest")) == bytes);
}

/// Goal: two puts of one file do not mix. Method: starts a second put while the first is suspended.
#[test]
fn a_second_put_of_the_same_file_is_refused() {
    let colony = Colony::start(5);
    let file = colony.write_file("file", &random_bytes(4, 16 << 20));
    let mut put = colony.put();
    put.args(["--compress", "1", "--jobs", "1"]).arg(&file);
    let mut first = suspend_put(&colony, &mut put, 1);
    run(&mut put).expect_error(1, &["file.manifest.part"]);
    first.signal(Signal::CONT);
    first.finish().expect_success();
    assert_eq!(colony.files(), ["file", "file.manifest"]);
}
