//! CellSync: distributed storage on small Linux boards.
//!
//! Each board runs a *cell*. The cells on one network form a *colony*: they find each other by UDP broadcast, keep five
//! copies of each *chunk*, replace lost copies and verify the others. No cell is a master. A client splits a file into
//! chunks, encrypts them and stores them on cells; a *manifest* lists the chunks and holds the key.
//!
//! One library contains everything; the programs `cellsync-node`, `cellsync-put`, `cellsync-get` and `cellsync` call
//! [`cli`]. This page is the map.
//!
//! # The path of the data
//!
//! ```text
//!  cellsync-put
//!    file ─▶ pipeline: split ▶ compress ▶ seal ─▶ chunk, named by its SHA-256
//!                                                  │  client::put chooses cells (cell::placement)
//!                                                  │  PUT /chunk/{id} to all of them in parallel
//!                                                  ▼
//!  cellsync-node    net::gateway    limits connections and request heads
//!                        ▼
//!                   net::backend    tiny_http behind a private socket, worker threads
//!                        ▼
//!                   node::api       refuses puts of a draining cell, of banned senders
//!                        ▼
//!                   store::files    reserves space, hashes, makes durable; only then 200
//!                        │ new copy
//!                        ▼
//!   other cells ◀──▶ node::driver ─ Input ─▶ cell::Cell   decides: which cells are alive, which chunks need copies,
//!     beacons            ▲        ◀ Output ─              which copies to check
//!                        ▼
//!                   node::tasks     query, send, fetch, audit, verify, remove ──▶ store, other cells
//!
//!  cellsync-get
//!    manifest ─▶ client::discover: which cells have which chunks? ─▶ client::get: GET from the fastest, check the hash
//!                                                                    ─▶ pipeline: open ─▶ file
//! ```
//!
//! # Where to look
//!
//! | question | file |
//! |---|---|
//! | Where is a `PUT` admitted? | `node/api/put.rs`: whether this cell takes it; `store/files/put.rs`: size, space, hash |
//! | Where do the bytes of a `PUT` become durable? | `store/files/put.rs`; `store/files/mod.rs` draws the steps |
//! | Where is a connection admitted? | `net/gateway/admission.rs` |
//! | What counts as a copy of a chunk? | `cell/replicas/map.rs` |
//! | How many copies does a chunk need whose record was lost? | `cell/replicas/bare_records.rs` |
//! | What decides that a chunk is healed, and when? | `cell/heal/mod.rs`, with a table of all delays; most are applied in `cell/heal/shortage.rs` |
//! | When is a cell dead? | `cell/membership/mod.rs` |
//! | When is a cell isolated? | `cell/integrity/strikes.rs` |
//! | What follows from a read error? | of a copy: `cell/integrity/suspects.rs`; of many: `cell/integrity/failing_disk.rs` |
//! | When is a new copy read back? | `node/read_back.rs` |
//! | When is a quarantined file deleted? | `store/files/quarantine.rs` |
//! | Where does an error get its sentence? | at its type (`#[error]`), for clients `client/error.rs`; `cli/error.rs` adds advice |
//! | Which sentence does an HTTP error have? | those of the store and of routes at their type, with the status in `node/api/response.rs`; others in the handlers in `node/api`, or in `net/gateway` |
//! | Where to add an endpoint? | `wire/mod.rs` (specification) and `wire/routes.rs`; then `node/api/mod.rs` does not compile until it handles it |
//! | Where to add a setting? | of a cell: `config/settings_table.rs`; of the clients: `cli/client_config/settings.rs` |
//! | What is on the network, byte by byte? | [`wire`] |
//! | What is restored of a directory, and in which order? | `client/get/tree/mod.rs`; one entry's metadata: `client/get/tree/metadata.rs` |
//! | What is in a chunk and in a manifest? | [`pipeline`] and `pipeline/manifest/mod.rs` |
//! | What is stored of a directory, and how? | `client/put/tree/mod.rs`; the entries of the stream in `archive/encode.rs` |
//! | What happens to a file that changes while it is stored? | `client/put/tree/data.rs`, `client/put/omission.rs` |
//! | What is on a cell's disk? | `store/files/mod.rs` |
//! | What can be lost, and what prevents it? | [`hazards`] |
//!
//! # What lives where
//!
//! From top to bottom; a module uses those above it only.
//!
//! | module | what it is | uses clock, socket, disk, thread |
//! |---|---|---|
//! | [`id`], [`time`] | chunk ids, cell ids and sizes; points in time | none |
//! | [`pipeline`] | bytes of a file to sealed chunks and back; the manifest | none |
//! | [`archive`] | a directory as one tar stream | none |
//! | [`wire`] | the protocol: its specification, its types, reading and writing them | none |
//! | [`cell`] | the core of a cell: inputs and the time in, decisions out | none |
//! | [`store`] | the copies on a cell's disk | disk, clock, threads |
//! | [`net`] | the gateway and the HTTP server behind it; the HTTP client; UDP sockets | sockets, clock, threads |
//! | [`config`] | `node.toml` and options become one [`config::Config`]; all defaults of a cell | reads one file |
//! | `node` | a running cell (Linux only): driver, tasks, API, searches | all |
//! | [`client`] | put, get, check, repair, drain, scrub | all |
//! | `demo` | the demonstration colony of `cellsync demo`; not in the packages | all |
//! | [`cli`] | command lines; only this module and `demo` print | all |
//!
//! Clippy enforces the last column for clocks and sleeps: `.clippy.toml` forbids them, and a module that needs them
//! allows them at its head with the reason. Outside of the library, `packaging` builds the Debian packages, tests them,
//! and writes manual pages and completions from the definitions in [`cli`]; `systemd` has the service.
//!
//! # Invariants
//!
//! 1. A `PUT` returns 200 only if the bytes would survive a power cut ([`store::Store::put`]).
//! 2. The file of a chunk contains exactly the chunk, so `sha256sum` verifies it. The file alone makes a chunk exist;
//!    the catalogue of metadata can be deleted at any time and is rebuilt.
//! 3. No byte from the network is used before its hash is checked.
//! 4. A cell is dead only if its beacons stop *and* an HTTP probe fails.
//! 5. A file under its final name is complete: a chunk, a manifest, a marker, a restored file.
//! 6. Everything has a maximum: heads, bodies, queues, member tables, searches, connections, retries.
//! 7. Statements of other cells are hints. Before a cell sends copies, it queries the other cells for theirs; before
//!    it removes a copy, others prove theirs by their bytes; an alert causes a check, and nothing else.
//! 8. Manifest and journal hold the key. Only their user can read them, and they contain no name, path or address.
//!
//! # How large a colony can be
//!
//! Beacons grow with the square of the number of cells: each cell receives the beacons of all others every second.
//! Everything else is bounded by a cell's own chunks. Simulated on two cores (`just sim`: ten minutes with cells that
//! come and go, release build), the time for all cells together was 0.9 s for 250 cells, 2.7 s for 500, 6.1 s for 800,
//! 8.6 s for 1,000 and 29.5 s for 2,000. Nearly all of it is for receiving beacons, some 24 ns each.
//!
//! On a real network, 1,000 cells broadcast 1,000 datagrams of some 250 bytes each second. These 2 Mbit/s are no
//! problem for Ethernet, but for Wi-Fi they are. [`cell::MAX_MEMBERS`] is the upper limit. Colonies beyond some
//! hundreds of cells on Wi-Fi, or beyond a thousand on Ethernet, need another way to find each other than one broadcast
//! domain.
//!
//! # What may surprise
//!
//! - A panic aborts the process, though the build unwinds: opening a damaged catalogue can panic inside of sled, and
//!   only that panic is caught (`store`).
//! - `--loopback` restricts a cell to the loopback interface; it does not add it to the others.
//! - A beacon carries the number of active cells that its sender knows. If the beacons of all cells that replied to a
//!   probe agree with their number, a client has found all cells without asking any.
//! - `GET /peers` does not list the cell that responds: behind a wildcard address it does not know its own URL.
//! - `POST /join` takes numeric addresses of private networks only, so that a request cannot make a cell connect to the
//!   internet. Name other peers in `node.toml`.
//! - A put that lost cells on its way ends with exit code 3 and advice; it does not lower the number of copies.
//! - A cell that announces that it leaves or drains gets no new chunks from then on, but its copies count until a probe
//!   confirms the announcement. Otherwise one forged beacon for each cell could make the colony copy everything.
//! - A cell that sends beacons but has responded to no request for long, while others have, holds nothing that counts
//!   (`cell::membership::responsiveness`). After a bad or missing copy, a cell's claims about the chunk count only once
//!   its bytes prove them (`cell::integrity::strikes`).
//! - When cells return from the dead, no healing begins for some seconds (`cell::heal::holdoff`). A cell that was cut
//!   off would otherwise send the copies that all others have to the first cell that it reaches.
//! - Some state of a cell must survive the loss of the catalogue: strikes, isolation, drain, the position of the scrub.
//!   It is in a file of its own, `facts`.
//! - A manifest with `"content": "tar"` holds the tar stream of a directory. Readers that do not know the key restore
//!   the tar file.

// Names and numbers.
mod human;
pub mod id;
mod sync;
pub mod time;
mod unix_time;

// Pure modules, in the order of the data's path.
pub mod pipeline;

pub mod archive;

pub mod wire;

pub mod cell;

// Modules with side effects.
pub mod store;

pub mod net;

pub mod config;

#[cfg(target_os = "linux")]
pub mod node;

pub mod client;

#[cfg(all(target_os = "linux", feature = "demo"))]
mod demo;

pub mod cli;

// What can be lost, and what prevents it: documentation.
pub mod hazards;
