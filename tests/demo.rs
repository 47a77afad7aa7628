//! `cellsync demo` as a user runs it: the real program, real cells, and nothing left behind whatever happens.
//!
//! Each test gives the demo a temporary folder of its own. What is in that folder afterwards, and which of the
//! processes that the story names still work in it, is what was left behind.
// These are tests, though clippy knows so only inside of a `#[test]`.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::indexing_slicing)]
#![cfg(all(target_os = "linux", feature = "demo"))]

mod wait;

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use tempfile::TempDir;

use crate::wait::wait_until;

const STAGES: [&str; 10] =
    ["Genesis", "Differentiation", "Upload", "Attack", "Chaos", "Healing", "Corruption", "Liar", "Restore", "Verdict"];

fn demo<S: AsRef<OsStr>>(folder: &Path, words: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cellsync"));
    command.arg("demo").args(words).env("TMPDIR", folder).stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The story of a demo that ended well.
fn story(output: &Output) -> String {
    let (story, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && errors.is_empty(), "{}\n{story}\n{errors}", output.status);
    story
}

/// The cells' process ids: what stands after `pid` in Genesis.
fn pids(story: &str) -> Vec<u32> {
    let genesis = story.lines().take_while(|line| *line != "Upload");
    genesis.filter_map(|line| line.split_once("pid ")?.1.trim().parse().ok()).collect()
}

/// The processes that work in this folder, whoever has started them.
fn living(folder: &Path) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    processes.filter(|pid| lives(*pid, folder)).collect()
}

fn lives(pid: u32, folder: &Path) -> bool {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).contains(folder.to_str().unwrap())
}

/// The stages that were told, in order.
fn stages(story: &str) -> Vec<&str> {
    story.lines().filter(|line| STAGES.contains(line)).collect()
}

/// What was told in one stage.
fn told_in<'a>(story: &'a str, stage: &str) -> Vec<&'a str> {
    let lines = story.lines().skip_while(|line| *line != stage).skip(1);
    lines.take_while(|line| !STAGES.contains(line)).collect()
}

