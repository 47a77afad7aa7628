//! The rhythm of a cell, and its rates.

/// How a cell lives. Set by `node.toml`; all cells of a colony should have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Time between two beacons, in milliseconds. All cells of a colony should have the same.
    pub beacon_ms: u64,
    /// A cell not heard for longer than this leaves the active list, in milliseconds; at least three beacons long, so
    /// that one lost datagram is no silence.
    pub silent_after_ms: u64,
    /// Time between two HTTP probes of a cell that is silent, and of a static peer whose beacons do not arrive, in
    /// milliseconds; at most half of `silent_after_ms`, so that a static peer stays active by them.
    pub visit_ms: u64,
    /// How long a dead or departed cell is remembered, in milliseconds.
    pub forget_ms: u64,
    /// How long a cell stays a stem cell after its start, in milliseconds: long enough to hear the colony.
    pub differentiate_after_ms: u64,
    /// How long another role must be needed before it is taken, in milliseconds.
    pub role_stable_ms: u64,
    /// How long a chunk may lack copies before it is healed, in milliseconds, by the copies that are left: one, two,
    /// three, four or more. The more are left, the longer a board has to come back from a reboot.
    pub heal_delay_ms: [u64; 4],
    /// How much longer each next holder in rank waits for those before it to heal, in milliseconds.
    pub heal_step_ms: u64,
    /// Bytes that are sent to heal, a second.
    pub heal_rate: u64,
    /// Time between two looks at whether the other holders of a chunk still have it, in milliseconds.
    pub belief_audit_ms: u64,
    /// A holder that was never heard since the cell's start counts for so long, in milliseconds: a colony that starts
    /// together is not complete at once.
    pub unheard_ms: u64,
    /// Bytes per second that a guard fetches to audit copies; 0 for no audits. Every other cell audits the other copies
    /// of its own chunks at an eighth of this rate.
    pub audit_rate: u64,
    /// Time in which every own copy is re-hashed once, in milliseconds.
    pub scrub_period_ms: u64,
    /// How long a bad cell stays isolated, in milliseconds.
    pub isolation_ms: u64,
    /// Bad chunks of one cell count together for so long, in milliseconds.
    pub strike_window_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            beacon_ms: 1000,
            silent_after_ms: 5000,
            visit_ms: 2500,
            forget_ms: 3_600_000,
            differentiate_after_ms: 10_000,
            role_stable_ms: 5_000,
            heal_delay_ms: [0, 10_000, 30_000, 120_000],
            heal_step_ms: 20_000,
            heal_rate: 8 << 20,
            belief_audit_ms: 600_000,
            unheard_ms: 120_000,
            audit_rate: 1 << 20,
            scrub_period_ms: 30 * 24 * 3_600_000,
            isolation_ms: 24 * 3_600_000,
            strike_window_ms: 3_600_000,
        }
    }
}
