//! Local storage: where a cell keeps its copies of chunks.
//!
//! [`Store`] is the contract; `tests/store/contract` checks each of its promises on every implementation:
//!
//! - [`FileStore`] stores chunks in a data folder on a disk. `store::files` specifies the format of that folder.
//! - [`MemoryStore`] stores chunks in memory, for tests of the modules above. It keeps every promise except durability.
//!
//! Chunk bytes go straight from the network to a store and back. They never pass through the cell's core.

mod contract;
mod damage;
#[cfg(target_os = "linux")]
mod files;
mod in_memory;

pub use crate::store::contract::{
    CopyState, MAX_STATE_BYTES, OpenChunk, PutMetadata, PutOutcome, Record, Store, StoreError, Usage,
};
pub(crate) use crate::store::damage::is_damage;
#[cfg(target_os = "linux")]
pub use crate::store::files::{FileStore, OpenError, StoreOptions, panic_is_caught};
pub use crate::store::in_memory::MemoryStore;
