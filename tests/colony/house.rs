//! Cells and clients as processes that end with their guards, and the bytes that they are given.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cellsync::id::{BLOCK_BYTES, ChunkId};
use cellsync::net::client::{Http, Timeouts};
use cellsync::wire::peers::Presence;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::lan::Lan;

/// Nothing here takes this long unless it is broken.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

/// Waits until a condition holds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Settings of cells that leave each other alone, for tests that wait until nobody is at their doors, or damage copies
/// that no other cell may find first.
pub(crate) const QUIET: [&str; 4] = ["--set", "audit_rate=\"0\"", "--set", "belief_audit_ms=3600000"];

/// A UDP port for one colony. As long as this lives, no other test of this machine takes the same number: the TCP
/// port of that number is held for it.
pub(crate) struct UdpPort {
    pub(crate) number: u16,
    _held: TcpListener,
}

impl UdpPort {
    pub(crate) fn free() -> Self {
        loop {
            // Below the ports that the system gives to those who ask for any.
            let number = fastrand::u16(10_000..32_000);
            let Ok(held) = TcpListener::bind((Ipv4Addr::LOCALHOST, number)) else { continue };
            if UdpSocket::bind((Ipv4Addr::UNSPECIFIED, number)).is_ok() {
                return Self { number, _held: held };
            }
        }
    }
}

/// A process that is under way.
pub(crate) struct Running {
    child: Child,
    gathered: Option<[JoinHandle<Vec<u8>>; 2]>,
    words: String,
}

/// How a process ended.
pub(crate) struct Ran {
    /// The exit code, or the signal as a negative number.
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    words: String,
}

fn gather(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let gathered = [gather(child.stdout.take().unwrap()), gather(child.stderr.take().unwrap())];
        Self { child, gathered: Some(gathered), words: format!("{command:?}") }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Sends a signal, if it has not ended.
    pub(crate) fn signal(&mut self, signal: Signal) {
        // As long as it was not waited for, its number is its own.
        if self.is_running() {
            kill_process(Pid::from_child(&self.child), signal).unwrap();
        }
    }

    /// Makes it stand still where it is, until SIGCONT. False if it has ended before.
    pub(crate) fn stands_still(&mut self) -> bool {
        self.signal(Signal::STOP);
        let stat = format!("/proc/{}/stat", self.child.id());
        let mut stopped = false;
        eventually("it stands still", || {
            stopped = fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "));
            stopped || !self.is_running()
        });
        stopped
    }

    pub(crate) fn ended(mut self) -> Ran {
        eventually(&format!("{} ends", self.words), || !self.is_running());
        let status = self.child.wait().unwrap();
        let [stdout, stderr] = self.gathered.take().unwrap().map(|gathered| gathered.join().unwrap());
        let code = status.code().unwrap_or_else(|| -status.signal().unwrap());
        Ran { code, stdout, stderr: String::from_utf8(stderr).unwrap(), words: self.words.clone() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing to kill if it has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs a program to its end.
pub(crate) fn run(command: &mut Command) -> Ran {
    Running::start(command).ended()
}

/// Runs a program to its end, with this on its standard input.
pub(crate) fn run_with_input(command: &mut Command, input: &[u8]) -> Ran {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let gathered = [gather(child.stdout.take().unwrap()), gather(child.stderr.take().unwrap())];
    let mut stdin = child.stdin.take().unwrap();
    let running = Running { child, gathered: Some(gathered), words: format!("{command:?}") };
    // A program that ends early does not take it all.
    drop(stdin.write_all(input));
    drop(stdin);
    running.ended()
}

impl Ran {
    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        self.exits(0)
    }

    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.words, self.stderr);
        self
    }

    /// Asserts that the program failed with this exit code and one line on standard error, which has all of these facts.
    #[track_caller]
    pub(crate) fn fails_in_one_line(self, code: i32, facts: &[&str]) -> Self {
        let ran = self.exits(code);
        assert_eq!(ran.stderr.lines().count(), 1, "{}\n{}", ran.words, ran.stderr);
        ran.says(facts)
    }

    /// Asserts that the last line on standard error, which is the error message, has all of these facts.
    #[track_caller]
    pub(crate) fn says(self, facts: &[&str]) -> Self {
        let line = self.stderr.lines().last().unwrap_or_default();
        assert!(line.starts_with("cellsync"), "{line}");
        assert_facts(line, facts);
        self
    }

    /// Asserts that some line on standard error has all of these facts.
    #[track_caller]
    pub(crate) fn warns(self, facts: &[&str]) -> Self {
        let is_it = |line: &str| facts.iter().all(|fact| has_fact(line, fact));
        assert!(self.stderr.lines().any(is_it), "no line has {facts:?}:\n{}", self.stderr);
        self
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }
}

