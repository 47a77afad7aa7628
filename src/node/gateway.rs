//! The gateway's thread, and its connection limits as far as the limit on open files permits them.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::net::fd_limit;
use crate::net::{Gateway, GatewayLimits, GatewayStats, Upstream};
use crate::node::error::NodeError;

/// Descriptors that the process needs for all but the connections it serves: catalogue, sockets, its own calls to other
/// cells.
const OTHER_DESCRIPTORS: u64 = 128;

/// A cell that could serve fewer connections than this does not start: its clients would fail for no visible reason.
const MIN_CONNECTIONS: usize = 16;

/// The gateway, which runs on a thread of its own.
pub(super) struct GatewayThread {
    thread: JoinHandle<io::Result<()>>,
    /// `None` if it could not start. The thread then returns the error.
    pub(super) stats: Option<Arc<GatewayStats>>,
    /// Dropping it stops the gateway.
    stop: smol::channel::Sender<()>,
}

impl GatewayThread {
    /// Starts the gateway. When it is stopped, requests in progress have `timeout` to finish.
    pub(super) fn start(
        listener: TcpListener,
        upstream: Arc<Upstream>,
        limits: GatewayLimits,
        timeout: Duration,
    ) -> Result<Self, NodeError> {
        let (stop, stopped) = smol::channel::bounded::<()>(1);
        let (send_stats, stats) = std::sync::mpsc::sync_channel(1);
        let run = move || {
            smol::block_on(async move {
                let gateway = Gateway::new(async_net::TcpListener::try_from(listener)?, upstream, limits);
                // The thread that started this one receives them.
                drop(send_stats.send(gateway.stats()));
                gateway.run(stopped, timeout).await;
                Ok(())
            })
        };
        let thread = std::thread::Builder::new().name("gateway".into()).spawn(run).map_err(NodeError::Gateway)?;
        Ok(Self { thread, stats: stats.recv().ok(), stop })
    }

    /// Lets requests in progress finish and stops the gateway.
    pub(super) async fn stop(self) -> Result<(), NodeError> {
        drop(self.stop);
        match smol::unblock(move || self.thread.join()).await {
            Ok(ended) => ended.map_err(NodeError::Gateway),
            Err(_) => Err(NodeError::StoppedUnexpectedly),
        }
    }
}

/// Raises the limit on open files as far as the connection limits need, and lowers them to what it permits.
pub(super) fn fit_limits(limits: GatewayLimits) -> Result<GatewayLimits, NodeError> {
    let wanted = descriptors_for(limits.max_connections);
    let permitted = fd_limit::raise(wanted).map_err(NodeError::RaiseFileLimit)?;
    limits_within(limits, permitted)
}

/// Descriptors that the process needs to serve this many connections.
fn descriptors_for(connections: usize) -> u64 {
    connections as u64 * fd_limit::PER_CONNECTION + OTHER_DESCRIPTORS
}

fn limits_within(mut limits: GatewayLimits, descriptors: u64) -> Result<GatewayLimits, NodeError> {
    let needed = descriptors_for(limits.max_connections.min(MIN_CONNECTIONS));
    if descriptors < needed {
        return Err(NodeError::FileLimit { limit: descriptors, needed });
    }
    let connections = fd_limit::connections_that_fit(descriptors, OTHER_DESCRIPTORS);
    if connections < limits.max_connections {
        log::warn!(
            "this process may open only {descriptors} files: serving at most {connections} connections instead of {}",
            limits.max_connections
        );
        limits.max_connections = connections;
        limits.max_connections_per_address = limits.max_connections_per_address.min(connections);
    }
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_descriptors_mean_fewer_connections_or_no_start() {
        let limits = GatewayLimits::default();
        let within = |descriptors| {
            limits_within(limits, descriptors)
                .map(|limits| (limits.max_connections, limits.max_connections_per_address))
        };
        assert_eq!(within(u64::MAX).unwrap(), (256, 64));
        assert_eq!(within(1024).unwrap(), (179, 64));
        assert_eq!(within(208).unwrap(), (16, 16));
        for descriptors in [207, 60, 0] {
            let error = within(descriptors).unwrap_err();
            assert!(
                matches!(error, NodeError::FileLimit { limit, needed: 208 } if limit == descriptors),
                "{descriptors}: {error}"
            );
            assert!(error.to_string().contains("ulimit -n 208"), "{error}");
        }
        let few = GatewayLimits { max_connections: 2, ..limits };
        assert_eq!(limits_within(few, 138).unwrap().max_connections, 2);
    }
}
