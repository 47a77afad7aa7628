//! The settings of the demo's cells: ordinary settings with shorter times, so that a viewer need not wait.

use crate::id::DEFAULT_COPIES;

/// A colony with fewer active cells has no guard, because every cell is needed for copies.
pub(super) const MIN_CELLS_FOR_GUARDS: usize = 4;
/// Guards audit random copies. Among more copies than this, a bad one is not found within the time of the demo.
const MAX_GUARDED_COPIES: u64 = 400;
/// The time that a scrub gets for each copy, in milliseconds: enough for a slow disk that all cells share.
const SCRUB_COPY_MS: u64 = 50;

/// How a bad copy is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detection {
    /// By the audits of guards.
    Guards,
    /// By the scrub of the cell that has it: there are no guards, or too many copies for them.
    Scrub,
    /// By both, with short isolations: any cell can have bad copies.
    Chaos,
}

impl Detection {
    /// The way that works with `running` cells and a file of `blocks` blocks.
    pub(super) fn of(running: usize, blocks: u64) -> Self {
        let copies = blocks * u64::from(DEFAULT_COPIES);
        if running >= MIN_CELLS_FOR_GUARDS && copies <= MAX_GUARDED_COPIES { Self::Guards } else { Self::Scrub }
    }
}

/// The settings of the cells, as `--set` takes them. The times keep the order of their defaults: first the silence, then
/// the heal delays (fewer copies, shorter delay), then the step from one holder to the next.
pub(super) fn settings(cells: usize, blocks: u64, detection: Detection) -> Vec<String> {
    // Many cells on one machine take long to start, and genesis shows all of them as stem cells.
    let differentiate_after_ms = (250 * cells).max(3000);
    let mut settings = vec![
        format!("differentiate_after_ms={differentiate_after_ms}"),
        "role_stable_ms=2000".to_owned(),
        "silent_after_ms=3000".to_owned(),
        "heal_delay_ms=[0,1500,3000,4500]".to_owned(),
        "heal_step_ms=4000".to_owned(),
        "belief_audit_ms=15000".to_owned(),
        "unheard_ms=10000".to_owned(),
        "audit_rate=\"8 MiB\"".to_owned(),
    ];
    if detection != Detection::Guards {
        settings.push(format!("scrub_period_ms={}", 12_000 + SCRUB_COPY_MS * blocks));
    }
    if detection == Detection::Chaos {
        settings.extend(["strike_window_ms=10000".to_owned(), "isolation_ms=15000".to_owned()]);
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guards_detect_if_there_are_guards_and_few_copies() {
        assert_eq!((Detection::of(5, 6), Detection::of(4, 80)), (Detection::Guards, Detection::Guards));
        assert_eq!((Detection::of(3, 6), Detection::of(5, 81)), (Detection::Scrub, Detection::Scrub));
    }

    #[test]
    fn cells_accept_every_setting() {
        for (cells, blocks, detection) in
            [(1, 0, Detection::Scrub), (9, 6, Detection::Chaos), (50, 1 << 20, Detection::Guards)]
        {
            for setting in settings(cells, blocks, detection) {
                let mut config = crate::config::Config::default();
                config.apply(&crate::config::Overrides::parse_set(&setting).unwrap()).unwrap();
                config.check().unwrap();
                assert_ne!(config, crate::config::Config::default(), "{setting}");
            }
        }
    }
}
