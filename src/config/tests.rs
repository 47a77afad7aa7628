//! Every setting is read, bounded and described; errors name the origin and the values that are accepted.

use std::path::Path;

use super::*;
use crate::cell::Settings;

fn read(text: &str) -> Result<Config, String> {
    let mut config = Config::default();
    let overrides = Overrides::parse(text, Path::new("node.toml")).map_err(|error| error.to_string())?;
    config.apply(&overrides).and_then(|()| config.check()).map_err(|error| error.to_string())?;
    Ok(config)
}

/// What a user reads when the text is refused: one line, with all of `facts`.
fn refused(text: &str, facts: &[&str]) {
    let error = read(text).unwrap_err();
    assert_eq!(error.lines().count(), 1, "{error}");
    for fact in facts {
        assert!(error.contains(fact), "{text}: no {fact:?} in: {error}");
    }
}

#[test]
fn every_setting_is_taken_over() {
    let text = "data = \"/srv/cell\"\nloopback = true\nlisten = \"127.0.0.9:1\"\nudp_port = 2\npeers = [\"pi:3\"]\n\
                log = \"warn\"\nreserve = \"4 MiB\"\nquota = \"5 MB\"\nbeacon_ms = 100\nsilent_after_ms = 301\n\
                forget_ms = 1002\ndifferentiate_after_ms = 3\nrole_stable_ms = 4\nheal_delay_ms = [0, 5, 6, 6]\n\
                heal_step_ms = 107\nsplit_wait_ms = 13\nsettled_ms = 14\nheal_rate = \"1 MiB\"\nbelief_audit_ms = 1008\nunheard_ms = 9\n\
                audit_rate = \"128 KiB\"\nscrub_period_ms = 1010\nread_back_rate = \"512 KiB\"\nisolation_ms = 1011\nstrike_window_ms = 1012";
    let expected = Config {
        data: "/srv/cell".into(),
        init: false,
        listen: "127.0.0.9:1".parse().unwrap(),
        udp_port: 2,
        loopback: true,
        peers: vec!["pi:3".into()],
        log: log::LevelFilter::Warn,
        reserve: Some(4 << 20),
        quota: Some(5_000_000),
        read_back_rate: 512 << 10,
        settings: Settings {
            beacon_ms: 100,
            silent_after_ms: 301,
            probe_ms: 150,
            forget_ms: 1002,
            differentiate_after_ms: 3,
            role_stable_ms: 4,
            heal_delay_ms: [0, 5, 6, 6],
            heal_step_ms: 107,
            split_wait_ms: 13,
            settled_ms: 14,
            heal_rate: 1 << 20,
            belief_audit_ms: 1008,
            unheard_ms: 9,
            audit_rate: 128 << 10,
            scrub_period_ms: 1010,
            isolation_ms: 1011,
            strike_window_ms: 1012,
        },
        ..Config::default()
    };
    assert_eq!(read(text).unwrap(), expected);
    assert_eq!(text.lines().count(), settings().count());
}

#[test]
fn defaults_are_accepted_and_described() {
    for setting in settings() {
        let (example, default) = (setting.example(), setting.default_text());
        let config = read(&format!("{} = {example}", setting.name)).unwrap();
        if setting.example.is_none() {
            assert_eq!(config, Config::default(), "{} = {example}", setting.name);
        }
        assert!(!default.is_empty() && !setting.accepts().is_empty(), "{}", setting.name);
        let text = format!("{} {}", setting.summary, setting.details);
        assert!(text.is_ascii() && !setting.summary.ends_with('.'), "{text}");
        assert_eq!(text.matches('`').count() % 2, 0, "{text}");
    }
    let default_of = |name| settings_table::find(name).unwrap().default_text();
    assert_eq!(default_of("scrub_period_ms"), "2592000000 (30 days)");
    assert_eq!(default_of("heal_rate"), "\"8 MiB\"");
    assert_eq!(default_of("heal_delay_ms"), "[0, 10000, 30000, 120000]");
}

#[test]
fn later_overrides_win_and_the_rest_stays() {
    let mut config = read("listen = \"10.0.0.1:80\"\nudp_port = 5001\nquota = \"20 GiB\"").unwrap();
    config.apply(&Overrides::parse_set("udp_port=5002").unwrap()).unwrap();
    let mut options = Overrides::default();
    options.add_option("--log", "log", Value::Text("debug".into())).unwrap();
    config.apply(&options).unwrap();
    assert_eq!((config.listen, config.udp_port), ("10.0.0.1:80".parse().unwrap(), 5002));
    assert_eq!((config.quota, config.log), (Some(20 << 30), log::LevelFilter::Debug));
}

#[test]
fn loopback_changes_only_an_unspecified_address() {
    assert_eq!(read("loopback = true").unwrap().listen, "127.0.0.1:8080".parse().unwrap());
    let address = read("listen = \"127.9.9.9:80\"\nloopback = true").unwrap().listen;
    assert_eq!(address, "127.9.9.9:80".parse().unwrap());
    refused("loopback = true\nlisten = \"0.0.0.0:1\"", &["0.0.0.0:1", "loopback = true", "127.0.0.0/8"]);
    refused("loopback = true\nlisten = \"[::1]:1\"", &["[::1]:1"]);
}

#[test]
fn a_loopback_address_needs_loopback() {
    for address in ["127.0.0.1:8080", "127.9.9.9:80", "[::1]:8080"] {
        refused(&format!("listen = \"{address}\""), &[address, "this machine", "set loopback = true"]);
    }
}

