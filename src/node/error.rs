//! Why a cell could not start, or stopped.

use std::io;
use std::net::SocketAddr;

use crate::config::ConfigError;
use crate::store::OpenError;

/// Why a cell could not start, or stopped without being asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// A setting is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data folder cannot be used.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The TCP address cannot be bound.
    #[error("cannot listen on {address} (TCP): {source}; choose another address with --listen ADDRESS:PORT")]
    Listen {
        /// The address and port.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The UDP port cannot be bound.
    #[error(
        "cannot use UDP port {port}: {source}; choose another with --udp-port, and the same one for all cells and clients"
    )]
    Udp {
        /// The port.
        port: u16,
        /// The system's error.
        source: io::Error,
    },
    /// The process may open fewer files and connections than a cell needs.
    #[error(
        "this process may open only {limit} files and a cell needs {needed}; \
         raise the limit with ulimit -n {needed}, or LimitNOFILE= in the systemd unit"
    )]
    FileLimit {
        /// The limit.
        limit: u64,
        /// The fewest with which a cell starts.
        needed: u64,
    },
    /// The limit on open files cannot be raised.
    #[error("cannot raise the limit on open files: {0}")]
    RaiseFileLimit(#[source] io::Error),
    /// The handlers for SIGTERM and SIGINT cannot be installed.
    #[error("cannot install the signal handlers: {0}")]
    Signals(#[source] io::Error),
    /// The HTTP server behind the gateway cannot be started.
    #[error("cannot start the HTTP server: {0}")]
    Backend(#[source] io::Error),
    /// The gateway cannot be started.
    #[error("cannot start the gateway: {0}")]
    Gateway(#[source] io::Error),
    /// The driver or the gateway stopped, which neither does while the cell runs.
    #[error("internal error: the cell's driver or gateway stopped unexpectedly; the log has the cause")]
    StoppedUnexpectedly,
}
