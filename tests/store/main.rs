//! The store: its contract on every implementation, and the disk store under damage, kills, power cuts and full disks.
//!
//! Tests that need a disk of their own mount ext4 on a loop device, which takes root. Without it they skip with a
//! message; `CELLSYNC_REQUIRE_ROOT_TESTS=1` makes that a failure.
// These are tests, though clippy knows so only inside of a `#[test]`; they wait with deadlines, and some children end
// without unwinding.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::disallowed_methods, clippy::exit, clippy::print_stderr)]

mod contract;
mod harness;

#[cfg(target_os = "linux")]
mod caching_disk;
#[cfg(target_os = "linux")]
mod capacity;
#[cfg(target_os = "linux")]
mod catalogue;
#[cfg(target_os = "linux")]
mod child;
#[cfg(target_os = "linux")]
mod chunk_files;
#[cfg(target_os = "linux")]
mod data_folder;
#[cfg(target_os = "linux")]
mod disk;
#[cfg(target_os = "linux")]
mod every_cut;
#[cfg(target_os = "linux")]
mod every_error;
#[cfg(target_os = "linux")]
mod full_disk;
#[cfg(target_os = "linux")]
mod power_cut;
#[cfg(target_os = "linux")]
mod promises;
#[cfg(target_os = "linux")]
mod state_file;
#[cfg(target_os = "linux")]
mod stops;
#[cfg(target_os = "linux")]
mod verify;
#[path = "../wait/mod.rs"]
mod wait;
#[cfg(target_os = "linux")]
mod wear;
