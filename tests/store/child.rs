//! Child processes, which can be killed: the test program runs itself with only the test `child_process`, which plays
//! the role that the environment names.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use cellsync::id::ChunkId;
use cellsync::store::{CopyState, FileStore, Store, StoreError};

use crate::harness::{bytes, counted, open, put};

const ROLE: &str = "CELLSYNC_STORE_CHILD";
const DIR: &str = "CELLSYNC_STORE_DIR";

/// A child that is killed when dropped.
pub(crate) struct Killed(pub(crate) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Killed {
    /// What comes after `prefix` on each line of its output that begins so. A line that its death cut short does not
    /// parse, or is left out.
    pub(crate) fn lines(&mut self, prefix: &'static str) -> impl Iterator<Item = String> + use<> {
        let stdout: ChildStdout = self.0.stdout.take().unwrap();
        let lines = BufReader::new(stdout).lines().map_while(Result::ok);
        lines.filter_map(move |line| line.strip_prefix(prefix).map(str::to_owned))
    }

    /// The chunks whose put was acknowledged.
    pub(crate) fn stored(&mut self) -> impl Iterator<Item = ChunkId> + use<> {
        self.lines("stored ").filter_map(|id| id.parse().ok())
    }
}

/// What a child does with the store in its folder.
pub(crate) enum Role {
    /// Puts chunks from this many threads until a put fails, and prints each acknowledged id.
    Put { threads: usize },
    /// Saves one state after the other until that fails, and prints the number of each acknowledged one.
    SaveStates,
    /// Verifies a copy without a file descriptor to spare, and prints the result.
    VerifyWithoutDescriptors(ChunkId),
    /// Prints `settled` once everything is written, then waits to be killed.
    Idle,
}

/// Starts a child that opens the store in `dir`.
pub(crate) fn child(role: &Role, dir: &Path) -> Killed {
    let role = match role {
        Role::Put { threads } => format!("put {threads}"),
        Role::SaveStates => "save".to_owned(),
        Role::VerifyWithoutDescriptors(id) => format!("verify {id}"),
        Role::Idle => "idle".to_owned(),
    };
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child::child_process", "--nocapture", "--quiet", "--test-threads=1"])
        .env(ROLE, role)
        .env(DIR, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    Killed(child)
}

/// Not a test: the entry point of the children.
#[test]
fn child_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let store = open(&PathBuf::from(std::env::var_os(DIR).unwrap()));
    match role.split_once(' ').unwrap_or((&role, "")) {
        ("put", threads) => put_until_failure(&store, threads.parse().unwrap()),
        ("save", _) => save_until_failure(&store),
        ("verify", id) => verify_without_descriptors(&store, &id.parse().unwrap()),
        ("idle", _) => idle(&store),
        _ => panic!("unknown role {role}"),
    }
}

/// Prints a line in one write, so that lines of two threads do not mix.
fn print_line(line: &str) {
    std::io::stdout().lock().write_all(format!("\n{line}\n").as_bytes()).unwrap();
}

/// Ends without a clean stop, as after any failure of the disk.
fn put_until_failure(store: &FileStore, threads: usize) -> ! {
    let number = AtomicU64::new(u64::from(std::process::id()) << 32);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let n = number.fetch_add(1, Ordering::Relaxed);
                    let len = 3000 + usize::try_from(n % 100).unwrap() * 300;
                    let Ok((id, _)) = put(store, &bytes(n, len)) else { break };
                    print_line(&format!("stored {id}"));
                }
            });
        }
    });
    std::process::exit(0)
}

/// The state that a child with [`Role::SaveStates`] saves as its `n`-th.
pub(crate) fn nth_state(n: usize) -> Vec<u8> {
    format!("{n} ").repeat(1 + n % 3000).into_bytes()
}

fn save_until_failure(store: &FileStore) -> ! {
    for n in 0.. {
        if store.save_state(&nth_state(n)).is_err() {
            break;
        }
        print_line(&format!("saved {n}"));
    }
    std::process::exit(0)
}

fn verify_without_descriptors(store: &FileStore, id: &ChunkId) {
    // Afterwards the writer opens no more files.
    counted(store);
    let files = rustix::process::Resource::Nofile;
    let limit = rustix::process::Rlimit { current: Some(0), ..rustix::process::getrlimit(files) };
    rustix::process::setrlimit(files, limit).unwrap();
    print_line(&match store.verify(id) {
        Ok(state) => format!("verified {state:?}"),
        Err(StoreError::Disk { source, .. }) => format!("verified {source}"),
        Err(e) => format!("verified with another error: {e}"),
    });
}

fn idle(store: &FileStore) {
    counted(store);
    store.flush().unwrap();
    // Hints that change nothing, and a verification, whose time may wait for the disk far longer than the test does.
    for (n, (id, record)) in store.records(None, 1000).unwrap().iter().enumerate() {
        store.set_holders(id, &record.metadata.holders);
        if n == 0 {
            assert_eq!(store.verify(id).unwrap(), CopyState::Good);
        }
    }
    print_line("settled");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}
