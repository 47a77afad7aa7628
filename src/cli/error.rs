//! Why a command failed: the message, which names the options that help, and the exit code.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::client_config::ClientConfigError;
use crate::cli::exit_code::USAGE;
use crate::cli::terminal::message;
use crate::client::{ClientError, OmissionReason, UsageError};
use crate::human;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    /// The arguments are invalid. Nothing was done.
    #[error(transparent)]
    Arguments(#[from] ArgumentError),
    /// The configuration is invalid. Nothing was done.
    #[error(transparent)]
    Config(#[from] ClientConfigError),
    /// The client failed.
    #[error("{source}{}", advice(source))]
    Client {
        /// Its error.
        #[from]
        source: ClientError,
    },
}

/// Arguments that are valid one by one, and not together.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArgumentError {
    /// More copies required than wanted.
    #[error("--min-copies {min} exceeds --copies {copies}")]
    MinCopies {
        /// Copies required.
        min: u8,
        /// Copies wanted.
        copies: u8,
    },
    /// The manifest is a file.
    #[error("the manifest cannot go to standard output; name a file with -o FILE")]
    ManifestToStandardOutput,
    /// There is no name from which the name of the manifest could be made.
    #[error("the source has no name; name the manifest with -o FILE")]
    UnnamedSource,
    /// There is no name from which the name of the output could be made.
    #[error("{} does not end in .manifest; name the output with -o PATH", manifest.display())]
    UnnamedOutput {
        /// The manifest.
        manifest: PathBuf,
    },
    /// The option is for directories.
    #[error("{option} applies to the files in a directory, and the source is not a directory")]
    NotADirectory {
        /// The option.
        option: &'static str,
    },
    /// Options that exclude each other.
    #[error("{one} cannot be combined with {other}")]
    Exclusive {
        /// One option.
        one: &'static str,
        /// The other.
        other: &'static str,
    },
    /// The option is of use only with another one.
    #[error("{option} requires {required}")]
    Requires {
        /// The option.
        option: &'static str,
        /// The option that it requires.
        required: &'static str,
    },
    /// Enter cannot be pressed.
    #[cfg(all(target_os = "linux", feature = "demo"))]
    #[error("--step requires that standard input is a terminal")]
    NoTerminal,
    /// Not a regular file.
    #[cfg(all(target_os = "linux", feature = "demo"))]
    #[error("{} is not a file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
}

/// Prints why the command failed. Returns its exit code.
pub(super) fn failed(command: &str, error: &CommandError) -> ExitCode {
    // A closed pipe is nothing to report: its reader has seen enough, or has reported its own failure.
    if !matches!(error, CommandError::Client { source: ClientError::OutputClosed }) {
        message(command, &error.to_string());
    }
    ExitCode::from(match error {
        CommandError::Arguments(_) | CommandError::Config(_) => USAGE,
        CommandError::Client { source } => source.exit_code(),
    })
}

/// The options that help after this error, as the rest of its sentence.
fn advice(error: &ClientError) -> String {
    match error {
        ClientError::Usage(error) => advice_on_usage(error).to_owned(),
        ClientError::NoCells { scope } if scope.nodes.is_empty() => {
            " If broadcast does not reach the cells, name one with --node http://HOST:PORT".to_owned()
        }
        ClientError::TooFewCells { cells, .. } if cells.accepting() > 0 => {
            format!(", or accept fewer copies with --min-copies {}", cells.accepting())
        }
        ClientError::TooFewCopies { made, .. } if *made > 0 => {
            format!(", or accept fewer copies with --min-copies {made}")
        }
        ClientError::EmptyPipe { .. } => "; use --allow-empty to store it".to_owned(),
        ClientError::Omissions { .. } => "; exclude these files, or store all others without --strict".to_owned(),
        ClientError::NotAsItIs { omission } => match omission.reason {
            OmissionReason::Grew { stored } => {
                format!("; without --strict, its first {} are stored", human::bytes(stored))
            }
            OmissionReason::NotInManifest(_) => {
                "; store its directory, which keeps them, or the file without --strict".to_owned()
            }
            _ => "; run the same command again, or store it without --strict".to_owned(),
        },
        ClientError::Missing { silent, salvageable, .. } => {
            let wait = if *silent > 0 { ", or wait longer for them with --wait DURATION" } else { "" };
            let other = |bytes: &u64| format!(", or restore the other {} with --salvage", human::bytes(*bytes));
            wait.to_owned() + &salvageable.as_ref().map_or_else(String::new, other)
        }
        ClientError::Corrupt { .. } => "; cellsync-get --salvage restores all other bytes".to_owned(),
        ClientError::BadIndex { .. } => "; cellsync-get without --path does not need it".to_owned(),
        ClientError::MayLackEntries { .. } | ClientError::EntriesNotFound { .. } | ClientError::Several { .. } => {
            "; cellsync-get --salvage restores what is left".to_owned()
        }
        ClientError::TooLittleRoom { fits, .. } => {
            let fewer =
                if *fits > 0 { format!(", accept fewer copies with --min-copies {fits}") } else { String::new() };
            format!("{fewer}, or begin anyway with --no-room-check if the data compresses well")
        }
        ClientError::StoppedDrainWait { cell } => format!("; cellsync drain {} --undo cancels the drain", cell.url),
        ClientError::Resumable { cause, .. } => {
            let also = advice(cause);
            format!("; run the same command again to continue{also}")
        }
        _ => String::new(),
    }
}

