//! A run of a program, and what it printed.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

pub(crate) const PROGRAMS: [&str; 4] = ["cellsync", "cellsync-put", "cellsync-get", "cellsync-node"];

/// A program, with no input and no configuration of the user.
pub(crate) fn program(name: &str) -> Command {
    let path = match name {
        "cellsync" => env!("CARGO_BIN_EXE_cellsync"),
        "cellsync-put" => env!("CARGO_BIN_EXE_cellsync-put"),
        "cellsync-get" => env!("CARGO_BIN_EXE_cellsync-get"),
        "cellsync-node" => env!("CARGO_BIN_EXE_cellsync-node"),
        _ => panic!("no program {name}"),
    };
    let mut command = Command::new(path);
    command.stdin(Stdio::null()).env("XDG_CONFIG_HOME", "/nowhere").env_remove("CELLSYNC_NODE");
    command
}

pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) fn finish(command: &mut Command) -> Finished {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    Finished { code: status.code(), stdout, stderr }
}

pub(crate) fn run(name: &str, words: &[impl AsRef<OsStr>]) -> Finished {
    finish(program(name).args(words))
}

impl Finished {
    /// Asserts that the program ended with this code, and said why in one line with all of these facts.
    #[track_caller]
    pub(crate) fn expect_error(&self, code: i32, facts: &[&str]) {
        assert_eq!((self.code, self.stdout.as_str()), (Some(code), ""), "{}", self.stderr);
        assert_eq!(self.stderr.lines().count(), 1, "{}", self.stderr);
        for fact in facts {
            assert!(self.stderr.contains(fact), "{fact:?} is not in: {}", self.stderr);
        }
    }
}