/// The number that stands before these words.
fn number_before(story: &str, words: &str) -> u64 {
    let before = story.split_once(words).unwrap_or_else(|| panic!("no {words:?} in {story}")).0;
    before.split(|c: char| !c.is_ascii_digit()).next_back().unwrap().parse().unwrap()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn assert_nothing_left(folder: &Path) {
    assert_eq!(living(folder), [] as [u32; 0], "still running");
    assert_eq!(entries(folder), [] as [PathBuf; 0]);
}

fn assert_lines_fit_a_terminal(story: &str) {
    assert!(!story.contains('\x1b'), "colours are for terminals:\n{story}");
    assert!(story.lines().all(|line| line.chars().count() <= 80 || line.contains("cellsync-demo-")), "{story}");
}

/// A demo under way. It dies with its guard.
struct Running {
    child: Child,
    story: BufReader<ChildStdout>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn start(folder: &Path) -> Self {
        let mut command = demo::<&str>(folder, &[]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let story = BufReader::new(child.stdout.take().unwrap());
        Self { child, story }
    }

    /// What is told up to this line, which is the next stage.
    fn read_until(&mut self, stage: &str) -> String {
        let mut told = String::new();
        while told.lines().last() != Some(stage) {
            assert!(self.story.read_line(&mut told).unwrap() > 0, "it ended before {stage}:\n{told}");
        }
        told
    }
}

#[test]
fn a_colony_loses_four_cells_and_heals_finds_rot_and_a_liar_and_gives_the_file_back() {
    let folder = TempDir::new().unwrap();
    let story = story(&demo::<&str>(folder.path(), &[]).output().unwrap());

    let all_but_chaos: Vec<_> = STAGES.iter().copied().filter(|stage| *stage != "Chaos").collect();
    assert_eq!(stages(&story), all_but_chaos);
    assert_lines_fit_a_terminal(&story);
    assert_eq!(pids(&story).len(), 9, "{story}");
    assert_eq!(told_in(&story, "Genesis").iter().filter(|line| line.contains("  stem  pid ")).count(), 9, "{story}");

    assert_eq!(story.lines().filter(|line| line.ends_with("is dead")).count(), 4, "{story}");
    assert!(story.contains("5 of 9 cells still answer") && story.contains("each chunk has 5 copies again"), "{story}");
    let moved = number_before(&story, " % of what was lost");
    assert!((99..=110).contains(&moved), "{story}");

    let corruption = told_in(&story, "Corruption").join("\n");
    let events = ["ALERT", "QUARANTINE", "RECOVERY"].map(|event| corruption.find(event));
    assert!(events.is_sorted() && events[0].is_some(), "{story}");
    let liar = told_in(&story, "Liar").join("\n");
    assert!(liar.contains("ISOLATION") && number_before(&liar, " of 5 cells isolate it") >= 1, "{story}");
    assert!(liar.contains("without the liar each chunk has 5 copies"), "{story}");

    assert!(story.contains("equal: every byte came back, with 4 of 9 cells dead, and a liar"), "{story}");
    assert_nothing_left(folder.path());
}

/// With this seed three cells would soon lose all copies of a chunk, were it not looked before a cell is killed or a byte
/// flips. Six have guards, and somebody to heal to.
#[test]
fn chaos_never_takes_the_last_good_copy_and_ends_with_every_byte() {
    for (cells, seed) in [("3", "21"), ("6", "4711")] {
        let folder = TempDir::new().unwrap();
        let words = ["--cells", cells, "--chaos", "8", "--seed", seed];
        let story = story(&demo(folder.path(), &words).output().unwrap());

        let expected = ["Genesis", "Differentiation", "Upload", "Chaos", "Healing", "Restore", "Verdict"];
        assert_eq!(stages(&story), expected);
        assert_lines_fit_a_terminal(&story);
        assert!(story.contains(&format!("--seed {seed}")), "{story}");
        let chaos = told_in(&story, "Chaos");
        assert!(!chaos.iter().any(|line| line.contains("at least 0 copies")), "{story}");
        let count = |event: &str| chaos.iter().filter(|line| line.contains(&format!(" s  {event} "))).count() as u64;
        let (kills, revivals, flips) = (count("kill"), count("revive"), count("flip"));
        assert!(kills + flips >= 1, "{story}");
        let needed = told_in(&story, "Healing").iter().filter(|line| line.contains("is revived")).count() as u64;
        let verdict = told_in(&story, "Verdict").join("\n");
        let told = [" kill", " revival", " flip"].map(|words| number_before(&verdict, words));
        assert_eq!(told, [kills, revivals + needed, flips], "{story}");
        assert!(story.contains("equal: every byte came back"), "{story}");
        assert_nothing_left(folder.path());
    }
}

#[test]
fn a_users_file_is_only_read_and_nothing_is_put_beside_it() {
    let (folder, home) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let file = home.path().join("thesis.txt");
    fs::write(&file, "All cells come from cells. ".repeat(100_000)).unwrap();
    let before = (fs::read(&file).unwrap(), fs::metadata(&file).unwrap().modified().unwrap());

    let words = [file.as_os_str(), "--cells".as_ref(), "2".as_ref()];
    let story = story(&demo(folder.path(), &words).current_dir(home.path()).output().unwrap());

    assert!(story.contains("thesis.txt, 2.6 MiB"), "{story}");
    assert!(story.contains("equal: every byte came back, with 1 of 2 cells dead"), "{story}");
    assert_eq!((fs::read(&file).unwrap(), fs::metadata(&file).unwrap().modified().unwrap()), before);
    assert_eq!(entries(home.path()), [file]);
    assert_nothing_left(folder.path());
}

#[test]
fn an_empty_file_and_a_colony_of_one_have_nothing_to_lose() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("empty");
    fs::write(&file, "").unwrap();
    let words = [file.as_os_str(), "--cells".as_ref(), "1".as_ref()];
    let story = story(&demo(folder.path(), &words).output().unwrap());
    assert!(story.contains("an empty file has no chunks"), "{story}");
    fs::remove_file(file).unwrap();
    assert_nothing_left(folder.path());
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_started() {
    let folder = TempDir::new().unwrap();
    let directory = folder.path().to_str().unwrap();
    for (words, expected) in [
        (vec!["--cells", "0"], ["--cells", "1 to 50"]),
        (vec!["--cells", "51"], ["--cells", "1 to 50"]),
        (vec!["--chaos", "0"], ["--chaos", "1 to 3600"]),
        (vec!["--chaos", "3601"], ["--chaos", "1 to 3600"]),
        (vec!["--seed", "1"], ["--seed", "--chaos"]),
        (vec!["--step"], ["--step", "terminal"]),
        (vec![directory], [directory, "not a file"]),
    ] {
        let output = demo(folder.path(), &words).output().unwrap();
        let errors = text(&output.stderr);
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(2), ""), "{words:?}");
        assert!(errors.starts_with("cellsync demo: ") && errors.lines().count() == 1, "{words:?}: {errors}");
        assert!(expected.iter().all(|fact| errors.contains(fact)), "{words:?}: {errors}");
        assert_nothing_left(folder.path());
    }
}

