//! What this cell knows of copies: its own, those of other cells, and how both are kept true.

pub(super) mod map;
pub(super) mod queries;
pub(super) mod refetch;
