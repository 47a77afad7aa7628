//! The progress bar. It is shown on standard error, if that is a terminal. Messages are printed above it.

use std::cell::Cell;
use std::fmt;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::cli::terminal::message;
use crate::client::{Notice, Progress};

/// What the bar counts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unit {
    /// Bytes of the file, next to the share to which they were compressed.
    Bytes,
    /// Things of this name.
    Items(&'static str),
}

pub(super) struct Bar {
    name: &'static str,
    drawn: ProgressBar,
    plain: Cell<u64>,
    sealed: Cell<u64>,
    unit: Unit,
    quiet: bool,
}

impl Bar {
    pub(super) fn new(name: &'static str, unit: Unit, quiet: bool) -> Self {
        // A dumb terminal cannot move its cursor.
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let shown = !quiet && !is_dumb && std::io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr_with_hz(10) } else { ProgressDrawTarget::hidden() };
        let drawn = ProgressBar::with_draw_target(None, target);
        let bar = Self { name, drawn, plain: Cell::new(0), sealed: Cell::new(0), unit, quiet };
        if let Unit::Items(what) = unit {
            bar.drawn.set_message(format!("{what}  "));
        }
        bar.drawn.set_style(bar.style(false));
        if shown {
            bar.drawn.enable_steady_tick(Duration::from_millis(200));
        }
        bar
    }

    /// Takes the bar off the screen.
    pub(super) fn clear(&self) {
        self.drawn.finish_and_clear();
    }

    fn style(&self, known: bool) -> ProgressStyle {
        let template = match (self.unit, known) {
            (Unit::Items(_), true) => "{wide_bar} {percent:>3} %  {human_pos} of {human_len} {msg}{left}",
            (Unit::Items(_), false) => "{spinner}",
            (Unit::Bytes, true) => {
                "{wide_bar} {percent:>3} %  {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {msg}{left}"
            }
            (Unit::Bytes, false) => "{spinner} {binary_bytes}  {binary_bytes_per_sec}  {msg}",
        };
        // The templates are constant and valid.
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        style.progress_chars("█▉▊▋▌▍▎▏ ").with_key("left", |state: &ProgressState, text: &mut dyn fmt::Write| {
            // Before anything is done, the time is unknown, not zero.
            if state.pos() > 0 {
                write!(text, "{:#} left", HumanDuration(state.eta())).ok();
            }
        })
    }
}

impl Progress for Bar {
    fn total(&self, bytes: Option<u64>) {
        self.drawn.set_style(self.style(bytes.is_some()));
        if matches!(self.unit, Unit::Items(_)) {
            // A new count begins.
            self.drawn.set_position(0);
        }
        if let Some(bytes) = bytes {
            self.drawn.set_length(bytes);
        }
    }

    fn advance(&self, plain: u64, sealed: u64) {
        self.drawn.inc(plain);
        // A directory can turn out larger than it was when its total was made.
        let done = self.drawn.position();
        if self.drawn.length().is_some_and(|total| total < done) {
            self.drawn.set_length(done);
        }
        if matches!(self.unit, Unit::Items(_)) {
            return;
        }
        if sealed == 0 {
            // An earlier run did it, so it must not count towards the speed.
            self.drawn.reset_eta();
        } else if plain > 0 {
            self.plain.set(self.plain.get() + plain);
            self.sealed.set(self.sealed.get() + sealed);
            let percent = 100.0 * self.sealed.get() as f64 / self.plain.get() as f64;
            self.drawn.set_message(format!("compressed to {percent:.0} %  "));
        }
    }

    fn notice(&self, notice: &Notice) {
        if notice.is_warning() || !self.quiet {
            self.drawn.suspend(|| message(self.name, &notice.to_string()));
        }
    }
}
