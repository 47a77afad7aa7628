//! How a client reports its work, and how a user stops it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::client::notice::Notice;

/// Receives what a client reports while it works. All calls come from the thread that called the client.
pub trait Progress {
    /// The amount of work, if it is known: for put and get in bytes of the user's file, for the other commands in
    /// copies or chunks.
    fn total(&self, amount: Option<u64>);
    /// Work done since the last call: `plain` in the unit of [`Self::total`], and the `sealed` bytes that were stored
    /// or fetched for it.
    fn advance(&self, plain: u64, sealed: u64);
    /// Something that a user may want to know. The work continues.
    fn notice(&self, notice: &Notice);
}

/// A flag with which the user stops a running client. All clones share one flag.
#[derive(Debug, Clone, Default)]
pub struct StopSignal(Arc<AtomicBool>);

impl StopSignal {
    /// Asks the client to stop.
    pub fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Has the user asked the client to stop?
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
