//! Slots for blocking work: a bounded number of threads, and a timeout.

// Reads the clock: the timeout.
#![allow(clippy::disallowed_methods)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_lite::future;
use smol::Timer;
use smol::lock::Semaphore;

/// The slots of one kind of task.
pub(super) struct Slots {
    permits: Arc<Semaphore>,
    timeout: Duration,
}

impl Slots {
    /// `count` slots. `timeout` includes the wait for a slot.
    pub(super) fn new(count: usize, timeout: Duration) -> Self {
        Self { permits: Arc::new(Semaphore::new(count)), timeout }
    }

    /// Runs `work` on a thread, once there is a free slot. Returns `None` at the timeout.
    ///
    /// Work that has not started by then never starts. Work that has started continues and keeps its slot, and its
    /// result goes to `too_late`.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
        too_late: impl FnOnce(T) + Send + 'static,
    ) -> Option<T> {
        // Whichever comes first sets it: the end of the work, or the timeout.
        let is_over = Arc::new(AtomicBool::new(false));
        let mut work = Box::pin({
            let (permits, is_over) = (Arc::clone(&self.permits), Arc::clone(&is_over));
            async move {
                let permit = permits.acquire_arc().await;
                let work = move || {
                    let _permit = permit;
                    if is_over.load(Ordering::SeqCst) {
                        return None;
                    }
                    let result = work();
                    if is_over.swap(true, Ordering::SeqCst) {
                        too_late(result);
                        return None;
                    }
                    Some(result)
                };
                smol::unblock(work).await
            }
        });
        let in_time = future::or(async { Some(work.as_mut().await) }, async {
            Timer::after(self.timeout).await;
            None
        });
        match in_time.await {
            Some(result) => result,
            // The work ended at the same moment.
            None if is_over.swap(true, Ordering::SeqCst) => work.await,
            None => None,
        }
    }

    /// Runs `work` on a thread if there is a free slot now. It is not subject to the timeout. False if there is none.
    pub(super) async fn try_run(&self, work: impl FnOnce() + Send + 'static) -> bool {
        let Some(permit) = self.permits.try_acquire_arc() else { return false };
        smol::unblock(move || {
            let _permit = permit;
            work();
        })
        .await;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn work_at_its_timeout_keeps_its_slot_and_its_result_is_not_lost() {
        let slots = Slots::new(1, Duration::from_millis(50));
        let (finish, finishing) = mpsc::channel::<()>();
        let (results, late_results) = mpsc::channel();
        let also_results = results.clone();
        let slow = move || {
            finishing.recv_timeout(LONG).unwrap();
            "done"
        };
        let too_late = move |result| results.send(result).unwrap();
        assert_eq!(smol::block_on(slots.run(slow, too_late)), None);
        // The next one waits for the slot, and never starts after its timeout.
        let next = move || also_results.send("started").unwrap();
        assert_eq!(smol::block_on(slots.run(next, drop)), None);
        finish.send(()).unwrap();
        assert_eq!(late_results.recv_timeout(LONG).unwrap(), "done");
        let slots = Slots { timeout: LONG, ..slots };
        assert_eq!(smol::block_on(slots.run(|| "in time", drop)), Some("in time"));
        assert!(late_results.try_recv().is_err());
    }
}
