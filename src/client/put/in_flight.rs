//! The flow of copies to the colony: wide on a good network, narrow on a slow link.

use std::collections::VecDeque;

use crate::client::put::upload::{Crew, Job};

/// Copies are sent by so many threads for each copy that is wanted, up to a limit.
const SENDERS_PER_COPY: usize = 4;
const MAX_SENDERS: usize = 32;
/// The threads that send, for so many copies of each chunk.
pub(in crate::client) fn senders(copies: u8) -> usize {
    (usize::from(copies) * SENDERS_PER_COPY).min(MAX_SENDERS)
}

/// How many copies are on their way at once. On a slow link fewer are more: each has its share of the time that a
/// cell is waited for. Every success allows one more, every copy that took too long halves them.
pub(in crate::client) struct Flow {
    waiting: VecDeque<Job>,
    under_way: usize,
    limit: usize,
    bounds: (usize, usize),
}

impl Flow {
    pub(in crate::client) fn new(copies: u8) -> Self {
        let most = senders(copies);
        Self { waiting: VecDeque::new(), under_way: 0, limit: most, bounds: (usize::from(copies).min(most), most) }
    }

    /// Has a copy sent, when its turn has come.
    pub(in crate::client) fn add(&mut self, job: Job) {
        self.waiting.push_back(job);
    }

    /// Sends what may go now.
    pub(in crate::client) fn send(&mut self, crew: &Crew) {
        while self.under_way < self.limit
            && let Some(job) = self.waiting.pop_front()
        {
            self.under_way += 1;
            crew.send(job);
        }
    }

    /// A copy has arrived, or has not; `slow` if it took too long.
    pub(in crate::client) fn ended(&mut self, slow: bool) {
        self.under_way = self.under_way.saturating_sub(1);
        let limit = if slow { self.limit / 2 } else { self.limit + 1 };
        self.limit = limit.clamp(self.bounds.0, self.bounds.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_that_take_too_long_halve_the_flow_and_others_let_it_grow_within_bounds() {
        let mut flow = Flow::new(5);
        let limits: Vec<usize> = [true, true, true, false, false]
            .into_iter()
            .map(|slow| {
                flow.ended(slow);
                flow.limit
            })
            .collect();
        assert_eq!(limits, [10, 5, 5, 6, 7]);
        (0..100).for_each(|_| flow.ended(false));
        assert_eq!(flow.limit, senders(5));
    }
}
