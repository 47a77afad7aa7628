//! `cellsync demo` as a user runs it: the real program, real cells, and nothing left behind whatever happens.
//!
//! Each test gives the demo a temporary folder of its own. What is in that folder afterwards, and which of the
//! processes that the story names still work in it, is what was left behind.
// These are tests, though clippy knows so only inside of a `#[test]`.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::indexing_slicing)]
#![cfg(target_os = "linux")]

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const STAGES: [&str; 5] = ["Genesis", "Upload", "Attack", "Restore", "Verdict"];
/// For what should take no time at all.
const PATIENCE: Duration = Duration::from_secs(30);

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

/// Is it a process that works in this folder? Another one may have its id by now.
fn lives(pid: u32, folder: &Path) -> bool {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).contains(folder.to_str().unwrap())
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn assert_nothing_left(folder: &Path, pids: &[u32]) {
    let living: Vec<_> = pids.iter().filter(|&&pid| lives(pid, folder)).collect();
    assert!(living.is_empty(), "still running: {living:?}");
    assert_eq!(entries(folder), [] as [PathBuf; 0]);
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
fn a_colony_of_six_loses_four_cells_and_the_file_comes_back() {
    let folder = TempDir::new().unwrap();
    let story = story(&demo(folder.path(), &["--cells", "6"]).output().unwrap());

    let told: Vec<_> = story.lines().filter(|line| STAGES.contains(line)).collect();
    assert_eq!(told, STAGES);
    assert!(!story.contains('\x1b'), "colours are for terminals:\n{story}");
    assert_eq!(story.lines().filter(|line| line.ends_with("is dead")).count(), 4, "{story}");
    assert!(story.contains("2 of 6 cells still answer"), "{story}");
    assert!(story.contains("equal: every byte came back, with 4 of 6 cells dead"), "{story}");
    assert!(story.lines().all(|line| line.chars().count() <= 80 || line.contains("cellsync-demo-")), "{story}");

    let pids = pids(&story);
    assert_eq!(pids.len(), 6, "{story}");
    assert_nothing_left(folder.path(), &pids);
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
    assert_nothing_left(folder.path(), &pids(&story));
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
    assert_nothing_left(folder.path(), &pids(&story));
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_started() {
    let folder = TempDir::new().unwrap();
    let directory = folder.path().to_str().unwrap();
    for (words, expected) in [
        (vec!["--cells", "0"], "cellsync demo: --cells is a number from 1 to 50\n"),
        (vec!["--cells", "51"], "cellsync demo: --cells is a number from 1 to 50\n"),
        (vec![directory], "is not a file; the demo stores one file\n"),
    ] {
        let output = demo(folder.path(), &words).output().unwrap();
        let errors = text(&output.stderr);
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(2), ""), "{words:?}");
        assert!(errors.ends_with(expected), "{words:?}: {errors}");
        assert_nothing_left(folder.path(), &[]);
    }
}

#[test]
fn a_file_that_is_not_there_is_one_line_and_starts_nothing() {
    let folder = TempDir::new().unwrap();
    let output = demo(folder.path(), &["no-such-file"]).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""));
    assert!(text(&output.stderr).starts_with("cellsync demo: cannot read no-such-file: "), "{output:?}");
    assert_nothing_left(folder.path(), &[]);
}

#[test]
fn with_keep_the_folder_stays_and_the_cells_do_not() {
    let folder = TempDir::new().unwrap();
    let story = story(&demo(folder.path(), &["--cells", "3", "--keep"]).output().unwrap());
    let kept = entries(folder.path());
    assert!(kept.len() == 1 && story.contains(&format!("{} is kept", kept[0].display())), "{kept:?}\n{story}");
    for name in ["manifest", "cell-1", "cell-2", "cell-3"] {
        assert!(kept[0].join(name).exists(), "{name}");
    }
    assert!(fs::read(kept[0].join("sample")).unwrap() == fs::read(kept[0].join("restored")).unwrap());
    assert!(pids(&story).iter().all(|&pid| !lives(pid, folder.path())), "{story}");
}

#[test]
fn ctrl_c_ends_the_cells_and_removes_the_folder() {
    let folder = TempDir::new().unwrap();
    let mut running = Running::start(folder.path());
    let pids = pids(&running.read_until("Upload"));
    assert!(pids.len() == 6 && pids.iter().all(|&pid| lives(pid, folder.path())), "{pids:?}");

    let sent = Command::new("kill").args(["-INT", &running.child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let mut rest = String::new();
    running.story.read_to_string(&mut rest).unwrap();
    let mut errors = String::new();
    running.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();

    assert_eq!(running.child.wait().unwrap().code(), Some(1), "{rest}{errors}");
    assert_eq!(errors, "cellsync demo: stopped\n");
    assert_nothing_left(folder.path(), &pids);
}

#[test]
fn cells_do_not_outlive_a_demo_that_is_killed() {
    let folder = TempDir::new().unwrap();
    let mut running = Running::start(folder.path());
    let pids = pids(&running.read_until("Upload"));
    assert_eq!(pids.len(), 6);

    running.child.kill().unwrap();
    running.child.wait().unwrap();

    let deadline = Instant::now() + PATIENCE;
    while pids.iter().any(|&pid| lives(pid, folder.path())) {
        assert!(Instant::now() < deadline, "still running: {pids:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_folder_with_a_long_path_is_no_trouble() {
    let folder = TempDir::new().unwrap();
    // Each cell serves on a Unix socket in its folder, and the path of one has some hundred bytes at the most.
    let deep = folder.path().join("d".repeat(120));
    fs::create_dir(&deep).unwrap();
    let story = story(&demo(&deep, &["--cells", "2"]).output().unwrap());
    assert_nothing_left(&deep, &pids(&story));
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
    assert_nothing_left(folder.path(), &[]);
}
