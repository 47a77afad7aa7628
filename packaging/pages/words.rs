//! The parts of the manual pages that argh does not describe.

use super::command::Example;

pub(super) struct Words {
    /// The section of the manual: 1 programs, 5 files, 8 programs of the system.
    pub(super) section: u8,
    /// The line after the name.
    pub(super) name: &'static str,
    /// Paragraphs after the description that `--help` prints.
    pub(super) description: &'static [&'static str],
    pub(super) environment: &'static [(&'static str, &'static str)],
    pub(super) files: &'static [(&'static str, &'static str)],
    pub(super) see_also: &'static [(&'static str, u8)],
}

/// The day on which these texts were last changed.
pub(crate) const REVISED: &str = "2026-11-27";

pub(super) fn of(program: &str) -> &'static Words {
    match program {
        "cellsync" => &TOOL,
        "cellsync-put" => &PUT,
        "cellsync-get" => &GET,
        "cellsync-node" => &NODE,
        _ => panic!("packaging/pages/words.rs has no text about {program}"),
    }
}

const NODE_VARIABLE: (&str, &str) = (
    "CELLSYNC_NODE",
    "Cells to contact instead of searching the network, as with --node, with spaces or commas between them. The options \
     --node, --loopback and --udp-port prevail over it.",
);
const CONFIG_VARIABLE: (&str, &str) = ("XDG_CONFIG_HOME", "Folder of the user's configuration, instead of ~/.config.");
const USER_CONFIG: (&str, &str) =
    ("~/.config/cellsync/client.toml", "The user's settings, which cellsync-client.toml(5) describes.");
const SYSTEM_CONFIG: (&str, &str) =
    ("/etc/cellsync/client.toml", "The same settings for all users. Those in the user's file prevail.");

const TOOL: Words = Words {
    section: 1,
    name: "inspect and maintain a storage colony",
    description: &[
        "A cell is named by its URL, its address or the first digits of its id. `cellsync status` shows them.",
    ],
    environment: &[
        NODE_VARIABLE,
        CONFIG_VARIABLE,
        #[cfg(feature = "demo")]
        ("TMPDIR", "Parent of the folder that `cellsync demo` makes, instead of /tmp."),
    ],
    files: &[
        (
            "*.manifest",
            "Written by cellsync-put: the key of a file and the list of its chunks. `check` and `repair` read it.",
        ),
        USER_CONFIG,
        SYSTEM_CONFIG,
    ],
    see_also: &[("cellsync-put", 1), ("cellsync-get", 1), ("cellsync-client.toml", 5), ("cellsync-node", 8)],
};

const PUT: Words = Words {
    section: 1,
    name: "store a file or a directory in a storage colony",
    description: &[
        "Blocks of 1 MiB are compressed, sealed with a new key for each upload, and sent to distinct cells. A \
         directory is stored as one tar stream. The colony sees sizes and times, never names or contents.",
        "Without the manifest nobody can read the stored data: keep a second copy of it elsewhere.",
        "If fewer cells than copies wanted have room, each chunk is stored on all of them, and a warning reports it; the \
         colony makes the other copies when cells join or have room. The put fails if a chunk gets fewer copies than \
         --min-copies. Copies are on different hosts where possible.",
        "Before anything is sent, the size is compared with the room that the cells report, for --min-copies copies of \
         data that does not compress. If it exceeds the room, the put does not begin; data that compresses well may fit \
         all the same, with --no-room-check. The size of standard input is unknown and is not compared.",
        "To store a file whose name begins with a dash, write -- before it.",
    ],
    environment: &[NODE_VARIABLE, CONFIG_VARIABLE],
    files: &[
        USER_CONFIG,
        SYSTEM_CONFIG,
        ("PATH.manifest", "The manifest: the key and the list of chunks. Only its owner can read it."),
        (
            "PATH.manifest.part",
            "The journal of an unfinished put. The same command continues from it, and removes it at the end.",
        ),
    ],
    see_also: &[("cellsync-get", 1), ("cellsync", 1), ("cellsync-client.toml", 5), ("cellsync-node", 8)],
};

