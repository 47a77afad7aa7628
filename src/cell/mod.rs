//! The protocol of the colony: what a cell decides.
//!
//! [`Cell::handle`] is the only way in: it gets the time and one [`Input`], and appends the [`Output`]s to be
//! performed. What an output brings about comes back as another input. So the same code runs in the daemon
//! (`node::driver` performs the outputs on real sockets) and in a simulation (which performs them in virtual time).
//!
//! Pure: no clock, socket, disk or thread; randomness comes from the seed given at the start. Chunk bytes never pass
//! through here, only decisions about them.

mod context;
mod copies;
mod core;
mod heal;
mod input;
mod integrity;
mod membership;
mod output;
pub mod placement;
mod rank;
mod replicas;
pub mod saved_state;
mod settings;
mod token_bucket;

pub use crate::cell::core::Cell;
pub use crate::cell::input::{
    AuditOutcome, AuditTarget, CopyInput, FetchOutcome, Input, LocalCopy, MemberInput, ProbeOutcome, SendOutcome,
    StoreStats, TaskId, VerifyOutcome,
};
pub use crate::cell::membership::static_peers::MAX_PEERS;
pub use crate::cell::membership::{MAX_MEMBERS, Member};
pub use crate::cell::output::{Event, Output, Persist, Task, Udp};
pub use crate::cell::saved_state::{Isolation, SavedState, Strike};
pub use crate::cell::settings::Settings;

#[cfg(test)]
mod tests;
