//! Kinds of values, by which shells complete them.

pub(super) enum Value {
    /// A file or a directory.
    Path,
    Directory,
    /// A file called `*.manifest`, or a directory on the way to it.
    Manifest,
    /// One of these.
    Words(Vec<String>),
    /// `KEY=VALUE` with a setting of `node.toml`.
    Setting,
    /// Anything.
    Free,
}

impl Value {
    /// The kind of a value that argh calls `arg_name`, of the option `option`.
    pub(super) fn of(option: &str, arg_name: &str) -> Self {
        match (option, arg_name) {
            (_, "file" | "path") => Self::Path,
            (_, "dir") => Self::Directory,
            (_, "manifest") => Self::Manifest,
            (_, "key=value") => Self::Setting,
            ("--log", _) => Self::Words(log::LevelFilter::iter().map(|level| level.as_str().to_lowercase()).collect()),
            ("--compress", _) => {
                Self::Words((0..=9).flat_map(|preset| [format!("{preset}"), format!("{preset}e")]).collect())
            }
            (
                _,
                "addr:port" | "cell" | "duration" | "entry" | "glob" | "host:port" | "k" | "n" | "port" | "seconds"
                | "size" | "start-end" | "url",
            ) => Self::Free,
            _ => panic!("{option}: packaging/pages/value.rs has no kind for {arg_name}"),
        }
    }
}
