//! The settings of the core: intervals, timeouts and rates.

/// The settings. `node.toml` sets all of them but `probe_ms`, under the same names, and checks the bounds.
///
/// The cells of a colony should have the same settings. Where they differ, each cell works by its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Interval between two beacons, in milliseconds, with a jitter of 5 % either way. From 50 to 60000.
    ///
    /// A shorter interval detects dead cells sooner, and costs each cell one datagram per cell and interval. It must be
    /// the same in all cells: a cell with a longer interval than a third of another's `silent_after_ms` looks silent.
    ///
    /// Default: 1 s. A dead cell is detected within seconds, which is shorter than the delays of healing.
    pub beacon_ms: u64,

    /// A member is silent when no beacon has arrived for longer than this, in milliseconds. At least three times
    /// `beacon_ms`, at most 3600000.
    ///
    /// A silent member gets no new chunks, and is probed over HTTP. With a shorter time, lost datagrams look like
    /// silence and cause probes. With a longer time, puts and healing choose dead cells as targets for longer.
    ///
    /// Default: 5 s, so that four beacons in a row can be lost on a poor Wi-Fi network.
    pub silent_after_ms: u64,

    /// Interval between two probes of a silent member, and of a static peer whose beacons do not arrive, in
    /// milliseconds. Always half of `silent_after_ms`, so that a static peer stays active by probes alone.
    pub probe_ms: u64,

    /// A dead or departed member is forgotten after this time, in milliseconds. From `silent_after_ms` to a year.
    ///
    /// A forgotten cell that returns is a new one: it is not queried about the copies that it should hold. A longer
    /// time costs one record of 80 bytes for each dead cell, and at most 4096 records are kept.
    ///
    /// Default: 1 h, which is longer than a reboot with a check of the file system.
    pub forget_ms: u64,

    /// A cell stays a stem cell for this time after its start, in milliseconds. From 0 to 3600000.
    ///
    /// It must be long enough for the beacons of most cells to arrive. With a shorter time, cells become guards because
    /// they do not know each other yet, and change their role again soon after.
    ///
    /// Default: 10 s, which is ten beacons.
    pub differentiate_after_ms: u64,

    /// Another role must be needed for this time before the cell takes it, in milliseconds. From 0 to 3600000.
    ///
    /// With a shorter time, roles change when a cell reboots. With a longer time, a dead guard is replaced later.
    ///
    /// Default: 5 s, the time after which a dead cell is noticed.
    pub role_stable_ms: u64,

    /// How long a chunk is under-replicated before it is healed, in milliseconds: with one copy left, two, three, and
    /// four or more. Ascending, each at most 86400000.
    ///
    /// The more copies are left, the longer a board may take to reboot before bytes are moved on its account. Too short
    /// delays move bytes at each reboot. Too long ones risk the last copies.
    ///
    /// Two delays have a second use. After a holder has returned, healing waits for the second delay, because others
    /// may follow. After a copy has arrived, it waits for the third delay, because its put may still be sending the
    /// others.
    ///
    /// Default: 0, 10 s, 30 s and 120 s. A board that reboots is usually back within two minutes.
    pub heal_delay_ms: [u64; 4],

    /// Additional delay for each holder that ranks before this cell, in milliseconds. From 100 to 3600000.
    ///
    /// The holder that ranks first heals a chunk, the next one only if it does not. With a shorter step, two holders
    /// heal the same chunk at once and send too many copies. With a longer step, a chunk waits longer when the first
    /// holder hangs.
    ///
    /// Default: 20 s, the timeout for answers in a healing round.
    pub heal_step_ms: u64,

    /// Rate at which this cell sends copies to heal, in bytes per second, and at which it fetches lost copies again.
    /// From 64 KiB to 1 TiB.
    ///
    /// Choose what the network can spare. A low rate makes healing slow: a full cell of 64 GiB takes 2.3 h at the
    /// default, divided by the number of cells that heal. A high rate slows down puts and gets.
    ///
    /// Default: 8 MiB, two thirds of what a network of 100 Mbit/s carries.
    pub heal_rate: u64,

    /// Time in which this cell queries all other holders of its chunks once, in milliseconds. From 1000 to 30 days.
    ///
    /// A shorter time finds lost copies sooner and costs more traffic: a query has 65 bytes per chunk and holder. With
    /// a longer time, a copy that was lost silently stays unnoticed for longer.
    ///
    /// Default: 10 min.
    pub belief_audit_ms: u64,

    /// For this long after its start, the cell assumes that holders from which no beacon has arrived are alive, in
    /// milliseconds. From 0 to 86400000.
    ///
    /// It must be longer than the boards of a colony differ in their start after a power cut. With a shorter time, the
    /// first cells heal chunks whose other holders are still booting. With a longer time, cells that died while this
    /// one was off are replaced later.
    ///
    /// Default: 120 s, the longest heal delay.
    pub unheard_ms: u64,

    /// Rate at which a guard fetches copies to audit them, in bytes per second. 0 for no audits, else from 64 KiB to
    /// 1 TiB. Every other cell audits the other copies of its own chunks at an eighth of this rate.
    ///
    /// A low rate finds bad copies late. A high rate costs network and disk of the audited cells. At 0, bad copies are
    /// found only by each cell's own scrub, and a cell that serves bad bytes deliberately is not found by audits.
    ///
    /// Default: 1 MiB, at which one guard reads 90 GB per day.
    pub audit_rate: u64,

    /// Time in which the periodic scrub hashes all local copies once, in milliseconds. From 1000 to ten years.
    ///
    /// A shorter time finds damage sooner and costs more reading: all copies once per period. With a longer time, more
    /// copies of one chunk can be damaged at once.
    ///
    /// Default: 30 days.
    pub scrub_period_ms: u64,

    /// A cell stays isolated for this time, in milliseconds, unless a full scrub finds its copies good earlier. From
    /// 1000 to a year.
    ///
    /// The copies of an isolated cell do not count, so its chunks are healed elsewhere. With a shorter time, a bad cell
    /// gets new chunks again soon.
    ///
    /// Default: 24 h.
    pub isolation_ms: u64,

    /// Bad copies of a cell are counted together within this time, in milliseconds: three isolate it. From 1000 to 30
    /// days.
    ///
    /// With a shorter time, a cell that often sends bad bytes is not isolated. With a longer time, a few bits that
    /// flipped independently isolate an honest cell.
    ///
    /// Default: 1 h.
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
