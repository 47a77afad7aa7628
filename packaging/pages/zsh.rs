//! Completions for zsh, by its function `_arguments`.

use cellsync::config::settings;

use super::command::{Command, Opt, Positional, first_sentence};
use super::value::Value;

/// The function that offers settings. The name is not that of a command.
const SETTINGS: &str = "_cellsync__settings";

pub(super) fn completion(program: &Command) -> String {
    let name = program.name;
    let mut text = format!("#compdef {name}\n# Completions of {name} for zsh. Made by packaging/pages.rs.\n\n");
    text += &format!("{SETTINGS}() {{\n    local -a settings=(\n");
    for setting in settings() {
        text += &format!("        {}\n", quoted(&format!("{}:{}", setting.name, setting.summary)));
    }
    text += "    )\n    _describe -t settings setting settings -S =\n}\n\n";
    for command in &program.commands {
        text += &format!("_{name}_{}() {{\n    {}\n}}\n\n", command.name, arguments(command, "", "    "));
    }
    text += &format!("_{name}() {{\n");
    if program.commands.is_empty() {
        text += &format!("    {}\n", arguments(program, "", "    "));
    } else {
        text += &dispatch(program);
    }
    text + &format!("}}\n\n_{name} \"$@\"\n")
}

fn dispatch(program: &Command) -> String {
    let mut text = "    local curcontext=$curcontext state ret=1\n    typeset -A opt_args\n".to_owned();
    let commands = " \\\n        ':command:->command' \\\n        '*::argument:->argument' && ret=0\n";
    text += &format!("    {}{commands}", arguments(program, "-C ", "    "));
    text += "    case $state in\n        command)\n            local -a commands=(\n";
    for command in &program.commands {
        let line = format!("{}:{}", command.name, first_sentence(command.about));
        text += &format!("                {}\n", quoted(&line));
    }
    text += "            )\n            _describe -t commands command commands && ret=0\n            ;;\n";
    text += "        argument)\n            case $words[1] in\n";
    for command in &program.commands {
        let line = format!("{}) _{}_{} && ret=0 ;;", command.name, program.name, command.name);
        text += &format!("                {line}\n");
    }
    text + "            esac\n            ;;\n    esac\n    return ret\n"
}

/// A call of `_arguments`. With `-S` there are no options after `--`.
fn arguments(command: &Command, more: &str, indent: &str) -> String {
    let options = command.options.iter().map(option);
    let positionals = command.positionals.iter().map(positional);
    let specs: Vec<_> = options.chain(positionals).map(|spec| format!(" \\\n{indent}    {spec}")).collect();
    format!("_arguments -S {more}:{}", specs.concat())
}

fn option(option: &Opt) -> String {
    // -o+ and --output= stand for values in the same word or in the next.
    let suffixed = |name: String| match &option.takes {
        None => name,
        Some(_) if name.starts_with("--") => name + "=",
        Some(_) => name + "+",
    };
    let names: Vec<_> = option.names().collect();
    let specs: Vec<_> = option.names().map(suffixed).collect();
    let about = option.about.replace('\\', "\\\\").replace('[', "\\[").replace(']', "\\]").replace(':', "\\:");
    let value = match &option.takes {
        Some((arg_name, value)) => format!(":{}:{}", arg_name.replace(':', "\\:"), action(value)),
        None => String::new(),
    };
    let excludes = if option.stands_alone() {
        "(- *)".to_owned()
    } else if option.repeats {
        "*".to_owned()
    } else {
        format!("({})", names.join(" "))
    };
    let spec = quoted(&format!("[{about}]{value}"));
    match specs.as_slice() {
        [name] => quoted(&excludes) + name + &spec,
        names => quoted(&excludes) + &format!("{{{}}}", names.join(",")) + &spec,
    }
}

fn positional(positional: &Positional) -> String {
    let colons = if positional.required { ":" } else { "::" };
    quoted(&format!("{colons}{}:{}", positional.name, action(&positional.value)))
}

fn action(value: &Value) -> String {
    match value {
        Value::Path => "_files".to_owned(),
        Value::Directory => "_files -/".to_owned(),
        Value::Manifest => "_files -g \"*.manifest(-.)\"".to_owned(),
        Value::Words(words) => format!("({})", words.join(" ")),
        Value::Setting => SETTINGS.to_owned(),
        Value::Free => " ".to_owned(),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
