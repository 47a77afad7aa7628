//! A colony of real cells on the loopback interface, in a folder that goes with it.

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cellsync::net::client::{Http, Timeouts};
use cellsync::wire::peers::Presence;
use tempfile::TempDir;

use crate::process::{Took, run};
use crate::wait::wait_until;

/// As many cells as a chunk has copies.
pub(crate) const CELLS: usize = 5;

/// A cell, which dies with this.
pub(crate) struct Cell {
    process: Child,
    pub(crate) url: String,
}

impl Drop for Cell {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Cell {
    /// Starts a cell in `data` and waits until its door is open.
    pub(crate) fn start(data: &Path, udp_port: u16) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_cellsync-node"))
            .args(["--init", "--loopback", "--listen", "127.0.0.1:0", "--log", "warn", "--reserve", "64 MiB"])
            .args(["--udp-port", &udp_port.to_string()])
            .arg("--data")
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.split_whitespace().find(|word| word.starts_with("http://"));
        let url = url.unwrap_or_else(|| panic!("the cell in {} did not start", data.display())).to_owned();
        Self { process, url }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }
}

/// Cells that know each other. Dropped in this order: first they die, then their folder goes.
pub(crate) struct Colony {
    pub(crate) cells: Vec<Cell>,
    udp_port: u16,
    folder: TempDir,
}

impl Colony {
    pub(crate) fn start() -> Self {
        let (folder, udp_port) = (folder(), free_udp_port());
        let cells: Vec<Cell> =
            (0..CELLS).map(|n| Cell::start(&folder.path().join(format!("cell{n}")), udp_port)).collect();
        let http = Http::new(Timeouts::PROBE, 1, CELLS);
        wait_until("the cells know each other", || {
            cells.iter().all(|cell| {
                let peers = http.peers(&cell.url).unwrap();
                peers.cells.iter().filter(|peer| peer.state == Presence::Active).count() == CELLS - 1
            })
        });
        Self { cells, udp_port, folder }
    }

    /// A folder on the same disk as the cells'.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Puts a file and tells what it took, and the client's own report.
    pub(crate) fn put(&self, source: &Path) -> (Took, serde_json::Value) {
        let mut put = Command::new(env!("CARGO_BIN_EXE_cellsync-put"));
        self.client(put.arg(source).arg("--force").arg("-o").arg(self.manifest()))
    }

    /// Gets what was put last to a file, or only fetches and verifies it.
    pub(crate) fn get(&self, target: Option<&Path>) -> (Took, serde_json::Value) {
        let mut get = Command::new(env!("CARGO_BIN_EXE_cellsync-get"));
        get.arg(self.manifest());
        match target {
            Some(path) => get.arg("--force").arg("-o").arg(path),
            None => get.arg("--check"),
        };
        self.client(&mut get)
    }

    fn client(&self, command: &mut Command) -> (Took, serde_json::Value) {
        let port = self.udp_port.to_string();
        let took = run(command.args(["--loopback", "--quiet", "--json", "--udp-port", &port]), true);
        let report = serde_json::from_slice(&took.stdout).unwrap();
        (took, report)
    }

    fn manifest(&self) -> PathBuf {
        self.path().join("manifest")
    }
}

/// A new folder on the disk that is measured.
pub(crate) fn folder() -> TempDir {
    let place = std::env::var_os("CELLSYNC_BENCH_DIR").unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").into());
    std::fs::create_dir_all(&place).unwrap();
    TempDir::with_prefix_in("bench-", place).unwrap()
}

/// A port that nobody uses now.
pub(crate) fn free_udp_port() -> u16 {
    UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
}
