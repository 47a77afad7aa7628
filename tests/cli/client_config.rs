//! `client.toml` and `CELLSYNC_NODE`: their precedence is seen in which cells a program fails to reach.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::program::{Finished, finish, program};

/// `cellsync status` with this file as the user's configuration. Nothing listens at the ports that the tests name.
fn status(config: &str) -> (tempfile::TempDir, Command) {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("cellsync");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("client.toml"), config).unwrap();
    let mut status = program("cellsync");
    status.arg("status").env("XDG_CONFIG_HOME", home.path());
    (home, status)
}

fn expect_nodes(finished: &Finished, nodes: &str) {
    finished.expect_error(3, &[&format!("no cell responds at {nodes};")]);
}

#[test]
fn the_first_that_names_cells_prevails() {
    let file = "nodes = [\"127.0.0.1:1\"]";
    let (_home, mut command) = status(file);
    expect_nodes(&finish(&mut command), "http://127.0.0.1:1");
    command.env("CELLSYNC_NODE", "");
    expect_nodes(&finish(&mut command), "http://127.0.0.1:1");
    command.env("CELLSYNC_NODE", "127.0.0.1:2, http://127.0.0.1:3/");
    expect_nodes(&finish(&mut command), "http://127.0.0.1:2, http://127.0.0.1:3");
    // An option prevails even over a variable that is invalid.
    command.env("CELLSYNC_NODE", "https://x").arg("--node=127.0.0.1:4");
    expect_nodes(&finish(&mut command), "http://127.0.0.1:4");
    let (_home, mut command) = status(file);
    command.args(["--loopback", "--udp-port", "1"]);
    finish(&mut command).expect_error(3, &["no cell responds on this machine (UDP port 1)"]);
}

#[test]
fn an_invalid_variable_is_named() {
    let (_home, mut command) = status("");
    command.env("CELLSYNC_NODE", "127.0.0.1:2 pi:x");
    finish(&mut command).expect_error(2, &["CELLSYNC_NODE: \"pi:x\": expected", "HOST:PORT"]);
}

#[test]
fn an_invalid_file_is_named_with_its_line() {
    let (home, mut command) = status("# cells\nnode = [\"a\"]\n");
    let path = home.path().join("cellsync/client.toml");
    let place = format!("{}, line 2: unknown setting `node`; there are nodes, ", path.display());
    finish(&mut command).expect_error(2, &[&place]);
    for name in ["cellsync-put", "cellsync-get"] {
        let source = home.path().join("x.manifest");
        fs::write(&source, "x").unwrap();
        let mut command = program(name);
        command.arg(source).args(["-o", "y"]).env("XDG_CONFIG_HOME", home.path()).current_dir(home.path());
        finish(&mut command).expect_error(2, &[&place]);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    let (home, mut command) = status("");
    let path = home.path().join("cellsync/client.toml");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    finish(&mut command).expect_error(2, &["cannot read", &path.display().to_string()]);
    fs::remove_dir(&path).unwrap();
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    // Root can read it nevertheless.
    if fs::read(&path).is_err() {
        finish(&mut command).expect_error(2, &["cannot read", "Permission denied"]);
    }
}

#[test]
fn the_file_is_found_in_the_home_folder() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join(".config/cellsync");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("client.toml"), "nodes = [\"127.0.0.1:5\"]").unwrap();
    for config_home in [None, Some(Path::new("")), Some(Path::new("relative"))] {
        let mut command = program("cellsync");
        command.arg("status").env("HOME", home.path());
        match config_home {
            Some(path) => command.env("XDG_CONFIG_HOME", path),
            None => command.env_remove("XDG_CONFIG_HOME"),
        };
        expect_nodes(&finish(&mut command), "http://127.0.0.1:5");
    }
}
