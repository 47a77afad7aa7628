//! The manual pages.

use cellsync::cli::{CLIENT_SETTINGS, ClientSetting};
use cellsync::config::GROUPS;

use super::command::{Command, Example, Opt};
use super::node_toml::about;
use super::roff::{bold, italic, literal, prose};
use super::words::{self, Words};

/// The page of a program and all of its subcommands.
pub(super) fn of_program(program: &Command, words: &Words, day: &str) -> String {
    let mut page = head(program.name, words, day);
    page += ".SH SYNOPSIS\n";
    if program.commands.is_empty() {
        page += &synopsis(&bold(program.name), program);
    }
    let usages = program.commands.iter().map(|command| synopsis(&bold(&called(program, command)), command));
    page += &usages.collect::<Vec<_>>().join(".br\n");
    page += &format!(".SH DESCRIPTION\n{}", prose(program.about));
    page += &paragraphs(program.notes);
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
    page += &exit_status(program.exit_codes.iter().copied());
    let examples = program.examples.iter().chain(program.commands.iter().flat_map(|command| &command.examples));
    page + &foot(words, examples)
}

/// The page of `node.toml`.
pub(super) fn of_node_settings(day: &str) -> String {
    let mut settings = String::new();
    for group in GROUPS {
        settings += &format!(".SS {}\n", literal(group.title));
        if !group.about.is_empty() {
            settings += &prose(group.about);
        }
        for setting in group.settings {
            settings += &tagged(&assignment(setting.name, &setting.example()), &about(setting));
        }
    }
    of_file("cellsync-node.toml", &words::NODE_SETTINGS, &settings, &words::node_settings_example(), day)
}

/// The page of `client.toml`.
pub(super) fn of_client_settings(day: &str) -> String {
    let about = |setting: &ClientSetting| format!("{} Accepts {}.", setting.about, setting.accepts);
    let entry = |setting: &ClientSetting| tagged(&assignment(setting.name, setting.example), &about(setting));
    let settings: String = CLIENT_SETTINGS.iter().map(entry).collect();
    of_file("cellsync-client.toml", &words::CLIENT_SETTINGS, &settings, &words::client_settings_example(), day)
}

fn of_file(name: &str, words: &Words, settings: &str, example: &Example, day: &str) -> String {
    let description = paragraphs(words.description);
    let description = description.trim_start_matches(".PP\n");
    head(name, words, day) + ".SH DESCRIPTION\n" + description + ".SH SETTINGS\n" + settings + &foot(words, [example])
}

fn assignment(name: &str, value: &str) -> String {
    bold(&format!("{name} = {value}"))
}

fn head(name: &str, words: &Words, day: &str) -> String {
    format!(
        ".\\\" Made by packaging/pages.rs.\n\
         .TH {} {} {day} \"CellSync {}\" \"CellSync Manual\"\n.SH NAME\n{} \\- {}\n",
        literal(&name.to_uppercase()),
        words.section,
        env!("CARGO_PKG_VERSION"),
        literal(name),
        prose(words.name).trim_end(),
    )
}

fn foot<'a>(words: &Words, examples: impl IntoIterator<Item = &'a Example>) -> String {
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
    let examples = examples.into_iter().map(|example| {
        let lines: String = example.lines.iter().map(|line| literal(line) + "\n").collect();
        format!("{}.PP\n.RS 4\n.EX\n{lines}.EE\n.RE\n", prose(example.purpose))
    });
    page += &examples.collect::<Vec<_>>().join(".PP\n");
    let others = words.see_also.iter().map(|(name, section)| format!("{}({section})", bold(name)));
    page + &format!(".SH SEE ALSO\n{}\n", others.collect::<Vec<_>>().join(",\n"))
}

/// The full name of a command.
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

/// The positional arguments and options of a command.
fn arguments(command: &Command) -> String {
    let positionals = command.positionals.iter().map(|word| tagged(&italic(word.name), word.about));
    let options = command.options.iter().map(|option| tagged(&tag(option), option.about));
    positionals.chain(options).collect()
}

fn tag(option: &Opt) -> String {
    let names = option.names().map(|name| bold(&name)).collect::<Vec<_>>().join(", ");
    match option.takes {
        Some((arg_name, _)) => format!("{names} {}", italic(arg_name)),
        None => names,
    }
}

fn exit_status(codes: impl Iterator<Item = (i32, &'static str)>) -> String {
    codes.map(|(code, about)| tagged(&bold(&code.to_string()), about)).collect()
}

fn tagged(tag: &str, about: &str) -> String {
    format!(".TP\n{tag}\n{}", prose(about))
}

fn paragraphs(texts: &[&str]) -> String {
    texts.iter().fold(String::new(), |page, text| page + ".PP\n" + &prose(text))
}
