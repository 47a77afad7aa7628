//! All that a cell decided, and when, in one number: two runs that differ anywhere have different ones.

use std::fmt::{self, Write};

use cellsync::cell::{Event, Output, Udp};
use cellsync::id::CellId;
use cellsync::time::Time;
use cellsync::wire::beacon::Beacon;

/// The hash FNV-1a, eight bytes at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trace(u64);

impl Default for Trace {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Trace {
    pub(crate) fn number(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
    }

    pub(crate) fn value(self) -> u64 {
        self.0
    }

    /// What a cell puts out most often is not written out as text.
    pub(crate) fn output(&mut self, now: Time, output: &Output) {
        self.number(now.0);
        match output {
            Output::WakeAt(time) => self.number(time.0),
            Output::Udp(Udp::Broadcast(beacon)) => self.beacon(beacon),
            Output::Event(Event::Active(id, _)) => self.name(id),
            output => write!(self, "{output:?}").unwrap(),
        }
    }

    fn name(&mut self, name: &CellId) {
        for half in name.as_bytes().chunks(8) {
            self.number(u64::from_be_bytes(half.try_into().unwrap()));
        }
    }

    fn beacon(&mut self, beacon: &Beacon) {
        let Beacon { node_id, status, boot, role, chunks, free, cells, clean_s, .. } = beacon;
        self.name(node_id);
        for fact in [*chunks, *free, cells.map(u64::from), *clean_s, boot.map(|boot| boot.0)] {
            self.number(fact.map_or(u64::MAX, |fact| fact.wrapping_add(1)));
        }
        self.number(*status as u64 * 8 + *role as u64);
    }
}

impl Write for Trace {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for bytes in text.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            self.number(u64::from_le_bytes(word));
        }
        Ok(())
    }
}
