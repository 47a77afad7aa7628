//! `cellsync demo` as a user runs it: the real program and real cells. It must show every stage and leave nothing behind,
//! however it ends.
//!
//! Each test gives the demo a temporary folder. Afterwards the folder must be empty, and no process may still use it.
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

/// The output of a demo that succeeded.
fn successful(ran: &Output) -> String {
    let (output, errors) = (text(&ran.stdout), text(&ran.stderr));
    assert!(ran.status.success() && errors.is_empty(), "{}\n{output}\n{errors}", ran.status);
    output
}

/// The process ids of the cells, from the lines of Genesis.
fn pids(output: &str) -> Vec<u32> {
    let genesis = output.lines().take_while(|line| *line != "Upload");
    genesis.filter_map(|line| line.split_once("pid ")?.1.trim().parse().ok()).collect()
}

/// The processes whose command line names this folder.
fn processes_in(folder: &Path) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    processes.filter(|pid| uses(*pid, folder)).collect()
}

fn uses(pid: u32, folder: &Path) -> bool {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).contains(folder.to_str().unwrap())
}

/// The headings, in order.
fn stages(output: &str) -> Vec<&str> {
    output.lines().filter(|line| STAGES.contains(line)).collect()
}

/// The lines of one stage.
fn lines_of<'a>(output: &'a str, stage: &str) -> Vec<&'a str> {
    let lines = output.lines().skip_while(|line| *line != stage).skip(1);
    lines.take_while(|line| !STAGES.contains(line)).collect()
}

/// The number before these words.
fn number_before(output: &str, words: &str) -> u64 {
    let before = output.split_once(words).unwrap_or_else(|| panic!("no {words:?} in {output}")).0;
    before.split(|c: char| !c.is_ascii_digit()).next_back().unwrap().parse().unwrap()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn assert_nothing_left(folder: &Path) {
    assert_eq!(processes_in(folder), [] as [u32; 0], "still running");
    assert_eq!(entries(folder), [] as [PathBuf; 0]);
}

fn assert_lines_fit_a_terminal(output: &str) {
    assert!(!output.contains('\x1b'), "colours are for terminals:\n{output}");
    assert!(output.lines().all(|line| line.chars().count() <= 80 || line.contains("cellsync-demo-")), "{output}");
}

/// A running demo. It is killed when this is dropped.
struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
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
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// The output up to the heading of this stage.
    fn read_until(&mut self, stage: &str) -> String {
        let mut read = String::new();
        while read.lines().last() != Some(stage) {
            assert!(self.output.read_line(&mut read).unwrap() > 0, "it ended before {stage}:\n{read}");
        }
        read
    }
}

#[test]
fn all_stages_succeed_and_the_file_is_restored() {
    let folder = TempDir::new().unwrap();
    let output = successful(&demo::<&str>(folder.path(), &[]).output().unwrap());

    let all_but_chaos: Vec<_> = STAGES.iter().copied().filter(|stage| *stage != "Chaos").collect();
    assert_eq!(stages(&output), all_but_chaos);
    assert_lines_fit_a_terminal(&output);
    assert_eq!(pids(&output).len(), 9, "{output}");
    assert_eq!(lines_of(&output, "Genesis").iter().filter(|line| line.contains("  stem  pid ")).count(), 9, "{output}");

    assert_eq!(output.lines().filter(|line| line.ends_with("is dead")).count(), 4, "{output}");
    assert!(
        output.contains("5 of 9 cells still answer") && output.contains("each chunk has 5 copies again"),
        "{output}"
    );
    let sent = number_before(&output, " % of what was lost");
    assert!((99..=110).contains(&sent), "{output}");

    let corruption = lines_of(&output, "Corruption").join("\n");
    let events = ["ALERT", "QUARANTINE", "RECOVERY"].map(|event| corruption.find(event));
    assert!(events.is_sorted() && events[0].is_some(), "{output}");
    let liar = lines_of(&output, "Liar").join("\n");
    assert!(liar.contains("ISOLATION") && number_before(&liar, " of 5 cells isolate it") >= 1, "{output}");
    assert!(liar.contains("without the liar each chunk has 5 copies"), "{output}");

    assert!(output.contains("every byte was restored, with 4 of 9 cells dead and a lying cell"), "{output}");
    assert_nothing_left(folder.path());
}

/// With this seed three cells would soon lose all copies of a chunk if the demo did not check before it kills a cell or
/// damages a copy. Six cells have guards, and cells to heal to.
#[test]
fn chaos_keeps_the_last_good_copy_of_every_chunk() {
    for (cells, seed) in [("3", "21"), ("6", "4711")] {
        let folder = TempDir::new().unwrap();
        let words = ["--cells", cells, "--chaos", "8", "--seed", seed];
        let output = successful(&demo(folder.path(), &words).output().unwrap());

        let expected = ["Genesis", "Differentiation", "Upload", "Chaos", "Healing", "Restore", "Verdict"];
        assert_eq!(stages(&output), expected);
        assert_lines_fit_a_terminal(&output);
        assert!(output.contains(&format!("--seed {seed}")), "{output}");
        let chaos = lines_of(&output, "Chaos");
        assert!(!chaos.iter().any(|line| line.contains("at least 0 copies")), "{output}");
        let count = |event: &str| chaos.iter().filter(|line| line.contains(&format!(" s  {event} "))).count() as u64;
        let (kills, restarts, damaged) = (count("kill"), count("restart"), count("damage"));
        assert!(kills + damaged >= 1, "{output}");
        let needed = lines_of(&output, "Healing").iter().filter(|line| line.contains("restarted cell")).count() as u64;
        let verdict = lines_of(&output, "Verdict").join("\n");
        let summary = [" kill", " restart", if damaged == 1 { " copy damaged" } else { " copies damaged" }];
        let summary = summary.map(|words| number_before(&verdict, words));
        assert_eq!(summary, [kills, restarts + needed, damaged], "{output}");
        assert!(output.contains("every byte was restored"), "{output}");
        assert_nothing_left(folder.path());
    }
}

