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

/// Goal: the restored file never mixes two versions of the source. Method: interrupts a put, changes the file, and
/// repeats the command.
#[test]
fn a_changed_source_is_put_from_the_start() {
    let colony = Colony::start(3);
    let journal = colony.path("file.manifest.part");
    let file = colony.write_file("file", &random_bytes(1, 8 << 20));
    let mut put = colony.put();
    put.args(["--compress", "1", "--jobs", "1", "--json", "--copies", "3"]).arg(&file);
    let mut first = suspend_put(&colony, &mut put, 2);
    first.kill();
    first.finish();
    let old = fs::read_to_string(&journal).unwrap();

    let changed = compressible_blocks(2, 8);
    fs::write(&file, &changed).unwrap();
    let report = run(&mut put).expect_success().json();
    assert_eq!(report["resumed_chunks"], 0);
    let stored = StoredFile::read(&colony.path("file.manifest"));
    assert!(!old.contains(stored.json["key"].as_str().unwrap()), "another key");
    assert!(stored.ids.iter().all(|id| !old.contains(id.as_str())));
    assert!(colony.get_bytes(&stored.manifest) == changed);
    assert!(!journal.exists());
}

/// Goal: a put of a directory that was changed meanwhile keeps every block that is still the same, and mixes no two
/// versions. Method: interrupts a put, changes a file in the middle of the directory without changing its length, adds
/// one at the end, and repeats the command.
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
    let mut first = suspend_put(&colony, &mut put, 14);
    first.kill();
    first.finish();
    colony.wait_idle();
    let journal = fs::read_to_string(colony.path("file.manifest.part")).unwrap();

    fs::write(tree.join("b"), random_bytes(99, 2 << 20)).unwrap();
    fs::write(tree.join("z"), b"new").unwrap();
    // The first block has the time of the directory, and file b has parts in the blocks 2 to 4.
    let copies = colony.copies();
    let lines = journal.lines().skip(1).filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let same = lines.filter(|line| {
        assert!(line["hash"].is_string(), "{line}");
        let is_complete = copies.get(line["id"].as_str().unwrap()).is_some_and(|cells| cells.len() == 3);
        is_complete && ![0, 2, 3, 4].contains(&line["index"].as_u64().unwrap())
    });
    let same = same.count();
    assert!(same > 0, "the put was interrupted too early");

    let report = run(&mut put).expect_success().json();
    assert_eq!(report["resumed_chunks"], same);
    let restored = colony.path("restored");
    run(colony.get().arg(&manifest).arg("-o").arg(&restored)).expect_success();
    for name in names.iter().map(String::as_str).chain(["z"]) {
        assert!(fs::read(restored.join(name)).unwrap() == fs::read(tree.join(name)).unwrap(), "{name}");
    }
    let ids = StoredFile::read(&manifest).ids;
    let kept = ids.iter().filter(|id| journal.contains(id.as_str())).count();
    assert_eq!(kept, same, "every block that is the same has its former chunk, and no other");
    assert!(!colony.path("file.manifest.part").exists());
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
