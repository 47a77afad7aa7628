//! What a value is, so that a shell can offer some.

pub(super) enum Value {
    /// A file or a directory.
    Path,
    Directory,
    /// A file called `*.manifest`; whatever else there is if there is none.
    Manifest,
    /// One of these.
    Words(Vec<String>),
    /// `KEY=VALUE` with a setting of `node.toml`.
    Setting,
    /// Nothing that could be guessed.
    Free,
}

impl Value {
    /// By what argh calls it; `option` is whose value it is.
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
            (_, "addr:port" | "cell" | "host:port" | "k" | "n" | "port" | "seconds" | "size" | "url") => Self::Free,
            _ => panic!("{option}: packaging/pages/value.rs has to say what a value called {arg_name} is"),
        }
    }
}
