//! Replicas: the local chunks and their holders, and how both are kept correct.

pub(super) mod bare_records;
mod holder_buckets;
mod holder_sets;
pub(super) mod map;
pub(super) mod queries;
pub(super) mod refetch;
mod table;
