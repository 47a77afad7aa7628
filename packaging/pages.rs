//! Writes the manual pages, the shell completions and the `node.toml` of the packages, from the descriptions of the
//! options and settings:
//!
//! ```text
//! cargo run --example pages -- OUT_DIR
//! ```
//!
//! The files are `OUT_DIR/man/*.[158]`, `OUT_DIR/completions/{bash,zsh,fish}/*`, under the names that `man` and the
//! shells expect, and `OUT_DIR/node.toml`, which must equal `packaging/node.toml`. The date on the pages is that of
//! `SOURCE_DATE_EPOCH`, if it is set. Two runs give the same bytes. With `--no-default-features` the pages do not
//! mention `cellsync demo`.

// This program speaks to a user.
#![allow(clippy::print_stderr)]

#[path = "pages/tree.rs"]
mod tree;

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, io};

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let [folder] = arguments.as_slice() else {
        eprintln!("usage: pages OUT_DIR");
        return ExitCode::from(2);
    };
    let day = match env::var("SOURCE_DATE_EPOCH").map(|epoch| epoch.parse()) {
        Ok(Ok(epoch_s)) => tree::day(epoch_s),
        Ok(Err(error)) => {
            eprintln!("pages: SOURCE_DATE_EPOCH is not a number of seconds: {error}");
            return ExitCode::from(2);
        }
        Err(_) => tree::REVISED.to_owned(),
    };
    match write(folder.as_ref(), &day) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pages: cannot write to {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

fn write(folder: &Path, day: &str) -> io::Result<()> {
    for (name, text) in tree::files(day) {
        let path = folder.join(name);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, text)?;
    }
    Ok(())
}
