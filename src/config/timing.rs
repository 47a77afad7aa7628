//! The colony's rhythm: those settings of `node.toml` that become [`cell::Settings`](crate::cell::Settings), and
//! their bounds.

use std::ops::RangeInclusive;

use crate::cell::Settings;
use crate::config::{ConfigError, Given, size};

const SECOND_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// The slowest rates that still make sense, in bytes a second: a chunk takes some seconds then.
const LEAST_RATE: u64 = 64 << 10;
/// No link is faster than this, in bytes a second. Sums of it stay far from any overflow.
const MOST_RATE: u64 = 1 << 40;

/// A silence is at least so many beacons long.
const BEACONS_IN_A_SILENCE: u64 = 3;

/// Takes over what was given; what was not stays.
pub(super) fn apply(settings: &mut Settings, given: &Given) -> Result<(), ConfigError> {
    for (name, value, setting, bounds) in [
        ("beacon_ms", given.beacon_ms, &mut settings.beacon_ms, 50..=MINUTE_MS),
        ("silent_after_ms", given.silent_after_ms, &mut settings.silent_after_ms, 150..=HOUR_MS),
        ("forget_ms", given.forget_ms, &mut settings.forget_ms, SECOND_MS..=365 * DAY_MS),
        ("differentiate_after_ms", given.differentiate_after_ms, &mut settings.differentiate_after_ms, 0..=HOUR_MS),
        ("role_stable_ms", given.role_stable_ms, &mut settings.role_stable_ms, 0..=HOUR_MS),
        ("heal_step_ms", given.heal_step_ms, &mut settings.heal_step_ms, 100..=HOUR_MS),
        ("belief_audit_ms", given.belief_audit_ms, &mut settings.belief_audit_ms, SECOND_MS..=30 * DAY_MS),
        ("unheard_ms", given.unheard_ms, &mut settings.unheard_ms, 0..=DAY_MS),
        ("scrub_period_ms", given.scrub_period_ms, &mut settings.scrub_period_ms, SECOND_MS..=3650 * DAY_MS),
        ("isolation_ms", given.isolation_ms, &mut settings.isolation_ms, SECOND_MS..=365 * DAY_MS),
        ("strike_window_ms", given.strike_window_ms, &mut settings.strike_window_ms, SECOND_MS..=30 * DAY_MS),
    ] {
        if let Some(value) = value {
            *setting = within(name, value, &bounds)?;
        }
    }
    if given.silent_after_ms.is_some() {
        settings.probe_ms = settings.silent_after_ms / 2;
    }
    if let Some(delays) = &given.heal_delay_ms {
        settings.heal_delay_ms = heal_delays(delays)?;
    }
    if let Some(rate) = &given.heal_rate {
        settings.heal_rate = rate_of("heal_rate", rate, false)?;
    }
    if let Some(rate) = &given.audit_rate {
        settings.audit_rate = rate_of("audit_rate", rate, true)?;
    }
    Ok(())
}

/// What cannot work together.
pub(super) fn check(settings: &Settings) -> Result<(), ConfigError> {
    let silent_after_ms = settings.silent_after_ms;
    let least = BEACONS_IN_A_SILENCE * settings.beacon_ms;
    if silent_after_ms < least {
        let what = format!(
            "it must be at least {BEACONS_IN_A_SILENCE} times beacon_ms, so {least}: one lost datagram is no silence"
        );
        return Err(wrong("silent_after_ms", &silent_after_ms, what));
    }
    if settings.forget_ms < silent_after_ms {
        let what =
            format!("a cell can be forgotten only after it fell silent: at least silent_after_ms, {silent_after_ms}");
        return Err(wrong("forget_ms", &settings.forget_ms, what));
    }
    Ok(())
}

fn within(name: &'static str, value: u64, bounds: &RangeInclusive<u64>) -> Result<u64, ConfigError> {
    if bounds.contains(&value) {
        return Ok(value);
    }
    Err(wrong(name, &value, format!("milliseconds from {} to {} are needed", bounds.start(), bounds.end())))
}

fn heal_delays(given: &[u64]) -> Result<[u64; 4], ConfigError> {
    let error = |what: &str| wrong("heal_delay_ms", &format!("{given:?}"), what.to_owned());
    let delays: [u64; 4] = given.try_into().map_err(|_| {
        error("four delays in milliseconds are needed: for one copy that is left, two, three, and four or more")
    })?;
    if delays.iter().any(|&delay| delay > DAY_MS) {
        return Err(error("each is at most a day, 86400000"));
    }
    if !delays.is_sorted() {
        return Err(error("the fewer copies are left, the sooner: none may be smaller than the one before it"));
    }
    Ok(delays)
}

