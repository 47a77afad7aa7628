//! The generated files and their texts. Pure: they depend on the programs and on the day alone.
//!
//! ```text
//! cli::commands() ──▶ command, value ──┬──▶ man ◀── words: what argh does not describe
//!                                      ├──▶ bash, zsh, fish
//! config::GROUPS ──────────────────────┼──▶ node_toml
//! cli::CLIENT_SETTINGS ────────────────┴──▶ man
//! ```
//!
//! The completions are made here and not by the crate `argh_complete` (0.1.19), which offers hidden options but neither
//! values nor manifests, and whose scripts fail in fish 3.6 of Debian 12.

mod bash;
mod command;
mod fish;
mod man;
mod node_toml;
mod roff;
mod value;
mod words;
mod zsh;

use self::command::Command;

pub(crate) use self::words::REVISED;

/// The names and texts of all files.
pub(crate) fn files(day: &str) -> Vec<(String, String)> {
    let mut files = vec![
        ("node.toml".to_owned(), node_toml::text()),
        ("man/cellsync-node.toml.5".to_owned(), man::of_node_settings(day)),
        ("man/cellsync-client.toml.5".to_owned(), man::of_client_settings(day)),
    ];
    for program in cellsync::cli::commands() {
        let program = Command::shown(&program);
        let (name, words) = (program.name, words::of(program.name));
        files.push((format!("man/{name}.{}", words.section), man::of_program(&program, words, day)));
        files.push((format!("completions/bash/{name}"), bash::completion(&program)));
        files.push((format!("completions/zsh/_{name}"), zsh::completion(&program)));
        files.push((format!("completions/fish/{name}.fish"), fish::completion(&program)));
    }
    files
}

/// The UTC date of a Unix time, as `2026-11-21`. Source: Howard Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
pub(crate) fn day(epoch_s: u64) -> String {
    // Days since 1 March of the year 0, so that a leap day is the last day of its year.
    let days = epoch_s / 86_400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}
