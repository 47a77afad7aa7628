//! How fast, how small: the figures that CellSync promises, each beside the one that it is measured by.
//!
//! ```text
//! cargo bench                 everything, under four minutes
//! cargo bench -- put small    some sections: put, get, small, memory, idle
//! ```
//!
//! A time says little: the same program takes twice as long on a busy machine. So every speed is given as a ratio to
//! a reference that does the same work in the same run on the same disk, the two taking turns, by the medians. Only
//! sizes and counts stand by themselves. This is no test: it ends with success even where a bar is missed.
//!
//! Real cells and real clients, as `cargo` built them, on the loopback interface. Files go to `CELLSYNC_BENCH_DIR`, by
//! default into the build folder; it should be on a real disk, as what is measured there is fsynced.

// A program for developers: it stops where something is broken, measures time, and prints.
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

/// Measures some figures and puts them into the table.
#[cfg(target_os = "linux")]
type Section = fn(&mut table::Table);

/// Cells run on Linux only, and what they use is read from its `/proc`.
#[cfg(not(target_os = "linux"))]
fn main() {
    println!("the benchmarks run on Linux only");
}

#[cfg(target_os = "linux")]
fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` says so; `cargo test --all-targets` runs this program too, unoptimised.
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
        eprintln!("there is no section {unknown}; there are: {}", names.join(", "));
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
