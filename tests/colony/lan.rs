//! A local network of its own for a colony: a bridge and a host for each cell, all in network namespaces that are made
//! for the test and go with it. Broadcasts, ports and cables are real there, and nothing of it is seen outside.
//!
//! It takes root. Where that is missing, or namespaces are, the tests say so and pass; with
//! `CELLSYNC_REQUIRE_NETWORKS` they must run.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Numbers of networks of this process.
static NEXT: AtomicU32 = AtomicU32::new(0);

pub(crate) struct Lan {
    /// The namespace of the bridge, where whoever looks at the network from inside has an address too.
    switch: String,
    hosts: Vec<String>,
}

impl Lan {
    /// A network with so many hosts, or none if this user may not make one.
    pub(crate) fn build(hosts: usize) -> Option<Self> {
        let name = format!("cellsync{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
        let hosts = (1..=hosts).map(|n| format!("{name}h{n}")).collect();
        let lan = Self { switch: format!("{name}s"), hosts };
        if !ip(&[], &format!("netns add {}\n", lan.switch)) {
            assert!(std::env::var_os("CELLSYNC_REQUIRE_NETWORKS").is_none(), "no network namespace can be made");
            eprintln!("no network namespace can be made (it takes root): this test looks at nothing");
            return None;
        }
        lan.lay_cables();
        Some(lan)
    }

    fn lay_cables(&self) {
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

    /// The words before a command that is to run on a host.
    pub(crate) fn on_host(&self, host: usize) -> Vec<String> {
        ["ip", "netns", "exec", &self.hosts[host]].map(ToOwned::to_owned).to_vec()
    }

    /// Pulls a host's cable, or plugs it in again.
    pub(crate) fn plug(&self, host: usize, in_: bool) {
        let state = if in_ { "up" } else { "down" };
        assert!(ip(&["-n", &self.switch], &format!("link set p{host} {state}\n")));
    }

    /// From now on this thread is at the switch, and whatever it starts.
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

fn ip(words: &[&str], batch: &str) -> bool {
    let mut command = Command::new("ip");
    command.args(words).args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return false };
    let written = child.stdin.take().unwrap().write_all(batch.as_bytes());
    written.is_ok() & child.wait().unwrap().success()
}
