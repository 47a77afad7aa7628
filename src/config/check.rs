//! Settings that must fit each other.

use std::net::IpAddr;

use crate::config::error::ConfigError;
use crate::config::node_config::Config;

/// The shortest silence, in beacons.
const MIN_BEACONS_IN_A_SILENCE: u64 = 3;

impl Config {
    /// Checks that the settings fit each other, before anything is started.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.udp_port == 0 {
            return Err(ConfigError::NoUdpPort);
        }
        let settings = &self.settings;
        let (silent_after_ms, forget_ms) = (settings.silent_after_ms, settings.forget_ms);
        let min_ms = MIN_BEACONS_IN_A_SILENCE * settings.beacon_ms;
        if silent_after_ms < min_ms {
            return Err(ConfigError::ShortSilence { silent_after_ms, min_ms });
        }
        if forget_ms < silent_after_ms {
            return Err(ConfigError::ShortMemory { forget_ms, silent_after_ms });
        }
        let listen = self.listen;
        // Beacons are IPv4.
        let is_ipv4_loopback = matches!(listen.ip(), IpAddr::V4(ip) if ip.is_loopback());
        if self.loopback && !is_ipv4_loopback {
            return Err(ConfigError::NotOnLoopback { listen });
        }
        if !self.loopback && listen.ip().is_loopback() {
            return Err(ConfigError::OnlyOnLoopback { listen });
        }
        Ok(())
    }
}
