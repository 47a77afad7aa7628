//! A cell: a data folder and the process that serves it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, mpsc};

use cellsync::id::{CellId, ChunkId};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{FailingReads, Lan};
use crate::wait::{TIMEOUT, wait_until};

/// A UDP port for one colony. While this exists, no other test on this machine gets the same number, because the TCP
/// port with that number is bound.
pub(crate) struct UdpPort {
    pub(crate) number: u16,
    _tcp: TcpListener,
}

impl UdpPort {
    pub(crate) fn free() -> Self {
        loop {
            // Below the range from which the system assigns ephemeral ports.
            let number = fastrand::u16(10_000..32_000);
            let Ok(tcp) = TcpListener::bind((Ipv4Addr::LOCALHOST, number)) else { continue };
            if UdpSocket::bind((Ipv4Addr::UNSPECIFIED, number)).is_ok() {
                return Self { number, _tcp: tcp };
            }
        }
    }
}

/// `cellsync-node` without arguments.
pub(crate) fn node_command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_cellsync-node"))
}

/// The id and the URL in the line that a cell prints when it has started.
#[track_caller]
pub(crate) fn parse_started(line: &str) -> (String, String) {
    let words = || line.split_whitespace();
    let id = words().find(|word| word.parse::<CellId>().is_ok());
    let url = words().find(|word| word.starts_with("http://"));
    let (Some(id), Some(url)) = (id, url) else { panic!("no id or URL in {line:?}") };
    (id.to_owned(), url.to_owned())
}

/// A cell. Its data folder outlives its processes.
pub(crate) struct Cell {
    pub(crate) id: String,
    pub(crate) url: String,
    pub(crate) data: PathBuf,
    /// The words before the program's name that run it on another host.
    prefix: Vec<String>,
    options: Vec<String>,
    child: Option<Child>,
    // In a mutex so that threads of a test can share the cell.
    first_line: Option<Mutex<mpsc::Receiver<String>>>,
}

impl Cell {
    /// Starts a cell on loopback with this data folder and these further options.
    pub(crate) fn start(data: &Path, udp_port: u16, options: &[&str]) -> Self {
        let mut cell = Self::spawn(data, udp_port, options);
        cell.wait_started();
        cell
    }

    /// The same, but does not wait until the cell has started.
    pub(crate) fn spawn(data: &Path, udp_port: u16, options: &[&str]) -> Self {
        let port = udp_port.to_string();
        let own = ["--loopback", "--listen", "127.0.0.1:0", "--udp-port", &port];
        Self::spawn_with(data, Vec::new(), &[&own, options].concat())
    }

    /// Spawns a cell on a host of a network, with the default ports.
    pub(crate) fn spawn_on(lan: &Lan, host: usize, data: &Path, options: &[&str]) -> Self {
        let listen = format!("{}:8080", Lan::address(host));
        Self::spawn_with(data, lan.prefix(host), &[&["--listen", &listen], options].concat())
    }

    /// Starts a cell on loopback whose reads can be made to fail.
    pub(crate) fn start_with_reads(data: &Path, udp_port: u16, reads: &FailingReads, options: &[&str]) -> Self {
        let mut cell = Self::spawn_with_reads(data, udp_port, reads, options);
        cell.wait_started();
        cell
    }

    /// The same, but does not wait until the cell has started.
    pub(crate) fn spawn_with_reads(data: &Path, udp_port: u16, reads: &FailingReads, options: &[&str]) -> Self {
        let port = udp_port.to_string();
        let own = ["--loopback", "--listen", "127.0.0.1:0", "--udp-port", &port];
        Self::spawn_with(data, reads.prefix(), &[&own, options].concat())
    }

