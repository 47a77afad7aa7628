//! The read-back of new copies: each one is read from the disk once, soon after it was stored.
//!
//! A put is acknowledged when the disk reports that it has the bytes. Some disks report that and do not have them, above
//! all cards that claim more room than they have. The scrub would find out weeks later, when other copies may be gone.
//!
//! Copies wait in memory, in the order in which they were stored. After a restart, those that were never read are found
//! in their records. The read-back gives way to puts.

// A shell: it reads the clock.
#![allow(clippy::disallowed_methods)]

use std::sync::Mutex;
use std::time::{Duration, Instant};

use smol::Timer;
use smol::channel::{Receiver, Sender, unbounded};

use crate::id::ChunkId;
use crate::node::local_copies::LocalCopies;
use crate::store::CopyState;
use crate::sync::lock;

/// Copies that may wait, 56 bytes each. Others are left to the scrub, and to the next start.
const MAX_WAITING: usize = 1 << 16;
/// Time without a put before a copy is read.
const QUIET: Duration = Duration::from_secs(1);
/// A copy does not wait longer than this for such a time.
const MAX_DELAY: Duration = Duration::from_mins(1);
/// Pause while the disk is failing.
const FAILING_PAUSE: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct NewCopy {
    id: ChunkId,
    since: Instant,
}

/// The copies that wait.
#[derive(Debug)]
pub(super) struct ReadBack {
    sender: Sender<NewCopy>,
    waiting: Receiver<NewCopy>,
    last_put: Mutex<Instant>,
}

impl Default for ReadBack {
    fn default() -> Self {
        let (sender, waiting) = unbounded();
        Self { sender, waiting, last_put: Mutex::new(Instant::now()) }
    }
}

impl ReadBack {
    /// A new copy was stored.
    pub(super) fn stored(&self, id: &ChunkId) {
        *lock(&self.last_put) = Instant::now();
        self.add(id);
    }

    /// This copy was never read since it was stored.
    pub(super) fn add(&self, id: &ChunkId) {
        if self.left() < MAX_WAITING {
            // Fails if there is no read-back.
            drop(self.sender.try_send(NewCopy { id: *id, since: Instant::now() }));
        }
    }

    /// Number of copies that wait.
    pub(super) fn left(&self) -> usize {
        self.waiting.len()
    }

    /// Waits until there is a copy to read.
    async fn next(&self) -> Option<ChunkId> {
        let NewCopy { id, since } = self.waiting.recv().await.ok()?;
        loop {
            let quiet_for = lock(&self.last_put).elapsed();
            if quiet_for >= QUIET || since.elapsed() >= MAX_DELAY {
                return Some(id);
            }
            Timer::after(QUIET.saturating_sub(quiet_for)).await;
        }
    }
}

/// Reads new copies at this rate, in bytes a second, and reports those that are bad; at 0 it reads none. Runs until it is
/// dropped.
pub(super) async fn run(copies: LocalCopies, rate: u64) {
    let read_back = copies.read_back();
    if rate == 0 {
        read_back.waiting.close();
        while read_back.waiting.try_recv().is_ok() {}
        return;
    }
    while let Some(id) = read_back.next().await {
        while copies.is_failing() {
            Timer::after(FAILING_PAUSE).await;
        }
        let reader = copies.clone();
        let bytes = smol::unblock(move || read(&reader, &id)).await;
        Timer::after(Duration::from_secs_f64(bytes as f64 / rate as f64)).await;
    }
}

/// Reads a copy. Returns its length in bytes. Blocks.
fn read(copies: &LocalCopies, id: &ChunkId) -> u64 {
    let bytes = copies.store.record(id).ok().flatten().map_or(0, |record| record.len);
    match copies.verify(id) {
        Ok(CopyState::Good | CopyState::Missing) => {}
        Ok(CopyState::Bad) => {
            log::warn!("the disk did not keep the new copy of chunk {}; check the disk or card", id.short());
        }
        Ok(CopyState::Unreadable) => {
            log::warn!("the disk cannot read the new copy of chunk {}; check the disk or card", id.short());
        }
        Err(error) => log::warn!("cannot read back the new copy of chunk {}: {error}", id.short()),
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(n: u64) -> ChunkId {
        ChunkId::of(&n.to_le_bytes())
    }

    /// The next copy, if it may be read within this time.
    fn next(read_back: &ReadBack, time: Duration) -> Option<ChunkId> {
        let timeout = async {
            Timer::after(time).await;
            None
        };
        smol::block_on(futures_lite::future::or(read_back.next(), timeout))
    }

    #[test]
    fn new_copies_wait_in_order_and_their_number_is_bounded() {
        let read_back = ReadBack::default();
        *lock(&read_back.last_put) = Instant::now().checked_sub(QUIET).unwrap();
        (0..MAX_WAITING as u64 + 5).for_each(|n| read_back.add(&chunk(n)));
        assert_eq!(read_back.left(), MAX_WAITING);
        assert_eq!([next(&read_back, MAX_DELAY), next(&read_back, MAX_DELAY)], [Some(chunk(0)), Some(chunk(1))]);
        assert_eq!(read_back.left(), MAX_WAITING - 2);
    }

    #[test]
    fn puts_delay_the_read_back_for_a_minute_at_most() {
        let read_back = ReadBack::default();
        *lock(&read_back.last_put) = Instant::now().checked_sub(QUIET).unwrap();
        read_back.stored(&chunk(1));
        assert_eq!(next(&read_back, Duration::from_millis(50)), None);
        let since = Instant::now().checked_sub(MAX_DELAY).unwrap();
        read_back.sender.try_send(NewCopy { id: chunk(2), since }).unwrap();
        assert_eq!(next(&read_back, Duration::ZERO), Some(chunk(2)), "without a pause");
    }
}
