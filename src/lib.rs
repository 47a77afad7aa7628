//! `CellSync`: a storage colony for small Linux boards.

pub mod cell;
pub mod chunk;
pub mod config;
pub mod net;
pub mod pipeline;
pub mod store;
pub mod wire;
