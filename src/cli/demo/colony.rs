//! A real colony on this machine: each cell is a process of this very program (`cellsync node`, which runs what
//! `cellsync-node` runs), with its own folder, its own port and its own life to lose.
//!
//! Cells die with their guard here. If the demo itself is killed, the kernel kills its cells (`--parent`). Each is
//! ended by its own id; nothing is done to any other process.

// A shell: it waits for processes, each time for a condition and up to a deadline.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::DemoError;
use crate::chunk::ChunkId;
use crate::client::{Place, Stop};
use crate::net::client::{Http, Patience};
use crate::wire::CellId;
use crate::wire::api::Presence;

/// How long the cells may take to start, and then to know each other. A small board with fifty of them is slow; a
/// cell that cannot start says so at once.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// Room that the cells leave on the disk: little, so that the demo runs on small ones.
const RESERVE: &str = "16 MiB";

/// A cell of the colony, dead or alive.
pub(super) struct DemoCell {
    /// From 1, as the story calls it.
    pub(super) number: usize,
    pub(super) id: CellId,
    pub(super) url: String,
    process: Guarded,
    is_killed: bool,
}

impl DemoCell {
    pub(super) fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// SIGKILL: the cell gets no chance to say or finish anything. Returns when it is gone.
    pub(super) fn kill(&mut self) -> Result<(), DemoError> {
        let doing = || format!("cannot kill cell {}", self.number);
        self.process.end().map_err(|source| DemoError::File { doing: doing(), source })?;
        self.is_killed = true;
        Ok(())
    }
}

/// A process that dies with its guard.
struct Guarded(Child);

impl Guarded {
    fn end(&mut self) -> io::Result<()> {
        self.0.kill()?;
        self.0.wait().map(drop)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // One that has ended already is no error.
        drop(self.end());
    }
}

pub(super) struct Colony {
    cells: Vec<DemoCell>,
    udp_port: u16,
    http: Http,
}

impl Colony {
    /// Starts so many cells, with their folders under `folder`, and returns when each says that its door is open.
    pub(super) fn start(folder: &Path, count: usize, stop: &Stop) -> Result<Self, DemoError> {
        let program = std::env::current_exe()
            .map_err(|source| DemoError::File { doing: "cannot find this program".into(), source })?;
        let port = ReservedPort::pick()
            .map_err(|source| DemoError::File { doing: "cannot get a UDP port for the colony".into(), source })?;
        let births: Vec<Birth> =
            (1..=count).map(|number| Birth::begin(&program, folder, number, port.number)).collect::<Result<_, _>>()?;
        let deadline = Deadline::new();
        let cells = births.into_iter().map(|birth| birth.finish(&deadline, stop)).collect::<Result<_, _>>()?;
        Ok(Self { cells, udp_port: port.number, http: Http::new(Patience::PROBE, 1, count) })
    }

    /// Waits until each cell knows all the others, and nobody else, as active ones: `GET /peers`.
    pub(super) fn wait_until_all_know_each_other(&self, stop: &Stop) -> Result<(), DemoError> {
        let all: BTreeSet<CellId> = self.cells.iter().map(|cell| cell.id).collect();
        let deadline = Deadline::new();
        for cell in &self.cells {
            deadline.wait(stop, &format!("cell {} does not know all the others", cell.number), || {
                let peers = self.http.peers(&cell.url).unwrap_or_default();
                let active = peers.cells.into_iter().filter(|peer| peer.state == Presence::Active);
                let known: BTreeSet<CellId> = active.map(|peer| peer.node_id).chain([cell.id]).collect();
                Ok((known == all).then_some(()))
            })?;
        }
        Ok(())
    }

    pub(super) fn place(&self) -> Place {
        Place { nodes: Vec::new(), udp_port: self.udp_port, loopback: true }
    }

    pub(super) fn cells(&self) -> &[DemoCell] {
        &self.cells
    }

    pub(super) fn cell_mut(&mut self, number: usize) -> Option<&mut DemoCell> {
        self.cells.iter_mut().find(|cell| cell.number == number)
    }

    /// What each cell holds of these chunks, by its own word; in the order of the cells.
    pub(super) fn held(&self, ids: &[ChunkId]) -> Result<Vec<BTreeSet<ChunkId>>, DemoError> {
        let have = |cell: &DemoCell| {
            let mut here = BTreeSet::new();
            self.http.have(&cell.url, ids, &mut |id| {
                here.insert(id);
            })?;
            Ok(here)
        };
        self.cells.iter().map(have).collect()
    }

    /// The numbers of the cells that answer at their door.
    pub(super) fn answering(&self) -> BTreeSet<usize> {
        let answers = self.cells.iter().filter(|cell| self.http.status(&cell.url).is_ok());
        answers.map(|cell| cell.number).collect()
    }

    pub(super) fn killed(&self) -> usize {
        self.cells.iter().filter(|cell| cell.is_killed).count()
    }
}

