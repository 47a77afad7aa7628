//! The same question to many cells.

use std::num::NonZero;
use std::thread;

use crate::client::KnownCell;

/// Most workers that compress or open chunks at the same time.
pub const MAX_JOBS: usize = 64;

/// One worker for each processor, up to [`MAX_JOBS`].
pub fn default_jobs() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get).min(MAX_JOBS)
}

/// Cells asked at the same time.
const AT_ONCE: usize = 32;

/// Asks every cell, some at a time, so that one that hangs holds up few. The answers are in the order of the cells.
pub fn query_cells<T: Send>(cells: &[KnownCell], ask: impl Fn(&KnownCell) -> T + Sync) -> Vec<T> {
    let (mut answers, ask) = (Vec::with_capacity(cells.len()), &ask);
    for some in cells.chunks(AT_ONCE) {
        thread::scope(|scope| {
            let asked: Vec<_> = some.iter().map(|cell| scope.spawn(move || ask(cell))).collect();
            // A thread that panics is a mistake of ours, and ends the program.
            answers
                .extend(asked.into_iter().map(|asked| asked.join().unwrap_or_else(|it| std::panic::resume_unwind(it))));
        });
    }
    answers
}