fn rate_of(name: &'static str, given: &str, may_be_zero: bool) -> Result<u64, ConfigError> {
    let rate = size(name, given)?;
    if (rate == 0 && may_be_zero) || (LEAST_RATE..=MOST_RATE).contains(&rate) {
        return Ok(rate);
    }
    let none = if may_be_zero { "0 for none, or " } else { "" };
    Err(wrong(name, &given, format!("{none}64 KiB to 1 TiB a second is needed")))
}

fn wrong(name: &'static str, value: &dyn ToString, what: String) -> ConfigError {
    ConfigError::Value { name, value: value.to_string(), what }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn read(text: &str) -> Result<Settings, String> {
        let mut config = Config::default();
        let given = Given::parse(text, Path::new("node.toml")).map_err(|error| error.to_string())?;
        config.apply(given).and_then(|()| config.check()).map_err(|error| error.to_string())?;
        Ok(config.settings)
    }

    #[test]
    fn every_setting_of_the_rhythm_is_taken_over() {
        let text = "beacon_ms = 100\nsilent_after_ms = 301\nforget_ms = 1002\ndifferentiate_after_ms = 3\n\
                    role_stable_ms = 4\nheal_delay_ms = [0, 5, 6, 6]\nheal_step_ms = 107\nheal_rate = \"1 MiB\"\n\
                    belief_audit_ms = 1008\nunheard_ms = 9\naudit_rate = \"128 KiB\"\nscrub_period_ms = 1010\n\
                    isolation_ms = 1011\nstrike_window_ms = 1012";
        let expected = Settings {
            beacon_ms: 100,
            silent_after_ms: 301,
            probe_ms: 150,
            forget_ms: 1002,
            differentiate_after_ms: 3,
            role_stable_ms: 4,
            heal_delay_ms: [0, 5, 6, 6],
            heal_step_ms: 107,
            heal_rate: 1 << 20,
            belief_audit_ms: 1008,
            unheard_ms: 9,
            audit_rate: 128 << 10,
            scrub_period_ms: 1010,
            isolation_ms: 1011,
            strike_window_ms: 1012,
        };
        assert_eq!(read(text), Ok(expected));
        assert_eq!(read("audit_rate = \"0\"").map(|settings| settings.audit_rate), Ok(0), "no audits");
    }

    #[test]
    fn the_visits_that_stand_for_beacons_keep_a_peer_active_at_any_silence() {
        let settings = read("silent_after_ms = 30000").unwrap();
        assert!(settings.probe_ms <= settings.silent_after_ms / 2);
        assert_eq!(read("silent_after_ms = 5000"), Ok(Settings::default()));
    }

    #[test]
    fn what_no_cell_could_live_by_is_refused_in_a_line_that_says_what_would_do() {
        for (text, expected) in [
            ("beacon_ms = 49", "beacon_ms = \"49\": milliseconds from 50 to 60000 are needed"),
            ("silent_after_ms = 2999", "silent_after_ms = \"2999\": it must be at least 3 times beacon_ms, so 3000"),
            ("beacon_ms = 2000", "silent_after_ms = \"5000\": it must be at least 3 times beacon_ms, so 6000"),
            ("forget_ms = 4999", "forget_ms = \"4999\": a cell can be forgotten only after it fell silent"),
            ("heal_delay_ms = [0, 1, 2]", "heal_delay_ms = \"[0, 1, 2]\": four delays"),
            ("heal_delay_ms = [0, 2, 1, 3]", "heal_delay_ms = \"[0, 2, 1, 3]\": the fewer copies are left, the sooner"),
            ("heal_delay_ms = [0, 0, 0, 86400001]", "heal_delay_ms = \"[0, 0, 0, 86400001]\": each is at most a day"),
            ("heal_step_ms = 0", "heal_step_ms = \"0\": milliseconds from 100"),
            ("heal_rate = \"0\"", "heal_rate = \"0\": 64 KiB to 1 TiB a second"),
            ("heal_rate = \"2 TiB\"", "heal_rate = \"2 TiB\": 64 KiB to 1 TiB a second"),
            ("audit_rate = \"1 KiB\"", "audit_rate = \"1 KiB\": 0 for none, or 64 KiB to 1 TiB a second"),
            ("audit_rate = \"slow\"", "audit_rate = \"slow\": a size such as"),
            ("scrub_period_ms = 0", "scrub_period_ms = \"0\": milliseconds from 1000"),
            ("unheard_ms = -1", "node.toml, line 1: invalid value"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}\n{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
