//! What the pages tell and argh does not know.

pub(super) struct Words {
    /// The section of the manual: 1 programs, 5 files, 8 programs of the system.
    pub(super) section: u8,
    /// What it is, in some words.
    pub(super) name: &'static str,
    /// Paragraphs that follow what `--help` says.
    pub(super) description: &'static [&'static str],
    pub(super) exit_codes: &'static [(u8, &'static str)],
    pub(super) environment: &'static [(&'static str, &'static str)],
    pub(super) files: &'static [(&'static str, &'static str)],
    /// What one may want to do, and the lines that do it.
    pub(super) examples: &'static [(&'static str, &'static [&'static str])],
    pub(super) see_also: &'static [(&'static str, u8)],
}

/// The day on which these words were last changed.
pub(crate) const REVISED: &str = "2026-11-21";

pub(super) fn of(program: &str) -> &'static Words {
    match program {
        "cellsync" => &TOOL,
        "cellsync-put" => &PUT,
        "cellsync-get" => &GET,
        "cellsync-node" => &NODE,
        _ => panic!("packaging/pages/words.rs has no words about {program}"),
    }
}

const USAGE: (u8, &str) = (2, "The command cannot be meant so.");

const TOOL: Words = Words {
    section: 1,
    name: "look at a storage colony and after it",
    description: &[
        "Cells are found by broadcast in the local network; where that does not reach them, --node names one. What a cell \
         is called can be seen with `cellsync status`.",
    ],
    exit_codes: &[
        (0, "It is done. The commands that look at copies mean by it that all is well; see there."),
        (1, "It failed, or was stopped."),
        USAGE,
        (3, "No cell answers, or there are too few cells or copies."),
        (4, "Chunks are missing: no cell that answers has them."),
        (5, "Data is corrupt: bad copies were found."),
    ],
    environment: &[
        #[cfg(feature = "demo")]
        ("TMPDIR", "Where `cellsync demo` makes its folder, instead of /tmp."),
    ],
    files: &[(
        "*.manifest",
        "What cellsync-put leaves of a file here: the key and the list of chunks. `check` and `repair` want it.",
    )],
    examples: &[
        (
            "Look at the colony in this network, or in another one:",
            &["cellsync status", "cellsync status --node http://10.0.2.7:8080"],
        ),
        (
            "Look how well a file is kept, and have every copy of it read and hashed where it lies:",
            &["cellsync check album.tar.manifest --deep"],
        ),
        ("Make the copies that are lacking now:", &["cellsync repair album.tar.manifest"]),
        (
            "Make a cell ready to be unplugged; change one's mind:",
            &["cellsync drain a419a923", "cellsync drain --undo a419a923"],
        ),
        #[cfg(feature = "demo")]
        (
            "Watch a colony of twelve cells on this machine for a minute of harm:",
            &["cellsync demo --cells 12 --chaos 60"],
        ),
    ],
    see_also: &[("cellsync-put", 1), ("cellsync-get", 1), ("cellsync-node", 8)],
};

const PUT: Words = Words {
    section: 1,
    name: "store a file or a directory in a storage colony",
    description: &[
        "Blocks of 1 MiB are compressed, sealed with a fresh key and sent to distinct cells. A directory is stored as one tar \
         stream. The colony sees sizes and times, never names or contents.",
        "Without the manifest nobody can read what was stored: keep a copy of it somewhere else.",
        "With fewer cells than copies wanted each chunk is on all of them, and a warning says so; the colony makes the \
         other copies when cells join. --min-copies says how few are too few.",
        "A file that is called help is stored as ./help: the word alone asks for help.",
    ],
    exit_codes: &[
        (0, "All is stored and the manifest is written. There may be fewer copies than wanted; a warning tells."),
        (1, "It failed, or was stopped. What is done is kept: the same command goes on from there."),
        USAGE,
        (3, "No cell answers, or too few cells take chunks."),
    ],
    environment: &[],
    files: &[
        ("PATH.manifest", "What is left of the file here: the key and the list of chunks. Only its user can read it."),
        (
            "PATH.manifest.part",
            "The journal of a put that is not done. The same command goes on from it and removes it.",
        ),
    ],
    examples: &[
        ("Store a file; the manifest is album.tar.manifest:", &["cellsync-put album.tar"]),
        ("Store a directory, with the manifest elsewhere:", &["cellsync-put -o /media/usb/photos.manifest photos"]),
        ("Store what another program writes:", &["pg_dump shop | cellsync-put - -o shop.manifest"]),
        (
            "Be quick rather than thorough, and accept no fewer than three copies:",
            &["cellsync-put --compress 1 --min-copies 3 album.tar"],
        ),
    ],
    see_also: &[("cellsync-get", 1), ("cellsync", 1), ("cellsync-node", 8)],
};

