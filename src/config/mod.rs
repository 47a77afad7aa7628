//! `node.toml` and the command line become one [`Config`]: the only place where a cell's defaults live.
//!
//! Every setting's doc is its contract: what it does, unit, bounds, how to choose. `packaging/node.toml` shows them
//! all to the user, and a test holds the two together.

mod timing;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::cell::Settings;
#[cfg(target_os = "linux")]
use crate::net::GatewayLimits;

/// TCP port of a cell's door.
pub const DEFAULT_PORT: u16 = 8080;
/// UDP port of beacons and probes.
pub const DEFAULT_UDP_PORT: u16 = 5000;

/// How a cell is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The folder that holds everything the cell keeps. It must carry the cell's marker.
    pub data: PathBuf,
    /// Make `data` a cell's folder first, if it is empty or not there yet. Not for every start: the marker is what
    /// keeps an unmounted disk from being taken for an empty one.
    pub init: bool,
    /// Address and TCP port of the HTTP door; port 0 takes a free one. With an address of one interface, beacons go
    /// out on that interface only.
    pub listen: SocketAddr,
    /// UDP port of beacons and probes; the same for a whole colony. Colonies with different ports do not see each
    /// other.
    pub udp_port: u16,
    /// Live on the loopback interface only: many cells on one machine. Nothing is sent to any network.
    pub loopback: bool,
    /// Static peers as `HOST:PORT`: cells that broadcast does not reach. At most [`crate::cell::MAX_PEERS`].
    pub peers: Vec<String>,
    /// The least important messages that are still written to standard error.
    pub log: log::LevelFilter,
    /// Bytes of the disk that are kept free for others. `None`: 1 GiB or 5 % of the disk, the smaller.
    pub reserve: Option<u64>,
    /// Bytes that chunks may take in all. `None`: as much as the reserve leaves.
    pub quota: Option<u64>,
    /// The rhythm of the cell: beacons, roles, healing, audits. Each is a key of `node.toml` by its own name, but for
    /// `probe_ms`, which is half of `silent_after_ms`.
    pub settings: Settings,
    /// Limits of the HTTP gateway. Not a setting of `node.toml`.
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
            settings: Settings::default(),
            #[cfg(target_os = "linux")]
            gateway: GatewayLimits::default(),
        }
    }
}

/// Why a configuration cannot be used. Each is one line for the user.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{}, line {line}: {what}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where in it, from 1.
        line: usize,
        /// What is wrong there.
        what: String,
    },
    /// What `--set` gives is no setting.
    #[error("--set {text}: {what}")]
    Set {
        /// What it gives.
        text: String,
        /// What is wrong with it.
        what: String,
    },
    /// A setting has a value that it cannot have.
    #[error("{name} = {value:?}: {what}")]
    Value {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        what: String,
    },
}

/// Settings as they were given, in a file or on the command line. Absent ones leave what was there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Given {
    /// See [`Config::data`].
    pub data: Option<PathBuf>,
    /// See [`Config::listen`].
    pub listen: Option<String>,
    /// See [`Config::udp_port`].
    pub udp_port: Option<u16>,
    /// See [`Config::loopback`].
    pub loopback: Option<bool>,
    /// See [`Config::peers`].
    pub peers: Option<Vec<String>>,
    /// See [`Config::log`].
    pub log: Option<String>,
    /// See [`Config::reserve`]; a size such as `"500 MiB"`.
    pub reserve: Option<String>,
    /// See [`Config::quota`]; a size such as `"20 GiB"`.
    pub quota: Option<String>,
    /// See [`Settings::beacon_ms`]; 50 to 60,000.
    pub beacon_ms: Option<u64>,
    /// See [`Settings::silent_after_ms`]; up to an hour.
    pub silent_after_ms: Option<u64>,
    /// See [`Settings::forget_ms`]; from `silent_after_ms` to a year.
    pub forget_ms: Option<u64>,
    /// See [`Settings::differentiate_after_ms`]; up to an hour.
    pub differentiate_after_ms: Option<u64>,
    /// See [`Settings::role_stable_ms`]; up to an hour.
    pub role_stable_ms: Option<u64>,
    /// See [`Settings::heal_delay_ms`]; four of them, none smaller than the one before it, up to a day.
    pub heal_delay_ms: Option<Vec<u64>>,
    /// See [`Settings::heal_step_ms`]; 100 to an hour.
    pub heal_step_ms: Option<u64>,
    /// See [`Settings::heal_rate`]; a size such as `"8 MiB"`, from 64 KiB to 1 TiB.
    pub heal_rate: Option<String>,
    /// See [`Settings::belief_audit_ms`]; a second to 30 days.
    pub belief_audit_ms: Option<u64>,
    /// See [`Settings::unheard_ms`]; up to a day.
    pub unheard_ms: Option<u64>,
    /// See [`Settings::audit_rate`]; a size such as `"1 MiB"`, 0 or from 64 KiB to 1 TiB.
    pub audit_rate: Option<String>,
    /// See [`Settings::scrub_period_ms`]; a second to 10 years.
    pub scrub_period_ms: Option<u64>,
    /// See [`Settings::isolation_ms`]; a second to a year.
    pub isolation_ms: Option<u64>,
    /// See [`Settings::strike_window_ms`]; a second to 30 days.
    pub strike_window_ms: Option<u64>,
}

