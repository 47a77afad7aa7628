//! Cells that cannot start say why, and those that stop do so in order.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cellsync::id::ChunkId;
use cellsync::wire::peers::Presence;
use rustix::process::Signal;

use crate::house::{Cell, Colony, DEADLINE, Running, UdpPort, eventually, light_blocks, node, noise, run};
use crate::raw;

fn usual(data: &Path, port: &UdpPort) -> Command {
    let mut command = node();
    command.args(["--loopback", "--listen", "127.0.0.1:0", "--reserve", "1 MiB"]);
    command.args(["--udp-port", &port.number.to_string()]).arg("--data").arg(data);
    command
}

/// Goal: every failure at the start is one line that says what to do. Method: makes each of them happen.
#[test]
fn a_cell_that_cannot_start_says_why_in_one_line() {
    let (folder, port) = (tempfile::tempdir().unwrap(), UdpPort::free());
    let data = folder.path().join("data");

    let path = data.to_str().unwrap();
    run(&mut usual(&data, &port)).fails_in_one_line(1, &[path, "--init"]);
    assert!(!data.exists(), "a disk that is not mounted is not written to");
    fs::create_dir(&data).unwrap();
    run(&mut usual(&data, &port)).fails_in_one_line(1, &[path, "mount", "--init"]);
    assert!(fs::read_dir(&data).unwrap().next().is_none());
    fs::write(data.join("photo.jpg"), b"x").unwrap();
    run(usual(&data, &port).arg("--init")).fails_in_one_line(1, &[path, "empty"]);
    fs::remove_file(data.join("photo.jpg")).unwrap();

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = node();
    command.args(["--loopback", "--init", "--listen", &address, "--udp-port", &port.number.to_string()]);
    run(command.arg("--data").arg(&data)).fails_in_one_line(1, &[&address, "in use", "--listen"]);

    let _cell = Cell::start(&data, port.number, &[]);
    run(&mut usual(&data, &port)).fails_in_one_line(1, &[path, "in use"]);
}

/// Goal: settings that cannot be meant are found before anything happens. Method: files and options with mistakes.
#[test]
fn settings_that_cannot_be_meant_are_one_line_and_exit_2() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("node.toml");
    let data = folder.path().join("data");
    let with = |text: &str| {
        fs::write(&config, text).unwrap();
        let mut command = node();
        command.arg("--config").arg(&config).arg("--data").arg(&data).args([
            "--loopback",
            "--init",
            "--listen",
            "127.0.0.1:0",
        ]);
        run(&mut command)
    };
    with("loopback = true\ncolour = \"blue\"\n").fails_in_one_line(2, &["node.toml", "2", "colour"]);
    with("udp_port = 0\n").fails_in_one_line(2, &["udp_port"]);
    fs::remove_file(&config).unwrap();
    for words in [
        &["--config", "/nowhere/node.toml"][..],
        &["--udp-port", "0"],
        &["--udp-port", "x"],
        &["--listen", "8080"],
        &["--reserve", "much"],
        &["--quota", "-1"],
        &["--log", "loud"],
        &["--peer", "10.0.0.1"],
        &["--colour"],
        &["more"],
    ] {
        run(node().args(["--loopback", "--init", "--data"]).arg(&data).args(words))
            .fails_in_one_line(2, &["cellsync-node: "]);
    }
    assert!(!data.exists());
}