#[test]
fn a_given_file_is_only_read() {
    let (folder, home) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let file = home.path().join("thesis.txt");
    fs::write(&file, "All cells come from cells. ".repeat(100_000)).unwrap();
    let before = (fs::read(&file).unwrap(), fs::metadata(&file).unwrap().modified().unwrap());

    let words = [file.as_os_str(), "--cells".as_ref(), "2".as_ref()];
    let output = successful(&demo(folder.path(), &words).current_dir(home.path()).output().unwrap());

    assert!(output.contains("thesis.txt, 2.6 MiB"), "{output}");
    assert!(output.contains("every byte was restored, with 1 of 2 cells dead"), "{output}");
    assert_eq!((fs::read(&file).unwrap(), fs::metadata(&file).unwrap().modified().unwrap()), before);
    assert_eq!(entries(home.path()), [file]);
    assert_nothing_left(folder.path());
}

#[test]
fn an_empty_file_and_a_single_cell_succeed() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("empty");
    fs::write(&file, "").unwrap();
    let words = [file.as_os_str(), "--cells".as_ref(), "1".as_ref()];
    let output = successful(&demo(folder.path(), &words).output().unwrap());
    assert!(output.contains("an empty file has no chunks"), "{output}");
    fs::remove_file(file).unwrap();
    assert_nothing_left(folder.path());
}

#[test]
fn invalid_arguments_fail_before_anything_starts() {
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
fn a_missing_file_fails_before_anything_starts() {
    let folder = TempDir::new().unwrap();
    let output = demo(folder.path(), &["no-such-file"]).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""));
    assert!(text(&output.stderr).starts_with("cellsync demo: cannot read no-such-file: "), "{output:?}");
    assert_nothing_left(folder.path());
}

#[test]
fn keep_leaves_the_folder_and_stops_the_cells() {
    let folder = TempDir::new().unwrap();
    let output = successful(&demo(folder.path(), &["--cells", "2", "--keep"]).output().unwrap());
    let kept = entries(folder.path());
    assert!(kept.len() == 1 && output.contains(&format!("{} is kept", kept[0].display())), "{kept:?}\n{output}");
    for name in ["manifest", "cell-1", "cell-2"] {
        assert!(kept[0].join(name).exists(), "{name}");
    }
    assert!(fs::read(kept[0].join("sample")).unwrap() == fs::read(kept[0].join("restored")).unwrap());
    assert_eq!(processes_in(folder.path()), [] as [u32; 0], "{output}");
}

#[test]
fn ctrl_c_stops_the_cells_and_removes_the_folder() {
    for (stage, left) in [("Upload", 9), ("Healing", 5)] {
        let folder = TempDir::new().unwrap();
        let mut running = Running::start(folder.path());
        running.read_until(stage);
        assert_eq!(processes_in(folder.path()).len(), left, "{stage}");

        let sent = Command::new("kill").args(["-INT", &running.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let mut rest = String::new();
        running.output.read_to_string(&mut rest).unwrap();
        let mut errors = String::new();
        running.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();

        assert_eq!(running.child.wait().unwrap().code(), Some(1), "{rest}{errors}");
        assert_eq!(errors, "cellsync demo: stopped\n");
        assert_nothing_left(folder.path());
    }
}

#[test]
fn cells_end_when_the_demo_is_killed() {
    let folder = TempDir::new().unwrap();
    let mut running = Running::start(folder.path());
    running.read_until("Upload");
    assert_eq!(processes_in(folder.path()).len(), 9);

    running.child.kill().unwrap();
    running.child.wait().unwrap();

    wait_until("no cell is running", || processes_in(folder.path()).is_empty());
}

#[test]
fn a_long_temporary_path_works() {
    let folder = TempDir::new().unwrap();
    // Each cell has a Unix socket in its folder, and a socket's path can have about a hundred bytes.
    let deep = folder.path().join("d".repeat(120));
    fs::create_dir(&deep).unwrap();
    successful(&demo(&deep, &["--cells", "2"]).output().unwrap());
    assert_nothing_left(&deep);
}

#[test]
fn a_cell_that_cannot_start_is_reported_with_a_reason() {
    let folder = TempDir::new().unwrap();
    // With a file size limit of 0 no cell can start. The demo itself has written nothing by then.
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 0 && exec \"$0\" demo", env!("CARGO_BIN_EXE_cellsync")]);
    let output = command.env("TMPDIR", folder.path()).stdin(Stdio::null()).output().unwrap();
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.starts_with("cellsync demo: cell 1 did not start: "), "{errors}");
    assert!(errors.lines().count() == 1 && !text(&output.stdout).contains("Upload"), "{errors}");
    assert_nothing_left(folder.path());
}
