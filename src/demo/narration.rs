//! What the demo prints: headings, lines, and the progress of puts and gets. Colours appear only if `console` detects a
//! terminal that supports them.

use std::cell::Cell;
use std::fmt::Display;
use std::io::Write;

use console::{Style, Term, style};

use crate::client::{Notice, Progress};
use crate::human;
use crate::id::BLOCK_BYTES;

/// Up to this many chunks are listed one by one.
pub(super) const MAX_LISTED_CHUNKS: usize = 12;

/// The width of a line after its indent.
const MAX_COLUMNS: usize = 78;

/// The stages of the demo.
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

/// Prints the heading of a stage.
pub(super) fn heading(stage: Stage) {
    let colour = match stage {
        Stage::Genesis | Stage::Differentiation | Stage::Upload => Style::new().cyan(),
        Stage::Attack | Stage::Chaos | Stage::Corruption | Stage::Liar => Style::new().red(),
        Stage::Healing | Stage::Restore | Stage::Verdict => Style::new().green(),
    };
    print("");
    print(colour.bold().apply_to(format!("{stage:?}")));
}

/// Shows the prompt between two stages, or removes it if this is a terminal.
pub(super) fn prompt(show: bool) {
    let term = Term::stdout();
    if show {
        print("");
        note("press Enter to continue");
    } else if term.is_term() {
        // The empty line, the prompt, and the line that Enter ended.
        drop(term.clear_last_lines(3));
    }
}

/// Prints a line within a stage.
pub(super) fn line(text: impl Display) {
    print(format_args!("  {text}"));
}

/// Prints a line of lesser importance.
pub(super) fn note(text: impl Display) {
    line(style(text).dim());
}

/// Prints a text in as many lines as it needs.
pub(super) fn paragraph(text: &str) {
    wrapped(text).iter().for_each(line);
}

/// Prints a warning in as many lines as it needs.
pub(super) fn warn(text: &str) {
    for part in wrapped(text) {
        line(style(part).yellow());
    }
}

/// Breaks a text between words into lines that fit 80 columns with the indent.
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

/// Prints a line. If standard output is closed, the demo still runs to its end and cleans up.
pub(super) fn print(text: impl Display) {
    drop(writeln!(std::io::stdout(), "{text}"));
}

/// The direction of a transfer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Direction {
    /// Into the colony.
    Put,
    /// Out of the colony.
    Get,
}

/// Prints the progress of a put or a get: each chunk, or with many chunks each tenth of them.
pub(super) struct TransferProgress {
    /// `None` to print notices only.
    direction: Option<Direction>,
    is_silent: bool,
    chunks: Cell<usize>,
    done: Cell<usize>,
}

impl TransferProgress {
    pub(super) fn new(direction: Direction) -> Self {
        Self { direction: Some(direction), is_silent: false, chunks: Cell::new(0), done: Cell::new(0) }
    }

    /// Prints notices and warnings only.
    pub(super) fn notices_only() -> Self {
        Self { direction: None, is_silent: false, chunks: Cell::new(0), done: Cell::new(0) }
    }

    /// Prints nothing.
    pub(super) fn silent() -> Self {
        Self { is_silent: true, ..Self::notices_only() }
    }

    fn is_printed(&self, done: usize) -> bool {
        let chunks = self.chunks.get();
        let tenth = |number: usize| (number * 10).checked_div(chunks);
        chunks <= MAX_LISTED_CHUNKS || tenth(done) != tenth(done - 1)
    }
}

impl Progress for TransferProgress {
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
        if !self.is_printed(done) {
            return;
        }
        let (of, plain_bytes, sealed_bytes) = (self.chunks.get(), human::bytes(plain), human::bytes(sealed));
        let percent = percent(sealed, plain);
        match self.direction {
            Some(Direction::Put) => line(format_args!(
                "chunk {done} of {of} compressed, encrypted, stored: {plain_bytes} to {sealed_bytes} ({percent} %)"
            )),
            Some(Direction::Get) => {
                line(format_args!(
                    "chunk {done} of {of} fetched, verified, decrypted: {sealed_bytes} to {plain_bytes}"
                ));
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

/// `part` of `whole` in percent, rounded; 100 if `whole` is 0.
pub(super) fn percent(part: u64, whole: u64) -> u64 {
    (part * 100 + whole / 2).checked_div(whole).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(chunks: usize) -> usize {
        let progress = TransferProgress::new(Direction::Get);
        progress.total(Some((chunks * BLOCK_BYTES) as u64));
        (1..=chunks).filter(|&done| progress.is_printed(done)).count()
    }

    #[test]
    fn few_chunks_print_each_and_many_print_tenths() {
        assert_eq!((printed(1), printed(MAX_LISTED_CHUNKS)), (1, MAX_LISTED_CHUNKS));
        assert_eq!((printed(MAX_LISTED_CHUNKS + 1), printed(25), printed(3000)), (10, 10, 10));
    }

    #[test]
    fn long_texts_break_between_words() {
        let text = "eight ch ".repeat(30);
        let lines = wrapped(&text);
        assert!(lines.len() == 4 && lines.iter().all(|line| line.len() <= MAX_COLUMNS), "{lines:#?}");
        assert_eq!(lines.join(" "), text.trim_end());
        assert_eq!(wrapped("x"), ["x"]);
    }

    #[test]
    fn percent_rounds_and_never_divides_by_zero() {
        assert_eq!((percent(1, 3), percent(2, 3), percent(0, 0)), (33, 67, 100));
    }
}