/// Goal: a cell that is told to stop is gone for the others at once, and finishes what it has begun. Method: SIGTERM in
/// the middle of an upload whose second half is sent only when the others know.
#[test]
fn a_stopping_cell_tells_the_others_and_finishes_an_upload_under_way() {
    let mut colony = Colony::start(3);
    let bytes = noise(1, 500_000);
    let id = ChunkId::of(&bytes).to_string();
    let mut stream = raw::connect(colony.cells[0].door());
    let head = format!("PUT /chunk/{id} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 500000\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&bytes[..250_000]).unwrap();
    eventually("the cell takes the chunk", || colony.cells[0].is_taking_a_chunk());

    colony.cells[0].terminate();
    for other in &colony.cells[1..] {
        // Not silent, which a cell that was killed becomes in time: it said so itself.
        eventually("the others know", || colony.state(other, &colony.cells[0]) == Some(Presence::Left));
        assert!(!colony.http.peers(&other.url).unwrap().peers.contains(&colony.cells[0].url));
    }
    stream.write_all(&bytes[250_000..]).unwrap();
    assert_eq!(raw::answer(&mut stream).status, 200);
    assert_eq!(colony.cells[0].ended(), Some(0));
    assert_eq!(fs::read(colony.cells[0].chunk_file(&id)).unwrap(), bytes);

    colony.cells[0].restart();
    colony.know_each_other();
    assert!(colony.cells[0].chunks().contains(&id));
}

/// Goal: a cell is its folder. Method: SIGKILL, then another process on the same folder and another port.
#[test]
fn a_killed_cell_comes_back_as_itself_with_all_its_chunks() {
    let mut colony = Colony::start(2);
    let bytes = light_blocks(1, 8);
    let stored = colony.put_bytes("file", &bytes);
    let before: Vec<_> = colony.cells.iter().map(|cell| (cell.id.clone(), cell.chunks())).collect();
    for cell in &mut colony.cells {
        cell.kill();
        cell.restart();
    }
    colony.know_each_other();
    let after: Vec<_> = colony.cells.iter().map(|cell| (cell.id.clone(), cell.chunks())).collect();
    assert_eq!(after, before);
    assert_eq!(colony.files(), ["file", "file.manifest"]);
    assert!(colony.get_bytes(&stored.manifest) == bytes);
    let told: Vec<_> = colony.cells.iter().map(|cell| colony.http.status(&cell.url).unwrap()).collect();
    assert!(told.iter().zip(&colony.cells).all(|(told, cell)| told.beacon.node_id.to_string() == cell.id));
}

/// Goal: the cell's own port is what it prints, and its options are the ones of its file. Method: a node.toml with
/// all that is needed.
#[test]
fn a_cell_runs_from_its_file_alone() {
    let (folder, port) = (tempfile::tempdir().unwrap(), UdpPort::free());
    let config = folder.path().join("node.toml");
    let data = folder.path().join("data");
    let text = format!(
        "data = {data:?}\nlisten = \"127.0.0.9:0\"\nloopback = true\nudp_port = {}\nreserve = \"1 MiB\"\nlog = \"off\"\n",
        port.number
    );
    fs::write(&config, text).unwrap();
    let mut child = node()
        .arg("--init")
        .arg("--config")
        .arg(&config)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .map(Killed)
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.0.stdout.take().unwrap()), &mut line).unwrap();
    let door = line.split(' ').nth(4).unwrap().strip_prefix("http://").unwrap();
    assert!(door.starts_with("127.0.0.9:") && line.trim_end().ends_with("/data"), "{line}");
    assert_eq!(raw::ask(door, "GET", "/health", &[], b"").status, 200);
}

struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Goal: a package can make the data folder without starting a cell, and twice does no harm. Method: `--init-only`.
#[test]
fn a_data_folder_is_made_without_starting_a_cell_and_stays_the_same_cells() {
    let (folder, port) = (tempfile::tempdir().unwrap(), UdpPort::free());
    let data = folder.path().join("data");
    let made = run(usual(&data, &port).arg("--init-only"));
    assert_eq!((made.code, made.stderr.as_str()), (0, ""));
    let said = String::from_utf8(made.stdout).unwrap();
    let id = said.split(' ').nth(1).unwrap();
    assert!(said.contains(data.to_str().unwrap()), "{said}");
    assert_eq!(run(usual(&data, &port).arg("--init-only")).stdout, said.as_bytes());
    assert_eq!(Cell::start(&data, port.number, &[]).id, id);

    fs::create_dir(folder.path().join("other")).unwrap();
    fs::write(folder.path().join("other/photo.jpg"), b"x").unwrap();
    run(usual(&folder.path().join("other"), &port).arg("--init-only")).fails_in_one_line(1, &["/other", "empty"]);
}

