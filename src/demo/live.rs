//! Watching the copies of a file come and go: a picture that is drawn again on a terminal, lines now and then elsewhere.

// A shell: it tells how long things take.
#![allow(clippy::disallowed_methods)]

use std::fmt::Display;
use std::time::{Duration, Instant};

use console::{Term, style};

use crate::demo::map::Map;
use crate::demo::narration::line;

/// Where nothing can be drawn again, a line is written so often at the most.
const TELL_EVERY: Duration = Duration::from_millis(900);

pub(super) struct Live {
    began: Instant,
    /// A terminal, if there is one.
    term: Option<Term>,
    /// How many lines of the picture stand there now.
    drawn: usize,
    /// What was told or drawn last, and when.
    last: Option<(String, Instant)>,
}

impl Live {
    pub(super) fn new() -> Self {
        let term = Some(Term::stdout()).filter(Term::is_term);
        Self { began: Instant::now(), term, drawn: 0, last: None }
    }

    /// Says what has just happened, with the time.
    pub(super) fn tell(&mut self, text: impl Display) {
        self.erase();
        line(format_args!("{} {text}", self.time()));
    }

    /// Shows how it is now.
    pub(super) fn show(&mut self, map: &Map) {
        let summary = map.summary();
        let rows = map.lines();
        let fits = self.term.as_ref().is_some_and(|term| rows.len() + 2 < usize::from(term.size().0));
        let age = self.last.as_ref().map_or(Duration::MAX, |(_, then)| then.elapsed());
        let is_news = self.last.as_ref().is_none_or(|(last, _)| *last != summary);
        if fits && (is_news || self.drawn == 0 || age >= TELL_EVERY) {
            self.erase();
            for row in &rows {
                line(row);
            }
            line(style(self.time()).dim());
            self.drawn = rows.len() + 1;
        } else if !fits && is_news && age >= TELL_EVERY {
            self.tell(&summary);
        } else {
            return;
        }
        self.last = Some((summary, Instant::now()));
    }

    /// Shows how it ended, to stay.
    pub(super) fn end(&mut self, map: &Map) {
        self.erase();
        if self.term.is_some() {
            map.lines().iter().for_each(line);
        } else if self.last.as_ref().is_none_or(|(last, _)| *last != map.summary()) {
            self.tell(map.summary());
        }
    }

    /// How long it took, in words.
    pub(super) fn took(&self) -> String {
        format!("{:.1} s", self.began.elapsed().as_secs_f64())
    }

    fn erase(&mut self) {
        if let Some(term) = &self.term
            && self.drawn > 0
        {
            // What cannot be erased stays.
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