#[test]
fn a_file_that_is_not_there_is_one_line_and_starts_nothing() {
    let folder = TempDir::new().unwrap();
    let output = demo(folder.path(), &["no-such-file"]).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""));
    assert!(text(&output.stderr).starts_with("cellsync demo: cannot read no-such-file: "), "{output:?}");
    assert_nothing_left(folder.path());
}

#[test]
fn with_keep_the_folder_stays_and_the_cells_do_not() {
    let folder = TempDir::new().unwrap();
    let story = story(&demo(folder.path(), &["--cells", "2", "--keep"]).output().unwrap());
    let kept = entries(folder.path());
    assert!(kept.len() == 1 && story.contains(&format!("{} is kept", kept[0].display())), "{kept:?}\n{story}");
    for name in ["manifest", "cell-1", "cell-2"] {
        assert!(kept[0].join(name).exists(), "{name}");
    }
    assert!(fs::read(kept[0].join("sample")).unwrap() == fs::read(kept[0].join("restored")).unwrap());
    assert_eq!(living(folder.path()), [] as [u32; 0], "{story}");
}

#[test]
fn ctrl_c_ends_the_cells_and_removes_the_folder_wherever_it_comes() {
    for (stage, left) in [("Upload", 9), ("Healing", 5)] {
        let folder = TempDir::new().unwrap();
        let mut running = Running::start(folder.path());
        running.read_until(stage);
        assert_eq!(living(folder.path()).len(), left, "{stage}");

        let sent = Command::new("kill").args(["-INT", &running.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let mut rest = String::new();
        running.story.read_to_string(&mut rest).unwrap();
        let mut errors = String::new();
        running.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();

        assert_eq!(running.child.wait().unwrap().code(), Some(1), "{rest}{errors}");
        assert_eq!(errors, "cellsync demo: stopped\n");
        assert_nothing_left(folder.path());
    }
}

#[test]
fn cells_do_not_outlive_a_demo_that_is_killed() {
    let folder = TempDir::new().unwrap();
    let mut running = Running::start(folder.path());
    running.read_until("Upload");
    assert_eq!(living(folder.path()).len(), 9);

    running.child.kill().unwrap();
    running.child.wait().unwrap();

    wait_until("no cell is running", || living(folder.path()).is_empty());
}

#[test]
fn a_folder_with_a_long_path_is_no_trouble() {
    let folder = TempDir::new().unwrap();
    // Each cell serves on a Unix socket in its folder, and the path of one has some hundred bytes at the most.
    let deep = folder.path().join("d".repeat(120));
    fs::create_dir(&deep).unwrap();
    story(&demo(&deep, &["--cells", "2"]).output().unwrap());
    assert_nothing_left(&deep);
}

#[test]
fn a_cell_that_cannot_start_is_named_with_its_reason() {
    let folder = TempDir::new().unwrap();
    // Where not a byte may be written to a file, no cell can start; the demo itself has written none by then.
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 0 && exec \"$0\" demo", env!("CARGO_BIN_EXE_cellsync")]);
    let output = command.env("TMPDIR", folder.path()).stdin(Stdio::null()).output().unwrap();
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.starts_with("cellsync demo: cell 1 did not start: "), "{errors}");
    assert!(errors.lines().count() == 1 && !text(&output.stdout).contains("Upload"), "{errors}");
    assert_nothing_left(folder.path());
}
