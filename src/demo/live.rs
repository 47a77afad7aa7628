//! The map of copies while it changes: redrawn in place on a terminal, printed as occasional lines elsewhere.

// A shell: it measures how long things take.
#![allow(clippy::disallowed_methods)]

use std::fmt::Display;
use std::time::{Duration, Instant};

use console::{Term, style};

use crate::demo::map::Map;
use crate::demo::narration::line;

/// The shortest interval between two lines where nothing can be redrawn.
const LINE_INTERVAL: Duration = Duration::from_millis(900);

pub(super) struct LiveMap {
    began: Instant,
    /// Standard output, if it is a terminal.
    term: Option<Term>,
    /// The number of lines on the terminal that the next map replaces.
    drawn: usize,
    /// The last summary that was shown, and when.
    last: Option<(String, Instant)>,
}

impl LiveMap {
    pub(super) fn new() -> Self {
        let term = Some(Term::stdout()).filter(Term::is_term);
        Self { began: Instant::now(), term, drawn: 0, last: None }
    }

    /// Prints an event with the time since the start.
    pub(super) fn event(&mut self, text: impl Display) {
        self.erase();
        line(format_args!("{} {text}", self.time()));
    }

    /// Shows the present map.
    pub(super) fn show(&mut self, map: &Map) {
        let summary = map.summary();
        let rows = map.lines();
        let fits = self.term.as_ref().is_some_and(|term| rows.len() + 2 < usize::from(term.size().0));
        let age = self.last.as_ref().map_or(Duration::MAX, |(_, then)| then.elapsed());
        let is_new = self.last.as_ref().is_none_or(|(last, _)| *last != summary);
        if fits && (is_new || self.drawn == 0 || age >= LINE_INTERVAL) {
            self.erase();
            for row in &rows {
                line(row);
            }
            line(style(self.time()).dim());
            self.drawn = rows.len() + 1;
        } else if !fits && is_new && age >= LINE_INTERVAL {
            self.event(&summary);
        } else {
            return;
        }
        self.last = Some((summary, Instant::now()));
    }

    /// Shows the last map, which stays on the terminal.
    pub(super) fn finish(&mut self, map: &Map) {
        self.erase();
        if self.term.is_some() {
            map.lines().iter().for_each(line);
        } else if self.last.as_ref().is_none_or(|(last, _)| *last != map.summary()) {
            self.event(map.summary());
        }
    }

    /// The time since the start.
    pub(super) fn elapsed(&self) -> String {
        format!("{:.1} s", self.began.elapsed().as_secs_f64())
    }

    fn erase(&mut self) {
        if let Some(term) = &self.term
            && self.drawn > 0
        {
            // Lines that cannot be erased stay.
            drop(term.clear_last_lines(self.drawn));
        }
        self.drawn = 0;
    }

    fn time(&self) -> String {
        time(self.began.elapsed())
    }
}

/// `  12.3 s`
pub(super) fn time(elapsed: Duration) -> String {
    format!("{:>5.1} s ", elapsed.as_secs_f64())
}