impl Given {
    /// Reads a `node.toml`. An unknown key is an error, so that a misspelt one is not passed over in silence.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Reads one setting that is given by itself, as `KEY=VALUE` with the value as in a `node.toml`.
    pub fn parse_one(text: &str) -> Result<Self, ConfigError> {
        let wrong = |what: &str| ConfigError::Set { text: text.to_owned(), what: what.replace('\n', " ") };
        let is_key =
            |key: &str| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        match text.split_once('=') {
            Some((key, _)) if is_key(key.trim()) && !text.contains('\n') => {}
            _ => return Err(wrong("KEY=VALUE is needed, as in a node.toml")),
        }
        toml::from_str(text).map_err(|error: toml::de::Error| {
            wrong(&format!("{}; VALUE is as in a node.toml, where words and sizes stand in quotes", error.message()))
        })
    }

    fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error: toml::de::Error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = text.bytes().take(start).filter(|&byte| byte == b'\n').count() + 1;
            ConfigError::Malformed { path: path.to_owned(), line, what: error.message().replace('\n', " ") }
        })
    }
}

impl Config {
    /// Takes over what was given; what was not stays.
    pub fn apply(&mut self, given: Given) -> Result<(), ConfigError> {
        timing::apply(&mut self.settings, &given)?;
        if let Some(loopback) = given.loopback {
            self.loopback = loopback;
            // A cell that lives on the loopback interface has no business at the door of others.
            if loopback && self.listen.ip().is_unspecified() {
                self.listen.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
            }
        }
        if let Some(listen) = given.listen {
            self.listen = parse("listen", &listen, "an address and a port such as 0.0.0.0:8080 is needed")?;
        }
        if let Some(peers) = given.peers {
            for peer in &peers {
                check_peer(peer)?;
            }
            if peers.len() > crate::cell::MAX_PEERS {
                let what = format!("at most {} peers", crate::cell::MAX_PEERS);
                return Err(ConfigError::Value { name: "peers", value: format!("{} of them", peers.len()), what });
            }
            self.peers = peers;
        }
        if let Some(log) = given.log {
            self.log = parse("log", &log, "one of off, error, warn, info, debug, trace")?;
        }
        if let Some(reserve) = given.reserve {
            self.reserve = Some(size("reserve", &reserve)?);
        }
        if let Some(quota) = given.quota {
            self.quota = Some(size("quota", &quota)?);
        }
        self.data = given.data.unwrap_or(std::mem::take(&mut self.data));
        self.udp_port = given.udp_port.unwrap_or(self.udp_port);
        Ok(())
    }

    /// What cannot work together, found before anything is started.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.udp_port == 0 {
            let what = "beacons need a fixed port, the same for the whole colony".into();
            return Err(ConfigError::Value { name: "udp_port", value: "0".into(), what });
        }
        timing::check(&self.settings)?;
        let on_loopback = matches!(self.listen.ip(), IpAddr::V4(ip) if ip.is_loopback());
        let what = match (self.loopback, on_loopback) {
            (true, false) => "with loopback the address must be one of 127.0.0.0/8",
            // It would beacon to nobody, or to networks from which its door cannot be reached.
            (false, _) if self.listen.ip().is_loopback() => {
                "only this machine can reach that address; for a colony on one machine set loopback = true"
            }
            _ => return Ok(()),
        };
        Err(ConfigError::Value { name: "listen", value: self.listen.to_string(), what: what.into() })
    }
}

fn parse<T: std::str::FromStr>(name: &'static str, value: &str, what: &str) -> Result<T, ConfigError> {
    value.parse().map_err(|_| ConfigError::Value { name, value: value.to_owned(), what: what.to_owned() })
}

fn size(name: &'static str, value: &str) -> Result<u64, ConfigError> {
    parse::<bytesize::ByteSize>(name, value, "a size such as \"500 MiB\" or \"20 GB\" is needed")
        .map(|size| size.as_u64())
}

