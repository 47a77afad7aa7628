//! Finding the colony, one cell of it, and which cells hold which chunks.

pub(super) mod find;
pub(super) mod have;
pub(super) mod holders;
pub(super) mod locate;
