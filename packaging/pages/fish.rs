//! Completions for fish.

use cellsync::config::settings;

use super::command::{Command, Opt, first_sentence};
use super::value::Value;

pub(super) fn completion(program: &Command) -> String {
    let name = program.name;
    let mut text = format!("# Completions of {name} for fish. Made by packaging/pages.rs.\n\n");
    if program.commands.is_empty() {
        return text + &lines(program, &format!("complete -c {name}"));
    }
    let function = format!("__fish_{}_is_at", name.replace('-', "_"));
    text += &format!(
        "function {function} --description 'Tests for this subcommand; without an argument, for none'\n\
         \x20   set -l words (commandline -opc)\n\
         \x20   set -e words[1]\n\
         \x20   set -l command (string match -v -- '-*' $words)[1]\n\
         \x20   test \"$command\" = \"$argv\"\n\
         end\n\n"
    );
    text += &lines(program, &format!("complete -c {name} -n {function}"));
    for command in &program.commands {
        text += &format!(
            "complete -c {name} -n {function} -a {} -d {}\n",
            command.name,
            quoted(first_sentence(command.about))
        );
    }
    for command in &program.commands {
        text.push('\n');
        text += &lines(command, &format!("complete -c {name} -n '{function} {}'", command.name));
    }
    text
}

/// The completions of a command. Each line begins with `complete`.
fn lines(command: &Command, complete: &str) -> String {
    let words = match command.positionals.first() {
        Some(positional) => possible(&positional.value),
        None => " -f".to_owned(),
    };
    let mut text = format!("{complete}{words}\n");
    for option in &command.options {
        text += &format!("{complete}{} -d {}\n", names(option), quoted(option.about));
        if let Some((_, value)) = &option.takes {
            text.truncate(text.len() - 1);
            text += &format!(" -r{}\n", possible(value));
        }
    }
    text
}

fn names(option: &Opt) -> String {
    let short = option.short.map_or_else(String::new, |short| format!(" -s {short}"));
    format!("{short} -l {}", option.long.trim_start_matches('-'))
}

fn possible(value: &Value) -> String {
    match value {
        Value::Path => " -F".to_owned(),
        Value::Directory => " -f -a '(__fish_complete_directories (commandline -ct))'".to_owned(),
        Value::Manifest => " -f -k -a '(__fish_complete_suffix .manifest)'".to_owned(),
        Value::Words(words) => format!(" -f -k -a {}", quoted(&words.join(" "))),
        Value::Setting => {
            // Lines with a name, a tab and a description.
            let lines = settings().map(|setting| format!("{}=\\t{}", setting.name, quoted(setting.summary)));
            format!(" -f -a \"{}\"", lines.collect::<Vec<_>>().join("\n").replace('"', "\\\""))
        }
        Value::Free => " -f".to_owned(),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
