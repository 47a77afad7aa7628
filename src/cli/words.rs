//! The words of a command line, sorted by a command's description before argh reads them.
//!
//! argh understands neither `--option=value` nor `-ovalue`, and says little about words that it does not expect. So
//! this module splits such words, finds every mistake in the names and the number of words, and leaves to argh what the
//! values mean. Nothing after `--` is an option.

use std::ffi::{OsStr, OsString};

use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality, SubCommandInfo};

use crate::cli::encoded::{encode, shown};

/// Names that are less similar than this are not suggested, on the scale from 0 to 1 of Jaro and Winkler.
const SIMILAR: f64 = 0.8;

/// A command line that names a command and only options that it has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CommandLine {
    /// The program, with its subcommand: `cellsync check`.
    pub(super) command: String,
    /// The words for argh.
    pub(super) words: Vec<String>,
    pub(super) request: Request,
}

/// What the user wants from the command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// To run.
    Run,
    /// To print its help. The words end with `--help`.
    Help,
    /// To print the version.
    Version,
}

/// Words that are no command line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WordError {
    /// The program, with its subcommand if that is known.
    pub(super) command: String,
    pub(super) problem: Problem,
}

/// What is wrong with the words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error("unknown option {option}{}", did_you_mean(similar.as_deref()))]
    UnknownOption { option: String, similar: Option<String> },
    #[error("unknown option {option}; for a file of this name, write ./{option}, or -- before it")]
    UnknownFileName { option: String },
    #[error("unknown option {option}; options follow the command")]
    OptionBeforeCommand { option: String },
    #[error("{option} takes no value")]
    UnexpectedValue { option: String },
    #[error("{option} needs a value: {option} <{value}>")]
    MissingValue { option: String, value: &'static str },
    #[error("{option} is given twice")]
    Repeated { option: &'static str },
    #[error("unexpected argument {}{}", quoted(word), after(*last))]
    UnexpectedArgument { word: String, last: Option<&'static str> },
    #[error("no <{name}> is given: {description}")]
    MissingArgument { name: &'static str, description: &'static str },
    #[error("no command is given; there are {}", commands.join(", "))]
    MissingCommand { commands: Vec<&'static str> },
    #[error("unknown command {}{}", quoted(word), did_you_mean(similar.as_deref()))]
    UnknownCommand { word: String, similar: Option<String> },
    #[error("argument {word} is not valid Unicode")]
    NotUnicode { word: String },
}

fn did_you_mean(similar: Option<&str>) -> String {
    similar.map_or_else(String::new, |similar| format!("; did you mean {similar}?"))
}

/// An empty word would not be seen.
fn quoted(word: &str) -> String {
    if word.is_empty() { "''".to_owned() } else { word.to_owned() }
}

fn after(last: Option<&str>) -> String {
    last.map_or_else(String::new, |last| format!(" after the {last}"))
}

/// Sorts the words after the program's name. `related` are other programs whose names begin with that of this one.
pub(super) fn sort(
    program: &CommandInfoWithArgs,
    related: &[&str],
    words: impl IntoIterator<Item = OsString>,
) -> Result<CommandLine, WordError> {
    let mut sorter = Sorter {
        command: program.name.to_owned(),
        info: program,
        related,
        words: Vec::new(),
        seen: Vec::new(),
        positionals: 0,
    };
    let request = sorter.sort(&mut words.into_iter());
    let command = sorter.command;
    match request {
        Ok(request) => Ok(CommandLine { command, words: sorter.words, request }),
        Err(problem) => Err(WordError { command, problem }),
    }
}

struct Sorter<'a> {
    command: String,
    /// The program, and from its name on the subcommand.
    info: &'a CommandInfoWithArgs,
    related: &'a [&'a str],
    words: Vec<String>,
    /// Options with a value that were given.
    seen: Vec<&'static str>,
    /// Positional arguments that were given.
    positionals: usize,
}

impl Sorter<'_> {
    fn sort(&mut self, words: &mut dyn Iterator<Item = OsString>) -> Result<Request, Problem> {
        let mut is_ended = false;
        while let Some(word) = words.next() {
            let text = encoded(&word)?;
            if is_ended || !text.starts_with('-') {
                if let Some(request) = self.positional(text, words)? {
                    return Ok(request);
                }
            } else if text == "--" {
                is_ended = true;
                self.words.push(text);
            } else if let Some(request) = self.option(&text, words)? {
                return match request {
                    Request::Help => self.help(words),
                    other => Ok(other),
                };
            }
        }
        self.check_complete()?;
        Ok(Request::Run)
    }

    fn positional(
        &mut self,
        text: String,
        words: &mut dyn Iterator<Item = OsString>,
    ) -> Result<Option<Request>, Problem> {
        if !self.info.commands.is_empty() {
            if text == "help" {
                return self.help(words).map(Some);
            }
            self.enter(&text)?;
            self.words.push(text);
            return self.sort(words).map(Some);
        }
        let positionals = self.info.positionals;
        let takes_more = positionals
            .last()
            .is_some_and(|last| matches!(last.optionality, Optionality::Repeating | Optionality::Greedy));
        if self.positionals >= positionals.len() && !takes_more {
            return Err(Problem::UnexpectedArgument {
                word: shown(&text),
                last: positionals.last().map(|last| last.name),
            });
        }
        self.positionals += 1;
        self.words.push(text);
        Ok(None)
    }

    /// Goes on to a subcommand.
    fn enter(&mut self, name: &str) -> Result<(), Problem> {
        let commands = &self.info.commands;
        let Some(command) = commands.iter().find(|command| command.name == name) else {
            let other = format!("{}-{name}", self.info.name);
            let similar = match self.related.iter().find(|related| **related == other) {
                Some(related) => Some((*related).to_owned()),
                None => similar(name, commands.iter().map(|command| command.name)),
            };
            return Err(Problem::UnknownCommand { word: shown(name), similar });
        };
        self.command = format!("{} {name}", self.command);
        self.info = &command.command;
        Ok(())
    }

    /// The help of this command, or of the one that the next word names.
    fn help(&mut self, words: &mut dyn Iterator<Item = OsString>) -> Result<Request, Problem> {
        let next = words.next().filter(|_| !self.info.commands.is_empty());
        if let Some(name) = next.filter(|next| next != "help" && !next.as_encoded_bytes().starts_with(b"-")) {
            let name = encoded(&name)?;
            self.enter(&name)?;
            self.words.push(name);
        }
        self.words.push("--help".to_owned());
        Ok(Request::Help)
    }

    /// A word that begins with a dash.
    fn option(&mut self, word: &str, words: &mut dyn Iterator<Item = OsString>) -> Result<Option<Request>, Problem> {
        let (name, attached) = self.split(word)?;
        match name {
            Name::Help | Name::Version if attached.is_some() => {
                Err(Problem::UnexpectedValue { option: option_of(word) })
            }
            Name::Help => Ok(Some(Request::Help)),
            Name::Version => Ok(Some(Request::Version)),
            Name::Switch(long) if attached.is_some() => Err(Problem::UnexpectedValue { option: long.to_owned() }),
            Name::Switch(long) => {
                self.words.push(long.to_owned());
                Ok(None)
            }
            Name::Option { long, value, repeats } => {
                if !repeats && self.seen.contains(&long) {
                    return Err(Problem::Repeated { option: long });
                }
                self.seen.push(long);
                let next = match attached {
                    Some(attached) => Some(OsString::from(attached)),
                    None => words.next(),
                };
                let next = next.ok_or_else(|| Problem::MissingValue { option: option_of(word), value })?;
                // An attached value has been encoded already, which a second time changes only `-`.
                let text = encoded(&next)?;
                self.words.extend([long.to_owned(), text]);
                Ok(None)
            }
        }
    }

    /// The name of the option, and the value in the same word.
    fn split<'w>(&self, word: &'w str) -> Result<(Name, Option<&'w str>), Problem> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        if name.starts_with("--") {
            return match self.info.flags.iter().find(|flag| flag.long == name) {
                Some(flag) => Ok((Name::of(flag), value)),
                None => Err(self.unknown(name)),
            };
        }
        // `-option` would otherwise be `-o` with the value `ption`.
        let is_long = self.info.flags.iter().any(|flag| flag.long.strip_prefix('-') == Some(name) && name.len() > 2);
        let mut chars = word.strip_prefix('-').unwrap_or(word).chars();
        let flag = chars.next().filter(|_| !is_long).and_then(|short| self.short(short));
        let rest = chars.as_str();
        match flag {
            Some(flag) if rest.is_empty() => Ok((Name::of(flag), None)),
            Some(flag) if takes_value(flag) || rest.starts_with('=') => {
                Ok((Name::of(flag), Some(rest.strip_prefix('=').unwrap_or(rest))))
            }
            _ => Err(self.unknown(name)),
        }
    }

    fn short(&self, short: char) -> Option<&'static FlagInfo<'static>> {
        let is_help = |flag: &FlagInfo<'_>| short == 'h' && flag.long == "--help";
        self.info.flags.iter().find(|flag| flag.short == Some(short) || is_help(flag))
    }

    fn unknown(&self, name: &str) -> Problem {
        let option = shown(name);
        let listed = self.info.flags.iter().filter(|flag| !flag.hidden).map(|flag| flag.long);
        match similar(name, listed) {
            None if !self.info.commands.is_empty() => Problem::OptionBeforeCommand { option },
            None if !name.starts_with("--") && !self.info.positionals.is_empty() => Problem::UnknownFileName { option },
            similar => Problem::UnknownOption { option, similar },
        }
    }

    fn check_complete(&self) -> Result<(), Problem> {
        if !self.info.commands.is_empty() {
            return Err(Problem::MissingCommand { commands: names(&self.info.commands) });
        }
        match self.info.positionals.get(self.positionals) {
            Some(missing) if missing.optionality == Optionality::Required => {
                Err(Problem::MissingArgument { name: missing.name, description: missing.description.trim() })
            }
            _ => Ok(()),
        }
    }
}

