//! Completion for fish.

use super::command::{Command, Opt, first_sentence};
use super::settings::Settings;
use super::value::Value;

pub(super) fn completion(program: &Command, settings: &Settings) -> String {
    let name = program.name;
    let mut text = format!("# Completion of {name} for fish. Made by packaging/pages.rs.\n\n");
    if program.commands.is_empty() {
        return text + &lines(program, &format!("complete -c {name}"), settings);
    }
    let function = format!("__fish_{}_is_at", name.replace('-', "_"));
    text += &format!(
        "function {function} --description 'Is this the command of the line? Without a name: has it none yet?'\n\
         \x20   set -l words (commandline -opc)\n\
         \x20   set -e words[1]\n\
         \x20   set -l command (string match -v -- '-*' $words)[1]\n\
         \x20   test \"$command\" = \"$argv\"\n\
         end\n\n"
    );
    text += &lines(program, &format!("complete -c {name} -n {function}"), settings);
    for command in &program.commands {
        text += &format!(
            "complete -c {name} -n {function} -a {} -d {}\n",
            command.name,
            quoted(first_sentence(command.about))
        );
    }
    for command in &program.commands {
        text.push('\n');
        text += &lines(command, &format!("complete -c {name} -n '{function} {}'", command.name), settings);
    }
    text
}

/// What a command understands. `complete` is how its lines begin.
fn lines(command: &Command, complete: &str, settings: &Settings) -> String {
    let words = match command.positionals.first() {
        Some(positional) => possible(&positional.value, settings),
        None => " -f".to_owned(),
    };
    let mut text = format!("{complete}{words}\n");
    for option in &command.options {
        text += &format!("{complete}{} -d {}\n", names(option), quoted(option.about));
        if let Some((_, value)) = &option.takes {
            text.truncate(text.len() - 1);
            text += &format!(" -r{}\n", possible(value, settings));
        }
    }
    text
}

fn names(option: &Opt) -> String {
    let short = option.short.map_or_else(String::new, |short| format!(" -s {short}"));
    format!("{short} -l {}", option.long.trim_start_matches('-'))
}

fn possible(value: &Value, settings: &Settings) -> String {
    match value {
        Value::Path => " -F".to_owned(),
        Value::Directory => " -f -a '(__fish_complete_directories (commandline -ct))'".to_owned(),
        Value::Manifest => " -f -k -a '(__fish_complete_suffix .manifest)'".to_owned(),
        Value::Words(words) => format!(" -f -k -a {}", quoted(&words.join(" "))),
        Value::Setting => {
            // A tab before what it means, a line for each.
            let lines = settings.keys().map(|(key, about)| format!("{key}=\\t{}", quoted(first_sentence(about))));
            format!(" -f -a \"{}\"", lines.collect::<Vec<_>>().join("\n").replace('"', "\\\""))
        }
        Value::Free => " -f".to_owned(),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
