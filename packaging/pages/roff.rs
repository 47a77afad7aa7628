//! Text for manual pages, in the macros of man(7).

/// Columns of a line of the source. `man` fills lines anew.
const LINE_CHARS: usize = 78;

/// Text that is shown as it is, for what is typed or copied.
pub(super) fn literal(text: &str) -> String {
    text.chars().map(character).collect()
}

fn character(c: char) -> String {
    match c {
        '\\' => "\\e".to_owned(),
        // Otherwise typographic characters replace these.
        '-' => "\\-".to_owned(),
        '\'' => "\\(aq".to_owned(),
        '"' => "\\(dq".to_owned(),
        '`' => "\\(ga".to_owned(),
        '^' => "\\(ha".to_owned(),
        '~' => "\\(ti".to_owned(),
        ' '..='~' => c.to_string(),
        _ => panic!("{c:?}: pages are plain ASCII"),
    }
}

/// Running text. Text in backquotes, names of programs and options are bold. In other words a hyphen stays a hyphen.
pub(super) fn prose(text: &str) -> String {
    let mut lines = vec![String::new()];
    for (index, span) in text.split('`').enumerate() {
        if index % 2 == 1 {
            push(&mut lines, &bold(span));
            continue;
        }
        for (index, word) in span.split(' ').enumerate() {
            if index > 0 {
                next_word(&mut lines, word);
            }
            push(&mut lines, &ordinary(word));
        }
    }
    let lines = lines.iter().map(|line| line.trim_end());
    // A line that begins with these would be a request.
    let lines = lines.map(|line| if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

fn push(lines: &mut [String], text: &str) {
    if let Some(line) = lines.last_mut() {
        line.push_str(text);
    }
}

fn next_word(lines: &mut Vec<String>, word: &str) {
    match lines.last_mut() {
        Some(line) if line.len() + word.len() >= LINE_CHARS => lines.push(String::new()),
        Some(line) => line.push(' '),
        None => {}
    }
}

fn ordinary(word: &str) -> String {
    let core = word.trim_start_matches('(').trim_end_matches([',', '.', ';', ':', ')']);
    let (before, after) = word.split_once(core).unwrap_or((word, ""));
    if core.starts_with('-') || core.starts_with("cellsync-") {
        // A section in parentheses is not part of the name.
        let (name, section) = core.split_at(core.find('(').unwrap_or(core.len()));
        format!("{before}{}{section}{after}", bold(name))
    } else if core.contains('/') {
        format!("{before}{}{after}", literal(core))
    } else {
        word.chars().map(|c| if c == '-' { c.to_string() } else { character(c) }).collect()
    }
}

pub(super) fn bold(text: &str) -> String {
    format!("\\fB{}\\fR", literal(text))
}

pub(super) fn italic(text: &str) -> String {
    format!("\\fI{}\\fR", literal(text))
}
