//! A put that is cut off is gone on with from what is really there.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::house::{Colony, QUIET, Running, Stored, eventually, light_blocks, noise, run};

/// Lines of a journal that were written to their ends, the head not counted; 0 if there is none.
fn noted(journal: &Path) -> usize {
    fs::read_to_string(journal).unwrap_or_default().matches('\n').count().saturating_sub(1)
}

/// Starts a put, lets it go on until it has noted so many chunks, and makes it stand still there: what is done to it
/// or to the colony then is done in the middle. `None` if it was quicker than we are.
fn put_until(command: &mut Command, journal: &Path, lines: usize) -> Option<Running> {
    let mut put = Running::start(command);
    eventually("the put notes its chunks", || noted(journal) >= lines || !put.is_running());
    put.stands_still().then_some(put)
}

/// The same for the put of `file`, in as many tries as it takes to be quick enough.
pub(crate) fn half_way(colony: &Colony, command: &mut Command, lines: usize) -> Running {
    for _ in 0..100 {
        if let Some(put) = put_until(command, &colony.path("file.manifest.part"), lines) {
            return put;
        }
        fs::remove_file(colony.path("file.manifest")).unwrap();
    }
    panic!("never quick enough");
}

/// Goal: an interrupted put loses nothing and sends nothing twice. Method: SIGKILL after a random number of chunks was
/// noted, twenty times; then the same command again. What is on the disks before and after tells what was sent.
#[test]
fn a_put_killed_at_any_point_sends_only_what_is_missing_when_run_again() {
    let colony = Colony::start_with(6, &QUIET);
    let (mut killed, mut resumed) = (0, 0);
    // Some puts end before they are killed.
    for round in 0..60 {
        let name = format!("file{round}");
        let manifest = colony.path(&format!("{name}.manifest"));
        let journal = colony.path(&format!("{name}.manifest.part"));
        let mut bytes = light_blocks(round, 10);
        bytes.extend(noise(round, 2 << 20));
        let file = colony.file(&name, &bytes);
        let mut put = colony.put();
        put.args(["--compress", "1", "--jobs", "2", "--json"]).arg(&file);

        let Some(mut first) = put_until(&mut put, &journal, fastrand::usize(0..12)) else { continue };
        first.kill();
        assert_eq!(first.ended().code, -9);
        if manifest.exists() {
            continue;
        }
        killed += 1;
        // What was sent before the end may still be stored.
        colony.settles();
        let before = colony.count_copies();
        let copies = colony.copies();
        let known = fs::read_to_string(&journal).unwrap_or_default();
        let there = copies.keys().filter(|id| known.contains(*id)).count();

        let told = run(&mut put).succeeded().json();
        let stored = Stored::read(&manifest);
        assert_eq!(told["resumed_chunks"], there, "chunks that had a copy are gone on with");
        assert_eq!(told["sent_copies"].as_u64(), Some(colony.count_copies() - before), "no copy was sent twice");
        let copies = colony.copies();
        assert_eq!(stored.ids.len(), 12);
        assert!(stored.ids.iter().all(|id| copies[id].len() == 5), "all have their copies");
        assert!(!journal.exists());
        assert!(colony.get_bytes(&manifest) == bytes);
        resumed += there;
        if killed == 20 {
            break;
        }
    }
    assert_eq!(killed, 20, "enough of them were killed in time");
    assert!(resumed > 20, "{resumed} chunks were gone on with: the test kills too early");
    colony.assert_all_chunks_are_what_they_are_named();
}

