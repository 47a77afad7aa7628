//! A local network for a colony: a bridge, and a host for each cell, each in a network namespace of its own.
//! Broadcasts, ports and cables are real there, and nothing is visible outside. The namespaces are deleted with the
//! test.
//!
//! It needs root. Without it, or without namespaces, the tests print that they are skipped and pass; with
//! `CELLSYNC_REQUIRE_NETWORKS` set they fail instead.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The number of the next network of this process.
static NEXT: AtomicU32 = AtomicU32::new(0);

pub(crate) struct Lan {
    /// The namespace of the bridge. It has an address on the network too, for the test and its clients.
    switch: String,
    hosts: Vec<String>,
}

impl Lan {
    /// Creates a network with this many hosts; `None` if this user may not.
    pub(crate) fn create(hosts: usize) -> Option<Self> {
        let name = format!("cellsync{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
        let hosts = (1..=hosts).map(|n| format!("{name}h{n}")).collect();
        let lan = Self { switch: format!("{name}s"), hosts };
        if !ip(&[], &format!("netns add {}\n", lan.switch)) {
            assert!(std::env::var_os("CELLSYNC_REQUIRE_NETWORKS").is_none(), "cannot create a network namespace");
            eprintln!("skipped: cannot create a network namespace (it needs root)");
            return None;
        }
        lan.connect_hosts();
        Some(lan)
    }

    fn connect_hosts(&self) {
        let switch = ["-n", &self.switch];
        let bridge = "link set lo up\nlink add br0 type bridge\nlink set br0 type bridge stp_state 0\nlink set br0 up\n\
                      addr add 10.77.255.254/16 broadcast 10.77.255.255 dev br0\n";
        assert!(ip(&switch, bridge));
        for (number, host) in self.hosts.iter().enumerate() {
            assert!(ip(&[], &format!("netns add {host}\n")));
            let port =
                format!("link add p{number} master br0 type veth peer name eth0 netns {host}\nlink set p{number} up\n");
            assert!(ip(&switch, &port));
            let address = format!("addr add {}/16 broadcast 10.77.255.255 dev eth0\n", Self::address(number));
            assert!(ip(&["-n", host], &format!("link set lo up\nlink set eth0 up\n{address}")));
        }
    }

    pub(crate) fn address(host: usize) -> String {
        format!("10.77.0.{}", host + 1)
    }

    /// The words that, put before a command, run it on a host.
    pub(crate) fn prefix(&self, host: usize) -> Vec<String> {
        ["ip", "netns", "exec", &self.hosts[host]].map(ToOwned::to_owned).to_vec()
    }

    /// Pulls out the cable of a host.
    pub(crate) fn disconnect(&self, host: usize) {
        self.set_link(host, "down");
    }

    /// Plugs the cable of a host in again.
    pub(crate) fn reconnect(&self, host: usize) {
        self.set_link(host, "up");
    }

    /// Connects the hosts from this one on to a switch of their own, with no link to the first.
    pub(crate) fn split(&self, from: usize) {
        let bridge = "link add br1 type bridge\nlink set br1 type bridge stp_state 0\nlink set br1 up\n";
        assert!(ip(&["-n", &self.switch], bridge));
        (from..self.hosts.len()).for_each(|host| self.connect(host, "br1"));
    }

    /// Connects all hosts to the first switch again.
    pub(crate) fn join(&self) {
        (0..self.hosts.len()).for_each(|host| self.connect(host, "br0"));
        assert!(ip(&["-n", &self.switch], "link del br1\n"));
    }

    fn connect(&self, host: usize, bridge: &str) {
        assert!(ip(&["-n", &self.switch], &format!("link set p{host} master {bridge}\n")));
    }

    fn set_link(&self, host: usize, state: &str) {
        assert!(ip(&["-n", &self.switch], &format!("link set p{host} {state}\n")));
    }

    /// Moves this thread, and the programs that it starts from now on, to the switch.
    pub(crate) fn enter(&self) {
        let namespace = File::open(Path::new("/run/netns").join(&self.switch)).unwrap();
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(LinkNameSpaceType::Network)).unwrap();
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for name in self.hosts.iter().chain([&self.switch]) {
            ip(&[], &format!("netns del {name}\n"));
        }
    }
}

/// Runs `ip` with a batch of commands. Returns whether all succeeded.
fn ip(options: &[&str], batch: &str) -> bool {
    let mut command = Command::new("ip");
    command.args(options).args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return false };
    let written = child.stdin.take().unwrap().write_all(batch.as_bytes());
    written.is_ok() & child.wait().unwrap().success()
}
