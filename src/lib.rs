//! CellSync: a storage colony for small Linux boards. This page is the map of the house.
//!
//! # The data's path
//!
//! ```text
//!  file ──▶ pipeline: split ▶ compress ▶ seal ──▶ chunk (raw bytes, named by their SHA-256)
//!                                                   │
//!           client::put::placer picks distinct cells (cell::placement: at random, weighted by room)
//!                                                   │  PUT /chunk/{id}, all copies in parallel
//!                                                   ▼
//!           net::gateway ▶ net::backend ▶ node::api ──▶ store: bytes in files, records in a catalogue
//!
//!  UDP beacon ◀──▶ node::driver ◀──▶ cell: who is there, who is gone, what lacks copies, who lies
//!                       │                  (decides; never does)
//!                       └──▶ node::tasks: ask, send, fetch, audit, verify ──▶ store, other cells
//!
//!  manifest ──▶ client: who has what? ──▶ the quickest holder ──▶ verify ▶ open ──▶ file
//! ```
//!
//! # What lives where
//!
//! | module | what it is | may it touch clock, socket, disk, thread? |
//! |---|---|---|
//! | [`id`], [`time`] | chunk ids, cell ids, sizes; a moment | no |
//! | [`pipeline`] | a user's bytes to sealed chunks and back; the manifest | no |
//! | [`wire`] | every byte that crosses the network | no |
//! | [`cell`] | the protocol: inputs and the time in, decisions out; its rules are drawn in `cell::copies` | no |
//! | [`config`] | `node.toml` and options to one [`config::Config`], with all defaults | reads one file |
//! | [`store`] | where a cell keeps its copies, and what that promises | disk |
//! | [`net`] | the gateway, the HTTP server behind it, the HTTP client, UDP sockets | sockets |
//! | `node` | a running cell: driver, tasks, API, searches (Linux only) | all |
//! | [`client`] | put and get | all |
//! | [`cli`] | command lines; the only place that prints | all |
//!
//! Outside of the library: `packaging` makes the Debian packages and tries them on boards of its own, `systemd` has the
//! service; the man pages and completions come from the same definitions as the command lines (`packaging/pages.rs`).
//!
//! The rule in the last column is held by the linter: clocks are forbidden but where a module says why it needs one.
//!
//! # What must always hold
//!
//! 1. A `PUT` is answered with 200 only when the bytes would survive a power cut ([`store::Store::put`]).
//! 2. A chunk's file is exactly its bytes, so its name can be checked by anyone: `sha256sum`. The file alone makes a
//!    chunk exist; the catalogue can be deleted at any time and is made again.
//! 3. No byte from a cell is used before it was hashed, and none from the network is trusted for more than its form.
//! 4. A cell is dead only when it is silent *and* does not answer a probe.
//! 5. Nothing half-written is ever seen under a real name: not a chunk, a manifest, a marker, or a restored file.
//! 6. Everything has a largest size: heads, bodies, queues, members, searches, connections, retries.
//! 7. What another cell says is a hint. Before a byte is moved the living cells are asked what they have; before a copy
//!    is given up others prove theirs by their bytes; an alert makes us look, and nothing else.
//! 8. The manifest and the journal hold the key: only their user reads them, and they name no file, path or address.
//!
//! # How large a colony may be
//!
//! What grows with the square of the cells is the beacon: each second every cell hears all others. All else is bounded by
//! a cell's own chunks. Simulated on two cores (`just sim`, ten minutes of churn, release build): 250 cells 0.9 s, 500
//! 2.7 s, 800 6.1 s, 1,000 8.6 s, 2,000 29.5 s; nearly all of it is hearing beacons, some 24 ns of processor each with all
//! that is around it. On a real network a thousand cells send a thousand datagrams of some 250 bytes a second to everybody: two
//! megabits, which a wire bears and a slow radio does not. [`cell::MAX_MEMBERS`] is the end in any case. Beyond some
//! hundreds on a radio, or a thousand on a wire, membership has to go another way than by one broadcast domain.
//!
//! # Where it differs from what one might expect
//!
//! - The panic hook aborts the process, yet panics unwind: opening a damaged sled catalogue can panic, and that one
//!   is caught (`store`).
//! - `--loopback` restricts a cell to the loopback interface; it does not add it to the others.
//! - Beacons carry one key more than they must, `cells`: how many active cells the sender knows. When all that answer
//!   agree on it, a client asks nobody for the rest.
//! - `GET /peers` lists the other cells, not the one that answers: behind a wildcard address it cannot know its own
//!   URL.
//! - `POST /join` takes numeric addresses of private networks only: a stranger must not make a cell call on the
//!   world. Others are named in `node.toml`.
//! - A put that began with enough cells and lost some ends with exit code 3 and what to do, not with fewer copies.
//! - A cell that says that it leaves, or is drained, gets no new chunks from that moment; its copies count until a visit
//!   has shown the same. A beacon is easily forged, and otherwise one for each cell would set all to copying all.
//! - A cell whose beacons come but that answers no question for long, while others do, holds nothing that counts
//!   (`cell::membership::responsiveness`). One whose copy was bad, or not there when it was looked at, is believed only by its bytes
//!   (`cell::integrity::strikes`).
//! - Cells that come back from the dead are waited for, some seconds, before a round of healing begins: whoever was cut
//!   off would otherwise send what all the others have to the first that it hears.
//! - `POST /chunks/holders` is the one call beyond the table of the design: a healer tells the other holders where new
//!   copies are, and they ask there before they believe it.
//! - What a cell must not forget (strikes, isolation, draining, the scrub's place) is a small file of its own, `facts`:
//!   the catalogue can be deleted at any time.
//! - A manifest may say `"content": "tar"`: its bytes are the tar stream of a directory. Readers that do not know the
//!   key restore the tar file.

pub mod cell;
pub mod cli;
pub mod client;
pub mod config;
#[cfg(all(target_os = "linux", feature = "demo"))]
mod demo;
mod human;
pub mod id;
pub mod net;
#[cfg(target_os = "linux")]
pub mod node;
pub mod pipeline;
pub mod store;
mod sync;
pub mod time;
mod unix_time;
pub mod wire;