fn advice_on_usage(error: &UsageError) -> &'static str {
    match error {
        UsageError::ManifestExists { .. } => "; use --force to overwrite it, or -o FILE for another name",
        UsageError::ManifestIsDirectory { .. }
        | UsageError::ManifestIsSource { .. }
        | UsageError::ManifestInSource { .. } => "; name another file with -o FILE",
        UsageError::OutputExists { .. } => "; use --force to overwrite it, or -o PATH for another name",
        UsageError::OtherPartialRestore { .. } => ", or overwrite it with --force",
        UsageError::OutputIsManifest { .. }
        | UsageError::OutputNotRegular { .. }
        | UsageError::OutputNamesDirectory { .. }
        | UsageError::OutputDirectoryExists { .. }
        | UsageError::OutputDirectoryNotEmpty { unfinished: None, .. } => "; choose another name with -o PATH",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{CellAvailability, ColonyScope, Omission, SpecialMetadata};

    fn text(error: impl Into<ClientError>) -> String {
        CommandError::from(error.into()).to_string()
    }

    #[test]
    fn an_existing_manifest_is_overwritten_by_force_only() {
        let path = PathBuf::from("file.manifest");
        let message = text(UsageError::ManifestExists { path });
        assert!(message.starts_with("file.manifest exists") && message.contains("--force"), "{message}");
    }

    #[test]
    fn cells_can_be_named_only_if_none_were() {
        let scope = ColonyScope { nodes: Vec::new(), udp_port: 5000, loopback: false };
        let message = text(ClientError::NoCells { scope: scope.clone() });
        assert!(message.contains("UDP port 5000") && message.contains("--node http://HOST:PORT"), "{message}");
        let message = text(ClientError::NoCells { scope: ColonyScope { nodes: vec!["http://a:1".into()], ..scope } });
        assert!(message.contains("http://a:1") && !message.contains("--node"), "{message}");
    }

    #[test]
    fn a_strict_put_of_a_file_says_what_is_stored_otherwise() {
        let text = |reason| text(ClientError::NotAsItIs { omission: Omission { path: "log".into(), reason } });
        let grew = "log: it grew while it was stored, and no manifest was written; without --strict, its first 2.0 KiB \
                    are stored";
        assert_eq!(text(OmissionReason::Grew { stored: 2048 }), grew);
        let changed = text(OmissionReason::Changed);
        assert!(changed.contains("changed while it was stored, and no manifest"), "{changed}");
        assert!(changed.contains("run the same command again"), "{changed}");
        let metadata = SpecialMetadata { capabilities: true, ..SpecialMetadata::default() };
        let special = text(OmissionReason::NotInManifest(metadata));
        assert!(
            special.contains("its capabilities, and no manifest") && special.contains("its directory"),
            "{special}"
        );
    }

    #[test]
    fn a_resumable_put_names_the_journal_and_the_way_on() {
        let cause = ClientError::TooFewCopies { cells: CellAvailability::default(), required: 5, made: 2 };
        let message = text(ClientError::Resumable { cause: Box::new(cause), kept: "f.manifest.part".into() });
        for fact in ["2 copies of the 5", "f.manifest.part", "run the same command again", "--min-copies 2"] {
            assert!(message.contains(fact), "{fact}: {message}");
        }
    }
}
