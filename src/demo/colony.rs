//! A real colony on this machine: each cell is a process of this very program (`cellsync node`, which runs what
//! `cellsync-node` runs), with its own folder, its own port and its own life to lose.
//!
//! Cells die with their guard here. If the demo itself is killed, the kernel kills its cells (`--parent`). Each is
//! ended by its own id; nothing is done to any other process.

// A shell: it waits for processes.
#![allow(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::client::{ColonyScope, StopSignal};
use crate::demo::DemoError;
use crate::demo::wait::{Deadline, PATIENCE};
use crate::id::CellId;
use crate::net::client::{Http, Timeouts};
use crate::wire::beacon::Role;
use crate::wire::peers::Presence;
use crate::wire::status::CellStatus;

/// Room that the cells leave on the disk: little, so that the demo runs on small ones.
const RESERVE: &str = "16 MiB";

/// A cell of the colony, dead or alive.
pub(super) struct DemoCell {
    /// From 1, as the story calls it.
    pub(super) number: usize,
    pub(super) id: CellId,
    /// The door that it has, or had when it lived.
    pub(super) url: String,
    /// Its folder, which outlives it.
    pub(super) data: PathBuf,
    pub(super) pid: u32,
    process: Option<Guarded>,
}

impl DemoCell {
    pub(super) fn lives(&self) -> bool {
        self.process.is_some()
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
    nursery: Nursery,
    http: Http,
}

/// What every cell is born with.
struct Nursery {
    program: PathBuf,
    folder: PathBuf,
    /// Words for the cells' command lines.
    settings: Vec<String>,
    udp_port: ReservedPort,
}

impl Colony {
    /// Starts so many cells, with their folders under `folder`, and returns when each says that its door is open.
    pub(super) fn start(
        folder: &Path,
        count: usize,
        settings: &[String],
        stop: &StopSignal,
    ) -> Result<Self, DemoError> {
        let program = std::env::current_exe()
            .map_err(|source| DemoError::File { doing: "cannot find this program".into(), source })?;
        let udp_port = ReservedPort::pick()
            .map_err(|source| DemoError::File { doing: "cannot get a UDP port for the colony".into(), source })?;
        let settings = settings.iter().flat_map(|setting| ["--set".to_owned(), setting.clone()]).collect();
        let nursery = Nursery { program, folder: folder.to_owned(), settings, udp_port };
        let births: Vec<Birth> = (1..=count).map(|number| nursery.begin(number)).collect::<Result<_, _>>()?;
        let deadline = Deadline::new(PATIENCE);
        let cells = births.into_iter().map(|birth| birth.finish(&deadline, stop)).collect::<Result<_, _>>()?;
        Ok(Self { cells, nursery, http: Http::new(Timeouts::PROBE, 1, count) })
    }

    /// Waits until each cell knows all the others, and nobody else, as active ones: `GET /peers`.
    pub(super) fn wait_until_all_know_each_other(&self, stop: &StopSignal) -> Result<(), DemoError> {
        let all: BTreeSet<CellId> = self.living().map(|cell| cell.id).collect();
        let deadline = Deadline::new(PATIENCE);
        for cell in self.living() {
            deadline.wait(stop, &format!("cell {} does not know all the others", cell.number), || {
                let known: BTreeSet<CellId> = self.seen(cell, Presence::Active).into_iter().chain([cell.id]).collect();
                Ok((known == all).then_some(()))
            })?;
        }
        Ok(())
    }

    /// Waits until all living cells see this one so.
    pub(super) fn wait_until_all_see(
        &self,
        whom: CellId,
        state: Presence,
        deadline: &Deadline,
        stop: &StopSignal,
    ) -> Result<(), DemoError> {
        for cell in self.living() {
            let trouble = format!("cell {} does not see that {} is {state}", cell.number, whom.short());
            deadline.wait(stop, &trouble, || Ok(self.seen(cell, state).contains(&whom).then_some(())))?;
        }
        Ok(())
    }

    fn seen(&self, by: &DemoCell, state: Presence) -> BTreeSet<CellId> {
        let peers = self.http.peers(&by.url).unwrap_or_default();
        peers.cells.into_iter().filter(|peer| peer.state == state).map(|peer| peer.node_id).collect()
    }

