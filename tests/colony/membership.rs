//! Who knows whom, and what is found through whom.

use cellsync::id::ChunkId;
use cellsync::wire::peers::Presence;

use crate::house::{Cell, Colony, Ran, UdpPort, assert_facts, eventually, noise, run};
use crate::raw;

fn last_line(ran: &Ran) -> &str {
    ran.text().lines().last().unwrap_or_default()
}

/// Goal: a dead cell is seen to be dead, by its fellows and by people. Method: SIGKILL, then `/peers` and `cellsync
/// status`.
#[test]
fn a_killed_cell_leaves_the_list_of_the_others_and_status_shows_it_as_dead() {
    let mut colony = Colony::start(3);
    let table = run(&mut colony.status()).succeeded();
    assert_facts(last_line(&table), &["3 cells", "3 active"]);
    assert!(colony.cells.iter().all(|cell| table.text().contains(cell.door()) && table.text().contains(&cell.id[..8])));

    colony.cells[1].kill();
    for other in [0, 2] {
        let other = &colony.cells[other];
        eventually("it is off the list", || {
            !colony.http.peers(&other.url).unwrap().peers.contains(&colony.cells[1].url)
        });
        eventually("it is dead", || colony.state(other, &colony.cells[1]) == Some(Presence::Dead));
    }
    let table = run(&mut colony.status()).succeeded();
    let row = table.text().lines().find(|line| line.contains(colony.cells[1].door())).expect("a row of its own");
    assert!(row.contains(" dead ") && row.starts_with(&colony.cells[1].id[..8]), "{row}");
    assert_facts(last_line(&table), &["3 cells", "2 active"]);

    let json = run(colony.status().arg("--json")).succeeded().json();
    let states: Vec<_> = json["cells"].as_array().unwrap().iter().map(|cell| cell["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["active", "active", "dead"]);

    colony.cells[1].restart();
    colony.know_each_other();
    assert_facts(last_line(&run(&mut colony.status()).succeeded()), &["3 cells", "3 active"]);
}

/// Three cells that hear no beacon of each other: the first knows the second, and that knows the third.
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
        let second = start("b", &ports[1], &[third.door()]);
        let first = start("a", &ports[0], &[second.door()]);
        let chain = Self { cells: [first, second, third], _ports: ports, colony };
        let [a, b, c] = &chain.cells;
        for (who, whom) in [(a, vec![b]), (b, vec![a, c]), (c, vec![b])] {
            let mut expected: Vec<&str> = whom.iter().map(|cell| cell.url.as_str()).collect();
            expected.sort_unstable();
            eventually("the neighbours know each other", || {
                let mut known = chain.colony.http.peers(&who.url).unwrap().peers;
                known.sort_unstable();
                known == expected
            });
        }
        chain
    }
}

/// Goal: a chunk is found through cells that know cells, and no bad byte is passed on. Method: a chain in which only
/// the last one has it; the hops are counted down; then its copy goes bad.
#[test]
fn a_chunk_is_found_through_a_chain_of_static_peers_but_not_past_its_hops_and_never_a_bad_one() {
    let chain = Chain::start();
    let [a, b, c] = &chain.cells;
    let bytes = noise(1, 100_000);
    let id = ChunkId::of(&bytes).to_string();
    let target = format!("/chunk/{id}");
    assert_eq!(raw::ask(c.door(), "PUT", &target, &[], &bytes).status, 200);

    assert_eq!(raw::ask(a.door(), "GET", &target, &[], b"").body, bytes);
    assert_eq!(raw::ask(a.door(), "GET", &target, &["X-Hops: 2"], b"").body, bytes);
    raw::ask(a.door(), "GET", &target, &["X-Hops: 1"], b"").is_problem(404);
    raw::ask(a.door(), "GET", &target, &["X-Hops: 0"], b"").is_problem(404);
    raw::ask(a.door(), "GET", &target, &["X-Hops: -1"], b"").is_problem(400);
    assert_eq!(raw::ask(b.door(), "GET", &target, &["X-Hops: 1"], b"").body, bytes);
    assert_eq!(raw::ask(a.door(), "HEAD", &target, &[], b"").status, 404, "this cell only");
    // One search is taken part in once.
    let named = ["X-Request-Id: some-search"];
    assert_eq!(raw::ask(a.door(), "GET", &target, &named, b"").status, 200);
    raw::ask(a.door(), "GET", &target, &named, b"").is_problem(404);
    assert!(a.chunks().is_empty() && b.chunks().is_empty(), "what is passed on is not kept");

    c.flip(&id);
    raw::ask(a.door(), "GET", &target, &[], b"").is_problem(404);
    raw::ask(b.door(), "GET", &target, &[], b"").is_problem(404);
    assert_eq!(raw::ask(c.door(), "GET", &target, &[], b"").status, 200, "who asks it itself can hash for himself");
}

/// Goal: a get through one cell of a chain finds what is at its end. Method: puts to the last, gets through the first.
#[test]
fn a_get_that_knows_one_cell_finds_what_only_a_far_one_has() {
    let chain = Chain::start();
    let [a, _, c] = &chain.cells;
    let bytes = noise(2, 1 << 20);
    let colony = &chain.colony;
    let file = colony.file("file", &bytes);
    run(colony.put().arg(&file).args(["--copies", "1", "--node", &c.url])).succeeded();
    let holds = |cell: &Cell| !cell.chunks().is_empty();
    if !holds(c) {
        // The put knows its neighbour too and may have chosen that one, which is nearer to the first.
        assert!(holds(&chain.cells[1]));
    }
    run(colony.get().args(["file.manifest", "-o", "x", "--node", &a.url])).succeeded();
    assert!(std::fs::read(colony.path("x")).unwrap() == bytes);
}

/// Goal: nobody can make a cell call on the world, and cells of the own network can join. Method: `POST /join` with
/// both.
#[test]
fn only_a_cell_of_a_private_network_can_join() {
    let colony = Colony::start(1);
    let other_port = UdpPort::free();
    let other = Cell::start(&colony.path("other"), other_port.number, &[]);
    let door = colony.cells[0].door();
    let join = |url: &str| raw::ask(door, "POST", "/join", &[], format!("{{\"url\":\"{url}\"}}").as_bytes());
    for stranger in
        ["http://8.8.8.8:80", "http://cell.example:80", "https://127.0.0.1:1", "127.0.0.1:1", "http://127.0.0.1:0"]
    {
        join(stranger).is_problem(400);
    }
    raw::ask(door, "POST", "/join", &[], b"not json").is_problem(400);
    raw::ask(door, "POST", "/join", &[], &vec![b' '; 5000]).is_problem(413);
    let answer = join(&other.url);
    assert_eq!(answer.status, 200);
    assert!(answer.json()["peers"].is_array() && answer.json()["cells"].is_array());
    eventually("it is a peer", || colony.http.peers(&colony.cells[0].url).unwrap().peers.contains(&other.url));
}