/// Whether a text names a fact: a number as a word of its own, any other fact as it is written.
pub(crate) fn has_fact(text: &str, fact: &str) -> bool {
    if fact.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.split(|char: char| !char.is_ascii_alphanumeric()).any(|word| word == fact);
    }
    text.contains(fact)
}

/// Asserts that a text names all of these facts.
#[track_caller]
pub(crate) fn assert_facts(text: &str, facts: &[&str]) {
    for fact in facts {
        assert!(has_fact(text, fact), "{fact:?} is not in: {text}");
    }
}

/// `cellsync-node` with nothing but what is given.
pub(crate) fn node() -> Command {
    Command::new(env!("CARGO_BIN_EXE_cellsync-node"))
}

/// A cell: its folder, which outlives its processes, and the process that runs now.
pub(crate) struct Cell {
    pub(crate) id: String,
    pub(crate) url: String,
    pub(crate) data: PathBuf,
    /// Words before the program's name, where it is to run elsewhere.
    prefix: Vec<String>,
    options: Vec<String>,
    child: Option<Child>,
    first_line: Option<mpsc::Receiver<String>>,
}

impl Cell {
    /// Starts one with a folder of this name and these options beside the usual ones.
    pub(crate) fn start(data: &Path, udp_port: u16, options: &[&str]) -> Self {
        let mut cell = Self::begin(data, udp_port, options);
        cell.listens();
        cell
    }

    fn begin(data: &Path, udp_port: u16, options: &[&str]) -> Self {
        let port = udp_port.to_string();
        let own = ["--loopback", "--listen", "127.0.0.1:0", "--udp-port", &port];
        Self::begin_at(data, Vec::new(), &[&own, options].concat())
    }

    /// Starts one on a host of a network of its own, with the ports of real cells.
    pub(crate) fn begin_on(lan: &Lan, host: usize, data: &Path, options: &[&str]) -> Self {
        Self::begin_at(
            data,
            lan.on_host(host),
            &[&["--listen", &format!("{}:8080", Lan::address(host))], options].concat(),
        )
    }

