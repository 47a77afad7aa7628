//! The settings of the core: intervals, timeouts and rates.
//!
//! [`crate::config::GROUPS`] describes them for users: bounds, how to choose them, and what goes wrong at the extremes.

/// The settings, with the names that `node.toml` uses. `node.toml` sets all of them but `probe_ms`.
///
/// The cells of a colony should have the same settings. Where they differ, each cell works by its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Interval between two beacons, in milliseconds, with a jitter of 5 % either way.
    pub beacon_ms: u64,
    /// A member is silent when no beacon has arrived for longer than this, in milliseconds; at least three times
    /// `beacon_ms`.
    pub silent_after_ms: u64,
    /// Interval between two probes of a silent member, and of a static peer whose beacons do not arrive, in
    /// milliseconds. Always half of `silent_after_ms`, so that a static peer stays active by probes alone.
    pub probe_ms: u64,
    /// A dead or departed member is forgotten after this time, in milliseconds; at least `silent_after_ms`. A record
    /// has 88 bytes, and at most 4096 are kept.
    pub forget_ms: u64,
    /// A cell stays a stem cell for this time after its start, in milliseconds.
    pub differentiate_after_ms: u64,
    /// Another role must be needed for this time before the cell takes it, in milliseconds.
    pub role_stable_ms: u64,
    /// How long a chunk is under-replicated before it is healed, in milliseconds: with one copy left, two, three, and
    /// four or more. Ascending. If one silent holder is all that is missing, the last delay applies, since a board may be
    /// rebooting. After a holder has returned, healing waits for the second delay; after a copy has
    /// arrived, for the third, because its put may still be sending the others.
    pub heal_delay_ms: [u64; 4],
    /// Additional delay for each holder that ranks before this cell, in milliseconds.
    pub heal_step_ms: u64,
    /// For how long healing waits after a large part of the colony has fallen silent at once, in milliseconds; 0 for not at
    /// all. Chunks with one copy left do not wait.
    pub split_wait_ms: u64,
    /// Only cells that have been heard for this time count as a part of the colony that falls silent, in milliseconds.
    pub settled_ms: u64,
    /// Rate at which this cell sends copies to heal, in bytes per second, and at which it fetches lost copies again.
    pub heal_rate: u64,
    /// Time in which this cell queries all other holders of its chunks once, in milliseconds.
    pub belief_audit_ms: u64,
    /// For this long after its start, the cell assumes that holders from which no beacon has arrived are alive, in
    /// milliseconds.
    pub unheard_ms: u64,
    /// Rate at which a guard fetches copies to audit them, in bytes per second; 0 for no audits. Every other cell
    /// audits the other copies of its own chunks at an eighth of this rate.
    pub audit_rate: u64,
    /// Time in which the periodic scrub hashes all local copies once, in milliseconds.
    pub scrub_period_ms: u64,
    /// A cell stays isolated for this time, in milliseconds, unless a full scrub finds its copies good earlier.
    pub isolation_ms: u64,
    /// Bad copies of a cell are counted together within this time, in milliseconds: three isolate it.
    pub strike_window_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            beacon_ms: 1000,
            silent_after_ms: 5000,
            probe_ms: 2500,
            forget_ms: 3_600_000,
            differentiate_after_ms: 10_000,
            role_stable_ms: 5_000,
            heal_delay_ms: [0, 10_000, 30_000, 120_000],
            heal_step_ms: 20_000,
            split_wait_ms: 900_000,
            settled_ms: 3_600_000,
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
