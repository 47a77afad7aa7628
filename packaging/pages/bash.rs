//! Completions for bash. They need no other scripts; bash-completion loads them.

use cellsync::config::settings;

use super::command::Command;
use super::value::Value;

/// Reads the words up to the cursor. `at` is the index of the word at the cursor, `prev` the word before it, `command`
/// the first word that is not an option.
const READ: &str = r"    local cur=${COMP_WORDS[COMP_CWORD]} at=$COMP_CWORD prev command='' ended='' i
    local options='' words='' takes='' is_value=''
    COMPREPLY=()
    # Bash splits words at : and =, so the word can begin before the cursor.
    if [[ ${COMP_LINE:0:COMP_POINT} != *[[:space:]] ]]; then
        while ((at > 1)) && [[ ${COMP_WORDS[at]} == [:=]* || ${COMP_WORDS[at - 1]} == *[:=] ]]; do
            ((at--))
        done
    fi
    prev=${COMP_WORDS[at - 1]}
    # --option=value: what can follow the = is what can follow the option.
    if ((at + 1 == COMP_CWORD)) && [[ ${COMP_WORDS[at]} == --?* && $cur == = ]]; then
        prev=${COMP_WORDS[at]} cur='' at=$COMP_CWORD
    elif ((at + 2 == COMP_CWORD)) && [[ ${COMP_WORDS[at]} == --?* && ${COMP_WORDS[at + 1]} == = ]]; then
        prev=${COMP_WORDS[at]} at=$COMP_CWORD
    fi
    for ((i = 1; i < at; i++)); do
        case ${COMP_WORDS[i]} in
            --) ended=yes ;;
            -*) ;;
            *) [[ $command ]] || command=${COMP_WORDS[i]} ;;
        esac
    done
";

/// Offers the possible words. File names are left to readline, which quotes them.
const OFFER: &str = r#"    [[ $ended ]] && is_value=yes
    if [[ ! $is_value && ($cur == -* || $takes == nothing) ]]; then
        words=$options takes=words
    fi
    # Nothing can be offered after a : or =.
    if ((at < COMP_CWORD)) && [[ $takes != path ]]; then
        takes=nothing
    fi
    case $takes in
        path) return ;;
        directory)
            compopt +o default -o dirnames 2>/dev/null
            return
            ;;
        manifest)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -X '!*.manifest' -- "$cur"; compgen -d -- "$cur")
            return
            ;;
        setting) compopt -o nospace 2>/dev/null ;;
        nothing) words='' ;;
    esac
    compopt +o default 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
"#;

pub(super) fn completion(program: &Command) -> String {
    let name = program.name;
    let function = format!("_{}", name.replace('-', "_"));
    let mut text = format!("# Completions of {name} for bash. Made by packaging/pages.rs.\n\n{function}() {{\n{READ}");
    if program.commands.is_empty() {
        text += &possible(program, "    ");
    } else {
        text += "    case $command in\n        '')\n";
        text += &possible(program, "            ");
        text += "            ;;\n";
        for command in &program.commands {
            text += &format!("        {})\n{}            ;;\n", command.name, possible(command, "            "));
        }
        text += "        *) takes=nothing ;;\n    esac\n";
    }
    text + OFFER + &format!("\ncomplete -o default -F {function} {name}\n")
}

/// The words that are possible at the cursor.
fn possible(command: &Command, indent: &str) -> String {
    let options = command.option_names().collect::<Vec<_>>().join(" ");
    let mut text = format!("{indent}options='{options}'\n");
    let otherwise = match command.positionals.first() {
        Some(positional) => takes(&positional.value),
        None if command.commands.is_empty() => "takes=nothing".to_owned(),
        None => {
            let names = command.commands.iter().map(|command| command.name);
            format!("takes=words words='{}'", names.collect::<Vec<_>>().join(" "))
        }
    };
    let with_value = command.options.iter().filter_map(|option| {
        let (_, value) = option.takes.as_ref()?;
        let names = option.names().collect::<Vec<_>>().join(" | ");
        Some(format!("{indent}    {names}) is_value=yes {} ;;\n", takes(value)))
    });
    let with_value: String = with_value.collect();
    if with_value.is_empty() {
        return text + &format!("{indent}{otherwise}\n");
    }
    text += &format!("{indent}case $prev in\n{with_value}{indent}    *) {otherwise} ;;\n{indent}esac\n");
    text
}

fn takes(value: &Value) -> String {
    match value {
        Value::Path => "takes=path".to_owned(),
        Value::Directory => "takes=directory".to_owned(),
        Value::Manifest => "takes=manifest".to_owned(),
        Value::Words(words) => format!("takes=words words='{}'", words.join(" ")),
        Value::Setting => {
            let keys = settings().map(|setting| format!("{}=", setting.name));
            format!("takes=setting words='{}'", keys.collect::<Vec<_>>().join(" "))
        }
        Value::Free => "takes=nothing".to_owned(),
    }
}