    fn begin_at(data: &Path, prefix: Vec<String>, options: &[&str]) -> Self {
        let options = ["--init", "--reserve", "1 MiB"].iter().chain(options).map(ToString::to_string).collect();
        let (id, url, data) = (String::new(), String::new(), data.to_owned());
        let mut cell = Self { id, url, data, prefix, options, child: None, first_line: None };
        cell.spawn();
        cell
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    fn log(&self) -> PathBuf {
        self.data.with_extension("log")
    }

    fn spawn(&mut self) {
        assert!(self.child.is_none());
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let program = env!("CARGO_BIN_EXE_cellsync-node").to_owned();
        let mut words = self.prefix.iter().chain([&program]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).args(&self.options).arg("--data").arg(&self.data);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (tell, first_line) = mpsc::channel();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
            // Nobody waits for it if the test has failed meanwhile.
            drop(tell.send(lines.next().unwrap_or_default()));
            lines.for_each(drop);
        });
        (self.child, self.first_line) = (Some(child), Some(first_line));
    }

    /// Waits until it tells where it listens.
    fn listens(&mut self) {
        let line = self.first_line.take().unwrap().recv_timeout(DEADLINE).unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!((words.first(), words.get(2..4)), (Some(&"cell"), Some(&["listens", "on"][..])), "{line:?}");
        (self.id, self.url) = (words[1].to_owned(), words[4].to_owned());
        assert!(self.url.starts_with("http://127.0.0.1:") || !self.prefix.is_empty(), "{line}");
    }

    /// `HOST:PORT` of its door.
    pub(crate) fn door(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    /// As when the power fails, but for what the system still has in memory.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn terminate(&self) {
        kill_process(Pid::from_child(self.child.as_ref().unwrap()), Signal::TERM).unwrap();
    }

    /// Waits until its process has ended; the exit code.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let child = self.child.as_mut().unwrap();
        eventually("the cell ends", || child.try_wait().unwrap().is_some());
        self.child.take().unwrap().wait().unwrap().code()
    }

    /// Starts it again on what it has kept.
    pub(crate) fn restart(&mut self) {
        self.spawn();
        self.listens();
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

    /// One bit of a chunk flips on the disk.
    pub(crate) fn flip(&self, id: &str) {
        let path = self.chunk_file(id);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
    }

    /// Is anything under way that it has not finished yet?
    pub(crate) fn is_taking_a_chunk(&self) -> bool {
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

/// Some cells that hear each other and nobody else, and a folder for the user's files.
pub(crate) struct Colony {
    // First, so that the cells end before their folders go.
    pub(crate) cells: Vec<Cell>,
    pub(crate) http: Http,
    /// None on a network of its own, where real ports are used.
    udp_port: Option<UdpPort>,
    folder: TempDir,
}

impl Colony {
    /// Starts so many cells and waits until all know all.
    pub(crate) fn start(cells: usize) -> Self {
        Self::start_with(cells, &[])
    }

    pub(crate) fn start_with(cells: usize, options: &[&str]) -> Self {
        let (udp_port, folder) = (UdpPort::free(), tempfile::tempdir().unwrap());
        let begin = |n| Cell::begin(&folder.path().join(format!("cell{n}")), udp_port.number, options);
        let cells = (0..cells).map(begin).collect();
        Self::of(cells, Some(udp_port), folder)
    }

    /// Starts so many cells on the first hosts of a network of their own.
    pub(crate) fn on_lan(lan: &Lan, cells: usize, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let begin = |n| Cell::begin_on(lan, n, &folder.path().join(format!("cell{n}")), options);
        let cells = (0..cells).map(begin).collect();
        Self::of(cells, None, folder)
    }

    fn of(cells: Vec<Cell>, udp_port: Option<UdpPort>, folder: TempDir) -> Self {
        fs::create_dir(folder.path().join("files")).unwrap();
        let mut colony = Self { cells, http: Http::new(Timeouts::PROBE, 1, 16), udp_port, folder };
        colony.cells.iter_mut().for_each(Cell::listens);
        colony.know_each_other();
        colony
    }

    /// Starts one more cell on this machine.
    pub(crate) fn join(&mut self, options: &[&str]) {
        let data = self.folder.path().join(format!("cell{}", self.cells.len()));
        self.cells.push(Cell::start(&data, self.udp_port(), options));
        self.know_each_other();
    }

    /// Waits until every living cell counts every living cell as active, and no other.
    pub(crate) fn know_each_other(&self) {
        let living: BTreeSet<&str> =
            self.cells.iter().filter(|cell| cell.is_running()).map(|cell| cell.url.as_str()).collect();
        for cell in self.cells.iter().filter(|cell| cell.is_running()) {
            eventually("the cells know each other", || {
                let peers = self.http.peers(&cell.url).unwrap().peers;
                let mut known: BTreeSet<&str> = peers.iter().map(String::as_str).collect();
                known.insert(&cell.url);
                known == living
            });
        }
    }

    /// How one cell sees another.
    pub(crate) fn state(&self, seen_by: &Cell, of: &Cell) -> Option<Presence> {
        let cells = self.http.peers(&seen_by.url).unwrap().cells;
        cells.iter().find(|view| view.node_id.to_string() == of.id).map(|view| view.state)
    }

    /// Waits until no request is under way at any living cell.
    pub(crate) fn settles(&self) {
        for cell in self.cells.iter().filter(|cell| cell.is_running()) {
            // Others ask cells too, but not for long.
            eventually("the cell has done all that it was asked for", || {
                !cell.is_taking_a_chunk() && self.http.status(&cell.url).unwrap().connections <= 1
            });
        }
    }

    /// A path among the user's files.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("files").join(name)
    }

    /// Makes a file of the user's.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// What is among the user's files.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path().join("files")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder.path().join("files"));
        command.args(self.where_it_is());
        command
    }

    /// The UDP port of a colony on this machine.
    pub(crate) fn udp_port(&self) -> u16 {
        self.udp_port.as_ref().unwrap().number
    }

    /// The options with which a client finds this colony.
    fn where_it_is(&self) -> Vec<String> {
        match &self.udp_port {
            Some(port) => ["--loopback", "--udp-port", &port.number.to_string()].map(ToOwned::to_owned).to_vec(),
            None => Vec::new(),
        }
    }

    /// `cellsync` with this command, for this colony.
    pub(crate) fn tool(&self, command: &str) -> Command {
        let mut tool = Command::new(env!("CARGO_BIN_EXE_cellsync"));
        tool.current_dir(self.folder.path().join("files"));
        tool.arg(command).args(self.where_it_is());
        tool
    }

    /// `cellsync-put` for this colony.
    pub(crate) fn put(&self) -> Command {
        self.client(env!("CARGO_BIN_EXE_cellsync-put"))
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
    pub(crate) fn put_bytes(&self, name: &str, bytes: &[u8]) -> Stored {
        let file = self.file(name, bytes);
        run(self.put().args(["--compress", "1"]).arg(&file)).succeeded();
        Stored::read(&self.path(&format!("{name}.manifest")))
    }

    /// Restores it under another name, with what is usual said and no more; its bytes.
    #[track_caller]
    pub(crate) fn get_bytes(&self, manifest: &Path) -> Vec<u8> {
        let restored = self.path("restored");
        run(self.get().arg(manifest).arg("-o").arg(&restored)).succeeded();
        let bytes = fs::read(&restored).unwrap();
        fs::remove_file(&restored).unwrap();
        bytes
    }

    /// Which cells, by number, have which chunk on their disks, dead cells too.
    pub(crate) fn copies(&self) -> BTreeMap<String, BTreeSet<usize>> {
        let mut copies: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        for (number, cell) in self.cells.iter().enumerate() {
            for id in cell.chunks() {
                copies.entry(id).or_default().insert(number);
            }
        }
        copies
    }

    /// How many copies there are of all chunks together.
    pub(crate) fn count_copies(&self) -> u64 {
        self.cells.iter().map(|cell| cell.chunks().len() as u64).sum()
    }

    /// `sha256sum` of every chunk's file is its name.
    #[track_caller]
    pub(crate) fn assert_all_chunks_are_what_they_are_named(&self) {
        for cell in &self.cells {
            for id in cell.chunks() {
                assert_eq!(ChunkId::of(&fs::read(cell.chunk_file(&id)).unwrap()).to_string(), id);
            }
        }
    }
}

/// A manifest, read as any JSON.
pub(crate) struct Stored {
    pub(crate) manifest: PathBuf,
    pub(crate) json: serde_json::Value,
    pub(crate) ids: Vec<String>,
}

impl Stored {
    pub(crate) fn read(manifest: &Path) -> Self {
        let json: serde_json::Value = serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
        let chunks = json["chunks"].as_array().unwrap();
        let ids = chunks.iter().map(|chunk| chunk["id"].as_str().unwrap().to_owned()).collect();
        Self { manifest: manifest.to_owned(), json, ids }
    }
}

/// Bytes without any pattern.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

/// So many full blocks, each of which becomes a small chunk of its own.
pub(crate) fn light_blocks(seed: u64, blocks: usize) -> Vec<u8> {
    let block = |n| {
        let mut block = noise(seed << 16 | n as u64, 9_000);
        block.resize(BLOCK_BYTES, b' ');
        block
    };
    (0..blocks).flat_map(block).collect()
}

/// Text, machine code and noise, not a whole number of blocks.
pub(crate) fn mixed(seed: u64) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..40_000)
        .flat_map(|line| format!("{line}: the quick brown fox, {}\n", line * 7 + seed).into_bytes())
        .collect();
    let program = File::open(env!("CARGO_BIN_EXE_cellsync-node")).unwrap();
    program.take(3 << 20).read_to_end(&mut bytes).unwrap();
    bytes.extend(noise(seed, (1 << 20) + 4321));
    assert_ne!(bytes.len() % BLOCK_BYTES, 0);
    bytes
}