    fn spawn_with(data: &Path, prefix: Vec<String>, options: &[&str]) -> Self {
        let mut options: Vec<String> =
            ["--init", "--reserve", "1 MiB"].iter().chain(options).map(ToString::to_string).collect();
        // It would find damage that others are to find.
        if !options.iter().any(|option| option.contains("read_back_rate")) {
            options.extend(["--set".to_owned(), "read_back_rate=\"0\"".to_owned()]);
        }
        let (id, url, data) = (String::new(), String::new(), data.to_owned());
        let mut cell = Self { id, url, data, prefix, options, child: None, first_line: None };
        cell.spawn_process();
        cell
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    fn log(&self) -> PathBuf {
        self.data.with_extension("log")
    }

    fn spawn_process(&mut self) {
        assert!(self.child.is_none());
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let program = env!("CARGO_BIN_EXE_cellsync-node").to_owned();
        let mut words = self.prefix.iter().chain([&program]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).args(&self.options).arg("--data").arg(&self.data);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (send, first_line) = mpsc::channel();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
            // Fails if the test has failed meanwhile.
            drop(send.send(lines.next().unwrap_or_default()));
            lines.for_each(drop);
        });
        (self.child, self.first_line) = (Some(child), Some(Mutex::new(first_line)));
    }

    /// Waits until the cell has printed its id and URL.
    pub(crate) fn wait_started(&mut self) {
        let line = self.first_line.take().unwrap().into_inner().unwrap().recv_timeout(TIMEOUT).unwrap();
        (self.id, self.url) = parse_started(&line);
        assert!(self.url.starts_with("http://127.0.0.1:") || !self.prefix.is_empty(), "{line}");
    }

    /// The address of its HTTP interface, as `HOST:PORT`.
    pub(crate) fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    /// The first eight digits of its id, by which programs name it.
    pub(crate) fn short_id(&self) -> &str {
        &self.id[..8]
    }

    /// Kills the process, as a power failure does; but the system still writes what is in its cache.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn terminate(&self) {
        kill_process(Pid::from_child(self.child.as_ref().unwrap()), Signal::TERM).unwrap();
    }

    /// Stops the process where it is: it keeps its connections and answers nothing until [`Self::resume`].
    pub(crate) fn suspend(&self) {
        kill_process(Pid::from_child(self.child.as_ref().unwrap()), Signal::STOP).unwrap();
    }

    pub(crate) fn resume(&self) {
        kill_process(Pid::from_child(self.child.as_ref().unwrap()), Signal::CONT).unwrap();
    }

    /// Waits until the process has ended, and returns the exit code.
    pub(crate) fn wait_exit(&mut self) -> Option<i32> {
        let child = self.child.as_mut().unwrap();
        wait_until("the cell ends", || child.try_wait().unwrap().is_some());
        self.child.take().unwrap().wait().unwrap().code()
    }

    /// Starts a new process on the same data folder.
    pub(crate) fn restart(&mut self) {
        self.spawn_process();
        self.wait_started();
    }

    pub(crate) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// The ids of the chunks on its disk.
    pub(crate) fn chunks(&self) -> BTreeSet<String> {
        let folders = fs::read_dir(self.data.join("chunks")).unwrap();
        let files = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
    }

    pub(crate) fn chunk_file(&self, id: &str) -> PathBuf {
        self.data.join("chunks").join(&id[..2]).join(id)
    }

    /// Flips one bit in the file of a chunk.
    pub(crate) fn flip_bit(&self, id: &str) {
        let path = self.chunk_file(id);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
    }

    /// The number of files in quarantine.
    pub(crate) fn quarantined(&self) -> usize {
        fs::read_dir(self.data.join("quarantine")).unwrap().count()
    }

    /// Whether the file of a chunk exists and hashes to its id.
    pub(crate) fn has_good_copy(&self, id: &str) -> bool {
        fs::read(self.chunk_file(id)).is_ok_and(|bytes| ChunkId::of(&bytes).to_string() == id)
    }

    /// Whether a put is in progress: its bytes are in the staging folder.
    pub(crate) fn has_staged_chunk(&self) -> bool {
        fs::read_dir(self.data.join("tmp")).unwrap().next().is_some()
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
        if std::thread::panicking() {
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            eprintln!("--- cell {} at {}, {}\n{log}", self.id, self.url, self.data.display());
        }
    }
}
