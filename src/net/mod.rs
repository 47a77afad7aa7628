//! The network: what goes out and comes in, with limits on everything. Shells without decisions.

pub mod client;
pub mod discovery;
