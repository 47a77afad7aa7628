//! How many copies are sent at the same time: many on a fast network, few on a slow link.

use std::collections::VecDeque;

use crate::client::put::upload_pipeline::{SendJob, UploadPipeline};

/// Threads that send, for each copy wanted of a chunk.
const SENDERS_PER_COPY: usize = 4;
/// Maximum number of threads that send.
const MAX_SENDERS: usize = 32;

/// The number of threads that send when this many copies are wanted of each chunk.
pub(in crate::client) fn senders(copies: u8) -> usize {
    (usize::from(copies) * SENDERS_PER_COPY).min(MAX_SENDERS)
}

/// Limits the copies that are being sent at the same time. On a slow link all of them share the bandwidth, and each
/// must arrive before its timeout. The limit grows by one with each copy that arrives and halves with each timeout,
/// between one chunk's copies and the number of senders.
pub(in crate::client) struct SendWindow {
    waiting: VecDeque<SendJob>,
    in_progress: usize,
    limit: usize,
    min: usize,
    max: usize,
}

impl SendWindow {
    pub(in crate::client) fn new(copies: u8) -> Self {
        let max = senders(copies);
        Self { waiting: VecDeque::new(), in_progress: 0, limit: max, min: usize::from(copies).min(max), max }
    }

    /// Queues a copy.
    pub(in crate::client) fn push(&mut self, job: SendJob) {
        self.waiting.push_back(job);
    }

    /// Sends the queued copies that the limit permits.
    pub(in crate::client) fn send(&mut self, pipeline: &UploadPipeline) {
        while self.in_progress < self.limit
            && let Some(job) = self.waiting.pop_front()
        {
            self.in_progress += 1;
            pipeline.send(job);
        }
    }

    /// Records that an upload ended, and whether by a timeout.
    pub(in crate::client) fn upload_ended(&mut self, timed_out: bool) {
        self.in_progress = self.in_progress.saturating_sub(1);
        let limit = if timed_out { self.limit / 2 } else { self.limit + 1 };
        self.limit = limit.clamp(self.min, self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_halve_the_limit_and_arrivals_raise_it() {
        let mut window = SendWindow::new(5);
        let limits: Vec<usize> = [true, true, true, false, false]
            .into_iter()
            .map(|timed_out| {
                window.upload_ended(timed_out);
                window.limit
            })
            .collect();
        assert_eq!(limits, [10, 5, 5, 6, 7]);
        (0..100).for_each(|_| window.upload_ended(false));
        assert_eq!(window.limit, senders(5));
    }
}
