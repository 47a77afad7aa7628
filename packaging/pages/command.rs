//! A command as the pages show it: argh's description, without what is hidden.

use argh::{CommandInfoWithArgs, FlagInfoKind, Optionality};

use super::value::Value;

pub(super) struct Command {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) options: Vec<Opt>,
    pub(super) positionals: Vec<Positional>,
    pub(super) commands: Vec<Command>,
    pub(super) notes: &'static [&'static str],
    pub(super) examples: Vec<Example>,
    pub(super) exit_codes: Vec<(i32, &'static str)>,
}

pub(super) struct Example {
    /// What one may want to do, with a colon.
    pub(super) purpose: &'static str,
    /// The lines to type.
    pub(super) lines: Vec<&'static str>,
}

pub(super) struct Opt {
    /// The name, with its dashes.
    pub(super) long: &'static str,
    pub(super) short: Option<char>,
    pub(super) about: &'static str,
    /// Name and kind of its value. None for a switch.
    pub(super) takes: Option<(&'static str, Value)>,
    pub(super) repeats: bool,
}

pub(super) struct Positional {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) value: Value,
    pub(super) required: bool,
}

impl Command {
    pub(super) fn shown(info: &CommandInfoWithArgs) -> Self {
        let mut command = Self {
            name: info.name,
            about: info.description.trim(),
            options: info.flags.iter().filter(|flag| !flag.hidden).map(Opt::shown).collect(),
            positionals: info.positionals.iter().filter(|word| !word.hidden).map(Positional::shown).collect(),
            commands: info.commands.iter().map(|command| Self::shown(&command.command)).collect(),
            notes: info.notes,
            examples: info.examples.iter().map(|text| Example::parse(text)).collect(),
            exit_codes: info.error_codes.iter().map(|code| (code.code, code.description)).collect(),
        };
        // In the order of --help.
        command.options.sort_by_key(Opt::stands_alone);
        // Otherwise the completions would have to count words.
        let is_free = |word: &Positional| matches!(word.value, Value::Free);
        assert!(command.positionals.iter().skip(1).all(is_free), "{}: completions know the first argument", info.name);
        let is_plain = command.positionals.is_empty() && command.options.iter().all(|option| option.takes.is_none());
        assert!(
            command.commands.is_empty() || is_plain,
            "{}: completions find the subcommand after switches only",
            info.name
        );
        command
    }

    /// The names of the options, with the short ones.
    pub(super) fn option_names(&self) -> impl Iterator<Item = String> {
        self.options.iter().flat_map(Opt::names)
    }
}

impl Example {
    /// A line with the purpose, and indented lines to type.
    fn parse(text: &'static str) -> Self {
        let (purpose, lines) = text.split_once('\n').unwrap_or((text, ""));
        assert!(purpose.ends_with(':') && !lines.is_empty(), "an example has a purpose and lines to type: {text}");
        Self { purpose, lines: lines.lines().map(str::trim).collect() }
    }
}

impl Opt {
    fn shown(info: &argh::FlagInfo<'static>) -> Self {
        let takes = match info.kind {
            FlagInfoKind::Switch => None,
            FlagInfoKind::Option { arg_name } => Some((arg_name, Value::of(info.long, arg_name))),
        };
        let repeats = info.optionality == Optionality::Repeating;
        // argh does not list the short name of its own option.
        let short = if info.long == "--help" { Some('h') } else { info.short };
        Self { long: info.long, short, about: info.description.trim(), takes, repeats }
    }

    /// The short one first.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        self.short.map(|short| format!("-{short}")).into_iter().chain([self.long.to_owned()])
    }

    /// Does it make the program ignore all others?
    pub(super) fn stands_alone(&self) -> bool {
        ["--help", "--version"].contains(&self.long)
    }
}

impl Positional {
    fn shown(info: &argh::PositionalInfo<'static>) -> Self {
        let value = Value::of(info.name, info.name);
        let required = info.optionality == Optionality::Required;
        Self { name: info.name, about: info.description.trim(), value, required }
    }
}

/// The part of a description that fits a menu.
pub(super) fn first_sentence(text: &str) -> &str {
    text.split_once(". ").map_or(text, |(first, _)| first).trim_end_matches('.')
}