const GET: Words = Words {
    section: 1,
    name: "restore a file or a directory from a storage colony",
    description: &[
        "Chunks are fetched from the fastest cells that hold them. A bad copy is reported, and another copy is used. A \
         directory is restored as a directory.",
    ],
    environment: &[NODE_VARIABLE, CONFIG_VARIABLE],
    files: &[
        ("NAME.manifest", "Written by cellsync-put. NAME is restored."),
        (
            "NAME.cellsync-part, NAME.cellsync-part.log",
            "An unfinished file or directory, and the list of the blocks of a file. The same command continues from \
             them, and removes them at the end.",
        ),
        USER_CONFIG,
        SYSTEM_CONFIG,
    ],
    see_also: &[("cellsync-put", 1), ("cellsync", 1), ("cellsync-client.toml", 5)],
};

const NODE: Words = Words {
    section: 8,
    name: "run a cell of a storage colony",
    description: &[
        "The cell finds the other cells, takes the role that the colony needs, verifies its copies, and replaces \
         copies that were lost with other cells. It stays in the foreground and logs to standard error.",
        "The data folder must contain the marker file that --init or --init-only creates. If its disk is not mounted, \
         the cell then refuses to start instead of filling the disk below: do not use --init for every start.",
        "cellsync-node.toml(5) describes all settings, including those without an option of their own.",
        "SIGTERM and SIGINT end the cell in order: it announces that it leaves and completes the requests in progress.",
    ],
    environment: &[
        ("NOTIFY_SOCKET", "Socket of the service manager, for readiness and status. systemd sets it."),
        ("WATCHDOG_USEC", "Watchdog timeout of the service manager, in microseconds. systemd sets it."),
    ],
    files: &[
        ("/etc/cellsync/node.toml", "The settings, where the packages install them. Without --config no file is read."),
        ("/var/lib/cellsync/", "The default data folder."),
        ("/var/lib/cellsync/cellsync.cell", "The marker, with the id of the cell."),
        ("/var/lib/cellsync/chunks/", "The copies, each in a file named by the SHA-256 of its bytes."),
        ("/var/lib/cellsync/quarantine/", "Bad copies, at most 64 MiB; the oldest are removed first."),
        (
            "/var/lib/cellsync/catalogue/",
            "The index of the copies. It can be deleted while the cell is stopped, and is then rebuilt.",
        ),
    ],
    see_also: &[("cellsync-node.toml", 5), ("cellsync", 1), ("cellsync-put", 1), ("cellsync-get", 1)],
};

pub(super) const NODE_SETTINGS: Words = Words {
    section: 5,
    name: "settings of a cell of a storage colony",
    description: &[
        "cellsync-node(8) reads its settings from the file that --config names. The file is written in TOML: a line \
         `key = value` for each setting, and comments after a `#`. A setting that is absent has its default.",
        "Options on the command line take precedence over the file; --set sets any of these settings there. An unknown \
         setting or an invalid value is an error, and the cell does not start.",
        "Each setting is shown with an example.",
    ],
    environment: &[],
    files: &[("/etc/cellsync/node.toml", "The file that the packages install.")],
    see_also: &[("cellsync-node", 8)],
};

/// The example on the page of `node.toml`.
pub(super) fn node_settings_example() -> Example {
    let lines = ["data = \"/srv/cellsync/cell\"", "reserve = \"5 GiB\"", "heal_rate = \"2 MiB\""];
    Example { purpose: "A board with a disk of its own and a slow network:", lines: lines.to_vec() }
}

pub(super) const CLIENT_SETTINGS: Words = Words {
    section: 5,
    name: "settings of the clients of a storage colony",
    description: &[
        "cellsync-put(1), cellsync-get(1) and the commands of cellsync(1) read their settings from two files, if they \
         exist. The files are written in TOML: a line `key = value` for each setting, and comments after a `#`.",
        "Each setting is taken from the first of these that has it: an option of the command line, the environment \
         variable CELLSYNC_NODE, the user's file, the file of the system, the default. An unknown setting or an \
         invalid value is an error, and nothing is done.",
        "Each setting is shown with an example.",
    ],
    environment: &[NODE_VARIABLE, CONFIG_VARIABLE],
    files: &[USER_CONFIG, SYSTEM_CONFIG],
    see_also: &[("cellsync-put", 1), ("cellsync-get", 1), ("cellsync", 1)],
};

/// The example on the page of `client.toml`.
pub(super) fn client_settings_example() -> Example {
    let lines = ["nodes = [\"10.0.2.7:8080\"]", "copies = 3", "exclude = [\"*.o\", \".cache\"]"];
    Example { purpose: "A colony of three cells in another network:", lines: lines.to_vec() }
}