/// What the cell tells its service manager until the given word comes.
fn told_until(socket: &UnixDatagram, word: &str) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    while !told.iter().any(|line| line == word) {
        let mut bytes = [0; 4096];
        let len = socket.recv(&mut bytes).unwrap_or_else(|error| panic!("no {word} after {told:?}: {error}"));
        told.extend(str::from_utf8(&bytes[..len]).unwrap().lines().map(str::to_owned));
    }
    told
}

/// Goal: systemd knows when a cell is ready, that it lives, and that it stops; a hanging one gives no sign of life.
/// Method: is the service manager, with a watchdog of 300 ms.
#[test]
fn a_service_manager_hears_that_the_cell_is_ready_and_lives_until_it_hangs_or_stops() {
    let (folder, port) = (tempfile::tempdir().unwrap(), UdpPort::free());
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut command = usual(&folder.path().join("data"), &port);
    command.arg("--init").env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "300000").env_remove("WATCHDOG_PID");
    let mut cell = Running::start(&mut command);

    assert_eq!(told_until(&socket, "READY=1"), ["READY=1"], "nothing before it is ready");
    for _ in 0..3 {
        let told = told_until(&socket, "WATCHDOG=1");
        assert_eq!(told, ["WATCHDOG=1", "STATUS=stem cell, active, 0 chunks; other cells: 0 active"]);
    }

    assert!(cell.stands_still());
    let mut bytes = [0; 4096];
    socket.set_nonblocking(true).unwrap();
    while socket.recv(&mut bytes).is_ok() {}
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let silence = socket.recv(&mut bytes).unwrap_err();
    assert_eq!(silence.kind(), ErrorKind::WouldBlock, "a cell that hangs gave a sign of life");

    cell.signal(Signal::CONT);
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    told_until(&socket, "WATCHDOG=1");
    cell.signal(Signal::TERM);
    told_until(&socket, "STOPPING=1");
    assert_eq!(cell.ended().code, 0);
}

/// Goal: a cell stays small where the kernel gives huge pages to everybody. Method: asks the kernel whether it may.
#[test]
fn a_cell_takes_no_huge_pages() {
    let (folder, port) = (tempfile::tempdir().unwrap(), UdpPort::free());
    let cell = Cell::start(&folder.path().join("data"), port.number, &[]);
    let status = fs::read_to_string(format!("/proc/{}/status", cell.pid())).unwrap();
    // Linux tells since 5.0.
    if let Some(line) = status.lines().find(|line| line.starts_with("THP_enabled:")) {
        assert!(line.ends_with('0'), "{line}");
    }
}

/// Goal: nobody leaves files in a cell's folder that its owner cannot change. Method: as root, a folder of another user; and
/// a cell whose folder for new chunks has become another's.
#[test]
fn a_cell_does_not_start_on_a_folder_of_another_user() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not root: nothing can be given to another user");
        return;
    }
    let (folder, port) = (tempfile::tempdir().unwrap(), UdpPort::free());
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    chown(&data, Some(4242), Some(4242)).unwrap();
    for word in ["--init", "--init-only"] {
        run(usual(&data, &port).arg(word)).fails_in_one_line(1, &["4242", "0", "runuser"]);
        assert_eq!(fs::read_dir(&data).unwrap().count(), 0, "nothing was written");
    }
    chown(&data, Some(0), Some(0)).unwrap();
    run(usual(&data, &port).arg("--init-only"));
    for name in ["tmp", "chunks", "."] {
        chown(data.join(name), Some(4242), Some(4242)).unwrap();
        run(&mut usual(&data, &port)).fails_in_one_line(1, &["4242"]);
        chown(data.join(name), Some(0), Some(0)).unwrap();
    }
    Cell::start(&data, port.number, &[]);
}
