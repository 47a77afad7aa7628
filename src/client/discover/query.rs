//! Asking all cells at once which chunks they have.

// A shell: it measures how quickly cells answer.
#![allow(clippy::disallowed_methods)]

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::discover::holder_index::{Has, Index};
use crate::client::{KnownCell, StopSignal};
use crate::id::ChunkId;
use crate::net::client::Http;
use crate::sync::lock;

/// Cells asked at the same time.
const AT_ONCE: usize = 32;
/// When every chunk has a holder, the other cells get this long to answer: one that hangs must not keep all others
/// waiting.
const LATE: Duration = Duration::from_secs(1);
/// How often the user's wish to stop is looked at.
const STOP_LOOK: Duration = Duration::from_millis(100);

/// What one cell answered.
pub(in crate::client) struct Answer {
    /// Those of the chunks that it has.
    pub(in crate::client) has: Has,
    /// How long it took, in milliseconds.
    pub(in crate::client) took_ms: f64,
    /// Was it told of every chunk? What was told before an error is as good as without one, and may be less.
    pub(in crate::client) whole: bool,
}

/// For whom to wait.
#[derive(Debug, Clone, Copy)]
pub(in crate::client) enum Wait<'a> {
    /// When every chunk has a holder, the others are not waited for any longer than a moment.
    ForHolders,
    /// For every cell, each as long as its time allows, unless the user wants to stop.
    ForAll(&'a StopSignal),
}

/// Asks every cell for all ids. `None` for a cell that does not answer, or is late when it need not be waited for. In the order of `cells`. What a cell answers becomes one bit for each id as it comes, so that the answers of many
/// cells are small.
pub(in crate::client) fn ask_all(
    http: &Http,
    cells: &[KnownCell],
    ids: &[ChunkId],
    wait: Wait<'_>,
) -> Vec<Option<Answer>> {
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
                let next = lock(&queue).pop_front();
                let Some((number, url)) = next else { return };
                let asked = Instant::now();
                let mut has = Has::nothing(chunks);
                let answered = http.have(&url, &each_once, &mut |id| has.add(&index, &id));
                let answer = Answer { has, took_ms: asked.elapsed().as_secs_f64() * 1000.0, whole: answered.is_ok() };
                let useful = answer.whole || !answer.has.is_nothing();
                if tell.send((number, useful.then_some(answer))).is_err() {
                    return;
                }
            }
        });
    }
    drop(tell);
    gather(&answers, cells.len(), ids.len(), wait)
}

fn gather(
    answers: &Receiver<(usize, Option<Answer>)>,
    cells: usize,
    chunks: usize,
    wait: Wait<'_>,
) -> Vec<Option<Answer>> {
    let mut gathered: Vec<Option<Answer>> = (0..cells).map(|_| None).collect();
    let mut held = Has::nothing(chunks);
    let mut late = None;
    loop {
        let next = match (late, wait) {
            (Some(until), _) => answers.recv_timeout(Instant::saturating_duration_since(&until, Instant::now())),
            (None, Wait::ForAll(_)) => answers.recv_timeout(STOP_LOOK),
            (None, Wait::ForHolders) => answers.recv().map_err(RecvTimeoutError::from),
        };
        let (number, answer) = match (next, wait) {
            (Ok(next), _) => next,
            (Err(RecvTimeoutError::Timeout), Wait::ForAll(stop)) if !stop.is_set() => continue,
            // All have answered, or will not.
            (Err(_), _) => return gathered,
        };
        if let (Some(place), Some(answer)) = (gathered.get_mut(number), answer) {
            held.merge(&answer.has);
            *place = Some(answer);
        }
        if matches!(wait, Wait::ForHolders) && late.is_none() && held.is_everything(chunks) {
            late = Some(Instant::now() + LATE);
        }
    }
}
