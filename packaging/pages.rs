//! Writes the manual pages and the shell completions that the packages carry, made from what the programs understand:
//!
//! ```text
//! cargo run --example pages -- OUT_DIR
//! ```
//!
//! They are `OUT_DIR/man/*.[158]` and `OUT_DIR/completions/{bash,zsh,fish}/*`, each under the name by which `man` and
//! the shells look for it. The pages bear the day of `SOURCE_DATE_EPOCH`, if that is set; two runs give the same bytes.

// Here a user is spoken to.
#![allow(clippy::print_stderr)]

#[path = "pages/tree.rs"]
mod tree;

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, io};

fn main() -> ExitCode {
    let words: Vec<_> = env::args_os().skip(1).collect();
    let [folder] = words.as_slice() else {
        eprintln!("pages: one word is needed: the folder to write to");
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
