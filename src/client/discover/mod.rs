//! Finding the cells of a colony, one of them that the user named, and the holders of chunks.

pub(super) mod broadcast;
pub(super) mod chunk_set;
pub(super) mod colony;
pub(super) mod find_cells;
pub(super) mod found_cells;
pub(super) mod holder_index;
pub(super) mod query;
pub(super) mod search_chunk;
pub(super) mod select_cell;