const GET: Words = Words {
    section: 1,
    name: "restore a file or a directory from a storage colony",
    description: &[
        "A bad copy is told and another one used. The file appears under its name when all of it is there. What was stored as a \
         directory comes back as one.",
    ],
    exit_codes: &[
        (0, "All is restored; with --check, all can be."),
        (1, "It failed, or was stopped."),
        USAGE,
        (3, "No cell answers."),
        (4, "Chunks are missing: no cell that answers has them."),
        (5, "Data is corrupt: of some chunk there are bad copies only."),
    ],
    environment: &[],
    files: &[("NAME.manifest", "What cellsync-put wrote. NAME is restored.")],
    examples: &[
        (
            "Restore album.tar, or the same under another name:",
            &["cellsync-get album.tar.manifest", "cellsync-get album.tar.manifest -o /tmp/album.tar"],
        ),
        ("Give it to another program:", &["cellsync-get shop.manifest -o - | psql shop"]),
        ("Look at every byte and write nothing:", &["cellsync-get --check album.tar.manifest"]),
    ],
    see_also: &[("cellsync-put", 1), ("cellsync", 1)],
};

const NODE: Words = Words {
    section: 8,
    name: "run a cell of a storage colony",
    description: &[
        "The cell finds the others by itself, takes the role that the colony needs, keeps its copies whole and makes anew \
         what dead cells kept. It stays in the foreground and writes its log to standard error.",
        "The data folder must carry the marker that --init or --init-only made. A disk that is not mounted then stops the \
         start instead of filling the card below it: do not give --init at every start.",
        "All settings, those without an option of their own too, are in cellsync-node.toml(5).",
        "SIGTERM and SIGINT end the cell in order: it tells the colony and finishes what is under way.",
    ],
    exit_codes: &[
        (0, "It was ended in order."),
        (1, "It failed."),
        (2, "The command or a setting cannot be meant so."),
    ],
    environment: &[
        ("NOTIFY_SOCKET", "Where systemd wants to be told that the cell is ready, how it is and that it stops."),
        ("WATCHDOG_USEC", "How often systemd wants to hear that the cell lives."),
    ],
    files: &[
        ("/etc/cellsync/node.toml", "The settings, where the packages put them. Without --config no file is read."),
        ("/var/lib/cellsync/", "The data folder, if no other one is set."),
        ("/var/lib/cellsync/cellsync.cell", "The marker, with the cell's id."),
        ("/var/lib/cellsync/chunks/", "The copies, each a file that is called as the SHA-256 of its bytes."),
        ("/var/lib/cellsync/quarantine/", "Bad copies, 64 MiB at most; the oldest go first."),
        (
            "/var/lib/cellsync/catalogue/",
            "What is known about the copies. It can be deleted when the cell is stopped, and is made again.",
        ),
    ],
    examples: &[
        (
            "Start a cell for the first time, and later:",
            &["cellsync-node --init --data /srv/cellsync", "cellsync-node --data /srv/cellsync"],
        ),
        (
            "Start it with a file of settings, and one of them changed:",
            &["cellsync-node --config /etc/cellsync/node.toml --set heal_rate='\"2 MiB\"'"],
        ),
        (
            "Run a cell on this machine only, to try it out:",
            &["cellsync-node --init --data /tmp/cell --loopback --listen 127.0.0.1:0"],
        ),
    ],
    see_also: &[("cellsync-node.toml", 5), ("cellsync", 1), ("cellsync-put", 1), ("cellsync-get", 1)],
};

pub(super) const SETTINGS: Words = Words {
    section: 5,
    name: "settings of a cell of a storage colony",
    description: &[
        "cellsync-node(8) reads its settings from the file that --config names, which is in the language TOML: a line \
         `key = value` for each setting, and comments behind a `#`. What is not set has its default.",
        "Options on the command line win over the file, and --set sets any of these there. A key that is not known is an \
         error, and so is a value that cannot be.",
        "Each setting is shown with an example.",
    ],
    exit_codes: &[],
    environment: &[],
    files: &[("/etc/cellsync/node.toml", "Where the packages put it.")],
    examples: &[(
        "A board with a disk of its own, and a slow network:",
        &["data = \"/srv/cellsync/cell\"", "reserve = \"5 GiB\"", "heal_rate = \"2 MiB\""],
    )],
    see_also: &[("cellsync-node", 8)],
};
