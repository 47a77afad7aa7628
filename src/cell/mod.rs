//! The core of a cell: it decides, and performs no I/O.
//!
//! A colony has no leader, no consensus and no central index. Each cell runs the code in this module and decides for
//! itself from what it receives; cells that know the same come to the same decisions.
//!
//! # Interface
//!
//! [`Cell::handle`] is the only entry point. It takes the present time and one [`Input`], and appends [`Output`]s that
//! the caller must perform. The outcome of an output returns as another input. So the same code runs in the daemon,
//! which performs outputs on real sockets and disks (`node::driver`), and in the simulation, which performs them in
//! virtual time (`tests/sim`).
//!
//! ```text
//!                 ┌──────────────────────── Cell ────────────────────────┐
//!   Wake ────────▶│ membership   members, roles, static peers            │────▶ Udp      beacons
//!   Member ──────▶│              who is alive?                           │
//!                 │ replicas     replica map, holder queries, refetch    │────▶ Task     probe, query, send, fetch,
//!   Copy ────────▶│              who holds which local chunk?            │               audit, verify, …
//!                 │ heal         shortages, rounds, backoff, hold-off    │────▶ Persist  holders, saved state
//!   Shutdown ────▶│              send the missing copies                 │────▶ WakeAt
//!                 │ integrity    audits, scrub, strikes                  │────▶ Event    for the log
//!                 │              are the copies good?                    │
//!                 └──────────────────────────────────────────────────────┘
//! ```
//!
//! The module is pure: it has no clock, socket, disk or thread. Time is an argument, and all randomness comes from a
//! seed. Chunk bytes never pass through it; it handles ids, lengths and holders.
//!
//! # How a colony works
//!
//! - Every second each cell broadcasts a *beacon*. A *member* whose beacons stop is silent, and dead when an HTTP probe
//!   fails too (`membership`).
//! - The client stores a chunk on several cells, five by default. Each of these *holders* receives the ids of the
//!   others. A cell keeps in its *replica map* who else holds its chunks, and corrects it by queries (`replicas`).
//! - When a holder dies, the chunk is *under-replicated*. All other holders see that, and the first one by *rank* heals
//!   it: it asks the other cells who has the chunk, and sends the missing copies (`heal`). The rank of a cell for a
//!   chunk is a hash of both ids (`rank`).
//! - Copies rot, and cells lie. Each cell hashes its own copies (*scrub*) and fetches copies of others to hash them
//!   (*audit*). Three bad copies isolate a cell: its copies do not count any more (`integrity`).
//! - `copies` passes inputs and results between these rules. All of them read one `context`: the time, this cell, and
//!   what it knows about the other cells.
//!
//! A beacon that announces a departure is confirmed by a probe, a hint by a query, an alert by an audit: a forged
//! message costs a request and changes nothing. Three statements count without a check. What a cell claims to hold
//! counts until its bytes disprove it. How many copies a chunk needs counts if the cell has lost that number
//! (`replicas::bare_records`). A report of a clean scrub ends an isolation early, once in `isolation_ms`.

mod context;
mod copies;
mod core;
mod duplicate_id;
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
mod task_ids;
mod token_bucket;

pub use crate::cell::core::Cell;
pub use crate::cell::input::{
    AuditOutcome, AuditTarget, CopyInput, FetchOutcome, Input, LocalCopy, MemberInput, ProbeOutcome, QueryOutcome,
    SendOutcome, SharedOutcome, StoreStats, TaskId, VerifyOutcome,
};
pub use crate::cell::membership::MAX_MEMBERS;
pub use crate::cell::membership::member::Member;
pub use crate::cell::membership::static_peers::MAX_PEERS;
pub use crate::cell::output::{Event, Output, Persist, Task, Udp};
pub use crate::cell::saved_state::{Isolation, SavedState, Strike};
pub use crate::cell::settings::Settings;

#[cfg(test)]
mod tests;
