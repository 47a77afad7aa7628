//! The options of a cell, gathered: what the store, the network and the cell's decisions need.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::cell::Settings;
#[cfg(target_os = "linux")]
use crate::net::GatewayLimits;

/// TCP port of a cell's HTTP server.
pub const DEFAULT_PORT: u16 = 8080;
/// UDP port of beacons and probes.
pub const DEFAULT_UDP_PORT: u16 = 5000;

/// Everything that a cell needs to start. The user sets these fields by the settings of the same names, which
/// [`GROUPS`](crate::config::GROUPS) describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The data folder. It must contain the cell's marker.
    pub data: PathBuf,
    /// Initialize `data` first, if it is empty or does not exist. Not for every start: a missing marker is how a cell
    /// recognizes that its disk is not mounted.
    pub init: bool,
    /// Address and TCP port of the HTTP server.
    pub listen: SocketAddr,
    /// UDP port of beacons and probes.
    pub udp_port: u16,
    /// Use the loopback interface only.
    pub loopback: bool,
    /// Static peers as `HOST:PORT`, at most [`MAX_PEERS`](crate::cell::MAX_PEERS).
    pub peers: Vec<String>,
    /// The least severe messages that are logged.
    pub log: log::LevelFilter,
    /// Bytes of the disk to leave free. `None`: the store's default.
    pub reserve: Option<u64>,
    /// Most bytes that chunks may use. `None`: as much as the reserve leaves.
    pub quota: Option<u64>,
    /// Most bytes of new chunks that are read back from the disk, per second; 0 for none.
    pub read_back_rate: u64,
    /// Timing and rates.
    pub settings: Settings,
    /// Limits of the HTTP gateway. No setting changes them.
    #[cfg(target_os = "linux")]
    pub gateway: GatewayLimits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("/var/lib/cellsync"),
            init: false,
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), DEFAULT_PORT),
            udp_port: DEFAULT_UDP_PORT,
            loopback: false,
            peers: Vec::new(),
            log: log::LevelFilter::Info,
            reserve: None,
            quota: None,
            read_back_rate: 8 << 20,
            settings: Settings::default(),
            #[cfg(target_os = "linux")]
            gateway: GatewayLimits::default(),
        }
    }
}
