//! Behaviours of one cell. Each test gives it inputs at chosen times and checks its outputs; there is no clock.
//!
//! The cell under test has the number 1; the test plays all others.

mod bare_records;
mod brake;
mod co_holders;
mod colony;
mod draining;
mod healing;
mod integrity;
mod membership;
mod queries;

use std::net::{IpAddr, SocketAddr};

use super::*;
use crate::id::{CellId, ChunkId};
use crate::time::Time;
use crate::wire::beacon::{Beacon, Boot, Role, Status};
use crate::wire::peers::Presence;

const SECOND: u64 = 1000;

/// The id of the cell with this number.
fn id(cell: u8) -> CellId {
    CellId::from_bytes([cell; 16])
}

fn ip(cell: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, cell])
}

/// The address of the cell's HTTP interface.
fn address(cell: u8) -> SocketAddr {
    SocketAddr::new(ip(cell), 8000 + u16::from(cell))
}

/// The number of the cell at this address.
fn cell_at(address: SocketAddr) -> u8 {
    u8::try_from(address.port() - 8000).unwrap()
}

fn beacon(cell: u8, boot: u64) -> Beacon {
    Beacon {
        node_id: id(cell),
        port: address(cell).port(),
        status: Status::Active,
        v: Some(1),
        boot: Some(Boot(boot)),
        role: Role::Storage,
        chunks: Some(1),
        free: Some(1 << 30),
        cells: Some(2),
        clean_s: None,
    }
}

fn chunk(n: u32) -> ChunkId {
    ChunkId::of(&n.to_le_bytes())
}

/// The cell under test and its time.
struct TestCell {
    cell: Cell,
    now: Time,
    wake_at: Time,
    store: StoreStats,
}

impl TestCell {
    /// `peers` are its static peers.
    fn new(peers: &[&str]) -> Self {
        Self::with_settings(peers, Settings::default())
    }

    fn with_settings(peers: &[&str], settings: Settings) -> Self {
        let peers: Vec<String> = peers.iter().map(|&peer| peer.to_owned()).collect();
        let cell = Cell::new(id(1), Boot(100), address(1).port(), &peers, settings, &SavedState::default(), 42);
        Self {
            cell,
            now: Time(5),
            wake_at: Time(5),
            store: StoreStats { chunks: 3, free_bytes: 7, full: false, read_only: false, reads: 0 },
        }
    }

    fn input(&mut self, input: impl Into<Input>) -> Vec<Output> {
        let mut out = Vec::new();
        self.cell.handle(self.now, &input.into(), &mut out);
        out
    }

    /// Lets time pass and wakes the cell when it asks for it. Returns its outputs.
    fn pass(&mut self, ms: u64) -> Vec<Output> {
        let end = self.now.plus_ms(ms);
        let mut out = Vec::new();
        while self.wake_at <= end {
            self.now = self.wake_at;
            for output in self.input(Input::Wake(self.store)) {
                match output {
                    Output::WakeAt(time) => self.wake_at = time,
                    output => out.push(output),
                }
            }
        }
        self.now = end;
        out
    }

    /// A beacon of this cell arrives.
    fn beacon_from(&mut self, cell: u8, boot: u64) -> Vec<Output> {
        self.beacon(ip(cell), beacon(cell, boot))
    }

    fn beacon(&mut self, from: IpAddr, beacon: Beacon) -> Vec<Output> {
        self.input(MemberInput::Beacon { from, beacon })
    }

    fn probe_done(&mut self, task_id: TaskId, outcome: ProbeOutcome) -> Vec<Output> {
        self.input(MemberInput::ProbeDone { task_id, outcome })
    }

    fn presence_of(&self, cell: u8) -> Option<Presence> {
        let member = self.cell.members().find(|(member, _)| *member == id(cell))?.1;
        Some(self.cell.presence(self.now, member))
    }

    /// The cell's own beacon.
    fn own_beacon(&self) -> Beacon {
        self.cell.beacon(self.now)
    }
}

/// The probes in these outputs, with their addresses.
fn probes(out: &[Output]) -> Vec<(TaskId, &str)> {
    out.iter()
        .filter_map(|output| match output {
            Output::Task(Task::Probe { task_id, address, .. }) => Some((*task_id, address.as_str())),
            _ => None,
        })
        .collect()
}

fn events(out: &[Output]) -> Vec<&Event> {
    out.iter().filter_map(|output| if let Output::Event(event) = output { Some(event) } else { None }).collect()
}
