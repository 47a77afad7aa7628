//! The benchmarks: speeds, sizes and counts, each beside its reference and its bar.
//!
//! ```text
//! cargo bench                 everything, under four minutes
//! cargo bench -- put small    some sections: put, get, small, memory, idle
//! ```
//!
//! A duration alone means little: the same program takes twice as long on a busy machine. So each speed is a ratio of
//! medians to a reference that does the same work in the same run on the same disk, in turns. Only sizes and counts are
//! absolute. This is not a test: it exits with 0 even if a bar is missed.
//!
//! The cells and clients are the programs that `cargo` built, on the loopback interface. Files are in
//! `CELLSYNC_BENCH_DIR`, by default the build folder. It should be on a real disk, because writes are fsynced.

// A program for developers: it panics on errors, reads the clock and prints.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::disallowed_methods)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

#[cfg(target_os = "linux")]
mod cells;
#[cfg(target_os = "linux")]
mod colony;
#[cfg(target_os = "linux")]
mod files;
#[cfg(target_os = "linux")]
mod material;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod small;
#[cfg(target_os = "linux")]
mod table;
#[cfg(target_os = "linux")]
#[path = "../wait/mod.rs"]
mod wait;

/// Measures some figures and adds them to the table.
#[cfg(target_os = "linux")]
type Section = fn(&mut table::Table);

/// Cells run on Linux only, and their resources are read from `/proc`.
#[cfg(not(target_os = "linux"))]
fn main() {
    println!("the benchmarks run on Linux only");
}

#[cfg(target_os = "linux")]
fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` passes `--bench`; `cargo test --all-targets` runs this program too, unoptimized.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("not measured: run `cargo bench`");
        return;
    }
    arguments.retain(|argument| argument != "--bench");
    let sections: [(&str, Section); 5] = [
        ("put", files::put),
        ("get", files::get),
        ("small", small::put_and_get),
        ("memory", cells::memory),
        ("idle", cells::idle),
    ];
    if let Some(unknown) = arguments.iter().find(|name| !sections.iter().any(|(known, _)| known == name)) {
        let names: Vec<_> = sections.iter().map(|(name, _)| *name).collect();
        eprintln!("no section {unknown}; sections: {}", names.join(", "));
        std::process::exit(2);
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    println!("{} cores, load {} before", process::cores(), load.split(' ').next().unwrap());
    let mut table = table::Table::default();
    for (name, section) in sections {
        if arguments.is_empty() || arguments.iter().any(|argument| argument == name) {
            section(&mut table);
        }
    }
    table.print();
}
