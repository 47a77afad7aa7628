//! Waiting: for a condition, up to a deadline, and no longer than the user wants.

// A shell: it waits.
#![allow(clippy::disallowed_methods)]

use std::thread;
use std::time::{Duration, Instant};

use crate::client::StopSignal;
use crate::demo::DemoError;

/// How long the cells may take to start, to know each other, or to notice anything. A small board with fifty of them
/// is slow; a cell that cannot start says so at once.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);
/// How long the colony may take to heal, besides the time that the bytes need.
pub(super) const HEALING: Duration = Duration::from_mins(3);
/// Bytes a second that a busy small board moves at least.
const SLOW_BYTES: u64 = 256 << 10;
/// How often a condition is looked at where a look costs little.
const LOOK: Duration = Duration::from_millis(10);
/// How often the cells are asked, or their folders looked at.
pub(super) const LOOK_AT_CELLS: Duration = Duration::from_millis(100);

/// How long the healing of so many bytes may take.
pub(super) fn healing_of(bytes: u64) -> Duration {
    HEALING + Duration::from_secs(bytes / SLOW_BYTES)
}

/// Until when something may take.
pub(super) struct Deadline {
    began: Instant,
    patience: Duration,
    look: Duration,
}

impl Deadline {
    pub(super) fn new(patience: Duration) -> Self {
        Self { began: Instant::now(), patience, look: LOOK }
    }

    /// The same, for conditions that are dear to look at.
    pub(super) fn of_cells(patience: Duration) -> Self {
        Self { look: LOOK_AT_CELLS, ..Self::new(patience) }
    }

    /// Seconds since the wait began.
    pub(super) fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Looks again and again until `look` finds something. `trouble` is what is said if it never does.
    pub(super) fn wait<T>(
        &self,
        stop: &StopSignal,
        trouble: &str,
        mut look: impl FnMut() -> Result<Option<T>, DemoError>,
    ) -> Result<T, DemoError> {
        loop {
            if stop.is_set() {
                return Err(DemoError::Stopped);
            }
            if let Some(found) = look()? {
                return Ok(found);
            }
            if self.began.elapsed() > self.patience {
                return Err(DemoError::Late { trouble: trouble.to_owned(), seconds: self.patience.as_secs() });
            }
            thread::sleep(self.look);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_comes_is_named_and_a_user_who_stops_is_obeyed() {
        let stop = StopSignal::default();
        let none = Deadline::new(Duration::from_millis(30));
        let late = none.wait::<()>(&stop, "no cell sang", || Ok(None)).unwrap_err();
        assert_eq!(late.to_string(), "no cell sang, after 0 s");
        let mut looks = 0;
        let third = none.wait(&stop, "", || {
            looks += 1;
            Ok((looks == 1).then_some(looks))
        });
        assert_eq!(third.unwrap(), 1, "what is there is found, however late it is");
        stop.set();
        let stopped = Deadline::new(PATIENCE).wait::<()>(&stop, "", || Ok(None));
        assert!(matches!(stopped, Err(DemoError::Stopped)));
    }
}
