//! The table of all settings. The parser, `--help`, the manual page and the `node.toml` of the packages are made from
//! it.

use std::net::{IpAddr, Ipv4Addr};

use crate::config::setting::{DAY_MS, Group, HOUR_MS, Kind, MINUTE_MS, SECOND_MS, Setting};

/// All settings. They are applied in this order: `loopback` stands before `listen`, whose default it changes.
pub const GROUPS: &[Group] = &[
    Group {
        title: "Data and network",
        about: "",
        settings: &[
            Setting {
                name: "data",
                kind: Kind::Path(|config| &mut config.data),
                summary: "Folder that holds all data of the cell",
                details: "It must contain the marker file that `cellsync-node --init` creates: if the disk is not \
                          mounted, the cell refuses to start instead of filling the disk below. The packaged service \
                          may write to the default folder only; /usr/share/doc/cellsync-node/examples/other-disk.conf \
                          explains how to use another one.",
                ..Setting::BASE
            },
            Setting {
                name: "loopback",
                kind: Kind::Switch(|config| &mut config.loopback),
                summary: "Use only the loopback interface",
                details: "For a colony of several cells on one machine. Nothing is sent to any network.",
                example: Some("true"),
                adjust: Some(|config| {
                    if config.loopback && config.listen.ip().is_unspecified() {
                        config.listen.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
                    }
                }),
                ..Setting::BASE
            },
            Setting {
                name: "listen",
                kind: Kind::Address(|config| &mut config.listen),
                summary: "Address and TCP port of the HTTP server",
                details: "0.0.0.0 stands for all interfaces. The address of one interface restricts the cell and its \
                          beacons to that network. Port 0 selects a free port. With `loopback` the default is \
                          127.0.0.1:8080.",
                ..Setting::BASE
            },
            Setting {
                name: "udp_port",
                kind: Kind::Port(|config| &mut config.udp_port),
                summary: "UDP port for discovery",
                details: "All cells and clients of a colony use the same port. Colonies with different ports do not \
                          see each other.",
                ..Setting::BASE
            },
            Setting {
                name: "peers",
                kind: Kind::Peers(|config| &mut config.peers),
                summary: "Addresses of cells that broadcast does not reach",
                details: "For cells in another subnet or behind a VPN. Naming the peer on one of the two cells is \
                          enough: the named cell learns the address of the one that contacts it.",
                example: Some("[\"10.0.2.7:8080\"]"),
                default_text: Some("none"),
                ..Setting::BASE
            },
            Setting {
                name: "log",
                kind: Kind::Level(|config| &mut config.log),
                summary: "Least severe messages to log",
                details: "In released programs, trace is as debug.",
                ..Setting::BASE
            },
        ],
    },
    Group {
        title: "Disk space",
        about: "",
        settings: &[
            Setting {
                name: "reserve",
                kind: Kind::Size(|config| &mut config.reserve),
                summary: "Disk space to leave free",
                details: "When less is free, the cell is full: it accepts no new chunks and continues to serve the \
                          ones that it has. With too small a reserve, other programs on the disk fail first.",
                example: Some("\"1 GiB\""),
                default_text: Some("1 GiB or 5 % of the disk, whichever is smaller"),
                ..Setting::BASE
            },
            Setting {
                name: "quota",
                kind: Kind::Size(|config| &mut config.quota),
                summary: "Maximum disk space for chunks",
                details: "The cell is full when it reaches its quota or its reserve.",
                example: Some("\"20 GiB\""),
                default_text: Some("as much as the reserve leaves"),
                ..Setting::BASE
            },
        ],
    },
    Group {
        title: "Membership and roles",
        about: "The defaults of these and the following settings suit boards in a household. All cells of a colony \
                should have the same `beacon_ms` and `silent_after_ms`.",
        settings: &[
            Setting {
                name: "beacon_ms",
                kind: Kind::Milliseconds(50..=MINUTE_MS, |config| &mut config.settings.beacon_ms),
                summary: "Interval between beacons",
                details: "Each cell sends one datagram to all others in this time. A shorter interval detects dead \
                          cells sooner and costs more traffic. Use the same value in all cells: a cell whose interval \
                          is longer than a third of the `silent_after_ms` of another cell looks silent to it.",
                ..Setting::BASE
            },
            Setting {
                name: "silent_after_ms",
                kind: Kind::Milliseconds(150..=HOUR_MS, |config| &mut config.settings.silent_after_ms),
                summary: "Time without beacons after which a cell is silent",
                details: "A silent cell gets no new chunks and is probed over HTTP; it is dead if it does not respond \
                          either. At least three times `beacon_ms`. If it is too short, lost datagrams cause probes; \
                          if it is too long, puts and healing choose dead cells as targets. With the default, four \
                          beacons in a row can be lost on a poor Wi-Fi network.",
                adjust: Some(|config| config.settings.probe_ms = config.settings.silent_after_ms / 2),
                ..Setting::BASE
            },
            Setting {
                name: "forget_ms",
                kind: Kind::Milliseconds(SECOND_MS..=365 * DAY_MS, |config| &mut config.settings.forget_ms),
                summary: "Time for which a dead or departed cell is remembered",
                details: "At least `silent_after_ms`. A forgotten cell that returns is a new one: it is not queried \
                          about the copies that it should hold. The default is longer than a reboot with a check of \
                          the file system.",
                ..Setting::BASE
            },
            Setting {
                name: "differentiate_after_ms",
                kind: Kind::Milliseconds(0..=HOUR_MS, |config| &mut config.settings.differentiate_after_ms),
                summary: "Time after its start before the cell takes a role",
                details: "Long enough for the beacons of most cells to arrive. If it is too short, cells become guards \
                          because they do not know each other yet, and change their role soon after.",
                ..Setting::BASE
            },
            Setting {
                name: "role_stable_ms",
                kind: Kind::Milliseconds(0..=HOUR_MS, |config| &mut config.settings.role_stable_ms),
                summary: "Time for which another role must be needed before the cell takes it",
                details: "If it is too short, roles change when a cell reboots; if it is too long, a dead guard is \
                          replaced late.",
                ..Setting::BASE
            },
        ],
    },
    Group {
        title: "Healing",
        about: "",
        settings: &[
            Setting {
                name: "heal_delay_ms",
                kind: Kind::HealDelays(|config| &mut config.settings.heal_delay_ms),
                summary: "Delays before an under-replicated chunk is healed, by the number of copies left",
                details: "If one silent cell is all that is missing, the last delay applies, however many copies are \
                          left, so that a board can reboot. Short delays move data at each reboot; long ones risk the \
                          last copies. Healing \
                          also waits for the second delay after a holder has returned, and for the third after a copy \
                          has arrived, because others may follow.",
                ..Setting::BASE
            },
            Setting {
                name: "heal_step_ms",
                kind: Kind::Milliseconds(100..=HOUR_MS, |config| &mut config.settings.heal_step_ms),
                summary: "Additional delay for each holder that ranks before this cell",
                details: "The holder of a chunk that ranks first heals it, the next one only if it does not. If this \
                          is too short, two holders send the same copies; if it is too long, a chunk waits when the \
                          first holder hangs. The default is the timeout for answers in a healing round.",
                ..Setting::BASE
            },
            Setting {
                name: "split_wait_ms",
                kind: Kind::Milliseconds(0..=DAY_MS, |config| &mut config.settings.split_wait_ms),
                summary: "Time for which healing waits after a third of the colony has fallen silent at once",
                details: "When a switch fails, each half would copy what the other half holds. Chunks with one copy \
                          left do not wait, and each chunk waits at most once. Choose the time in which you notice \
                          and repair such a fault. If it is too long, chunks lack copies after a real accident. 0 \
                          disables the wait.",
                ..Setting::BASE
            },
            Setting {
                name: "settled_ms",
                kind: Kind::Milliseconds(0..=30 * DAY_MS, |config| &mut config.settings.settled_ms),
                summary: "Time for which a cell must have been heard to count in that third",
                details: "Cells on one host count as one, and at least three hosts must fall silent within a minute. \
                          With a short time, forged beacons could delay healing.",
                ..Setting::BASE
            },
            Setting {
                name: "heal_rate",
                kind: Kind::Rate { or_zero: false, field: |config| &mut config.settings.heal_rate },
                summary: "Maximum rate at which the cell sends copies to heal and fetches lost ones, per second",
                details: "Choose what the network can spare. A high rate slows down puts and gets; with a low one \
                          chunks lack copies for longer. At the default, the data of a full cell of 64 GiB takes 2.3 \
                          hours, divided by the number of cells that heal it.",
                ..Setting::BASE
            },
            Setting {
                name: "belief_audit_ms",
                kind: Kind::Milliseconds(SECOND_MS..=30 * DAY_MS, |config| &mut config.settings.belief_audit_ms),
                summary: "Time in which the cell queries all other holders of its chunks once",
                details: "A shorter time finds silently lost copies sooner. A query costs 65 bytes for each chunk and \
                          holder.",
                ..Setting::BASE
            },
            Setting {
                name: "unheard_ms",
                kind: Kind::Milliseconds(0..=DAY_MS, |config| &mut config.settings.unheard_ms),
                summary: "Time after its start for which the cell assumes that unseen cells are alive",
                details: "Longer than the difference between the boot times of the boards after a power cut. If it is \
                          too short, the first cells heal chunks whose other holders are still booting; if it is too \
                          long, cells that died while this one was off are replaced late.",
                ..Setting::BASE
            },
        ],
    },
    Group {
        title: "Integrity",
        about: "",
        settings: &[
            Setting {
                name: "audit_rate",
                kind: Kind::Rate { or_zero: true, field: |config| &mut config.settings.audit_rate },
                summary: "Maximum rate at which the cell fetches copies of others to verify them, per second",
                details: "A guard uses all of it; other cells audit the other copies of their own chunks, at an eighth \
                          of it. With a low rate bad copies are found late; a high one loads the network and the disks \
                          of others. At the default a guard verifies 90 GB per day. \"0\" disables audits by this \
                          cell; where no cell audits, a cell that delivers bad bytes deliberately is noticed only by \
                          those who fetch them.",
                ..Setting::BASE
            },
            Setting {
                name: "scrub_period_ms",
                kind: Kind::Milliseconds(SECOND_MS..=3650 * DAY_MS, |config| &mut config.settings.scrub_period_ms),
                summary: "Time in which the cell reads and verifies all of its own copies once",
                details: "A short period keeps the disk busy. With a long one damage is found late, and more copies of \
                          a chunk can be damaged at the same time.",
                ..Setting::BASE
            },
            Setting {
                name: "read_back_rate",
                kind: Kind::Rate { or_zero: true, field: |config| &mut config.read_back_rate },
                summary: "Maximum rate at which the cell reads new copies from its disk once, per second",
                details: "This finds cards that report bytes as written and do not keep them. A high rate disturbs \
                          reads of others; with a low one such a card is found late. It waits while chunks are stored, \
                          for a minute at most. \"0\" disables it.",
                ..Setting::BASE
            },
            Setting {
                name: "isolation_ms",
                kind: Kind::Milliseconds(SECOND_MS..=365 * DAY_MS, |config| &mut config.settings.isolation_ms),
                summary: "Time for which a cell that delivered three bad chunks is isolated",
                details: "The copies of an isolated cell do not count, so its chunks are healed elsewhere, and it gets \
                          no new ones. The isolation ends early if the cell has verified all of its copies since. If \
                          it is too short, a bad cell gets new chunks again soon.",
                ..Setting::BASE
            },
            Setting {
                name: "strike_window_ms",
                kind: Kind::Milliseconds(SECOND_MS..=30 * DAY_MS, |config| &mut config.settings.strike_window_ms),
                summary: "Time for which a bad chunk counts towards the isolation of a cell",
                details: "If it is too short, a cell that often delivers bad bytes is not isolated; if it is too long, \
                          a few bits that flipped independently isolate an honest cell.",
                ..Setting::BASE
            },
        ],
    },
];

/// All settings, in the order of the table.
pub fn settings() -> impl Iterator<Item = &'static Setting> {
    GROUPS.iter().flat_map(|group| group.settings)
}

/// The setting of this name.
pub(super) fn find(name: &str) -> Option<&'static Setting> {
    settings().find(|setting| setting.name == name)
}
