//! How cells find each other, and how they find chunks through each other.

use cellsync::id::ChunkId;
use cellsync::wire::peers::Presence;

use crate::harness::{Cell, Colony, Finished, UdpPort, assert_facts, random_bytes, request, run};
use crate::wait::wait_until;

fn last_line(ran: &Finished) -> &str {
    ran.text().lines().last().unwrap_or_default()
}

/// Goal: cells and users see that a cell is dead. Method: SIGKILL, then `/peers` and `cellsync status`.
#[test]
fn a_killed_cell_is_dead_to_others_and_in_status() {
    let mut colony = Colony::start(3);
    let table = run(&mut colony.status()).expect_success();
    assert_facts(last_line(&table), &["3 cells", "3 active"]);
    assert!(
        colony.cells.iter().all(|cell| table.text().contains(cell.address()) && table.text().contains(cell.short_id()))
    );

    colony.cells[1].kill();
    for other in [0, 2] {
        let other = &colony.cells[other];
        wait_until("the killed cell is not listed as active", || {
            !colony.http.peers(&other.url).unwrap().peers.contains(&colony.cells[1].url)
        });
        wait_until("the killed cell is dead", || colony.presence(other, &colony.cells[1]) == Some(Presence::Dead));
    }
    let table = run(&mut colony.status()).expect_success();
    let row =
        table.text().lines().find(|line| line.contains(colony.cells[1].address())).expect("a row for the dead cell");
    assert!(row.contains(" dead ") && row.starts_with(colony.cells[1].short_id()), "{row}");
    assert_facts(last_line(&table), &["3 cells", "2 active"]);

    let json = run(colony.status().arg("--json")).expect_success().json();
    let states: Vec<_> = json["cells"].as_array().unwrap().iter().map(|cell| cell["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["active", "active", "dead"]);

    colony.cells[1].restart();
    colony.wait_all_active();
    assert_facts(last_line(&run(&mut colony.status()).expect_success()), &["3 cells", "3 active"]);
}

/// Three cells that receive no beacons from each other: the first has the second as a static peer, and the second the
/// third.
struct Chain {
    cells: [Cell; 3],
    _ports: [UdpPort; 3],
    colony: Colony,
}

impl Chain {
    fn start() -> Self {
        let colony = Colony::start(0);
        let ports = [(); 3].map(|()| UdpPort::free());
        let start = |name: &str, port: &UdpPort, peers: &[&str]| {
            let peers: Vec<&str> = peers.iter().flat_map(|peer| ["--peer", peer]).collect();
            Cell::start(&colony.path(name), port.number, &peers)
        };
        let third = start("c", &ports[2], &[]);
        let second = start("b", &ports[1], &[third.address()]);
        let first = start("a", &ports[0], &[second.address()]);
        let chain = Self { cells: [first, second, third], _ports: ports, colony };
        let [a, b, c] = &chain.cells;
        for (cell, neighbours) in [(a, vec![b]), (b, vec![a, c]), (c, vec![b])] {
            let mut expected: Vec<&str> = neighbours.iter().map(|cell| cell.url.as_str()).collect();
            expected.sort_unstable();
            wait_until("the neighbours are active to each other", || {
                let mut active = chain.colony.http.peers(&cell.url).unwrap().peers;
                active.sort_unstable();
                active == expected
            });
        }
        chain
    }
}

/// Goal: a chunk is found through cells that know cells, no further than its hops permit, and no bad copy is passed on.
/// Method: a chain of cells in which only the last one has the chunk; then its copy goes bad.
#[test]
fn a_search_follows_static_peers_within_its_hops() {
    let chain = Chain::start();
    let [a, b, c] = &chain.cells;
    let bytes = random_bytes(1, 100_000);
    let id = ChunkId::of(&bytes).to_string();
    let target = format!("/chunk/{id}");
    assert_eq!(request(c.address(), "PUT", &target, &[], &bytes).status, 200);

    assert_eq!(request(a.address(), "GET", &target, &[], b"").body, bytes);
    assert_eq!(request(a.address(), "GET", &target, &["X-Hops: 2"], b"").body, bytes);
    request(a.address(), "GET", &target, &["X-Hops: 1"], b"").assert_problem(404);
    request(a.address(), "GET", &target, &["X-Hops: 0"], b"").assert_problem(404);
    request(a.address(), "GET", &target, &["X-Hops: -1"], b"").assert_problem(400);
    assert_eq!(request(b.address(), "GET", &target, &["X-Hops: 1"], b"").body, bytes);
    assert_eq!(request(a.address(), "HEAD", &target, &[], b"").status, 404, "HEAD is not forwarded");
    // A cell takes part in each search once.
    let named = ["X-Request-Id: some-search"];
    assert_eq!(request(a.address(), "GET", &target, &named, b"").status, 200);
    request(a.address(), "GET", &target, &named, b"").assert_problem(404);
    assert!(a.chunks().is_empty() && b.chunks().is_empty(), "a forwarded chunk is not stored");

    c.flip_bit(&id);
    request(a.address(), "GET", &target, &[], b"").assert_problem(404);
    request(b.address(), "GET", &target, &[], b"").assert_problem(404);
    assert_eq!(request(c.address(), "GET", &target, &[], b"").status, 200, "a cell sends its own copy unchecked");
}

/// Goal: a get through one cell of a chain finds what the last one has. Method: puts to the last cell, gets through the
/// first.
#[test]
fn a_get_through_one_cell_finds_chunks_on_a_far_one() {
    let chain = Chain::start();
    let [a, _, c] = &chain.cells;
    let bytes = random_bytes(2, 1 << 20);
    let colony = &chain.colony;
    let file = colony.write_file("file", &bytes);
    run(colony.put().arg(&file).args(["--copies", "1", "--node", &c.url])).expect_success();
    let has_chunks = |cell: &Cell| !cell.chunks().is_empty();
    if !has_chunks(c) {
        // The put also finds the neighbour and may have chosen it. It is nearer to the first cell.
        assert!(has_chunks(&chain.cells[1]));
    }
    run(colony.get().args(["file.manifest", "-o", "x", "--node", &a.url])).expect_success();
    assert!(std::fs::read(colony.path("x")).unwrap() == bytes);
}

/// Goal: nobody can make a cell send requests to the internet, and cells on private networks can join. Method: `POST
/// /join` with both.
#[test]
fn only_a_cell_on_a_private_network_can_join() {
    let colony = Colony::start(1);
    let other_port = UdpPort::free();
    let other = Cell::start(&colony.path("other"), other_port.number, &[]);
    let address = colony.cells[0].address();
    let join = |url: &str| request(address, "POST", "/join", &[], format!("{{\"url\":\"{url}\"}}").as_bytes());
    for invalid in
        ["http://8.8.8.8:80", "http://cell.example:80", "https://127.0.0.1:1", "127.0.0.1:1", "http://127.0.0.1:0"]
    {
        join(invalid).assert_problem(400);
    }
    request(address, "POST", "/join", &[], b"not json").assert_problem(400);
    request(address, "POST", "/join", &[], &vec![b' '; 5000]).assert_problem(413);
    let response = join(&other.url);
    assert_eq!(response.status, 200);
    assert!(response.json()["peers"].is_array() && response.json()["cells"].is_array());
    wait_until("the cell is a peer", || colony.http.peers(&colony.cells[0].url).unwrap().peers.contains(&other.url));
}
