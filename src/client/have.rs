//! Asking all cells at once which chunks they have.

// A shell: it measures how quickly cells answer.
#![allow(clippy::disallowed_methods)]

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use super::KnownCell;
use crate::chunk::ChunkId;
use crate::net::client::Http;

/// Cells asked at the same time.
const AT_ONCE: usize = 32;

/// What one cell answered.
pub(super) struct Answer {
    /// Those of the ids that it has.
    pub(super) ids: Vec<ChunkId>,
    /// How long it took, in milliseconds.
    pub(super) took_ms: f64,
}

/// Asks every cell for all ids; one request each. `None` for a cell that does not answer. In the order of `cells`.
pub(super) fn ask_all(http: &Http, cells: &[KnownCell], ids: &[ChunkId]) -> Vec<Option<Answer>> {
    if ids.is_empty() {
        return Vec::new();
    }
    let answers: Mutex<Vec<Option<Answer>>> = Mutex::new(cells.iter().map(|_| None).collect());
    let queue: Mutex<VecDeque<(usize, &KnownCell)>> = Mutex::new(cells.iter().enumerate().collect());
    thread::scope(|scope| {
        for _ in 0..cells.len().min(AT_ONCE) {
            scope.spawn(|| {
                loop {
                    let Some((number, cell)) = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front() else {
                        return;
                    };
                    let asked = Instant::now();
                    let Ok(ids) = http.have(&cell.url, ids) else { continue };
                    let answer = Answer { ids, took_ms: asked.elapsed().as_secs_f64() * 1000.0 };
                    if let Some(place) = answers.lock().unwrap_or_else(PoisonError::into_inner).get_mut(number) {
                        *place = Some(answer);
                    }
                }
            });
        }
    });
    answers.into_inner().unwrap_or_else(PoisonError::into_inner)
}
