//! How cells start, why they do not, and how they stop.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cellsync::id::{CellId, ChunkId};
use cellsync::wire::peers::Presence;
use rustix::process::Signal;

use crate::harness::{
    Cell, Colony, Running, UdpPort, compressible_blocks, connect, node_command, parse_started, random_bytes,
    read_response, request, run,
};
use crate::wait::{TIMEOUT, wait_until};

/// The command for a cell on loopback with this data folder and UDP port.
fn cell_command(data: &Path, port: &UdpPort) -> Command {
    let mut command = node_command();
    command.args(["--loopback", "--listen", "127.0.0.1:0", "--reserve", "1 MiB"]);
    command.args(["--udp-port", &port.number.to_string()]).arg("--data").arg(data);
    command
}

/// Goal: every failure at the start is one line with the remedy. Method: causes each of them.
#[test]
fn a_failed_start_is_one_line_with_the_remedy() {
    let (folder, port) = (tempfile::tempdir().unwrap(), UdpPort::free());
    let data = folder.path().join("data");

    let path = data.to_str().unwrap();
    run(&mut cell_command(&data, &port)).expect_error(1, &[path, "--init"]);
    assert!(!data.exists(), "nothing is written where a disk is not mounted");
    fs::create_dir(&data).unwrap();
    run(&mut cell_command(&data, &port)).expect_error(1, &[path, "mount", "--init"]);
    assert!(fs::read_dir(&data).unwrap().next().is_none());
    fs::write(data.join("photo.jpg"), b"x").unwrap();
    run(cell_command(&data, &port).arg("--init")).expect_error(1, &[path, "empty"]);
    fs::remove_file(data.join("photo.jpg")).unwrap();

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = node_command();
    command.args(["--loopback", "--init", "--listen", &address, "--udp-port", &port.number.to_string()]);
    run(command.arg("--data").arg(&data)).expect_error(1, &[&address, "in use", "--listen"]);

    let _cell = Cell::start(&data, port.number, &[]);
    run(&mut cell_command(&data, &port)).expect_error(1, &[path, "in use"]);
}

/// Goal: invalid settings are found before anything is done. Method: files and options with mistakes.
#[test]
fn invalid_settings_are_one_line_and_exit_2() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("node.toml");
    let data = folder.path().join("data");
    let with = |text: &str| {
        fs::write(&config, text).unwrap();
        let mut command = node_command();
        command.arg("--config").arg(&config).arg("--data").arg(&data).args([
            "--loopback",
            "--init",
            "--listen",
            "127.0.0.1:0",
        ]);
        run(&mut command)
    };
    with("loopback = true\ncolour = \"blue\"\n").expect_error(2, &["node.toml", "2", "colour"]);
    with("udp_port = 0\n").expect_error(2, &["udp_port"]);
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
        run(node_command().args(["--loopback", "--init", "--data"]).arg(&data).args(words))
            .expect_error(2, &["cellsync-node: "]);
    }
    assert!(!data.exists());
}

