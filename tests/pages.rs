//! Goal: the manual pages, shell completions and `node.toml` describe all options and settings of the programs, and no
//! others. Method: the output of `--help` is compared with the pages as text, and with the completions as the shells
//! run them.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stderr)]

#[path = "../packaging/pages/tree.rs"]
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use cellsync::cli::{CLIENT_SETTINGS, ClientConfig};
use cellsync::config::{Config, Overrides};
use cellsync::pipeline::Level;
use tempfile::TempDir;

type Names = BTreeSet<String>;

const PROGRAMS: [(&str, &str); 4] = [
    ("cellsync", env!("CARGO_BIN_EXE_cellsync")),
    ("cellsync-put", env!("CARGO_BIN_EXE_cellsync-put")),
    ("cellsync-get", env!("CARGO_BIN_EXE_cellsync-get")),
    ("cellsync-node", env!("CARGO_BIN_EXE_cellsync-node")),
];

fn files() -> BTreeMap<String, String> {
    tree::files(tree::REVISED).into_iter().collect()
}

fn text(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).unwrap()
}

fn names<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> Names {
    names.into_iter().map(|name| name.as_ref().to_owned()).collect()
}

/// The names that `--help` lists under a heading, with short ones.
fn listed(words: &[&str], heading: &str) -> Names {
    let path = PROGRAMS.iter().find(|(name, _)| *name == words[0]).unwrap().1;
    let help = text(&Command::new(path).args(&words[1..]).arg("--help").output().unwrap().stdout);
    let section = help.lines().skip_while(|line| *line != heading).skip(1).take_while(|line| !line.is_empty());
    let entries = section.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    // Two spaces follow an option, or one if it is as wide as the column.
    names(entries.flat_map(|line| {
        let words = line.split("  ").next().unwrap().split(' ');
        words.take_while(|word| word.starts_with('-') || !line.starts_with('-')).map(|word| word.trim_end_matches(','))
    }))
}

fn options(words: &[&str]) -> Names {
    let options = listed(words, "Options:");
    assert!(options.contains("-h") && options.contains("--help"), "{words:?} --help: {options:?}");
    options
}

fn commands() -> Names {
    let commands = listed(&["cellsync"], "Commands:");
    assert!(commands.contains("drain"), "{commands:?}");
    commands
}

/// All programs and subcommands, each as the words to type.
fn all_commands() -> Vec<Vec<String>> {
    let programs = PROGRAMS.map(|(name, _)| vec![name.to_owned()]);
    programs.into_iter().chain(commands().into_iter().map(|command| vec!["cellsync".to_owned(), command])).collect()
}

