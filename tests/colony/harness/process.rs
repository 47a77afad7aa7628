//! Processes that end with their guards, and assertions about what they print.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::wait_until;

/// A process that is running. It is killed when this is dropped.
pub(crate) struct Running {
    child: Child,
    /// Threads that read standard output and standard error.
    readers: Option<[JoinHandle<()>; 2]>,
    /// What they have read so far.
    output: [Arc<Mutex<Vec<u8>>>; 2],
    command: String,
}

/// A process that has ended.
pub(crate) struct Finished {
    /// The exit code, or the signal as a negative number.
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    command: String,
}

fn read_all(mut from: impl Read + Send + 'static, bytes: &Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    let bytes = Arc::clone(bytes);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        loop {
            match from.read(&mut buffer).unwrap() {
                0 => return,
                len => bytes.lock().unwrap().extend(&buffer[..len]),
            }
        }
    })
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::spawn(command.stdin(Stdio::null()))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let output = [Arc::default(), Arc::default()];
        let stdout = read_all(child.stdout.take().unwrap(), &output[0]);
        let stderr = read_all(child.stderr.take().unwrap(), &output[1]);
        Self { child, readers: Some([stdout, stderr]), output, command: format!("{command:?}") }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Sends a signal, unless the process has ended.
    pub(crate) fn signal(&mut self, signal: Signal) {
        // The process id cannot be reused before the process was waited for.
        if self.is_running() {
            kill_process(Pid::from_child(&self.child), signal).unwrap();
        }
    }

    /// Stops the process where it is, until SIGCONT. Returns false if it has ended before.
    pub(crate) fn suspend(&mut self) -> bool {
        self.signal(Signal::STOP);
        let stat = format!("/proc/{}/stat", self.child.id());
        let mut is_stopped = false;
        wait_until("the process is stopped", || {
            is_stopped = fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "));
            is_stopped || !self.is_running()
        });
        is_stopped
    }

    /// Waits until the process has printed a line on standard error that has all of these facts.
    pub(crate) fn wait_for_line(&mut self, facts: &[&str]) {
        wait_until(&format!("{} prints {facts:?}", self.command), || {
            let is_running = self.is_running();
            let stderr = String::from_utf8_lossy(&self.output[1].lock().unwrap()).into_owned();
            let is_printed = stderr.lines().any(|line| facts.iter().all(|fact| has_fact(line, fact)));
            assert!(is_printed || is_running, "{} ended:\n{stderr}", self.command);
            is_printed
        });
    }

    /// Waits until the process ends.
    pub(crate) fn finish(mut self) -> Finished {
        wait_until(&format!("{} ends", self.command), || !self.is_running());
        let status = self.child.wait().unwrap();
        for reader in self.readers.take().unwrap() {
            reader.join().unwrap();
        }
        let [stdout, stderr] = [0, 1].map(|n: usize| std::mem::take(&mut *self.output[n].lock().unwrap()));
        let code = status.code().unwrap_or_else(|| -status.signal().unwrap());
        Finished { code, stdout, stderr: String::from_utf8(stderr).unwrap(), command: self.command.clone() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails if it has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs a program until it ends.
pub(crate) fn run(command: &mut Command) -> Finished {
    Running::start(command).finish()
}

/// Runs a program until it ends, with these bytes on its standard input.
pub(crate) fn run_with_input(command: &mut Command, input: &[u8]) -> Finished {
    let mut running = Running::spawn(command.stdin(Stdio::piped()));
    let mut stdin = running.child.stdin.take().unwrap();
    // Fails if the program ends early.
    drop(stdin.write_all(input));
    drop(stdin);
    running.finish()
}

impl Finished {
    /// Asserts that the exit code is 0.
    #[track_caller]
    pub(crate) fn expect_success(self) -> Self {
        self.expect_code(0)
    }

    /// Asserts that this is the exit code.
    #[track_caller]
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.command, self.stderr);
        self
    }

    /// Asserts that this is the exit code, and that standard error is one line with all of these facts.
    #[track_caller]
    pub(crate) fn expect_error(self, code: i32, facts: &[&str]) -> Self {
        let finished = self.expect_code(code);
        assert_eq!(finished.stderr.lines().count(), 1, "{}\n{}", finished.command, finished.stderr);
        finished.expect_last_line(facts)
    }

    /// Asserts that the last line on standard error, which is the error message, has all of these facts.
    #[track_caller]
    pub(crate) fn expect_last_line(self, facts: &[&str]) -> Self {
        let line = self.stderr.lines().last().unwrap_or_default();
        assert!(line.starts_with("cellsync"), "{line}");
        assert_facts(line, facts);
        self
    }

    /// Asserts that some line on standard error has all of these facts.
    #[track_caller]
    pub(crate) fn expect_line(self, facts: &[&str]) -> Self {
        let has_all = |line: &str| facts.iter().all(|fact| has_fact(line, fact));
        assert!(self.stderr.lines().any(has_all), "no line has {facts:?}:\n{}", self.stderr);
        self
    }

    /// Standard output as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap()
    }

    /// Standard output as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }
}

/// Whether a text has a fact: a number must be a word of its own, any other fact may be a part of a word.
pub(crate) fn has_fact(text: &str, fact: &str) -> bool {
    if fact.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.split(|char: char| !char.is_ascii_alphanumeric()).any(|word| word == fact);
    }
    text.contains(fact)
}

/// Asserts that a text has all of these facts.
#[track_caller]
pub(crate) fn assert_facts(text: &str, facts: &[&str]) {
    for fact in facts {
        assert!(has_fact(text, fact), "{fact:?} is not in: {text}");
    }
}
