//! The manual pages.

use super::command::{Command, Opt};
use super::roff::{bold, italic, literal, prose};
use super::settings::{Entry, Settings};
use super::words::{self, Words};

/// The page of a program, with all of its commands.
pub(super) fn of_program(program: &Command, words: &Words, day: &str) -> String {
    let mut page = head(program.name, words, day);
    page += ".SH SYNOPSIS\n";
    if program.commands.is_empty() {
        page += &synopsis(&bold(program.name), program);
    }
    let usages = program.commands.iter().map(|command| synopsis(&bold(&called(program, command)), command));
    page += &usages.collect::<Vec<_>>().join(".br\n");
    page += &format!(".SH DESCRIPTION\n{}", prose(program.about));
    page += &paragraphs(words.description);
    page += ".SH OPTIONS\n";
    page += &arguments(program);
    if !program.commands.is_empty() {
        page += ".SH COMMANDS\n";
    }
    for command in &program.commands {
        page += &format!(".SS {}\n{}", literal(&called(program, command)).replace(' ', "\\ "), prose(command.about));
        page += &paragraphs(command.notes);
        page += &arguments(command);
        if !command.exit_codes.is_empty() {
            page += ".PP\nExit status:\n.RS\n";
            page += &exit_status(command.exit_codes.iter().copied());
            page += ".RE\n";
        }
    }
    page += ".SH EXIT STATUS\n";
    page += &exit_status(words.exit_codes.iter().copied());
    page + &foot(words)
}

/// The page of `node.toml`.
pub(super) fn of_settings(settings: &Settings, day: &str) -> String {
    let words = &words::SETTINGS;
    let mut page = head("cellsync-node.toml", words, day);
    page += ".SH DESCRIPTION\n";
    page += paragraphs(words.description).trim_start_matches(".PP\n");
    page += ".SH SETTINGS\n";
    for entry in &settings.entries {
        page += &match entry {
            Entry::Remark(text) => format!(".PP\n{}", prose(text)),
            Entry::Setting { key, example, about } => tagged(&bold(&format!("{key} = {example}")), about),
        };
    }
    page + &foot(words)
}

fn head(name: &str, words: &Words, day: &str) -> String {
    format!(
        ".\\\" Made by packaging/pages.rs from what the program understands.\n\
         .TH {} {} {day} \"CellSync {}\" \"CellSync Manual\"\n.SH NAME\n{} \\- {}\n",
        literal(&name.to_uppercase()),
        words.section,
        env!("CARGO_PKG_VERSION"),
        literal(name),
        prose(words.name).trim_end(),
    )
}

fn foot(words: &Words) -> String {
    let mut page = String::new();
    for (title, entries) in [("ENVIRONMENT", words.environment), ("FILES", words.files)] {
        if !entries.is_empty() {
            page += &format!(".SH {title}\n");
        }
        for (name, about) in entries {
            page += &tagged(&bold(name), about);
        }
    }
    page += ".SH EXAMPLES\n";
    let examples = words.examples.iter().map(|(about, lines)| {
        let lines: String = lines.iter().map(|line| literal(line) + "\n").collect();
        format!("{}.PP\n.RS 4\n.EX\n{lines}.EE\n.RE\n", prose(about))
    });
    page += &examples.collect::<Vec<_>>().join(".PP\n");
    let others = words.see_also.iter().map(|(name, section)| format!("{}({section})", bold(name)));
    page + &format!(".SH SEE ALSO\n{}\n", others.collect::<Vec<_>>().join(",\n"))
}

/// What a command is called on the command line.
fn called(program: &Command, command: &Command) -> String {
    format!("{} {}", program.name, command.name)
}

fn synopsis(name: &str, command: &Command) -> String {
    let mut line = format!("{name} [{}]", italic("options"));
    for positional in &command.positionals {
        let word = italic(positional.name);
        line += &if positional.required { format!(" {word}") } else { format!(" [{word}]") };
    }
    line + "\n"
}

/// The words and options of a command.
fn arguments(command: &Command) -> String {
    let positionals = command.positionals.iter().map(|word| tagged(&italic(word.name), word.about));
    let options = command.options.iter().map(|option| tagged(&tag(option), option.about));
    positionals.chain(options).collect()
}

fn tag(option: &Opt) -> String {
    let names = option.names().map(|name| bold(&name)).collect::<Vec<_>>().join(", ");
    match option.takes {
        Some((arg_name, _)) => format!("{names} {}", italic(arg_name)),
        // A word that argh understands as well, wherever an option may stand.
        None if option.long == "--help" => format!("{names}, {}", bold("help")),
        None => names,
    }
}

fn exit_status<C: ToString>(codes: impl Iterator<Item = (C, &'static str)>) -> String {
    codes.map(|(code, about)| tagged(&bold(&code.to_string()), about)).collect()
}

fn tagged(tag: &str, about: &str) -> String {
    format!(".TP\n{tag}\n{}", prose(about))
}

fn paragraphs(texts: &[&str]) -> String {
    texts.iter().fold(String::new(), |page, text| page + ".PP\n" + &prose(text))
}