fn check_peer(peer: &str) -> Result<(), ConfigError> {
    let what = "a peer is HOST:PORT, such as 10.0.2.7:8080 or [fd00::7]:8080";
    let wrong = || ConfigError::Value { name: "peers", value: peer.to_owned(), what: what.to_owned() };
    let (host, port) = peer.rsplit_once(':').ok_or_else(wrong)?;
    let sane = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    // Without brackets nobody can tell where an IPv6 address ends and the port begins.
    let is_host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.len() <= 253 && host.chars().all(sane),
    };
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<NonZeroU16>().is_ok();
    if !is_host || !is_port {
        return Err(wrong());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../packaging/node.toml");

    fn read(text: &str) -> Result<Config, String> {
        let mut config = Config::default();
        let given = Given::parse(text, Path::new("node.toml")).map_err(|error| error.to_string())?;
        config.apply(given).and_then(|()| config.check()).map_err(|error| error.to_string())?;
        Ok(config)
    }

    /// Every setting is named here, so that a new one cannot be passed over.
    fn shows_all(given: &Given) -> bool {
        let Given {
            data,
            listen,
            udp_port,
            loopback,
            peers,
            log,
            reserve,
            quota,
            beacon_ms,
            silent_after_ms,
            forget_ms,
            differentiate_after_ms,
            role_stable_ms,
            heal_delay_ms,
            heal_step_ms,
            heal_rate,
            belief_audit_ms,
            unheard_ms,
            audit_rate,
            scrub_period_ms,
            isolation_ms,
            strike_window_ms,
        } = given;
        let others = [data.is_some(), peers.is_some(), udp_port.is_some(), loopback.is_some(), heal_delay_ms.is_some()];
        let texts = [listen, log, reserve, quota, heal_rate, audit_rate];
        let times = [
            beacon_ms,
            silent_after_ms,
            forget_ms,
            differentiate_after_ms,
            role_stable_ms,
            heal_step_ms,
            belief_audit_ms,
            unheard_ms,
            scrub_period_ms,
            isolation_ms,
            strike_window_ms,
        ];
        others.iter().all(|given| *given)
            && texts.iter().all(|text| text.is_some())
            && times.iter().all(|time| time.is_some())
    }

    #[test]
    fn the_file_that_is_shipped_changes_no_default_and_shows_every_setting() {
        assert_eq!(read(SHIPPED).unwrap(), Config::default());
        // Each setting stands there behind a comment sign with an example; with the signs off, all of it must parse.
        let all: String =
            SHIPPED.lines().map(|line| line.strip_prefix("#: ").unwrap_or(line).to_owned() + "\n").collect();
        let given = Given::parse(&all, Path::new("node.toml")).unwrap();
        assert!(shows_all(&given), "{given:?}");
        // The values shown are the defaults where there is one value that is.
        let mut config = Config::default();
        config.apply(given).unwrap();
        assert_eq!(config.settings, Settings::default());
    }

    #[test]
    fn what_comes_later_wins_and_what_is_absent_stays() {
        let mut config = read("listen = \"10.0.0.1:80\"\nudp_port = 5001\nquota = \"20 GiB\"").unwrap();
        config.apply(Given { udp_port: Some(5002), ..Given::default() }).unwrap();
        assert_eq!((config.listen, config.udp_port), ("10.0.0.1:80".parse().unwrap(), 5002));
        assert_eq!(config.quota, Some(20 << 30));
    }

    #[test]
    fn a_cell_on_loopback_listens_there_by_itself_and_nowhere_else() {
        assert_eq!(read("loopback = true").unwrap().listen, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(
            read("loopback = true\nlisten = \"0.0.0.0:1\"").unwrap_err(),
            "listen = \"0.0.0.0:1\": with loopback the address must be one of 127.0.0.0/8"
        );
        read("loopback = true\nlisten = \"[::1]:1\"").unwrap_err();
    }

    #[test]
    fn a_door_on_loopback_needs_a_colony_on_loopback() {
        for address in ["127.0.0.1:8080", "127.9.9.9:80", "[::1]:8080"] {
            let error = read(&format!("listen = \"{address}\"")).unwrap_err();
            assert!(error.starts_with(&format!("listen = \"{address}\": only this machine")), "{error}");
            assert!(error.ends_with("set loopback = true"), "{error}");
        }
        read("listen = \"127.9.9.9:80\"\nloopback = true").unwrap();
    }

    #[test]
    fn a_peer_has_a_host_and_a_port_that_can_be_told_apart() {
        for good in ["10.0.0.1:80", "pi-7.local:8080", "[fd00::7]:8080", "my_pi:1"] {
            read(&format!("peers = [\"{good}\"]")).unwrap();
        }
        for bad in
            ["10.0.0.1:0", "fd00::7:8080", "::1:80", "[fd00::7]", "[pi]:80", "[::1:80", "::1]:80", ":80", "pi:+80"]
        {
            assert!(read(&format!("peers = [\"{bad}\"]")).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_mistake_is_one_line_that_names_the_place() {
        for (text, expected) in [
            ("listen = \"0.0.0.0:80\"\ncolour = 1", "node.toml, line 2: unknown field `colour`, expected one of"),
            ("udp_port = 70000", "node.toml, line 1: invalid value"),
            ("\n\nlisten = ", "node.toml, line 3: "),
            ("listen = \"8080\"", "listen = \"8080\": an address and a port such as 0.0.0.0:8080 is needed"),
            ("log = \"loud\"", "log = \"loud\": one of off, error"),
            ("quota = \"much\"", "quota = \"much\": a size such as"),
            ("peers = [\"10.0.0.1\"]", "peers = \"10.0.0.1\": a peer is HOST:PORT"),
            ("peers = [\"a b:1\"]", "peers = \"a b:1\": a peer is HOST:PORT"),
            ("udp_port = 0", "udp_port = \"0\": beacons need a fixed port"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}\n{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
