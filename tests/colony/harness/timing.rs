//! Timing: settings that make a colony heal quickly, and waits that allow for a slow machine.

use std::time::{Duration, Instant};

use crate::wait::{TIMEOUT, wait_at_most};

/// By how much the delays before healing are shorter than those of a real cell. `CELLSYNC_REAL_TIMES` sets it to 1.
pub(crate) fn speedup() -> u64 {
    if std::env::var_os("CELLSYNC_REAL_TIMES").is_some() { 1 } else { 10 }
}

/// The default delays of healing and audits divided by [`speedup`], as options of a cell. The time after which a cell
/// is silent stays as it is.
pub(crate) fn fast_options() -> Vec<String> {
    let [ten, thirty, hundred] = [10_000, 30_000, 120_000].map(|ms| ms / speedup());
    [
        format!("heal_delay_ms=[0,{ten},{thirty},{hundred}]"),
        format!("heal_step_ms={}", heal_step().as_millis()),
        format!("belief_audit_ms={}", 600_000 / speedup()),
    ]
    .into_iter()
    .flat_map(|setting| ["--set".to_owned(), setting])
    .collect()
}

/// The setting `heal_step_ms` in [`fast_options`].
pub(crate) fn heal_step() -> Duration {
    Duration::from_millis(20_000 / speedup().min(5))
}

/// Waits until a condition holds, and returns how long that took. Panics after `limit`, by which the colony must have
/// reached the condition, plus an allowance for a slow machine.
#[track_caller]
pub(crate) fn wait_within(limit: Duration, what: &str, condition: impl FnMut() -> bool) -> Duration {
    wait_at_most(limit + TIMEOUT, what, condition)
}

/// Lets this time pass, in which something must not happen.
pub(crate) fn observe_for(time: Duration) {
    let until = Instant::now() + time;
    wait_within(time, "the time has passed", || Instant::now() >= until);
}