#[test]
fn a_peer_is_a_host_and_a_port() {
    for good in ["10.0.0.1:80", "pi-7.local:8080", "[fd00::7]:8080", "my_pi:1"] {
        read(&format!("peers = [\"{good}\"]")).unwrap();
    }
    for bad in [
        "10.0.0.1:0",
        "fd00::7:8080",
        "::1:80",
        "[fd00::7]",
        "[pi]:80",
        "[::1:80",
        "::1]:80",
        ":80",
        "pi:+80",
        "a b:1",
        "pi",
    ] {
        refused(&format!("peers = [\"pi:1\", \"{bad}\"]"), &[&format!("peers cannot be \"{bad}\""), "HOST:PORT"]);
    }
    let peers = |count| (0..count).map(|n| format!("\"pi-{n}:80\"")).collect::<Vec<_>>().join(", ");
    read(&format!("peers = [{}]", peers(256))).unwrap();
    refused(&format!("peers = [{}]", peers(257)), &["a list of 257", "at most 256"]);
}

#[test]
fn a_refused_value_is_shown_with_its_origin() {
    for (text, facts) in [
        ("listen = \"0.0.0.0:80\"\ncolour = 1", &["node.toml, line 2: ", "`colour`", "--help"][..]),
        ("udp_port = 70000", &["node.toml, line 1: udp_port cannot be 70000", "1 to 65535"]),
        ("udp_port = \"5000\"", &["udp_port cannot be \"5000\""]),
        ("udp_port = 0", &["udp_port = 0", "1 to 65535"]),
        ("\n\nlisten = ", &["node.toml, line 3: "]),
        ("log = \"info\"\nlog = \"warn\"", &["node.toml, line 2: ", "duplicate"]),
        ("listen = \"8080\"", &["listen cannot be \"8080\"", "0.0.0.0:8080"]),
        ("\nlog = \"loud\"", &["line 2: log cannot be \"loud\"", "off, error"]),
        ("loopback = 1", &["loopback cannot be 1", "true or false"]),
        ("data = 1979-05-27", &["data cannot be a datetime"]),
        ("quota = \"much\"", &["quota cannot be \"much\"", "20 GB"]),
        ("peers = \"10.0.0.1:80\"", &["peers cannot be \"10.0.0.1:80\"", "HOST:PORT"]),
        ("beacon_ms = 49", &["beacon_ms cannot be 49", "milliseconds from 50 to 60000"]),
        ("beacon_ms = 50.5", &["beacon_ms cannot be a float"]),
        ("heal_step_ms = 0", &["heal_step_ms cannot be 0", "100"]),
        ("scrub_period_ms = 0", &["scrub_period_ms cannot be 0", "1000"]),
        ("unheard_ms = -1", &["unheard_ms cannot be -1", "from 0"]),
        ("heal_delay_ms = [0, 1, 2]", &["heal_delay_ms cannot be [0, 1, 2]", "four"]),
        ("heal_delay_ms = [0, 2, 1, 3]", &["heal_delay_ms cannot be [0, 2, 1, 3]", "ascending"]),
        ("heal_delay_ms = [0, 0, 0, 86400001]", &["cannot be [0, 0, 0, 86400001]", "at most 86400000 (1 day)"]),
        ("heal_rate = \"0\"", &["heal_rate cannot be \"0\"", "\"64 KiB\" to \"1 TiB\" per second"]),
        ("heal_rate = \"2 TiB\"", &["heal_rate cannot be \"2 TiB\""]),
        ("audit_rate = \"1 KiB\"", &["audit_rate cannot be \"1 KiB\"", "\"0\", or \"64 KiB\""]),
        ("audit_rate = \"slow\"", &["audit_rate cannot be \"slow\""]),
    ] {
        refused(text, facts);
    }
    assert_eq!(read("audit_rate = \"0\"").unwrap().settings.audit_rate, 0);
}

#[test]
fn settings_that_do_not_fit_each_other_are_refused() {
    refused("silent_after_ms = 2999", &["silent_after_ms = 2999", "beacon_ms", "3000"]);
    refused("beacon_ms = 2000", &["silent_after_ms = 5000", "6000"]);
    refused("forget_ms = 4999", &["forget_ms = 4999", "5000"]);
    let config = Config { udp_port: 0, ..Config::default() };
    assert!(matches!(config.check(), Err(ConfigError::NoUdpPort)));
}

#[test]
fn set_takes_one_assignment() {
    for (text, facts) in [
        ("beacon_ms", &["--set beacon_ms: ", "KEY=VALUE"][..]),
        ("a b=1", &["--set a b=1: ", "KEY=VALUE"]),
        ("colour=1", &["--set colour=1: ", "`colour`"]),
        ("log=debug", &["--set log=debug: ", "in quotes"]),
    ] {
        let error = Overrides::parse_set(text).unwrap_err().to_string();
        assert!(facts.iter().all(|fact| error.contains(fact)) && error.lines().count() == 1, "{error}");
    }
    Overrides::parse_set("beacon_ms=1\nlog='off'").unwrap_err();
    let error = Config::default().apply(&Overrides::parse_set("beacon_ms = 1").unwrap()).unwrap_err();
    assert!(error.to_string().starts_with("--set beacon_ms = 1: beacon_ms cannot be 1"), "{error}");
}

#[test]
fn probes_are_twice_as_frequent_as_a_silence_is_long() {
    assert_eq!(read("silent_after_ms = 30000").unwrap().settings.probe_ms, 15000);
    assert_eq!(read("silent_after_ms = 5000").unwrap().settings, Settings::default());
}