/// Goal: a chunk that an interrupted put left with too few copies is completed under its own id. Method: kills a put,
/// takes some copies of what it stored away, runs it again.
#[test]
fn copies_that_got_lost_since_are_made_again() {
    let mut colony = Colony::start_with(6, &QUIET);
    let bytes = noise(1, 12 << 20);
    let file = colony.file("file", &bytes);
    let mut put = colony.put();
    put.args(["--compress", "1", "--jobs", "1", "--json"]).arg(&file);
    let mut first = half_way(&colony, &mut put, 4);
    first.kill();
    first.ended();
    colony.settles();
    let known = fs::read_to_string(colony.path("file.manifest.part")).unwrap();
    let copies = colony.copies().into_iter().filter(|(id, _)| known.contains(id));
    let (id, holders) = copies.max_by_key(|(_, holders)| holders.len()).expect("a chunk that is there");
    // One copy is left, on a cell that was killed since and started again.
    for &holder in holders.iter().skip(1) {
        fs::remove_file(colony.cells[holder].chunk_file(&id)).unwrap();
    }
    let last = *holders.first().unwrap();
    colony.cells[last].kill();
    colony.cells[last].restart();
    colony.know_each_other();
    run(&mut put).succeeded();
    assert_eq!(colony.copies()[&id].len(), 5);
    assert!(colony.get_bytes(&colony.path("file.manifest")) == bytes);
}

/// Goal: a changed file is not patched together of old and new. Method: interrupts a put, changes the file, puts again.
#[test]
fn a_source_that_changed_since_is_put_anew() {
    let colony = Colony::start(3);
    let journal = colony.path("file.manifest.part");
    let file = colony.file("file", &noise(1, 8 << 20));
    let mut put = colony.put();
    put.args(["--compress", "1", "--jobs", "1", "--json", "--copies", "3"]).arg(&file);
    let mut first = half_way(&colony, &mut put, 2);
    first.kill();
    first.ended();
    let old = fs::read_to_string(&journal).unwrap();

    let changed = light_blocks(2, 8);
    fs::write(&file, &changed).unwrap();
    let told = run(&mut put).succeeded().json();
    assert_eq!(told["resumed_chunks"], 0);
    let stored = Stored::read(&colony.path("file.manifest"));
    assert!(!old.contains(stored.json["key"].as_str().unwrap()), "another key");
    assert!(stored.ids.iter().all(|id| !old.contains(id.as_str())));
    assert!(colony.get_bytes(&stored.manifest) == changed);
    assert!(!journal.exists());
}

/// Goal: Ctrl-C ends a put in order and says how to go on. Method: SIGINT, then the same command.
#[test]
fn ctrl_c_leaves_a_put_that_can_be_gone_on_with_and_says_so() {
    let colony = Colony::start(5);
    let bytes = noise(3, 16 << 20);
    let file = colony.file("file", &bytes);
    let mut put = colony.put();
    put.args(["--compress", "1", "--jobs", "1"]).arg(&file);
    let mut first = half_way(&colony, &mut put, 2);
    first.signal(Signal::INT);
    first.signal(Signal::CONT);
    first.ended().fails_in_one_line(1, &["stopped", "file.manifest.part"]);
    assert_eq!(colony.files(), ["file", "file.manifest.part"]);

    let second = run(&mut put).succeeded();
    let numbers = second.stderr.split(|char: char| !char.is_ascii_digit()).filter_map(|word| word.parse::<u64>().ok());
    assert!(numbers.max() >= Some(1), "it does not report how many chunks it found: {}", second.stderr);
    assert_eq!(colony.files(), ["file", "file.manifest"]);
    assert!(colony.get_bytes(&colony.path("file.manifest")) == bytes);
}

/// Goal: two puts of one file do not mix. Method: a second one while the first is under way.
#[test]
fn a_second_put_of_the_same_file_is_told_to_wait() {
    let colony = Colony::start(5);
    let file = colony.file("file", &noise(4, 16 << 20));
    let mut put = colony.put();
    put.args(["--compress", "1", "--jobs", "1"]).arg(&file);
    let mut first = half_way(&colony, &mut put, 1);
    run(&mut put).fails_in_one_line(1, &["file.manifest.part"]);
    first.signal(Signal::CONT);
    first.ended().succeeded();
    assert_eq!(colony.files(), ["file", "file.manifest"]);
}
