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
    /// Processor time in user and kernel mode, in steps of 0.01.
    pub(crate) processor_seconds: f64,
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
    let before = children_processor_seconds();
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
    let processor_seconds = children_processor_seconds() - before;
    Usage { seconds, processor_seconds, peak_bytes, stdout: output.stdout }
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
    stat_seconds(&pid.to_string(), [14, 15])
}

/// The processor time of all programs that have run to their end, and that this one has waited for, in seconds.
fn children_processor_seconds() -> f64 {
    stat_seconds("self", [16, 17])
}

/// The sum of two fields of `/proc/<pid>/stat` that count clock ticks (`proc(5)` has their numbers).
fn stat_seconds(pid: &str, fields: [usize; 2]) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The program's name, field 2, can contain anything.
    let after_name: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = |number: usize| after_name[number - 3].parse::<f64>().unwrap();
    fields.into_iter().map(ticks).sum::<f64>() / TICKS_PER_S
}

/// Bytes that a running program has written to disks.
pub(crate) fn written_bytes(pid: u32) -> f64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).unwrap().parse().unwrap()
}