/// Goal: the others know at once that a stopped cell is gone, and it finishes the requests in progress. Method: SIGTERM
/// in the middle of a put, whose second half is sent when the others know.
#[test]
fn a_stopping_cell_announces_it_and_finishes_its_requests() {
    let mut colony = Colony::start(3);
    let bytes = random_bytes(1, 500_000);
    let id = ChunkId::of(&bytes).to_string();
    let mut stream = connect(colony.cells[0].address());
    let head = format!("PUT /chunk/{id} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 500000\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&bytes[..250_000]).unwrap();
    wait_until("the cell receives the chunk", || colony.cells[0].has_staged_chunk());

    colony.cells[0].terminate();
    for other in &colony.cells[1..] {
        // Left, not silent as a killed cell would be: it has announced it.
        wait_until("the cell has left", || colony.presence(other, &colony.cells[0]) == Some(Presence::Left));
        assert!(!colony.http.peers(&other.url).unwrap().peers.contains(&colony.cells[0].url));
    }
    stream.write_all(&bytes[250_000..]).unwrap();
    assert_eq!(read_response(&mut stream).status, 200);
    assert_eq!(colony.cells[0].wait_exit(), Some(0));
    assert_eq!(fs::read(colony.cells[0].chunk_file(&id)).unwrap(), bytes);

    colony.cells[0].restart();
    colony.wait_all_active();
    assert!(colony.cells[0].chunks().contains(&id));
}

/// Goal: a cell is its data folder. Method: SIGKILL, then another process on the same folder and another port.
#[test]
fn a_killed_cell_returns_with_its_id_and_chunks() {
    let mut colony = Colony::start(2);
    let bytes = compressible_blocks(1, 8);
    let stored = colony.put_bytes("file", &bytes);
    let before: Vec<_> = colony.cells.iter().map(|cell| (cell.id.clone(), cell.chunks())).collect();
    for cell in &mut colony.cells {
        cell.kill();
        cell.restart();
    }
    colony.wait_all_active();
    let after: Vec<_> = colony.cells.iter().map(|cell| (cell.id.clone(), cell.chunks())).collect();
    assert_eq!(after, before);
    assert_eq!(colony.files(), ["file", "file.manifest"]);
    assert!(colony.get_bytes(&stored.manifest) == bytes);
    let statuses: Vec<_> = colony.cells.iter().map(|cell| colony.http.status(&cell.url).unwrap()).collect();
    assert!(statuses.iter().zip(&colony.cells).all(|(status, cell)| status.beacon.node_id.to_string() == cell.id));
}

/// Goal: the settings file is enough to start a cell, and the cell prints its address. Method: a `node.toml` with all
/// settings that the test needs.
#[test]
fn a_cell_starts_from_its_settings_file_alone() {
    let (folder, port) = (tempfile::tempdir().unwrap(), UdpPort::free());
    let config = folder.path().join("node.toml");
    let data = folder.path().join("data");
    let text = format!(
        "data = {data:?}\nlisten = \"127.0.0.9:0\"\nloopback = true\nudp_port = {}\nreserve = \"1 MiB\"\nlog = \"off\"\n",
        port.number
    );
    fs::write(&config, text).unwrap();
    let mut child = node_command()
        .arg("--init")
        .arg("--config")
        .arg(&config)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .map(Killed)
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.0.stdout.take().unwrap()), &mut line).unwrap();
    let (_, url) = parse_started(&line);
    let address = url.strip_prefix("http://").unwrap();
    assert!(address.starts_with("127.0.0.9:") && line.contains(data.to_str().unwrap()), "{line}");
    assert_eq!(request(address, "GET", "/health", &[], b"").status, 200);
}

struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Goal: a package can prepare a data folder without starting a cell; repeating it changes nothing. Method:
/// `--init-only`, twice.
#[test]
fn init_only_prepares_a_data_folder_and_repeats_safely() {
    let (folder, port) = (tempfile::tempdir().unwrap(), UdpPort::free());
    let data = folder.path().join("data");
    let made = run(cell_command(&data, &port).arg("--init-only"));
    assert_eq!((made.code, made.stderr.as_str()), (0, ""));
    let said = String::from_utf8(made.stdout).unwrap();
    let id = said.split_whitespace().find(|word| word.parse::<CellId>().is_ok()).unwrap();
    assert!(said.contains(data.to_str().unwrap()), "{said}");
    assert_eq!(run(cell_command(&data, &port).arg("--init-only")).stdout, said.as_bytes());
    assert_eq!(Cell::start(&data, port.number, &[]).id, id);

    fs::create_dir(folder.path().join("other")).unwrap();
    fs::write(folder.path().join("other/photo.jpg"), b"x").unwrap();
    run(cell_command(&folder.path().join("other"), &port).arg("--init-only")).expect_error(1, &["/other", "empty"]);
}

