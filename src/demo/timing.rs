//! How the demo's cells live: quicker than real ones, by options that real cells have.

use crate::id::DEFAULT_COPIES;

/// Below so many active cells a colony has no guard, since every cell is needed for copies.
pub(super) const MIN_CELLS_FOR_GUARDS: usize = 4;
/// A guard looks at copies at random. Among more than these, one that is bad is not found while somebody watches.
const MAX_WATCHED_COPIES: u64 = 400;
/// What a cell that looks at all of its copies needs for each, in milliseconds, however slow the disk that all share.
const SCRUB_COPY_MS: u64 = 50;

/// Who finds a bad copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Watch {
    /// The guards, by their audits.
    Guards,
    /// The cell that has it, by its own scrub: there are no guards, or too many copies.
    Scrub,
    /// Both, since bytes flip wherever it pleases them, and nobody is set aside for long.
    Chaos,
}

impl Watch {
    /// Who can, once `living` cells are left, in a colony with a file of so many blocks.
    pub(super) fn of(living: usize, blocks: u64) -> Self {
        let copies = blocks * u64::from(DEFAULT_COPIES);
        if living >= MIN_CELLS_FOR_GUARDS && copies <= MAX_WATCHED_COPIES { Self::Guards } else { Self::Scrub }
    }
}

/// What the cells are told with `--set`. Times have the order that they have in real life, and are only shorter:
/// silence, then the sooner the fewer copies are left, then one holder after the other.
pub(super) fn settings(cells: usize, blocks: u64, watch: Watch) -> Vec<String> {
    // Many cells on one machine take long to start, and shall all be stem cells at first.
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
    if watch != Watch::Guards {
        settings.push(format!("scrub_period_ms={}", 12_000 + SCRUB_COPY_MS * blocks));
    }
    if watch == Watch::Chaos {
        settings.extend(["strike_window_ms=10000".to_owned(), "isolation_ms=15000".to_owned()]);
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guards_watch_where_there_are_guards_and_few_copies() {
        assert_eq!((Watch::of(5, 6), Watch::of(4, 80)), (Watch::Guards, Watch::Guards));
        assert_eq!((Watch::of(3, 6), Watch::of(5, 81)), (Watch::Scrub, Watch::Scrub));
    }

    #[test]
    fn real_cells_take_every_setting() {
        for (cells, blocks, watch) in [(1, 0, Watch::Scrub), (9, 6, Watch::Chaos), (50, 1 << 20, Watch::Guards)] {
            for setting in settings(cells, blocks, watch) {
                let mut config = crate::config::Config::default();
                config.apply(&crate::config::Overrides::parse_set(&setting).unwrap()).unwrap();
                config.check().unwrap();
                assert_ne!(config, crate::config::Config::default(), "{setting}");
            }
        }
    }
}
