//! `packaging/node.toml`: every setting as a comment, with its description and an example.

use cellsync::config::{GROUPS, Setting};

/// Columns of a line.
const WIDTH: usize = 100;

const HEAD: &str = "Settings of cellsync-node. A line that begins with \"#: \" is a setting with an example: remove \
                    the \"#: \" to use it. Options on the command line take precedence over this file. An unknown \
                    setting is an error. The manual page cellsync-node.toml(5) describes the same settings.";

/// The file, to the byte.
pub(crate) fn text() -> String {
    let mut text = comment(HEAD);
    for group in GROUPS {
        text += &format!("\n# --- {} {}\n", group.title, "-".repeat(WIDTH.saturating_sub(group.title.len() + 7)));
        if !group.about.is_empty() {
            text += &comment(group.about);
        }
        for setting in group.settings {
            let (name, example) = (setting.name, setting.example());
            text +=
                &format!("\n{}{}#: {name} = {example}\n", comment(&description(setting)), comment(&values(setting)));
        }
    }
    text
}

/// What a setting does and how to choose it.
fn description(setting: &Setting) -> String {
    format!("{}. {}", setting.summary, setting.details).trim_end().to_owned()
}

fn values(setting: &Setting) -> String {
    format!("Accepts {}. Default: {}.", setting.accepts(), setting.default_text())
}

/// The whole description of a setting.
pub(crate) fn about(setting: &Setting) -> String {
    format!("{} {}", description(setting), values(setting))
}

/// Comment lines, filled with whole words. What is in backquotes stays on one line.
fn comment(text: &str) -> String {
    let mut is_quoted = false;
    let words = text.split(|c: char| {
        is_quoted ^= c == '`';
        c == ' ' && !is_quoted
    });
    let mut lines = vec!["#".to_owned()];
    for word in words {
        if lines.last().is_some_and(|line| line.len() + word.len() >= WIDTH) {
            lines.push("#".to_owned());
        }
        if let Some(line) = lines.last_mut() {
            *line += &format!(" {word}");
        }
    }
    lines.join("\n") + "\n"
}
