//! The network: what comes in and goes out, with limits on everything. Shells without decisions.

pub mod client;
pub mod descriptors;
pub mod discovery;
