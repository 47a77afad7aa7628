//! The same question to many cells.

use std::thread;

use crate::client::KnownCell;

/// Cells asked at the same time.
const AT_ONCE: usize = 32;

/// Asks every cell, some at a time, so that one that hangs holds up few. The answers are in the order of the cells.
pub fn at_once<T: Send>(cells: &[KnownCell], ask: impl Fn(&KnownCell) -> T + Sync) -> Vec<T> {
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
