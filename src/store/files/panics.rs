//! Catching panics of sled, which panics on some damaged files, and if the disk fails while it closes: on the thread
//! that calls it or on one of its own.
//!
//! Everywhere else a panic ends the process. The process's panic hook asks [`panic_is_caught`] before it does that.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

thread_local! {
    static CATCHING_HERE: Cell<bool> = const { Cell::new(false) };
}
/// The number of threads that catch panics now.
static CATCHING: AtomicUsize = AtomicUsize::new(0);

/// For a panic hook that ends the process: whether the catalogue catches the panic on this thread.
pub fn panic_is_caught() -> bool {
    let is_sled = || thread::current().name().is_some_and(|name| name.starts_with("sled-io") || name == "log flusher");
    CATCHING_HERE.get() || (CATCHING.load(Ordering::SeqCst) > 0 && is_sled())
}

/// Runs `work`; returns `None` if it panicked.
pub(super) fn catch<T>(work: impl FnOnce() -> T) -> Option<T> {
    let outer = CATCHING_HERE.replace(true);
    CATCHING.fetch_add(1, Ordering::SeqCst);
    let result = catch_unwind(AssertUnwindSafe(work));
    CATCHING.fetch_sub(1, Ordering::SeqCst);
    CATCHING_HERE.set(outer);
    result.ok()
}
