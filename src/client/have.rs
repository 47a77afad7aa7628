//! Asking all cells at once which chunks they have.

// A shell: it measures how quickly cells answer.
#![allow(clippy::disallowed_methods)]

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::KnownCell;
use super::holders::{Has, Index};
use crate::chunk::ChunkId;
use crate::net::client::Http;

/// Cells asked at the same time.
const AT_ONCE: usize = 32;
/// When every chunk has a holder, the other cells get this long to answer: one that hangs must not keep all others
/// waiting.
const LATE: Duration = Duration::from_secs(1);

/// What one cell answered.
pub(super) struct Answer {
    /// Those of the chunks that it has.
    pub(super) has: Has,
    /// How long it took, in milliseconds.
    pub(super) took_ms: f64,
}

/// Asks every cell for all ids. `None` for a cell that does not answer, or is late when the others have all of them.
/// In the order of `cells`. What a cell answers becomes one bit for each id as it comes, so that the answers of many
/// cells are small.
pub(super) fn ask_all(http: &Http, cells: &[KnownCell], ids: &[ChunkId]) -> Vec<Option<Answer>> {
    let index = Arc::new(Index::new(ids));
    let each_once = Arc::new(index.ids());
    let queue: VecDeque<(usize, String)> = cells.iter().map(|cell| cell.url.clone()).enumerate().collect();
    let queue = Arc::new(Mutex::new(queue));
    let (tell, answers) = channel();
    for _ in 0..cells.len().min(AT_ONCE) {
        let (http, tell, queue) = (http.clone(), tell.clone(), Arc::clone(&queue));
        let (index, each_once, chunks) = (Arc::clone(&index), Arc::clone(&each_once), ids.len());
        thread::spawn(move || {
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some((number, url)) = next else { return };
                let asked = Instant::now();
                let mut has = Has::nothing(chunks);
                let answered = http.have(&url, &each_once, &mut |id| has.add(&index, &id));
                let answer = Answer { has, took_ms: asked.elapsed().as_secs_f64() * 1000.0 };
                let useful = answered.is_ok() || !answer.has.is_nothing();
                if tell.send((number, useful.then_some(answer))).is_err() {
                    return;
                }
            }
        });
    }
    drop(tell);
    gather(&answers, cells.len(), ids.len())
}

fn gather(answers: &Receiver<(usize, Option<Answer>)>, cells: usize, chunks: usize) -> Vec<Option<Answer>> {
    let mut gathered: Vec<Option<Answer>> = (0..cells).map(|_| None).collect();
    let mut held = Has::nothing(chunks);
    let mut late = None;
    loop {
        let next = match late {
            // Disconnected: all have answered, or will not.
            None => answers.recv().ok(),
            Some(until) => answers.recv_timeout(Instant::saturating_duration_since(&until, Instant::now())).ok(),
        };
        let Some((number, answer)) = next else { return gathered };
        if let (Some(place), Some(answer)) = (gathered.get_mut(number), answer) {
            held.merge(&answer.has);
            *place = Some(answer);
        }
        if late.is_none() && held.is_everything(chunks) {
            late = Some(Instant::now() + LATE);
        }
    }
}
