//! A colony: cells that find each other and no others, a folder for a user's files, and the commands for them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cellsync::id::ChunkId;
use cellsync::net::client::{Http, Timeouts};
use cellsync::wire::peers::Presence;
use cellsync::wire::status::CellStatus;
use tempfile::TempDir;

use crate::harness::{Cell, FailingReads, Lan, UdpPort, run};
use crate::wait::wait_until;

/// Options of cells that do not audit each other, for tests that wait until no request is in progress.
pub(crate) const NO_AUDITS: [&str; 4] = ["--set", "audit_rate=\"0\"", "--set", "belief_audit_ms=3600000"];

/// Cells that find each other and no others, and a folder for the user's files.
pub(crate) struct Colony {
    // Dropped first, so that the cells end before their folders are removed.
    pub(crate) cells: Vec<Cell>,
    pub(crate) http: Http,
    /// `None` on a network of its own, where the default port is used.
    udp_port: Option<UdpPort>,
    folder: TempDir,
}

impl Colony {
    /// Starts a colony on loopback and waits until all cells are active to all.
    pub(crate) fn start(cells: usize) -> Self {
        Self::start_with(cells, &[""; 0])
    }

    /// The same, with further options for each cell.
    pub(crate) fn start_with(cells: usize, options: &[impl AsRef<str>]) -> Self {
        let (udp_port, folder) = (UdpPort::free(), tempfile::tempdir().unwrap());
        let options: Vec<&str> = options.iter().map(AsRef::as_ref).collect();
        let spawn = |n| Cell::spawn(&folder.path().join(format!("cell{n}")), udp_port.number, &options);
        let cells = (0..cells).map(spawn).collect();
        Self::of(cells, Some(udp_port), folder)
    }

    /// The same, where the reads of these cells can be made to fail.
    pub(crate) fn start_with_reads(
        cells: usize,
        failing: &[usize],
        reads: &FailingReads,
        options: &[impl AsRef<str>],
    ) -> Self {
        let (udp_port, folder) = (UdpPort::free(), tempfile::tempdir().unwrap());
        let options: Vec<&str> = options.iter().map(AsRef::as_ref).collect();
        let spawn = |n: usize| {
            let data = folder.path().join(format!("cell{n}"));
            if failing.contains(&n) {
                Cell::spawn_with_reads(&data, udp_port.number, reads, &options)
            } else {
                Cell::spawn(&data, udp_port.number, &options)
            }
        };
        let cells = (0..cells).map(spawn).collect();
        Self::of(cells, Some(udp_port), folder)
    }

    /// Starts a colony on the first hosts of a network.
    pub(crate) fn start_on(lan: &Lan, cells: usize, options: &[impl AsRef<str>]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options: Vec<&str> = options.iter().map(AsRef::as_ref).collect();
        let spawn = |n| Cell::spawn_on(lan, n, &folder.path().join(format!("cell{n}")), &options);
        let cells = (0..cells).map(spawn).collect();
        Self::of(cells, None, folder)
    }

    fn of(cells: Vec<Cell>, udp_port: Option<UdpPort>, folder: TempDir) -> Self {
        fs::create_dir(folder.path().join("files")).unwrap();
        let mut colony = Self { cells, http: Http::new(Timeouts::PROBE, 1, 16), udp_port, folder };
        colony.cells.iter_mut().for_each(Cell::wait_started);
        colony.wait_all_active();
        colony
    }

    /// Starts one more cell.
    pub(crate) fn add_cell(&mut self, options: &[impl AsRef<str>]) {
        let options: Vec<&str> = options.iter().map(AsRef::as_ref).collect();
        let data = self.folder.path().join(format!("cell{}", self.cells.len()));
        self.cells.push(Cell::start(&data, self.udp_port(), &options));
        self.wait_all_active();
    }

    pub(crate) fn running_cells(&self) -> impl Iterator<Item = &Cell> {
        self.cells.iter().filter(|cell| cell.is_running())
    }

    /// Waits until to every running cell exactly the running cells are active.
    pub(crate) fn wait_all_active(&self) {
        let running: BTreeSet<&str> = self.running_cells().map(|cell| cell.url.as_str()).collect();
        for cell in self.running_cells() {
            wait_until("all running cells are active, and no others", || {
                // After a split a host is out of reach until its address was asked for again.
                let Ok(peers) = self.http.peers(&cell.url) else { return false };
                let mut active: BTreeSet<&str> = peers.peers.iter().map(String::as_str).collect();
                active.insert(&cell.url);
                active == running
            });
        }
    }

