//! Running programs, and the resources that the kernel reports for them.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The interval at which the memory of a running program is read.
const LOOK: Duration = Duration::from_millis(5);
/// Clock ticks in a second in `/proc/<pid>/stat`: the same on every architecture that cells run on (`proc(5)`).
const TICKS_PER_S: f64 = 100.0;

/// The resources that a finished program used.
pub(crate) struct Usage {
    pub(crate) seconds: f64,
    /// Peak resident memory. The kernel keeps this figure; it is read repeatedly, so growth in the last few
    /// milliseconds of the program is missing.
    pub(crate) peak_bytes: f64,
    pub(crate) stdout: Vec<u8>,
}

pub(crate) fn cores() -> usize {
    thread::available_parallelism().unwrap().get()
}

/// Runs a program, which must succeed. Its standard output is kept, unless it is redirected.
pub(crate) fn run(command: &mut Command, keep_output: bool) -> Usage {
    if keep_output {
        command.stdout(Stdio::piped());
    }
    let started = Instant::now();
    let child = command.stdin(Stdio::null()).spawn().unwrap();
    let pid = child.id();
    let ended = AtomicBool::new(false);
    let (seconds, output, peak_bytes) = thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut peak: f64 = 0.0;
            while !ended.load(Ordering::SeqCst) {
                peak = peak.max(memory(pid, "VmHWM").unwrap_or(0.0));
                thread::sleep(LOOK);
            }
            peak
        });
        let output = child.wait_with_output().unwrap();
        let seconds = started.elapsed().as_secs_f64();
        ended.store(true, Ordering::SeqCst);
        (seconds, output, watcher.join().unwrap())
    });
    assert!(output.status.success(), "{command:?}: {}", output.status);
    Usage { seconds, peak_bytes, stdout: output.stdout }
}

/// A memory figure of `/proc/<pid>/status` in bytes; `None` if the program has ended.
pub(crate) fn memory(pid: u32, name: &str) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024.0)
}

/// The processor time that a running program has used, in seconds.
pub(crate) fn processor_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The program's name can contain anything. The fields after it are numbered: state is 3, utime is 14.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = |number: usize| fields[number - 3].parse::<f64>().unwrap();
    (ticks(14) + ticks(15)) / TICKS_PER_S
}

/// Bytes that a running program has written to disks.
pub(crate) fn written_bytes(pid: u32) -> f64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).unwrap().parse().unwrap()
}
