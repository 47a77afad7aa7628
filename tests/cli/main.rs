//! Goal: the command lines follow the conventions that users know, and every mistake is named with what helps. Method:
//! the programs run without any cell; their output and exit codes are compared.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[cfg(test)]
mod arguments;
#[cfg(test)]
mod client_config;
#[cfg(test)]
mod program;