    /// Where clients find it.
    pub(super) fn scope(&self) -> ColonyScope {
        ColonyScope { nodes: Vec::new(), udp_port: self.udp_port(), loopback: true }
    }

    pub(super) fn udp_port(&self) -> u16 {
        self.nursery.udp_port.number
    }

    pub(super) fn cells(&self) -> &[DemoCell] {
        &self.cells
    }

    pub(super) fn cell(&self, number: usize) -> Option<&DemoCell> {
        self.cells.iter().find(|cell| cell.number == number)
    }

    pub(super) fn living(&self) -> impl Iterator<Item = &DemoCell> {
        self.cells.iter().filter(|cell| cell.lives())
    }

    pub(super) fn dead(&self) -> impl Iterator<Item = &DemoCell> {
        self.cells.iter().filter(|cell| !cell.lives())
    }

    /// What the living cells say of themselves, by number. One that is too busy to answer is left out this time.
    pub(super) fn statuses(&self) -> BTreeMap<usize, CellStatus> {
        self.living().filter_map(|cell| Some((cell.number, self.http.status(&cell.url).ok()?))).collect()
    }

    /// The roles of the living cells, as they say.
    pub(super) fn roles(&self) -> BTreeMap<usize, Role> {
        self.statuses().into_iter().map(|(number, status)| (number, status.beacon.role)).collect()
    }

    /// SIGKILL: the cell gets no chance to say or finish anything. Returns when it is gone.
    pub(super) fn kill(&mut self, number: usize) -> Result<(), DemoError> {
        let cell = self.cells.iter_mut().find(|cell| cell.number == number);
        let Some(mut process) = cell.and_then(|cell| cell.process.take()) else { return Ok(()) };
        process.end().map_err(|source| DemoError::File { doing: format!("cannot kill cell {number}"), source })
    }

    /// A dead cell starts again on its own folder. Returns when its door is open.
    pub(super) fn revive(&mut self, number: usize, stop: &StopSignal) -> Result<(), DemoError> {
        let born = self.nursery.begin(number)?.finish(&Deadline::new(PATIENCE), stop)?;
        if let Some(cell) = self.cells.iter_mut().find(|cell| cell.number == number) {
            *cell = born;
        }
        Ok(())
    }
}

impl Nursery {
    fn begin(&self, number: usize) -> Result<Birth, DemoError> {
        let words = self.folder.join(format!("cell-{number}.out"));
        let log = self.folder.join(format!("cell-{number}.log"));
        let data = self.folder.join(format!("cell-{number}"));
        let open = |path: &Path, options: &mut fs::OpenOptions| {
            options
                .create(true)
                .open(path)
                .map_err(|source| DemoError::File { doing: format!("cannot write {}", path.display()), source })
        };
        let spawned = Command::new(&self.program)
            .args(["node", "--init", "--loopback", "--listen", "127.0.0.1:0", "--log", "info", "--reserve", RESERVE])
            .args(["--udp-port", &self.udp_port.number.to_string(), "--parent", &std::process::id().to_string()])
            .args(&self.settings)
            .arg("--data")
            .arg(&data)
            .stdin(Stdio::null())
            // What an earlier life has announced must not be taken for the word of this one.
            .stdout(open(&words, File::options().write(true).truncate(true))?)
            .stderr(open(&log, File::options().append(true))?)
            // Ctrl-C is for the demo, which then ends its cells itself.
            .process_group(0)
            .spawn();
        let doing = || format!("cannot start cell {number} ({} node)", self.program.display());
        let process = spawned.map(Guarded).map_err(|source| DemoError::File { doing: doing(), source })?;
        Ok(Birth { number, process, data, words, log })
    }
}

/// A process that is on its way to being a cell.
struct Birth {
    number: usize,
    process: Guarded,
    data: PathBuf,
    /// What it says on standard output.
    words: PathBuf,
    /// What it says on standard error.
    log: PathBuf,
}

impl Birth {
    /// Waits for `cell ID listens on URL with FOLDER`.
    fn finish(mut self, deadline: &Deadline, stop: &StopSignal) -> Result<DemoCell, DemoError> {
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
        let pid = self.process.0.id();
        Ok(DemoCell { number, id, url, data: self.data, pid, process: Some(self.process) })
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
    Some((id.parse().ok()?, url.to_owned()))
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
        crate::net::udp::listener(port.number).unwrap();
    }
}
