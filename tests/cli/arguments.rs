//! Words, options and values.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::program::{PROGRAMS, run};

/// Programs and subcommands that have help.
const COMMANDS: [&[&str]; 11] = [
    &["cellsync"],
    &["cellsync-put"],
    &["cellsync-get"],
    &["cellsync-node"],
    &["cellsync", "status"],
    &["cellsync", "ls"],
    &["cellsync", "check"],
    &["cellsync", "repair"],
    &["cellsync", "drain"],
    &["cellsync", "scrub"],
    &["cellsync", "node"],
];

#[test]
fn h_is_help_everywhere() {
    for command in COMMANDS {
        let words = |last| command[1..].iter().copied().chain([last]).collect::<Vec<_>>();
        let [short, long] = ["-h", "--help"].map(|help| run(command[0], &words(help)));
        assert_eq!((short.code, short.stderr.as_str()), (Some(0), ""), "{command:?}");
        assert!(short.stdout.starts_with(&format!("Usage: {}", command.join(" "))), "{}", short.stdout);
        assert!(short.stdout.contains("\n  -h, --help  "), "{}", short.stdout);
        assert_eq!(short.stdout, long.stdout);
    }
    for words in [&["help", "check"][..], &["--help", "check"], &["check", "x", "--deep", "-h"]] {
        assert_eq!(run("cellsync", words).stdout, run("cellsync", &["check", "-h"]).stdout, "{words:?}");
    }
    assert_eq!(run("cellsync", &["help"]).stdout, run("cellsync", &["-h"]).stdout);
}

#[test]
fn version_is_an_option_and_not_a_word() {
    for program in PROGRAMS {
        for option in ["-V", "--version"] {
            assert_eq!(run(program, &[option]).stdout, format!("{program} {}\n", env!("CARGO_PKG_VERSION")));
        }
    }
    // A file of this name that does not exist, as a value and after the options.
    run("cellsync-get", &["--", "--version"]).expect_error(2, &["--version does not end in .manifest"]);
    run("cellsync-get", &["-o", "--version", "/nowhere/m"]).expect_error(1, &["cannot read /nowhere/m"]);
}

#[test]
fn help_is_an_ordinary_name() {
    run("cellsync-put", &["help"]).expect_error(1, &["cannot read help: No such file"]);
    run("cellsync-get", &["help"]).expect_error(2, &["help does not end in .manifest"]);
    run("cellsync", &["check", "help"]).expect_error(1, &["cannot read help: No such file"]);
}

#[test]
fn a_name_may_begin_with_a_dash_or_be_no_text() {
    run("cellsync-put", &["--", "-dash-file"]).expect_error(1, &["cannot read -dash-file: No such file"]);
    run("cellsync-put", &["-dash-file"]).expect_error(2, &["unknown option -dash-file", "./-dash-file", "--"]);
    let name = OsStr::from_bytes(b"caf\xe9.manifest");
    run("cellsync-get", &[name]).expect_error(1, &["cannot read caf\u{fffd}.manifest: No such file"]);
    run("cellsync-get", &[OsStr::from_bytes(b"--jobs=\xff"), name]).expect_error(2, &["--jobs", "1 to 64"]);
}

#[test]
fn values_can_follow_an_equals_sign() {
    for words in [&["--copies=33", "x"][..], &["--copies", "33", "x"]] {
        run("cellsync-put", words).expect_error(2, &["--copies", "33", "1 to 32"]);
    }
    for words in [&["--set=udp_port=0"][..], &["--set", "udp_port=0"]] {
        run("cellsync-node", words).expect_error(2, &["udp_port = 0"]);
    }
    for words in [&["-ox", "-h"][..], &["-o=x", "-h"], &["--output=x", "-h"]] {
        assert_eq!(run("cellsync-put", words).code, Some(0), "{words:?}");
    }
    run("cellsync-put", &["--json=yes", "x"]).expect_error(2, &["--json takes no value"]);
}

#[test]
fn mistakes_are_named_with_what_helps() {
    for (program, words, facts) in [
        ("cellsync-put", &[][..], &["no <path> is given", "- for standard input", "see cellsync-put --help"][..]),
        ("cellsync-put", &[""], &["path", "''"]),
        ("cellsync-put", &["a", "b"], &["unexpected argument b after the path"]),
        ("cellsync-put", &["--copie", "3", "a"], &["unknown option --copie; did you mean --copies? See"]),
        ("cellsync-put", &["-output", "m", "a"], &["unknown option -output; did you mean --output?"]),
        ("cellsync-put", &["a", "--copies"], &["--copies needs a value: --copies <n>"]),
        ("cellsync-put", &["--copies", "0", "a"], &["--copies", "1 to 32"]),
        ("cellsync-put", &["--copies", "99999999999999999999", "a"], &["--copies", "1 to 32"]),
        ("cellsync-put", &["--copies", "", "a"], &["--copies", "1 to 32"]),
        ("cellsync-put", &["--copies", "2", "--copies=3", "a"], &["--copies is given twice"]),
        ("cellsync-put", &["-o", "", "a"], &["--output", "expected a path"]),
        ("cellsync-put", &["--node", "https://pi:1", "a"], &["--node", "http://HOST:PORT"]),
        ("cellsync-get", &["--copies", "3", "m.manifest"], &["unknown option --copies"]),
        ("cellsync", &[], &["no command is given", "status, ls, check, repair"]),
        ("cellsync", &["put", "a"], &["unknown command put; did you mean cellsync-put?"]),
        ("cellsync", &["get", "a"], &["unknown command get; did you mean cellsync-get?"]),
        ("cellsync", &["chekc", "a"], &["unknown command chekc; did you mean check?"]),
        ("cellsync", &["--json", "status"], &["unknown option --json; options follow the command"]),
        ("cellsync", &["check"], &["no <manifest> is given", "see cellsync check --help"]),
        ("cellsync", &["check", "--version"], &["unknown option --version"]),
        ("cellsync", &["drain", "-"], &["'-'", "first four digits"]),
        ("cellsync-node", &["--listen", "-"], &["listen cannot be \"-\""]),
        ("cellsync-node", &["-x"], &["unknown option -x; see"]),
        ("cellsync-put", &["/dev/null", "-o", "/nowhere/m"], &["there is no directory /nowhere; make it first"]),
        ("cellsync-get", &["m.manifest", "-o", "/nowhere/m"], &["there is no directory /nowhere; make it first"]),
        ("cellsync-node", &["start"], &["unexpected argument start"]),
    ] {
        run(program, words).expect_error(2, facts);
    }
}
