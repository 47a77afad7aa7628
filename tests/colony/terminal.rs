//! What users see on a terminal while a put or a get works.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use cellsync::id::BLOCK_BYTES;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::harness::{Colony, random_bytes};

/// What a program writes to a terminal of this width on its standard error.
fn shown(command: &mut Command, columns: u16) -> String {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    tcsetwinsize(&terminal, Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let end: OwnedFd = File::options().read(true).write(true).open(name).unwrap().into();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(end).spawn().unwrap();
    // The command still holds the terminal's other end; the reader would wait for it to write.
    command.stderr(Stdio::null());
    let mut bytes = Vec::new();
    // Fails when the program has closed its end.
    drop(File::from(terminal).read_to_end(&mut bytes));
    assert!(child.wait().unwrap().success());
    String::from_utf8(bytes).unwrap()
}

/// Does the line show a percentage before the amounts, as in `12 %  1.00 MiB of 8.00 MiB`?
fn has_percentage(shown: &str) -> bool {
    let is_amount_after_percentage = |before: &str| {
        let (text, amount) = before.rsplit_once(" %  ").unwrap_or_default();
        amount.ends_with('B') && amount.len() < 12 && text.ends_with(|c: char| c.is_ascii_digit())
    };
    shown.split(" of 8.0").any(is_amount_after_percentage)
}

/// Goal: a user sees how much is done and how long the rest takes; no first draw shows nonsense. Method: reads what a
/// put and a get write to a terminal, and to one that cannot move its cursor.
#[test]
fn a_bar_shows_percentage_and_time_left() {
    let colony = Colony::start(1);
    let file = colony.write_file("file", &random_bytes(9, 8 * BLOCK_BYTES));
    let put = shown(colony.put().args(["--copies", "1", "--compress", "0"]).arg(file).env("TERM", "xterm"), 100);
    let get = shown(colony.get().args(["file.manifest", "-o", "-"]).env("TERM", "xterm"), 100);
    for shown in [&put, &get] {
        assert!(has_percentage(shown), "{shown}");
        assert!(shown.contains("s left") && !shown.contains("0/0"), "{shown}");
    }
    let tree = colony.path("tree");
    fs::create_dir(&tree).unwrap();
    fs::rename(colony.path("file"), tree.join("file")).unwrap();
    let put = shown(colony.put().args(["--copies", "1", "--compress", "0", "tree"]).env("TERM", "xterm"), 100);
    assert!(has_percentage(&put) && put.contains("s left"), "{put}");
    let dumb = shown(colony.get().args(["file.manifest", "-o", "-"]).env("TERM", "dumb"), 100);
    assert_eq!(dumb, "");
}
