//! The colony: each cell is a process of this program (`cellsync node`, the same as `cellsync-node`) with its own data
//! folder and port.
//!
//! Dropping a [`ChildGuard`] kills its process. If the demo itself is killed, the kernel kills its cells (`--parent`). The
//! demo signals only processes that it has started.

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
use crate::demo::wait::{CELL_TIMEOUT, Deadline};
use crate::demo::{DemoError, file_error};
use crate::id::CellId;
use crate::net::client::{Http, Timeouts};
use crate::wire::beacon::Role;
use crate::wire::peers::Presence;
use crate::wire::status::CellStatus;

/// The free space that the cells leave on the disk: little, so that the demo runs on small disks.
const RESERVE: &str = "16 MiB";

/// A cell of the colony, running or dead.
pub(super) struct DemoCell {
    /// Its number in the output, from 1.
    pub(super) number: usize,
    pub(super) id: CellId,
    /// Its address, or the last one if it is dead.
    pub(super) url: String,
    /// Its data folder, which stays when the cell is killed.
    pub(super) data: PathBuf,
    pub(super) pid: u32,
    process: Option<ChildGuard>,
}

impl DemoCell {
    pub(super) fn is_running(&self) -> bool {
        self.process.is_some()
    }
}

/// A process that is killed when this is dropped.
struct ChildGuard(Child);

impl ChildGuard {
    fn kill(&mut self) -> io::Result<()> {
        self.0.kill()?;
        self.0.wait().map(drop)
    }
}

impl Drop for ChildGuard {
    fn drop(&mut self) {
        // The process may have ended already.
        drop(self.kill());
    }
}

pub(super) struct Colony {
    cells: Vec<DemoCell>,
    launcher: Launcher,
    http: Http,
}

/// Starts cells: what all of them have in common.
struct Launcher {
    program: PathBuf,
    folder: PathBuf,
    /// `--set` options for the command line of every cell.
    settings: Vec<String>,
    udp_port: ReservedPort,
}

impl Colony {
    /// Starts `count` cells with their folders in `folder`, and returns when all of them listen.
    pub(super) fn start(
        folder: &Path,
        count: usize,
        settings: &[String],
        stop: &StopSignal,
    ) -> Result<Self, DemoError> {
        let program =
            std::env::current_exe().map_err(|source| DemoError::Setup { action: "find this program", source })?;
        let udp_port = ReservedPort::pick()
            .map_err(|source| DemoError::Setup { action: "reserve a UDP port for the colony", source })?;
        let settings = settings.iter().flat_map(|setting| ["--set".to_owned(), setting.clone()]).collect();
        let launcher = Launcher { program, folder: folder.to_owned(), settings, udp_port };
        let starting: Vec<StartingCell> = (1..=count).map(|number| launcher.spawn(number)).collect::<Result<_, _>>()?;
        let deadline = Deadline::new(CELL_TIMEOUT);
        let cells =
            starting.into_iter().map(|cell| cell.wait_until_listening(&deadline, stop)).collect::<Result<_, _>>()?;
        Ok(Self { cells, launcher, http: Http::new(Timeouts::PROBE, 1, count) })
    }

    /// Waits until `GET /peers` of each cell lists exactly the other cells as active.
    pub(super) fn wait_until_connected(&self, stop: &StopSignal) -> Result<(), DemoError> {
        let all: BTreeSet<CellId> = self.running().map(|cell| cell.id).collect();
        let deadline = Deadline::new(CELL_TIMEOUT);
        for cell in self.running() {
            deadline.wait(stop, &format!("cell {} does not see all other cells", cell.number), || {
                let known: BTreeSet<CellId> = self.seen(cell, Presence::Active).into_iter().chain([cell.id]).collect();
                Ok((known == all).then_some(()))
            })?;
        }
        Ok(())
    }

    /// Waits until all running cells see this cell in this state.
    pub(super) fn wait_until_all_see(
        &self,
        of: CellId,
        state: Presence,
        deadline: &Deadline,
        stop: &StopSignal,
    ) -> Result<(), DemoError> {
        for cell in self.running() {
            let condition = format!("cell {} does not see cell {} as {state}", cell.number, of.short());
            deadline.wait(stop, &condition, || Ok(self.seen(cell, state).contains(&of).then_some(())))?;
        }
        Ok(())
    }

    fn seen(&self, by: &DemoCell, state: Presence) -> BTreeSet<CellId> {
        let peers = self.http.peers(&by.url).unwrap_or_default();
        peers.cells.into_iter().filter(|peer| peer.state == state).map(|peer| peer.node_id).collect()
    }

    /// Where clients find this colony.
    pub(super) fn scope(&self) -> ColonyScope {
        ColonyScope { nodes: Vec::new(), udp_port: self.udp_port(), loopback: true }
    }

    pub(super) fn udp_port(&self) -> u16 {
        self.launcher.udp_port.number
    }

    pub(super) fn cells(&self) -> &[DemoCell] {
        &self.cells
    }

    pub(super) fn cell(&self, number: usize) -> Option<&DemoCell> {
        self.cells.iter().find(|cell| cell.number == number)
    }

    pub(super) fn running(&self) -> impl Iterator<Item = &DemoCell> {
        self.cells.iter().filter(|cell| cell.is_running())
    }

    pub(super) fn dead(&self) -> impl Iterator<Item = &DemoCell> {
        self.cells.iter().filter(|cell| !cell.is_running())
    }

    /// The status of each running cell, by number, without cells that are too busy to answer.
    pub(super) fn statuses(&self) -> BTreeMap<usize, CellStatus> {
        self.running().filter_map(|cell| Some((cell.number, self.http.status(&cell.url).ok()?))).collect()
    }