/// A process that is on its way to being a cell.
struct Birth {
    number: usize,
    process: Guarded,
    /// What it says on standard output.
    words: PathBuf,
    /// What it says on standard error.
    log: PathBuf,
}

impl Birth {
    fn begin(program: &Path, folder: &Path, number: usize, udp_port: u16) -> Result<Self, DemoError> {
        let words = folder.join(format!("cell-{number}.out"));
        let log = folder.join(format!("cell-{number}.log"));
        let file = |path: &Path| {
            File::create(path)
                .map_err(|source| DemoError::File { doing: format!("cannot write {}", path.display()), source })
        };
        let spawned = Command::new(program)
            .args(["node", "--init", "--loopback", "--listen", "127.0.0.1:0", "--log", "warn", "--reserve", RESERVE])
            .args(["--udp-port", &udp_port.to_string(), "--parent", &std::process::id().to_string()])
            .arg("--data")
            .arg(folder.join(format!("cell-{number}")))
            .stdin(Stdio::null())
            .stdout(file(&words)?)
            .stderr(file(&log)?)
            // Ctrl-C is for the demo, which then ends its cells itself.
            .process_group(0)
            .spawn();
        let doing = || format!("cannot start cell {number} ({} node)", program.display());
        let process = spawned.map(Guarded).map_err(|source| DemoError::File { doing: doing(), source })?;
        Ok(Self { number, process, words, log })
    }

    /// Waits for `cell ID listens on URL with FOLDER`.
    fn finish(mut self, deadline: &Deadline, stop: &Stop) -> Result<DemoCell, DemoError> {
        let number = self.number;
        let (id, url) = deadline.wait(stop, &format!("cell {number} has not opened its door"), || {
            let ended = self.process.0.try_wait();
            let words = fs::read_to_string(&self.words).unwrap_or_default();
            match (announced(&words), ended) {
                (Some(cell), _) => Ok(Some(cell)),
                (None, Ok(None)) => Ok(None),
                (None, Ok(Some(how))) => Err(self.did_not_start(&how.to_string())),
                (None, Err(error)) => Err(self.did_not_start(&error.to_string())),
            }
        })?;
        Ok(DemoCell { number, id, url, process: self.process, is_killed: false })
    }

    fn did_not_start(&self, how: &str) -> DemoError {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let what = log.lines().last().unwrap_or(how).to_owned();
        DemoError::NoStart { number: self.number, what }
    }
}

/// Reads a cell's name and door from its announcement, once that is there to its end.
fn announced(words: &str) -> Option<(CellId, String)> {
    let (line, _) = words.split_once('\n')?;
    let (id, rest) = line.strip_prefix("cell ")?.split_once(" listens on ")?;
    let (url, _) = rest.split_once(' ')?;
    Some((serde_json::from_value(id.into()).ok()?, url.to_owned()))
}

/// A UDP port that nobody else has, kept from others until the cells have it.
struct ReservedPort {
    number: u16,
    _held: UdpSocket,
}

impl ReservedPort {
    fn pick() -> io::Result<Self> {
        // Bound without sharing, so that the system gives a port that no other colony uses; only then made one that our
        // cells, who do share, can bind too. Nobody who asks for an unused port gets it meanwhile.
        let held = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket2::SockRef::from(&held).set_reuse_address(true)?;
        Ok(Self { number: held.local_addr()?.port(), _held: held })
    }
}

/// Until when something may take.
struct Deadline(Instant);

impl Deadline {
    fn new() -> Self {
        Self(Instant::now() + PATIENCE)
    }

    /// Looks again and again until `look` finds something. `trouble` is what is said if it never does.
    fn wait<T>(
        &self,
        stop: &Stop,
        trouble: &str,
        mut look: impl FnMut() -> Result<Option<T>, DemoError>,
    ) -> Result<T, DemoError> {
        loop {
            if stop.is_asked() {
                return Err(DemoError::Stopped);
            }
            if let Some(found) = look()? {
                return Ok(found);
            }
            if Instant::now() > self.0 {
                return Err(DemoError::Late { trouble: trouble.to_owned(), seconds: PATIENCE.as_secs() });
            }
            thread::sleep(LOOK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_is_read_when_it_is_whole() {
        let line = "cell 6f3c1b52-7a0e-4a53-9a39-2f1f7d0f4c11 listens on http://127.0.0.1:4711 with /tmp/a b\n";
        let (id, url) = announced(line).unwrap();
        assert_eq!((id.short().as_str(), url.as_str()), ("6f3c1b52", "http://127.0.0.1:4711"));
        for end in 0..line.len() {
            assert!(announced(&line[..end]).is_none(), "{end}");
        }
        assert!(announced("cell x listens on http://127.0.0.1:4711 with y\n").is_none());
    }

    #[test]
    fn a_reserved_port_is_for_sharers_only() {
        let port = ReservedPort::pick().unwrap();
        assert!(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port.number)).is_err());
        crate::net::discovery::listener(port.number).unwrap();
    }
}