    /// How one cell sees another.
    pub(crate) fn presence(&self, seen_by: &Cell, of: &Cell) -> Option<Presence> {
        let cells = self.http.peers(&seen_by.url).unwrap().cells;
        cells.iter().find(|view| view.node_id.to_string() == of.id).map(|view| view.state)
    }

    /// The statuses of the running cells.
    pub(crate) fn statuses(&self) -> Vec<CellStatus> {
        self.running_cells().filter_map(|cell| self.http.status(&cell.url).ok()).collect()
    }

    /// Waits until no request is in progress at any running cell.
    pub(crate) fn wait_idle(&self) {
        for cell in self.running_cells() {
            // One connection is that of this question.
            wait_until("the cell is idle", || {
                !cell.has_staged_chunk() && self.http.status(&cell.url).unwrap().connections <= 1
            });
        }
    }

    /// The path of a file of the user.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("files").join(name)
    }

    /// Writes a file of the user.
    pub(crate) fn write_file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// The names of the user's files, in order.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path().join("files")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The UDP port of a colony on loopback.
    pub(crate) fn udp_port(&self) -> u16 {
        self.udp_port.as_ref().unwrap().number
    }

    /// The options with which a client finds this colony.
    fn discovery_options(&self) -> Vec<String> {
        match &self.udp_port {
            Some(port) => ["--loopback", "--udp-port", &port.number.to_string()].map(ToOwned::to_owned).to_vec(),
            None => Vec::new(),
        }
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder.path().join("files")).env("XDG_CONFIG_HOME", self.folder.path());
        command.args(self.discovery_options());
        command
    }

    /// A command of `cellsync` for this colony.
    pub(crate) fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cellsync"));
        command.current_dir(self.folder.path().join("files")).env("XDG_CONFIG_HOME", self.folder.path());
        command.arg(name).args(self.discovery_options());
        command
    }

    /// `cellsync-put` for this colony. If it was started with one cell, one copy is enough.
    pub(crate) fn put(&self) -> Command {
        let mut put = self.client(env!("CARGO_BIN_EXE_cellsync-put"));
        if self.cells.len() == 1 {
            put.args(["--min-copies", "1"]);
        }
        put
    }

    /// `cellsync-get` for this colony.
    pub(crate) fn get(&self) -> Command {
        self.client(env!("CARGO_BIN_EXE_cellsync-get"))
    }

    /// `cellsync status` for this colony.
    pub(crate) fn status(&self) -> Command {
        self.tool("status")
    }

    /// Puts a file with this content and returns its manifest.
    pub(crate) fn put_bytes(&self, name: &str, bytes: &[u8]) -> StoredFile {
        let file = self.write_file(name, bytes);
        run(self.put().args(["--compress", "1"]).arg(&file)).expect_success();
        StoredFile::read(&self.path(&format!("{name}.manifest")))
    }

    /// Restores a file under another name and returns its content.
    #[track_caller]
    pub(crate) fn get_bytes(&self, manifest: &Path) -> Vec<u8> {
        let restored = self.path("restored");
        run(self.get().arg(manifest).arg("-o").arg(&restored)).expect_success();
        let bytes = fs::read(&restored).unwrap();
        fs::remove_file(&restored).unwrap();
        bytes
    }

    /// The indices of the cells that have each chunk on their disks, whether or not they run.
    pub(crate) fn copies(&self) -> BTreeMap<String, BTreeSet<usize>> {
        let mut copies: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        for (index, cell) in self.cells.iter().enumerate() {
            for id in cell.chunks() {
                copies.entry(id).or_default().insert(index);
            }
        }
        copies
    }

    /// The number of copies of all chunks together.
    pub(crate) fn count_copies(&self) -> u64 {
        self.cells.iter().map(|cell| cell.chunks().len() as u64).sum()
    }

    /// Asserts that every chunk's file hashes to its name.
    #[track_caller]
    pub(crate) fn assert_all_copies_good(&self) {
        for cell in &self.cells {
            for id in cell.chunks() {
                assert_eq!(ChunkId::of(&fs::read(cell.chunk_file(&id)).unwrap()).to_string(), id);
            }
        }
    }
}

/// A manifest, read as plain JSON.
pub(crate) struct StoredFile {
    pub(crate) manifest: PathBuf,
    pub(crate) json: serde_json::Value,
    /// The ids of its chunks, in the file's order.
    pub(crate) ids: Vec<String>,
}

impl StoredFile {
    pub(crate) fn read(manifest: &Path) -> Self {
        let json: serde_json::Value = serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
        let chunks = json["chunks"].as_array().unwrap();
        let ids = chunks.iter().map(|chunk| chunk["id"].as_str().unwrap().to_owned()).collect();
        Self { manifest: manifest.to_owned(), json, ids }
    }
}