fn for_each_command(check: impl Fn(&[&str])) {
    for words in all_commands() {
        check(&words.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

/// Is the program installed? Checks that need it are skipped, with a message, if it is not.
fn is_installed(program: &str) -> bool {
    let is_installed = Command::new(program).arg("--version").output().is_ok();
    if !is_installed {
        eprintln!("skipped: {program} is not installed");
    }
    is_installed
}

fn plain(roff: &str) -> String {
    let mut text = roff.to_owned();
    for (roff, plain) in [("\\fB", ""), ("\\fI", ""), ("\\fR", ""), ("\\-", "-"), ("\\(aq", "'"), ("\\(dq", "\"")] {
        text = text.replace(roff, plain);
    }
    text.replace("\\ ", " ")
}

fn page<'a>(files: &'a BTreeMap<String, String>, program: &str) -> &'a str {
    files.iter().find(|(name, _)| name.starts_with(&format!("man/{program}.")) && !name.ends_with(".5")).unwrap().1
}

/// The line after each `.TP` in the section that begins with `heading`.
fn tags(page: &str, heading: &str) -> Vec<String> {
    let lines: Vec<&str> = page.lines().collect();
    let start = 1 + lines.iter().position(|line| plain(line) == heading).unwrap_or_else(|| panic!("no {heading}"));
    let len = lines[start..].iter().position(|line| line.starts_with(".SH") || line.starts_with(".SS")).unwrap();
    lines[start..start + len].windows(2).filter(|pair| pair[0] == ".TP").map(|pair| plain(pair[1])).collect()
}

#[test]
fn pages_have_the_options_and_commands_of_help() {
    let files = files();
    for_each_command(|words| {
        let heading = match words {
            [_] => ".SH OPTIONS".to_owned(),
            words => format!(".SS {}", words.join(" ")),
        };
        let tags = tags(page(&files, words[0]), &heading);
        let in_page = tags.iter().flat_map(|tag| tag.split(", ")).filter(|name| name.starts_with('-'));
        assert_eq!(names(in_page.map(|name| name.split(' ').next().unwrap())), options(words), "{words:?}");
    });
    let headings = page(&files, "cellsync").lines().map(plain);
    assert_eq!(names(headings.filter_map(|line| Some(line.strip_prefix(".SS cellsync ")?.to_owned()))), commands());
    for (name, text) in &files {
        assert!(!plain(text).contains("--parent"), "{name} shows a hidden option");
    }
}

#[test]
fn demo_is_mentioned_only_if_it_is_built_in() {
    let mentioned = files().iter().any(|(_, text)| plain(text).contains("demo"));
    assert_eq!(mentioned, cfg!(all(target_os = "linux", feature = "demo")));
}

/// The settings that `cellsync-node --help` lists.
fn settings() -> Names {
    let settings = listed(&["cellsync-node"], "Settings (--set KEY=VALUE, or in the file):");
    assert!(settings.contains("listen") && settings.len() > 20, "{settings:?}");
    settings
}

#[test]
fn shipped_node_toml_is_generated() {
    let (shipped, generated) = (include_str!("../packaging/node.toml"), &files()["node.toml"]);
    let remedy = "run: cargo run --example pages -- target/pages && cp target/pages/node.toml packaging/node.toml";
    assert!(shipped == generated, "packaging/node.toml is out of date; {remedy}");
}

#[test]
fn shipped_node_toml_changes_nothing_and_shows_every_setting() {
    let config = |text: &str| {
        let mut config = Config::default();
        config.apply(&Overrides::parse(text, Path::new("node.toml")).unwrap()).unwrap();
        config
    };
    let shipped = include_str!("../packaging/node.toml");
    assert_eq!(config(shipped), Config::default());
    let examples: Vec<_> = shipped.lines().filter_map(|line| line.strip_prefix("#: ")).collect();
    assert_eq!(names(examples.iter().map(|example| example.split(' ').next().unwrap())), settings());
    // Where the default is a value, it is the example.
    assert_eq!(config(&examples.join("\n")).settings, Config::default().settings);
}

#[test]
fn the_pages_of_settings_have_all_settings() {
    let files = files();
    let tags = |page: &str| {
        let section = files[page].split_once(".SH SETTINGS\n").unwrap().1.split_once(".SH ").unwrap().0;
        names(section.split(".TP\n").skip(1).map(|entry| plain(entry.split(' ').next().unwrap())))
    };
    assert_eq!(tags("man/cellsync-node.toml.5"), settings());
    let client = CLIENT_SETTINGS.iter().map(|setting| setting.name);
    assert_eq!(tags("man/cellsync-client.toml.5"), names(client));
}

#[test]
fn pages_pass_the_linters() {
    let folder = tempfile::tempdir().unwrap();
    let linters = [&["mandoc", "-T", "lint", "-W", "warning"][..], &["groff", "-man", "-ww", "-z", "-Tutf8"]];
    let linters: Vec<_> = linters.into_iter().filter(|linter| is_installed(linter[0])).collect();
    for (name, page) in files().iter().filter(|(name, _)| name.starts_with("man/")) {
        assert!(page.is_ascii(), "{name}");
        let path = folder.path().join("page");
        fs::write(&path, page).unwrap();
        for linter in &linters {
            let Output { stdout, stderr, .. } = Command::new(linter[0]).args(&linter[1..]).arg(&path).output().unwrap();
            assert_eq!(text(&stdout) + &text(&stderr), "", "{linter:?} of {name}");
        }
    }
}

/// The programs parse each example, with `--help` appended.
#[test]
fn examples_are_valid() {
    let folder = Path::new(PROGRAMS[0].1).parent().unwrap();
    let mut tried = 0;
    for (name, page) in files().iter().filter(|(name, _)| name.starts_with("man/")) {
        let examples = page.split(".EX\n").skip(1).map(|rest| plain(rest.split(".EE\n").next().unwrap()));
        for example in examples {
            if name.ends_with(".5") {
                let file = tempfile::NamedTempFile::new().unwrap();
                fs::write(file.path(), &example).unwrap();
                if name.contains("client") {
                    ClientConfig::default().apply(&example, file.path()).unwrap();
                } else {
                    Config::default().apply(&Overrides::read(file.path()).unwrap()).unwrap();
                }
                continue;
            }
            for line in example.lines() {
                let ours = line.split(" | ").find(|part| part.starts_with("cellsync")).unwrap();
                let mut shell = Command::new("/bin/sh");
                let output = shell.args(["-c", &format!("{ours} --help")]).env("PATH", folder).output();
                let output = output.unwrap();
                assert!(output.status.success(), "{name}: {line}: {}", text(&output.stderr));
                tried += 1;
            }
        }
    }
    assert!(tried > 10, "{tried}");
}

#[test]
fn files_depend_on_the_day_only() {
    assert_eq!(tree::files("2026-11-21"), tree::files("2026-11-21"));
    assert_ne!(tree::files("2026-11-21"), tree::files("2026-11-22"));
    for (epoch_s, day) in [
        (0, "1970-01-01"),
        (951_782_399, "2000-02-28"),
        (951_782_400, "2000-02-29"),
        (951_868_800, "2000-03-01"),
        (1_767_225_599, "2025-12-31"),
        (4_107_542_400, "2100-03-01"),
    ] {
        assert_eq!(tree::day(epoch_s), day);
    }
}

/// The completion scripts of a shell, and a folder with names to complete.
struct Shell {
    scripts: TempDir,
    folder: TempDir,
}

impl Shell {
    fn new(shell: &str) -> Self {
        let (scripts, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (name, text) in files() {
            if let Some(name) = name.strip_prefix(&format!("completions/{shell}/")) {
                fs::write(scripts.path().join(name), text).unwrap();
            }
        }
        for name in ["album.tar", "album.tar.manifest", "with space.manifest"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        fs::create_dir(folder.path().join("folder")).unwrap();
        Self { scripts, folder }
    }

    /// The lines that a command prints.
    fn run(&self, command: &mut Command) -> Vec<String> {
        let output = command.current_dir(self.folder.path()).env("HOME", self.folder.path()).output().unwrap();
        assert_eq!(text(&output.stderr), "", "{command:?}");
        text(&output.stdout).lines().filter(|line| !line.is_empty()).map(ToOwned::to_owned).collect()
    }

    /// The completions of bash for the last word. The words are as bash splits them.
    fn bash(&self, words: &[&str]) -> Names {
        const DRIVE: &str = r#"
            source "$0"
            complete=$(complete -p "$1") function=${complete#*-F }
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE}
            [[ ${*: -1} ]] || COMP_LINE+=' '
            ${function%% *} "$1" "${*: -1}" "${*: -2:1}"
            printf '%s\n' "${COMPREPLY[@]}""#;
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", DRIVE]).arg(self.scripts.path().join(words[0])).args(words);
        names(self.run(&mut bash))
    }

    /// The completions of fish at the end of a line, without their descriptions.
    fn fish(&self, line: &str) -> Names {
        let program = line.split(' ').next().unwrap();
        let mut fish = Command::new("fish");
        let script = self.scripts.path().join(format!("{program}.fish"));
        fish.args(["--no-config", "-c", &format!("source {}; complete -C '{line}'", script.display())]);
        names(self.run(&mut fish).iter().map(|line| line.split('\t').next().unwrap()))
    }
}

fn with(words: &[&str], last: &str) -> Vec<String> {
    words.iter().chain([&last]).map(|word| (*word).to_owned()).collect()
}

#[test]
fn bash_completes_options_and_commands() {
    if !is_installed("bash") {
        return;
    }
    let shell = Shell::new("bash");
    for_each_command(|words| {
        let line = with(words, "-");
        assert_eq!(shell.bash(&line.iter().map(String::as_str).collect::<Vec<_>>()), options(words), "{words:?}");
    });
    assert_eq!(shell.bash(&["cellsync", ""]), commands());
    assert_eq!(shell.bash(&["cellsync", "--version", "dr"]), names(["drain"]));
    let settings = settings().into_iter().map(|key| key + "=");
    assert_eq!(shell.bash(&["cellsync-node", "--set", ""]), names(settings));
}

fn log_levels() -> Names {
    names(["off", "error", "warn", "info", "debug", "trace"])
}

#[test]
fn bash_completes_values_by_their_kind() {
    if !is_installed("bash") {
        return;
    }
    let shell = Shell::new("bash");
    let manifests = names(["album.tar.manifest", "with space.manifest", "folder"]);
    for (words, expected) in [
        (&["cellsync-get", ""][..], &manifests),
        (&["cellsync", "check", "--deep", ""], &manifests),
        (&["cellsync-get", "a"], &names(["album.tar.manifest"])),
        (&["cellsync-node", "--log", "w"], &names(["warn"])),
        (&["cellsync-put", "--compress", "9"], &names(["9", "9e"])),
        (&["cellsync", "node", "--set", "heal_r"], &names(["heal_rate="])),
        (&["cellsync-node", "--log", "=", "w"], &names(["warn"])),
        (&["cellsync-node", "--init", "--log", "="], &log_levels()),
        (&["cellsync", "node", "--set", "=", "heal_r"], &names(["heal_rate="])),
        // Nothing to offer, or file names, which readline completes.
        (&["cellsync-put", ""], &Names::new()),
        (&["cellsync-put", "-o", ""], &Names::new()),
        (&["cellsync-node", "--data", ""], &Names::new()),
        (&["cellsync-put", "--copies", ""], &Names::new()),
        (&["cellsync-put", "--copies", "="], &Names::new()),
        (&["cellsync-get", "--output", "=", "a"], &Names::new()),
        (&["cellsync-node", "--set", "=", "log", "=", "he"], &Names::new()),
        (&["cellsync-put", "--node", "http", ":", "//10.0.0.1", ":", "80"], &Names::new()),
        (&["cellsync-node", "--set", "log", "=", "he"], &Names::new()),
        (&["cellsync-put", "--", "-"], &Names::new()),
        (&["cellsync", "dance", ""], &Names::new()),
        // The word with a colon is complete.
        (&["cellsync", "drain", "10.0.0.1", ":", "8080", "--un"], &names(["--undo"])),
    ] {
        assert_eq!(&shell.bash(words), expected, "{words:?}");
    }
    for level in shell.bash(&["cellsync-put", "--compress", ""]) {
        level.parse::<Level>().unwrap();
    }
}

#[test]
fn fish_completes_options_and_commands() {
    let shell = Shell::new("fish");
    let has_fish = is_installed("fish");
    let files = files();
    for_each_command(|words| {
        // The text of the script, which needs no fish.
        let script = &files[&format!("completions/fish/{}.fish", words[0])];
        let start = match words {
            ["cellsync"] => "complete -c cellsync -n __fish_cellsync_is_at -".to_owned(),
            [program] => format!("complete -c {program} -"),
            words => format!("complete -c cellsync -n '__fish_cellsync_is_at {}' -", words[1]),
        };
        let lines = script.lines().filter(|line| line.starts_with(&start));
        let lines: Vec<Vec<&str>> = lines.map(|line| line.split(" -d ").next().unwrap().split(' ').collect()).collect();
        let written = lines.iter().flat_map(|line| line.windows(2)).filter_map(|pair| match pair[0] {
            "-l" => Some(format!("--{}", pair[1])),
            "-s" => Some(format!("-{}", pair[1])),
            _ => None,
        });
        assert_eq!(names(written), options(words), "{words:?}");
        if has_fish {
            assert_eq!(shell.fish(&with(words, "-").join(" ")), options(words), "{words:?}");
        }
    });
    if has_fish {
        assert_eq!(shell.fish("cellsync "), commands());
        assert_eq!(shell.fish("cellsync-node --set "), names(settings().into_iter().map(|key| key + "=")));
        assert_eq!(shell.fish("cellsync node --data "), names(["folder/"]));
        assert_eq!(shell.fish("cellsync-put --copies "), Names::new());
    }
}

#[test]
fn zsh_completes_options_and_commands() {
    let files = files();
    for_each_command(|words| {
        let script = &files[&format!("completions/zsh/_{}", words[0])];
        let start = format!("\n_{}() {{\n", words.join("_"));
        let function = script.split_once(&start).unwrap().1.split("\n}\n").next().unwrap();
        // '(excluded options)'{-o,--output}'[description]:value:action'
        let specs = function.lines().filter(|line| line.contains("'[")).map(|line| line.split('\'').nth(2).unwrap());
        let written = specs.flat_map(|names| names.trim_matches(['{', '}']).split(','));
        let written = written.map(|name| name.trim_end_matches(['+', '=']));
        assert_eq!(names(written), options(words), "{words:?}");
    });
    let (_, table) = files["completions/zsh/_cellsync"].split_once("local -a commands=(\n").unwrap();
    let lines = table.lines().take_while(|line| line.trim() != ")");
    assert_eq!(names(lines.map(|line| line.trim().trim_start_matches('\'').split(':').next().unwrap())), commands());
    if is_installed("zsh") {
        let shell = Shell::new("zsh");
        for (program, _) in PROGRAMS {
            shell.run(Command::new("zsh").arg("-n").arg(shell.scripts.path().join(format!("_{program}"))));
        }
    }
}