enum Name {
    Help,
    Version,
    Switch(&'static str),
    Option { long: &'static str, value: &'static str, repeats: bool },
}

impl Name {
    fn of(flag: &FlagInfo<'static>) -> Self {
        match (flag.long, &flag.kind) {
            ("--help", _) => Self::Help,
            ("--version", _) => Self::Version,
            (long, FlagInfoKind::Switch) => Self::Switch(long),
            (long, FlagInfoKind::Option { arg_name }) => {
                Self::Option { long, value: arg_name, repeats: flag.optionality == Optionality::Repeating }
            }
        }
    }
}

fn takes_value(flag: &FlagInfo<'_>) -> bool {
    matches!(flag.kind, FlagInfoKind::Option { .. })
}

/// The option of a word, as the user wrote it.
fn option_of(word: &str) -> String {
    shown(word.split('=').next().unwrap_or(word))
}

fn names(commands: &[SubCommandInfo]) -> Vec<&'static str> {
    commands.iter().map(|command| command.name).collect()
}

fn encoded(word: &OsStr) -> Result<String, Problem> {
    encode(word).ok_or_else(|| Problem::NotUnicode { word: word.display().to_string() })
}

/// The name that may have been meant.
fn similar<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let bare = word.trim_start_matches('-');
    let rated = names.map(|name| (strsim::jaro_winkler(bare, name.trim_start_matches('-')), name));
    let best = rated.max_by(|(a, _), (b, _)| a.total_cmp(b));
    best.filter(|(rating, _)| *rating >= SIMILAR).map(|(_, name)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use argh::{ArgsInfo, FromArgs};

    use super::*;

    /// Store.
    #[derive(FromArgs, ArgsInfo)]
    #[argh(subcommand, name = "store", help_triggers("-h", "--help"))]
    #[allow(dead_code)]
    struct Store {
        /// what to store
        #[argh(positional)]
        path: String,
        /// where to write
        #[argh(option, short = 'o', arg_name = "file")]
        output: Option<String>,
        /// copies
        #[argh(option, arg_name = "n")]
        copies: Option<u8>,
        /// a setting
        #[argh(option, arg_name = "key=value")]
        set: Vec<String>,
        /// as JSON
        #[argh(switch)]
        json: bool,
        /// hidden
        #[argh(switch, hidden_help)]
        secret: bool,
        /// version
        #[argh(switch, short = 'V')]
        version: bool,
    }

    /// List.
    #[derive(FromArgs, ArgsInfo)]
    #[argh(subcommand, name = "list", help_triggers("-h", "--help"))]
    #[allow(dead_code)]
    struct List {}

    /// The tool.
    #[derive(FromArgs, ArgsInfo)]
    #[argh(help_triggers("-h", "--help"))]
    #[allow(dead_code)]
    struct Tool {
        #[argh(subcommand)]
        command: Command,
        /// version
        #[argh(switch, short = 'V')]
        version: bool,
    }

    #[derive(FromArgs, ArgsInfo)]
    #[argh(subcommand)]
    #[allow(dead_code)]
    enum Command {
        Store(Store),
        List(List),
    }

    fn sorted(info: &CommandInfoWithArgs, words: &[&str]) -> Result<CommandLine, WordError> {
        sort(info, &["tool-put"], words.iter().map(OsString::from))
    }

    fn store(words: &[&str]) -> Result<CommandLine, WordError> {
        sorted(&Store::get_args_info(), words)
    }

    fn tool(words: &[&str]) -> Result<CommandLine, WordError> {
        sorted(&CommandInfoWithArgs { name: "tool", ..Tool::get_args_info() }, words)
    }

    /// The words for argh, of a command that runs.
    fn words(line: Result<CommandLine, WordError>) -> Vec<String> {
        let line = line.unwrap();
        assert_eq!(line.request, Request::Run);
        line.words
    }

    fn error(line: Result<CommandLine, WordError>) -> String {
        let WordError { command, problem } = line.unwrap_err();
        format!("{command}: {problem}")
    }

    #[test]
    fn values_can_be_attached_to_their_options() {
        for (given, expected) in [
            (&["--copies=3", "f"][..], &["--copies", "3", "f"][..]),
            (&["--copies", "3", "f"], &["--copies", "3", "f"]),
            (&["--copies=", "f"], &["--copies", "", "f"]),
            (&["--set=a=b", "--set", "c=d", "f"], &["--set", "a=b", "--set", "c=d", "f"]),
            (&["-o", "x", "f"], &["--output", "x", "f"]),
            (&["-ox", "f"], &["--output", "x", "f"]),
            (&["-o=x", "f"], &["--output", "x", "f"]),
            (&["-o", "=x", "f"], &["--output", "=x", "f"]),
            (&["--output=x=y", "f"], &["--output", "x=y", "f"]),
            // A value may look like an option.
            (&["-o", "--json", "f"], &["--output", "--json", "f"]),
            (&["-o", "--version", "f"], &["--output", "--version", "f"]),
            (&["-o", "-h", "f"], &["--output", "-h", "f"]),
            (&["-o", "--", "f"], &["--output", "--", "f"]),
            (&["f", "--json"], &["f", "--json"]),
            (&["help"], &["help"]),
            (&["a=b"], &["a=b"]),
            (&["--", "--copies=3"], &["--", "--copies=3"]),
            (&["--", "--version"], &["--", "--version"]),
            (&["--", "-h"], &["--", "-h"]),
            (&["--", "--"], &["--", "--"]),
        ] {
            assert_eq!(words(store(given)), expected, "{given:?}");
        }
        let dash = encode(OsStr::new("-")).unwrap();
        for given in [&["-o", "-", "-"][..], &["-o-", "-"], &["--output=-", "-"], &["-o=-", "-"]] {
            assert_eq!(words(store(given)), ["--output", &dash, &dash], "{given:?}");
        }
    }

    #[test]
    fn help_and_version_count_only_where_they_are_options() {
        for (given, request, words) in [
            (&["-h"][..], Request::Help, &["--help"][..]),
            (&["--help", "--nonsense"], Request::Help, &["--help"]),
            (&["f", "--copies", "x", "-h"], Request::Help, &["f", "--copies", "x", "--help"]),
            (&["--version"], Request::Version, &[]),
            (&["f", "-V"], Request::Version, &["f"]),
        ] {
            let line = store(given).unwrap();
            assert_eq!(
                (line.request, line.words.as_slice()),
                (request, words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>().as_slice()),
                "{given:?}"
            );
        }
    }

    #[test]
    fn help_of_a_subcommand_can_be_asked_for_in_every_way() {
        for given in
            [&["help", "store"][..], &["--help", "store"], &["-h", "store"], &["store", "--help"], &["store", "-h"]]
        {
            let line = tool(given).unwrap();
            assert_eq!((line.command.as_str(), line.request), ("tool store", Request::Help), "{given:?}");
            assert_eq!(line.words, ["store", "--help"]);
        }
        for given in [&["help"][..], &["help", "help"], &["help", "--json"], &["-h"]] {
            let line = tool(given).unwrap();
            assert_eq!((line.command.as_str(), line.words), ("tool", vec!["--help".to_owned()]), "{given:?}");
        }
        assert_eq!(words(tool(&["store", "help"])), ["store", "help"]);
        assert_eq!(error(tool(&["help", "stor"])), "tool: unknown command stor; did you mean store?");
        assert_eq!(tool(&["-V"]).unwrap().request, Request::Version);
    }

    #[test]
    fn mistakes_in_options_are_named() {
        for (given, expected) in [
            (&["--copie", "3", "f"][..], "store: unknown option --copie; did you mean --copies?"),
            (&["--copie=3", "f"], "store: unknown option --copie; did you mean --copies?"),
            (&["-copies", "3", "f"], "store: unknown option -copies; did you mean --copies?"),
            (&["-output=3", "f"], "store: unknown option -output; did you mean --output?"),
            (&["--zzz", "f"], "store: unknown option --zzz"),
            (&["--secre", "f"], "store: unknown option --secre"),
            (&["-x"], "store: unknown option -x; for a file of this name, write ./-x, or -- before it"),
            (&["--json=yes", "f"], "store: --json takes no value"),
            (&["--version=1"], "store: --version takes no value"),
            (&["-h=1"], "store: -h takes no value"),
            (&["f", "--copies"], "store: --copies needs a value: --copies <n>"),
            (&["f", "-o"], "store: -o needs a value: -o <file>"),
            (&["--copies", "3", "--copies=4", "f"], "store: --copies is given twice"),
            (&["-o", "a", "--output", "b", "f"], "store: --output is given twice"),
        ] {
            assert_eq!(error(store(given)), expected, "{given:?}");
        }
        assert_eq!(words(store(&["--json", "--json", "f"])), ["--json", "--json", "f"]);
        assert_eq!(error(tool(&["--json", "list"])), "tool: unknown option --json; options follow the command");
    }

    #[test]
    fn mistakes_in_arguments_are_named() {
        assert_eq!(error(store(&[])), "store: no <path> is given: what to store");
        assert_eq!(error(store(&["a", "b"])), "store: unexpected argument b after the path");
        assert_eq!(error(store(&["a", ""])), "store: unexpected argument '' after the path");
        assert_eq!(error(tool(&["list", "a"])), "tool list: unexpected argument a");
        assert_eq!(error(tool(&[])), "tool: no command is given; there are store, list");
        assert_eq!(error(tool(&["sotre"])), "tool: unknown command sotre; did you mean store?");
        assert_eq!(error(tool(&["put", "f"])), "tool: unknown command put; did you mean tool-put?");
        assert_eq!(error(tool(&["xyz"])), "tool: unknown command xyz");
    }
}