/// The notifications that the cell sends to its service manager, up to this one.
fn notifications_until(socket: &UnixDatagram, last: &str) -> Vec<String> {
    let mut received: Vec<String> = Vec::new();
    while !received.iter().any(|line| line == last) {
        let mut bytes = [0; 4096];
        let len = socket.recv(&mut bytes).unwrap_or_else(|error| panic!("no {last} after {received:?}: {error}"));
        received.extend(str::from_utf8(&bytes[..len]).unwrap().lines().map(str::to_owned));
    }
    received
}

/// Goal: systemd learns when a cell is ready, that it is alive, and that it stops; a hanging cell does not report that
/// it is alive. Method: the test is the service manager, with a watchdog of 300 ms.
#[test]
fn systemd_is_notified_until_a_cell_hangs_or_stops() {
    let (folder, port) = (tempfile::tempdir().unwrap(), UdpPort::free());
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut command = cell_command(&folder.path().join("data"), &port);
    command.arg("--init").env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "300000").env_remove("WATCHDOG_PID");
    let mut cell = Running::start(&mut command);

    assert_eq!(notifications_until(&socket, "READY=1"), ["READY=1"], "nothing is sent before the cell is ready");
    for _ in 0..3 {
        let received = notifications_until(&socket, "WATCHDOG=1");
        assert_eq!(received, ["WATCHDOG=1", "STATUS=stem cell, active, 0 chunks; other cells: 0 active"]);
    }

    assert!(cell.suspend());
    let mut bytes = [0; 4096];
    socket.set_nonblocking(true).unwrap();
    while socket.recv(&mut bytes).is_ok() {}
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let silence = socket.recv(&mut bytes).unwrap_err();
    assert_eq!(silence.kind(), ErrorKind::WouldBlock, "a hanging cell reported that it is alive");

    cell.signal(Signal::CONT);
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    notifications_until(&socket, "WATCHDOG=1");
    cell.signal(Signal::TERM);
    notifications_until(&socket, "STOPPING=1");
    assert_eq!(cell.finish().code, 0);
}

/// Goal: a cell stays small where the kernel uses huge pages by default. Method: asks the kernel whether the process
/// may use them.
#[test]
fn a_cell_disables_transparent_huge_pages() {
    let (folder, port) = (tempfile::tempdir().unwrap(), UdpPort::free());
    let cell = Cell::start(&folder.path().join("data"), port.number, &[]);
    let status = fs::read_to_string(format!("/proc/{}/status", cell.pid())).unwrap();
    // The line exists since Linux 5.0.
    if let Some(line) = status.lines().find(|line| line.starts_with("THP_enabled:")) {
        assert!(line.ends_with('0'), "{line}");
    }
}

/// Goal: no files are left in a data folder that its owner cannot change. Method: as root: a folder of another user,
/// and a cell with a subfolder of another user.
#[test]
fn a_cell_does_not_start_on_another_users_folder() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can give a folder to another user");
        return;
    }
    let (folder, port) = (tempfile::tempdir().unwrap(), UdpPort::free());
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    chown(&data, Some(4242), Some(4242)).unwrap();
    for option in ["--init", "--init-only"] {
        run(cell_command(&data, &port).arg(option)).expect_error(1, &["4242", "0", "runuser"]);
        assert_eq!(fs::read_dir(&data).unwrap().count(), 0, "something was written");
    }
    chown(&data, Some(0), Some(0)).unwrap();
    run(cell_command(&data, &port).arg("--init-only"));
    for name in ["tmp", "chunks", "."] {
        chown(data.join(name), Some(4242), Some(4242)).unwrap();
        run(&mut cell_command(&data, &port)).expect_error(1, &["4242"]);
        chown(data.join(name), Some(0), Some(0)).unwrap();
    }
    Cell::start(&data, port.number, &[]);
}
