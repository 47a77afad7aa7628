//! Worker threads: a map over many items that waits for all results, and workers in the background that send theirs
//! over a channel.
//!
//! Both have a fixed number of threads. A thread takes the next job only when it is free, so that a slow cell delays
//! one thread and not a whole batch.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::sync::lock;

/// Maximum number of workers that seal or open chunks.
pub const MAX_JOBS: usize = 64;

/// How often the thread that waits for results checks whether the user wants to stop.
pub(in crate::client) const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// One worker for each processor, up to [`MAX_JOBS`].
pub fn default_jobs() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get).min(MAX_JOBS)
}

/// The next item of an iterator that threads share. Waits if the iterator does.
fn next<J>(jobs: &Mutex<impl Iterator<Item = J>>) -> Option<J> {
    lock(jobs).next()
}

/// Applies `map` to every item, on up to `max_threads` threads, and waits for all of them. The results are in the order
/// of the items.
pub(in crate::client) fn scoped_map<T: Sync, R: Send>(
    items: &[T],
    max_threads: usize,
    map: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let jobs = Mutex::new(items.iter().enumerate());
    let work = || {
        let mut results = Vec::new();
        while let Some((index, item)) = next(&jobs) {
            results.push((index, map(item)));
        }
        results
    };
    let mut results: Vec<(usize, R)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..items.len().min(max_threads)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    results.sort_unstable_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Where a background worker sends its results.
pub(in crate::client) struct Results<R>(Sender<R>);

/// Nobody receives results any more: the worker ends.
#[derive(Debug)]
pub(in crate::client) struct ReceiverGone;

impl<R> Results<R> {
    /// Sends a result.
    pub(in crate::client) fn send(&self, result: R) -> Result<(), ReceiverGone> {
        self.0.send(result).map_err(|_| ReceiverGone)
    }
}

/// Starts `workers` threads that run jobs in the background. Each takes the next job from `jobs`, which may be the
/// receiving end of a channel, runs it, and sends its results.
///
/// A worker ends when there are no more jobs, or when it cannot send a result because the receiver was dropped. Nothing
/// waits for that: a worker that is in a call to a cell ends when the call does.
pub(in crate::client) fn spawn_workers<J: Send + 'static, R: Send + 'static>(
    workers: usize,
    jobs: impl Iterator<Item = J> + Send + 'static,
    results: &Sender<R>,
    run: impl Fn(J, &Results<R>) -> Result<(), ReceiverGone> + Send + Sync + 'static,
) {
    let shared = Arc::new((Mutex::new(jobs), run));
    for _ in 0..workers {
        let (shared, results) = (Arc::clone(&shared), Results(results.clone()));
        thread::spawn(move || {
            let (jobs, run) = &*shared;
            while let Some(job) = next(jobs) {
                if run(job, &results).is_err() {
                    return;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::mpsc::{RecvTimeoutError, channel};

    use super::*;

    #[test]
    fn mapped_results_are_in_the_order_of_the_items() {
        let items: Vec<usize> = (0..100).collect();
        assert_eq!(scoped_map(&items, 7, |item| item * 2), (0..100).map(|n| n * 2).collect::<Vec<_>>());
        assert!(scoped_map(&[] as &[usize], 7, |item| *item).is_empty());
    }

    #[test]
    fn a_map_runs_on_as_many_threads_as_it_may() {
        // Each call waits until all three have begun.
        let barrier = Barrier::new(3);
        let leaders = scoped_map(&[(); 6], 3, |()| barrier.wait().is_leader());
        assert_eq!(leaders.into_iter().filter(|is_leader| *is_leader).count(), 2);
    }

    #[test]
    fn the_channel_of_results_closes_after_the_last_job() {
        let (sender, results) = channel();
        spawn_workers(3, 0..10, &sender, |job: i32, results| results.send(job));
        drop(sender);
        let mut received: Vec<i32> = results.iter().collect();
        received.sort_unstable();
        assert_eq!(received, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn workers_end_when_nobody_receives_their_results() {
        let (sender, results) = channel();
        let (held_by_workers, workers) = channel::<()>();
        drop(results);
        // The jobs never end.
        spawn_workers(2, std::iter::repeat(()), &sender, move |(), results| {
            let _ = &held_by_workers;
            results.send(())
        });
        assert_eq!(workers.recv_timeout(Duration::from_secs(30)), Err(RecvTimeoutError::Disconnected));
    }
}
