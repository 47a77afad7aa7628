//! How the demo speaks: stages, lines, and a client's progress as lines. Colours only where `console` finds a terminal
//! that wants them.

use std::cell::Cell;
use std::fmt::Display;
use std::io::Write;

use console::{Style, Term, style};

use crate::client::{Notice, Progress};
use crate::human;
use crate::id::BLOCK_BYTES;

/// More chunks than this are not told one by one.
pub(super) const MAX_TOLD: usize = 12;

/// Columns of a line after its indent.
const MAX_COLUMNS: usize = 78;

/// What the demo consists of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stage {
    Genesis,
    Differentiation,
    Upload,
    Attack,
    Chaos,
    Healing,
    Corruption,
    Liar,
    Restore,
    Verdict,
}

/// Begins a stage.
pub(super) fn heading(stage: Stage) {
    let colour = match stage {
        Stage::Genesis | Stage::Differentiation | Stage::Upload => Style::new().cyan(),
        Stage::Attack | Stage::Chaos | Stage::Corruption | Stage::Liar => Style::new().red(),
        Stage::Healing | Stage::Restore | Stage::Verdict => Style::new().green(),
    };
    say("");
    say(colour.bold().apply_to(format!("{stage:?}")));
}

/// Asks the user for a key. Gone when it was pressed, where a line can go.
pub(super) fn prompt(ask: bool) {
    let term = Term::stdout();
    if ask {
        say("");
        aside("press Enter to go on");
    } else if term.is_term() {
        // The prompt, the line that Enter has ended, and the empty one before.
        drop(term.clear_last_lines(3));
    }
}

/// Says something within a stage.
pub(super) fn line(text: impl Display) {
    say(format_args!("  {text}"));
}

/// Says something that matters less.
pub(super) fn aside(text: impl Display) {
    line(style(text).dim());
}

/// Says something that is longer than a line; in as many lines as it takes.
pub(super) fn tell(text: &str) {
    wrapped(text).iter().for_each(line);
}

/// Says something that the user should not miss; in as many lines as it takes.
pub(super) fn warn(text: &str) {
    for part in wrapped(text) {
        line(style(part).yellow());
    }
}

/// Breaks a text into lines that fit 80 columns with the indent, where its words allow.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= MAX_COLUMNS => {
                *line += &format!(" {word}");
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A line on standard output. Where nobody reads any more, the demo still goes on to its end and cleans up.
pub(super) fn say(text: impl Display) {
    drop(writeln!(std::io::stdout(), "{text}"));
}

/// Which way the chunks go.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    /// Into the colony.
    In,
    /// Back out of it.
    Out,
}

/// Tells of each chunk that is done, or of each tenth of many.
pub(super) struct Teller {
    /// None if only what is unusual is told.
    way: Option<Way>,
    is_silent: bool,
    chunks: Cell<usize>,
    done: Cell<usize>,
}

impl Teller {
    pub(super) fn new(way: Way) -> Self {
        Self { way: Some(way), is_silent: false, chunks: Cell::new(0), done: Cell::new(0) }
    }

    /// One that tells of nothing that goes well.
    pub(super) fn quiet() -> Self {
        Self { way: None, is_silent: false, chunks: Cell::new(0), done: Cell::new(0) }
    }

    /// One that tells of nothing.
    pub(super) fn silent() -> Self {
        Self { is_silent: true, ..Self::quiet() }
    }

    fn is_told(&self, done: usize) -> bool {
        let chunks = self.chunks.get();
        let tenth = |number: usize| (number * 10).checked_div(chunks);
        chunks <= MAX_TOLD || tenth(done) != tenth(done - 1)
    }
}

impl Progress for Teller {
    fn total(&self, bytes: Option<u64>) {
        let blocks = bytes.unwrap_or_default().div_ceil(BLOCK_BYTES as u64);
        self.chunks.set(usize::try_from(blocks).unwrap_or(usize::MAX));
    }

    fn advance(&self, plain: u64, sealed: u64) {
        if plain == 0 || sealed == 0 {
            return;
        }
        let done = self.done.get() + 1;
        self.done.set(done);
        if !self.is_told(done) {
            return;
        }
        let (of, plain_bytes, sealed_bytes) = (self.chunks.get(), human::bytes(plain), human::bytes(sealed));
        let percent = percent(sealed, plain);
        match self.way {
            Some(Way::In) => line(format_args!(
                "{done} of {of} compressed, sealed, copies safe: {plain_bytes} became {sealed_bytes} ({percent} %)"
            )),
            Some(Way::Out) => {
                line(format_args!("{done} of {of} fetched, hashed, opened: {sealed_bytes} became {plain_bytes}"));
            }
            None => {}
        }
    }

    fn notice(&self, notice: &Notice) {
        if !self.is_silent {
            warn(&notice.to_string());
        }
    }
}

/// How much of `whole` is `part`, as a whole number.
pub(super) fn percent(part: u64, whole: u64) -> u64 {
    (part * 100 + whole / 2).checked_div(whole).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(chunks: usize) -> usize {
        let teller = Teller::new(Way::Out);
        teller.total(Some((chunks * BLOCK_BYTES) as u64));
        (1..=chunks).filter(|&done| teller.is_told(done)).count()
    }

    #[test]
    fn few_chunks_are_told_one_by_one_and_many_by_tenths() {
        assert_eq!((told(1), told(MAX_TOLD)), (1, MAX_TOLD));
        assert_eq!((told(MAX_TOLD + 1), told(25), told(3000)), (10, 10, 10));
    }

    #[test]
    fn a_long_text_is_broken_between_words() {
        let text = "eight ch ".repeat(30);
        let lines = wrapped(&text);
        assert!(lines.len() == 4 && lines.iter().all(|line| line.len() <= MAX_COLUMNS), "{lines:#?}");
        assert_eq!(lines.join(" "), text.trim_end());
        assert_eq!(wrapped("x"), ["x"]);
    }

    #[test]
    fn percents_are_rounded_and_never_divide_by_nothing() {
        assert_eq!((percent(1, 3), percent(2, 3), percent(0, 0)), (33, 67, 100));
    }
}
