//! A colony of real cells on the loopback interface, in a temporary folder.

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cellsync::net::client::{Http, Timeouts};
use cellsync::wire::peers::Presence;
use tempfile::TempDir;

use crate::process::{Usage, run};
use crate::wait::wait_until;

/// As many cells as a chunk has copies.
pub(crate) const CELLS: usize = 5;

/// A cell. Its process is killed when this is dropped.
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
    /// Starts a cell in `data` and waits until it listens.
    pub(crate) fn start(data: &Path, udp_port: u16) -> Self {
        Self::start_with(data, udp_port, &[])
    }

    /// The same with further options. The cell's allocator has one arena, as in the service.
    pub(crate) fn start_with(data: &Path, udp_port: u16, options: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_cellsync-node"))
            .args(["--init", "--loopback", "--listen", "127.0.0.1:0", "--log", "warn", "--reserve", "64 MiB"])
            .args(["--udp-port", &udp_port.to_string()])
            .arg("--data")
            .arg(data)
            .args(options)
            .env("MALLOC_ARENA_MAX", "1")
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

/// Connected cells. The fields are dropped in this order: the cells first, then their folder.
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
        wait_until("the cells are connected", || {
            cells.iter().all(|cell| {
                let peers = http.peers(&cell.url).unwrap();
                peers.cells.iter().filter(|peer| peer.state == Presence::Active).count() == CELLS - 1
            })
        });
        Self { cells, udp_port, folder }
    }

    /// A folder on the disk of the cells.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Puts a file. Returns the resources used and the client's JSON report.
    pub(crate) fn put(&self, source: &Path) -> (Usage, serde_json::Value) {
        let mut put = Command::new(env!("CARGO_BIN_EXE_cellsync-put"));
        self.client(put.arg(source).arg("--force").arg("-o").arg(self.manifest()))
    }

    /// Restores the last file to `target`, or with `None` only fetches and verifies it.
    pub(crate) fn get(&self, target: Option<&Path>) -> (Usage, serde_json::Value) {
        let mut get = Command::new(env!("CARGO_BIN_EXE_cellsync-get"));
        get.arg(self.manifest());
        match target {
            Some(path) => get.arg("--force").arg("-o").arg(path),
            None => get.arg("--check"),
        };
        self.client(&mut get)
    }

    fn client(&self, command: &mut Command) -> (Usage, serde_json::Value) {
        let port = self.udp_port.to_string();
        let took = run(command.args(["--loopback", "--quiet", "--json", "--udp-port", &port]), true);
        let report = serde_json::from_slice(&took.stdout).unwrap();
        (took, report)
    }

    fn manifest(&self) -> PathBuf {
        self.path().join("manifest")
    }
}

/// A new folder on the measured disk.
pub(crate) fn folder() -> TempDir {
    let parent = std::env::var_os("CELLSYNC_BENCH_DIR").unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").into());
    std::fs::create_dir_all(&parent).unwrap();
    TempDir::with_prefix_in("bench-", parent).unwrap()
}

/// A UDP port that is free now.
pub(crate) fn free_udp_port() -> u16 {
    UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
}