    /// The roles of the running cells, by number.
    pub(super) fn roles(&self) -> BTreeMap<usize, Role> {
        self.statuses().into_iter().map(|(number, status)| (number, status.beacon.role)).collect()
    }

    /// Kills a cell with SIGKILL and returns when its process has ended.
    pub(super) fn kill(&mut self, number: usize) -> Result<(), DemoError> {
        let cell = self.cells.iter_mut().find(|cell| cell.number == number);
        let Some(mut process) = cell.and_then(|cell| cell.process.take()) else { return Ok(()) };
        process.kill().map_err(|source| DemoError::Process { action: "kill", number, source })
    }

    /// Starts a dead cell again on its data folder and returns when it listens.
    pub(super) fn restart(&mut self, number: usize, stop: &StopSignal) -> Result<(), DemoError> {
        let restarted = self.launcher.spawn(number)?.wait_until_listening(&Deadline::new(CELL_TIMEOUT), stop)?;
        if let Some(cell) = self.cells.iter_mut().find(|cell| cell.number == number) {
            *cell = restarted;
        }
        Ok(())
    }
}

impl Launcher {
    fn spawn(&self, number: usize) -> Result<StartingCell, DemoError> {
        let output = self.folder.join(format!("cell-{number}.out"));
        let log = self.folder.join(format!("cell-{number}.log"));
        let data = self.folder.join(format!("cell-{number}"));
        let open = |path: &Path, options: &mut fs::OpenOptions| {
            options.create(true).open(path).map_err(file_error("write", path))
        };
        let spawned = Command::new(&self.program)
            .args(["node", "--init", "--loopback", "--listen", "127.0.0.1:0", "--log", "info", "--reserve", RESERVE])
            .args(["--udp-port", &self.udp_port.number.to_string(), "--parent", &std::process::id().to_string()])
            .args(&self.settings)
            .arg("--data")
            .arg(&data)
            .stdin(Stdio::null())
            // Truncated: it may hold the announcement of an earlier run.
            .stdout(open(&output, File::options().write(true).truncate(true))?)
            .stderr(open(&log, File::options().append(true))?)
            // Ctrl-C reaches only the demo, which then kills its cells.
            .process_group(0)
            .spawn();
        let failed = |source| DemoError::Process { action: "start", number, source };
        Ok(StartingCell { number, process: spawned.map(ChildGuard).map_err(failed)?, data, output, log })
    }
}

/// A cell that does not listen yet.
struct StartingCell {
    number: usize,
    process: ChildGuard,
    data: PathBuf,
    /// Its standard output.
    output: PathBuf,
    /// Its standard error.
    log: PathBuf,
}

impl StartingCell {
    /// Waits for the line `cell ID listens on URL with FOLDER`.
    fn wait_until_listening(mut self, deadline: &Deadline, stop: &StopSignal) -> Result<DemoCell, DemoError> {
        let number = self.number;
        let (id, url) = deadline.wait(stop, &format!("cell {number} does not listen"), || {
            let ended = self.process.0.try_wait();
            let output = fs::read_to_string(&self.output).unwrap_or_default();
            match (announced(&output), ended) {
                (Some(cell), _) => Ok(Some(cell)),
                (None, Ok(None)) => Ok(None),
                (None, Ok(Some(how))) => Err(self.not_started(&how.to_string())),
                (None, Err(error)) => Err(self.not_started(&error.to_string())),
            }
        })?;
        let pid = self.process.0.id();
        Ok(DemoCell { number, id, url, data: self.data, pid, process: Some(self.process) })
    }

    fn not_started(&self, how: &str) -> DemoError {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let reason = log.lines().last().unwrap_or(how).to_owned();
        DemoError::NotStarted { number: self.number, reason }
    }
}

/// Parses the id and the URL from a cell's announcement, once its line is complete.
fn announced(output: &str) -> Option<(CellId, String)> {
    let (line, _) = output.split_once('\n')?;
    let (id, rest) = line.strip_prefix("cell ")?.split_once(" listens on ")?;
    let (url, _) = rest.split_once(' ')?;
    Some((id.parse().ok()?, url.to_owned()))
}

/// A UDP port for this colony alone.
struct ReservedPort {
    number: u16,
    _held: UdpSocket,
}

impl ReservedPort {
    fn pick() -> io::Result<Self> {
        // Binding without SO_REUSEADDR gets a port that no other colony uses. Setting it afterwards lets our cells bind the
        // port too, while the open socket keeps it from programs that request an unused port.
        let held = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket2::SockRef::from(&held).set_reuse_address(true)?;
        Ok(Self { number: held.local_addr()?.port(), _held: held })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_is_parsed_once_complete() {
        let line = "cell 6f3c1b52-7a0e-4a53-9a39-2f1f7d0f4c11 listens on http://127.0.0.1:4711 with /tmp/a b\n";
        let (id, url) = announced(line).unwrap();
        assert_eq!((id.short().as_str(), url.as_str()), ("6f3c1b52", "http://127.0.0.1:4711"));
        for end in 0..line.len() {
            assert!(announced(&line[..end]).is_none(), "{end}");
        }
        assert!(announced("cell x listens on http://127.0.0.1:4711 with y\n").is_none());
    }

    #[test]
    fn a_reserved_port_needs_address_reuse() {
        let port = ReservedPort::pick().unwrap();
        assert!(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port.number)).is_err());
        crate::net::udp::listener(port.number).unwrap();
    }
}
