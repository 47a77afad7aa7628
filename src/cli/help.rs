//! What `--help` prints: the text of argh, with lines that fit a terminal.

use crate::config::settings;

/// The commands that run a cell: their help lists the settings.
const NODE_COMMANDS: [&str; 2] = ["cellsync-node", "cellsync node"];

/// Columns of a terminal.
const WIDTH: usize = 80;

/// The text to print, from that of argh.
pub(super) fn text(argh: &str) -> String {
    let mut text: String = argh.trim_end().lines().map(fill).collect();
    if NODE_COMMANDS.iter().any(|name| argh.starts_with(&format!("Usage: {name} "))) {
        text += &settings_help();
    }
    text
}

/// The list of the settings.
fn settings_help() -> String {
    let entries = settings().map(|setting| entry(setting.name, setting.summary, 26));
    format!("\nSettings (--set KEY=VALUE, or in the file):\n{}", entries.collect::<String>())
}

/// A name and its description, which begins in column `indent`.
fn entry(name: &str, description: &str, indent: usize) -> String {
    wrap(&format!("  {name:<width$}", width = indent - 2), description, indent)
}

/// Breaks a line that is too long.
fn fill(line: &str) -> String {
    if line == "Error codes:" {
        // 0 is one of them, and no error.
        return "Exit status:\n".to_owned();
    }
    if line.chars().count() <= WIDTH {
        return format!("{line}\n");
    }
    let text = line.trim_start();
    let lead = &line[..line.len() - text.len()];
    let is_exit_code = !lead.is_empty() && text.starts_with(|c: char| c.is_ascii_digit());
    let hanging = match text {
        _ if is_exit_code => 2,
        text if text.starts_with("Usage: ") => "Usage: ".len(),
        _ => 0,
    };
    wrap(lead, text, lead.len() + hanging)
}

/// Breaks `text` between words, but not within brackets. All lines but the first begin with `indent` spaces.
fn wrap(lead: &str, text: &str, indent: usize) -> String {
    let mut depth = 0_usize;
    let words = text.split(|c: char| {
        depth = match c {
            '[' => depth + 1,
            ']' => depth.saturating_sub(1),
            _ => depth,
        };
        c == ' ' && depth == 0
    });
    let (mut lines, mut line, mut is_first) = (String::new(), lead.to_owned(), true);
    for word in words {
        if !is_first && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines += &format!("{line}\n");
            line = " ".repeat(indent);
        } else if !is_first {
            line.push(' ');
        }
        line += word;
        is_first = false;
    }
    lines + &line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_broken_and_short_ones_stay() {
        let usage = format!("Usage: cellsync check{} <manifest>", " [--copies <n>]".repeat(5));
        let prose = ["word"; 30].join(" ");
        let code = format!("  3 {prose}");
        let text = text(&format!("{usage}\n\n{prose}\n\nOptions:\n  --deep            have\n\nError codes:\n{code}\n"));
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
        assert!(text.contains("\n       [--copies <n>] [--copies <n>] <manifest>\n\nword word"), "{text}");
        assert!(text.contains("\n  --deep            have\n\nExit status:\n  3 word"), "{text}");
        assert!(
            text.ends_with("word\n    word word word word word word word word word word word word word word word\n"),
            "{text}"
        );
    }
}
