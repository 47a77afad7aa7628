//! The protocol between cells, and between clients and cells: its specification and its types.
//!
//! A colony speaks two protocols on one network. **UDP datagrams** announce cells and find them. **HTTP/1.1** carries
//! chunks, lists and commands. This page specifies both completely; the types and functions of this module read and
//! write them. The content of a chunk is specified in [`crate::pipeline`]; cells do not need it.
//!
//! This module is pure: it reads no clock, socket or disk and starts no thread.
//!
//! 1. [Terms](#1-terms)
//! 2. [Trust](#2-trust)
//! 3. [Datagrams](#3-datagrams)
//! 4. [HTTP](#4-http)
//! 5. [Requests for chunks](#5-requests-for-chunks)
//! 6. [Requests for lists of chunks](#6-requests-for-lists-of-chunks)
//! 7. [Requests about the colony](#7-requests-about-the-colony)
//! 8. [Requests for maintenance](#8-requests-for-maintenance)
//! 9. [Compatibility](#9-compatibility)
//! 10. [A minimal client and a minimal cell](#10-a-minimal-client-and-a-minimal-cell)
//!
//! # 1. Terms
//!
//! | term | form |
//! |---|---|
//! | chunk | 0 to 2,097,152 bytes (2 MiB, [`MAX_CHUNK_BYTES`](crate::id::MAX_CHUNK_BYTES)) |
//! | chunk id | the SHA-256 of the chunk's bytes as 64 lower-case hexadecimal digits; upper case is malformed |
//! | cell id | a UUID (RFC 9562) with hyphens, as `6f3c1b52-7a0e-4a53-9a39-2f1f7d0f4c11` |
//! | base URL | `http://ADDRESS:PORT` of a cell's HTTP interface, by default on TCP port 8080 |
//!
//! JSON is UTF-8 (RFC 8259). Numbers are integers from 0; a number without another bound is below 2⁶⁴. Keys that end in
//! `_s` are seconds, in `_ms` milliseconds; `free` and keys that end in `bytes` are bytes.
//!
//! # 2. Trust
//!
//! Nothing is encrypted or authenticated on the network: any host that reaches the port may use every request on this
//! page. (Chunks are encrypted by the client.) The protocol holds because receivers check:
//!
//! * A cell stores bytes under their SHA-256 only. It does **not** check a copy before it sends it: a receiver hashes
//!   the bytes and compares them with the id before any use.
//! * A beacon, an alert and a holder hint are hints. A cell is dead only when an HTTP probe fails too; an alert or a
//!   hint causes a check of the named copies, and nothing else.
//! * Everything that a peer sends has a largest size, given below.
//!
//! # 3. Datagrams
//!
//! A datagram is one JSON object of at most **1,200 bytes** ([`MAX_DATAGRAM_BYTES`]). All cells of a colony use one UDP
//! port, 5000 by default, over IPv4. Receivers ignore datagrams that are longer or malformed, or whose `type` they do
//! not know, and ignore unknown keys. Lost datagrams are not sent again, unless noted.
//!
//! ## Beacon
//!
//! ```json
//! {"node_id":"6f3c1b52-7a0e-4a53-9a39-2f1f7d0f4c11","port":8080,"status":"active","v":1,"boot":"692837e0c5d2f1a4",
//!  "role":"storage","chunks":1234,"free":5678901234,"cells":6,"clean_s":86400}
//! ```
//!
//! | key | required | value |
//! |---|---|---|
//! | `type` | no | absent, or `null`: this is what makes the datagram a beacon |
//! | `node_id` | yes | id of the sender |
//! | `port` | yes | TCP port of the sender's HTTP interface, 1 to 65,535; the address is the datagram's source |
//! | `status` | yes | `active`, `full`, `draining` or `leaving`, see below |
//! | `v` | no | version of the protocol, below 2³²; this page specifies version 1 ([`WIRE_VERSION`]) |
//! | `boot` | no | identifies this start of the cell: 1 to 16 hexadecimal digits; a later start has a larger number |
//! | `role` | no | `stem`, `storage` or `guard`; absent or any other string means `stem` |
//! | `chunks` | no | chunks that the sender holds |
//! | `free` | no | bytes that the sender can still store |
//! | `cells` | no | active cells that the sender knows, itself included, below 2³² |
//! | `clean_s` | no | seconds since a scrub found all copies of the sender good; absent if none did since its start |
//!
//! An `active` cell accepts chunks. A `full` one has no space for a chunk of 2 MiB, or its disk is read-only or failing;
//! a `draining` one hands its chunks to others; a `leaving` one is about to stop. Any other string is a cell of a newer
//! version: it is alive; send it no chunks.
//!
//! A cell sends its beacon to the broadcast address of each of its IPv4 networks every second (`beacon_ms`, ± 5 %), and
//! to each static peer by unicast. It sends one more with `leaving` when it stops. A cell without a beacon for 5 s
//! (`silent_after_ms`) is *silent*; a silent cell whose `GET /status` fails is *dead*. A `leaving` counts only if
//! `boot` is that of the sender's last beacons.
//!
//! Cells and clients on one machine share the UDP port (`SO_REUSEADDR`); a broadcast reaches all of them.
//!
//! ## Probe
//!
//! ```json
//! {"type":"probe"}
//! ```
//!
//! A request for beacons, usually broadcast. Each cell replies at once with its beacon, by unicast to the address and
//! port that the probe came from. The reply may come from any port. A client repeats an unanswered probe after 100, 300
//! and 1,000 ms. If at least two cells replied and the `cells` of each equals the number of cells that replied, the
//! client has found all of them. Otherwise it waits 150 ms after the first reply, and then asks some cells with `GET
//! /peers`.
//!
//! ## Alert
//!
//! ```json
//! {"type":"alert","node_id":"6f3c1b52-7a0e-4a53-9a39-2f1f7d0f4c11","culprit":"0b9f5d5e-52a7-4c1c-8f43-7a5e1b1c9d02",
//!  "chunk":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
//!  "found":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}
//! ```
//!
//! Reports a bad copy. All keys are required: the reporting cell, the cell with the bad copy, the chunk, and the
//! SHA-256 of the bytes that the culprit sent. A receiver that has the chunk fetches the culprit's copy, or re-hashes
//! its own if it is the culprit, at most once in 10 minutes for each pair of cell and chunk. It ignores alerts about
//! chunks that it does not have and about cells that it does not know.
//!
//! # 4. HTTP
//!
//! HTTP/1.1 and 1.0 (RFC 9110, RFC 9112), without TLS. Paths and queries are compared literally: nothing is
//! percent-decoded, and a trailing `/` is another path. Header names ignore case. All requests may be repeated safely.
//! Each path that takes `GET` takes `HEAD`, with the same response without the body.
//!
//! | limit | value | exceeded |
//! |---|---|---|
//! | request line and header fields | 8 KiB, 64 fields, printable ASCII, CR LF line ends | 431, 400 |
//! | time to send them | 10 s | 408 |
//! | request body | 2 MiB | 413 |
//! | JSON request body | 4,096 bytes ([`MAX_JSON_REQUEST_BYTES`]) | 413 |
//! | slowest body or response | 64 KiB in each 10 s | connection closed |
//! | time until the response begins | 60 s | 504 |
//! | idle time between requests | 60 s | connection closed |
//! | connections | 256, and 64 from one address (IPv6: one /64) | see below |
//!
//! At the limit of connections, a new one replaces the one that has been silent for longest and waits for no response
//! (at the limit of one address: one from that address); if there is none, the new one gets 503. After an error of this table, or a malformed head, the cell closes
//! the connection.
//!
//! A `PUT` or `POST` needs a `Content-Length`, 0 if it has no body; chunked transfer coding is refused (411). A request
//! has exactly one `Host` field; in HTTP/1.0 it may have none. `Expect: 100-continue` is supported. Request bodies need
//! no `Content-Type`. Responses have a `Content-Length`; a connection that ends before that many bytes means an
//! incomplete response. A client reads at most 4 MiB of JSON ([`MAX_JSON_RESPONSE_BYTES`]) and 2 MiB of anything else.
//!
//! ## Errors
//!
//! A status of 400 or above has a body of type `application/problem+json` (RFC 9457, [`Problem`]):
//!
//! ```json
//! {"status":413,"title":"Content Too Large","detail":"the body has 2097153 bytes; the limit is 2097152"}
//! ```
//!
//! `status` is the HTTP status and `title` its reason phrase. `detail` is for people and changes between versions.
//! There is no `type`, which means `about:blank`. A reader ignores other members and tolerates missing ones. These
//! statuses are possible for every request:
//!
//! | status | meaning |
//! |---|---|
//! | 400 | the request is malformed |
//! | 404 | unknown path |
//! | 405 | the path does not take this method; `Allow` lists those that it takes |
//! | 408, 411, 413, 417, 431, 501, 505 | as in RFC 9110: a limit above, or a feature that is not supported |
//! | 500 | the disk failed, or an internal error; the cell's log has details |
//! | 502, 504 | internal error, or no response in time |
//! | 503 | overloaded or not ready; try again, or use another cell. `Retry-After` gives seconds, where present |
//!
//! # 5. Requests for chunks
//!
//! ## `PUT /chunk/{id}`
//!
//! Stores a chunk. The body is the chunk's bytes. Status 200, with an empty body, means that the bytes survive a power
//! cut. If the cell already has the chunk, it keeps its copy and returns 200, but the body is still checked. After any
//! other status, or none, assume that the chunk is not stored.
//!
//! | request header | value | absent |
//! |---|---|---|
//! | `CellSync-Copies` | how many copies the colony keeps of the chunk, 1 to 255; more than 32 count as 32 | 5 |
//! | `CellSync-Bare` | `1` if the sender has lost the number, and `CellSync-Copies` is a guess; see `GET /chunks/shared` | the number is known |
//! | `CellSync-Holders` | ids of the cells chosen to hold a copy, separated by commas, at most 32 | none |
//! | `CellSync-Owner` | SHA-256 of the token that may delete the chunk, 64 lower-case hexadecimal digits | no deletion |
//!
//! | status | meaning |
//! |---|---|
//! | 200 | stored |
//! | 400 | malformed id or header, or the body ended early |
//! | 413 | more than 2 MiB |
//! | 422 | the SHA-256 of the body is not the id; nothing was stored |
//! | 429 | this address sent 5 such bodies within 60 s and is refused for 10 minutes; see `Retry-After` |
//! | 503 | the cell is stopping or draining, or counts its chunks after an unclean stop; use another cell |
//! | 507 | no space within the disk's reserve and the cell's quota, or the disk is read-only; use another cell |
//!
//! ## `POST /chunk`
//!
//! The same without an id: the cell computes it. Headers and statuses are those of `PUT`, except 422. The response is
//! JSON ([`StoredChunk`]): `{"id":"<chunk id>"}`.
//!
//! ## `GET /chunk/{id}`
//!
//! Returns a chunk's bytes as `application/octet-stream`, unverified (section 2). The response has `ETag: "{id}"` and
//! `Cache-Control: public, max-age=31536000, immutable`, since the bytes of an id never change.
//!
//! | status | meaning |
//! |---|---|
//! | 200 | the bytes |
//! | 304 | `If-None-Match` is exactly the `ETag`, and the cell has the chunk |
//! | 400 | malformed id or `X-Hops` |
//! | 404 | not found, here or by forwarding |
//! | 503 | too many searches are under way; try again in some seconds |
//!
//! A cell that does not have the chunk searches for it on behalf of the client, limited by two request headers:
//!
//! | request header | value | absent |
//! |---|---|---|
//! | `X-Hops` | how many cells in a row the request may be forwarded to, 0 to 255; more than 8 counts as 8 | 3 |
//! | `X-Request-Id` | identifies the search: 1 to 64 visible ASCII characters, else ignored | a random UUID |
//!
//! ```text
//!  has the chunk ──────────────────────────────────────────────▶ 200
//!  X-Hops: 0 ──────────────────────────────────────────────────▶ 404
//!  has seen this X-Request-Id with this chunk before ──────────▶ 404      the last 4,096 are remembered
//!  HEAD /chunk/{id} to up to 32 active cells ── one has it ────▶ GET from it with X-Hops: 0, hash ── good ──▶ 200
//!  X-Hops: 1 ──────────────────────────────────────────────────▶ 404
//!  GET from up to 8 cells, one after the other, with X-Hops one less and the same X-Request-Id, hash ── good ──▶ 200
//!  none, or 10 s have passed ──────────────────────────────────▶ 404
//! ```
//!
//! Bytes that were found on another cell are hashed before they are sent on. A cell runs 8 searches at a time.
//!
//! ## `HEAD /chunk/{id}`
//!
//! Status 200 if the cell itself has the chunk, with its length, else 404. Never forwarded.
//!
//! # 6. Requests for lists of chunks
//!
//! Lists are text, one item a line, each line ended by LF. Readers skip empty lines and accept CR LF and a last line
//! without an end. Responses are `text/plain; charset=utf-8`. At most 3 request lists over 64 KiB are processed at a
//! time; others wait.
//!
//! ## `POST /chunks/have`
//!
//! Reports which of the listed chunks the cell has. The body is a list of chunk ids, as many as fit in 2 MiB (32,263,
//! [`MAX_HAVE_IDS`]). The response is the list of those that are present, in the order of the request. Copies are not
//! read; one that the disk could not read the last time is left out until it can. Status 400: a line is not an id; 413:
//! too many.
//!
//! ## `POST /chunks/have?verify=1`
//!
//! Reads and hashes the listed copies, and reports which are good. At most 16 ids ([`MAX_VERIFY_IDS`]), else 413. A bad
//! copy is quarantined: from then on the cell does not have the chunk. Two of these requests run at a time; another
//! waits up to 20 s for its turn, then 503. `verify=0` is the same as no query; any other query is 400.
//!
//! ## `GET /chunks?after={id}&limit={n}`
//!
//! Lists the ids of the cell's chunks in ascending order: the first `n` (1 to 10,000, default 10,000, [`MAX_LIST_IDS`])
//! that are greater than `after` (default: from the start). An empty page is the end. Malformed or unknown keys are
//! 400.
//!
//! ## `POST /chunks/holders`
//!
//! Reports where copies are ([`HolderHint`]). A cell that has sent new copies reports them to the other holders of the
//! chunk. Each line is a chunk id, one space, and 1 to 32 cell ids separated by commas; at most 4,096 lines
//! ([`MAX_HOLDER_HINTS`]). The response is empty. Status 400: a line is malformed; 413: too many lines. The receiver
//! ignores chunks that it does not have, and queries the named cells before it counts their copies.
//!
//! ## `GET /chunks/shared?for={cell id}&prefix={digits}&after={id}`
//!
//! Lists the chunks that the cell holds and believes the named one to hold ([`SharedChunk`]): those whose ids begin
//! with the prefix, 2 to 4 hexadecimal digits, and are greater than `after` (default: from the first); in ascending
//! order, at most 1,000 ([`MAX_SHARED_CHUNKS`]), one JSON object a line, as `application/x-ndjson`. An empty list is
//! the end.
//!
//! ```json
//! {"id":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","copies":3}
//! ```
//!
//! `copies` is the number of copies that a put has asked for, 1 to 255. It is absent if the cell does not know it: its
//! record is *bare*. Only `for` and `prefix` are required. Status 400: one of them is absent or malformed, or `after`
//! is; 503: the cell has just started, and reads its index.
//!
//! A cell that has lost its index asks its co-holders for the numbers. An answer counts only for a chunk that the
//! asking cell holds and whose number it does not know. Of several numbers the largest counts. So a cell that lies can
//! at most make the other keep 32 copies instead of fewer, and one that states a number that is too small has no effect
//! unless all others are silent.
//!
//! # 7. Requests about the colony
//!
//! ## `GET /peers`
//!
//! Returns the other cells that the cell knows ([`Peers`]), at most 4,096. The cell itself is not among them.
//!
//! ```json
//! {"peers":["http://10.0.0.4:8080"],
//!  "cells":[{"node_id":"0b9f5d5e-52a7-4c1c-8f43-7a5e1b1c9d02","url":"http://10.0.0.4:8080","role":"storage",
//!            "status":"active","state":"active",
//!            "free":5678901234,"chunks":1234,"seen_ms":312}]}
//! ```
//!
//! `peers` has the base URLs of active cells, `cells` all cells ([`CellView`]). `node_id`, `url` and `status` are
//! required. `role`, `status`, `free` and `chunks` are from the cell's beacon; the last two are `null` if unknown.
//! `state` is `active`, `silent`, `dead` or `left` (it announced that it leaves); absent means `active`. `seen_ms` is
//! the time since the last beacon.
//!
//! ## `POST /join`
//!
//! Adds a static peer: `{"url":"http://ADDRESS:PORT"}`. The receiver requests `GET /status` there from time to time and
//! sends beacons by unicast. The response is that of `GET /peers`. The address must be numeric and private: loopback,
//! link-local, RFC 1918, RFC 6598 (100.64.0.0/10), or IPv6 unique local; otherwise 400, so that a request cannot make a
//! cell connect to the internet. A cell has at most 256 static peers and ignores more. A peer that joined is forgotten
//! after an hour without an answer; join again every minute.
//!
//! ## `GET /status`
//!
//! Returns the cell's status ([`CellStatus`]): all keys of its beacon (section 3), and more.
//!
//! ```json
//! {"node_id":"6f3c1b52-7a0e-4a53-9a39-2f1f7d0f4c11","port":8080,"status":"active","v":1,"boot":"692837e0c5d2f1a4",
//!  "role":"storage","chunks":1234,"free":5678901234,"cells":6,"clean_s":86400,
//!  "version":"0.1.0","bytes":1288490188,"counted":true,"read_only":false,"read_back_left":0,"uptime_s":86400,
//!  "connections":3,
//!  "life":{"short":2,"stuck":0,"healed_copies":10,"healed_bytes":5242880,"mended_copies":1,"bad_copies":1,
//!          "suspect_copies":0,"failing":false,"removed_copies":0,
//!          "audits":800,"audits_bad":1,"alerts":1,"alerts_false":0,
//!          "isolated":["0b9f5d5e-52a7-4c1c-8f43-7a5e1b1c9d02"],
//!          "scrub":{"done":10,"total":1234,"bad":0,"unread":0,"finished":false},"drain":null}}
//! ```
//!
//! Every key that is not of the beacon may be absent. `counted` is false while the cell counts its chunks after an
//! unclean stop; until then `chunks` and `bytes` are too small. `read_only` is true while the cell can only read its
//! disk. `read_back_left` is the number of new chunks that the cell has still to read from its disk once. `life` ([`Activity`]) has counters since the start:
//!
//! | key of `life` | value |
//! |---|---|
//! | `short` | own chunks with too few copies |
//! | `stuck` | of those, the ones that no other cell can take now |
//! | `split_wait_s` | seconds for which healing still waits, since many cells fell silent at once; absent if it does not |
//! | `healed_copies`, `healed_bytes` | copies sent to other cells to heal |
//! | `bad_copies`, `mended_copies` | own copies found bad; of those, the ones replaced from another cell |
//! | `suspect_copies` | own copies that the disk could not read the last time |
//! | `failing` | whether the disk fails to read so often that the cell takes no new chunks; its `status` is `full` |
//! | `removed_copies` | own copies removed because there were too many and space was short |
//! | `audits`, `audits_bad` | copies of other cells that were fetched and hashed; the bad ones |
//! | `alerts`, `alerts_false` | alerts received; those that a check refuted |
//! | `isolated` | ids of the cells that this one has isolated |
//! | `scrub`, `drain` | section 8; `null` if there is none |
//!
//! ## `GET /health`
//!
//! Returns `{"status":"active"}`, with the `status` of the beacon, if the cell works; 503 if it is stopping or its
//! driver does not respond.
//!
//! ## `POST /alert`
//!
//! The alert of section 3 over HTTP. The body is the datagram, at most 1,200 bytes; the response is empty. Status 400:
//! the body is not an alert.
//!
//! # 8. Requests for maintenance
//!
//! None of them has a request body. All return 503 if the driver does not respond. Repeating one changes nothing.
//!
//! | request | effect | response |
//! |---|---|---|
//! | `POST /drain` | the cell accepts no more chunks and hands its copies to other cells | [`DrainProgress`] |
//! | `DELETE /drain` | ends the drain | empty |
//! | `POST /scrub` | the cell re-hashes all of its copies, and quarantines bad ones | [`ScrubProgress`] |
//!
//! ```json
//! {"left":120,"total":1234,"stuck":0,"safe":false}
//! ```
//!
//! [`DrainProgress`]:
//!
//! | key | value |
//! |---|---|
//! | `left` | copies of chunks that are not known to have enough copies elsewhere |
//! | `total` | copies on the cell |
//! | `stuck` | of those left, copies that no other cell can take now |
//! | `safe` | whether the cell can be unplugged |
//!
//! ```json
//! {"done":10,"total":1234,"bad":0,"unread":0,"finished":false}
//! ```
//!
//! [`ScrubProgress`]:
//!
//! | key | value |
//! |---|---|
//! | `done` | copies checked |
//! | `total` | copies to check |
//! | `bad` | bad copies found |
//! | `unread` | copies that could not be read |
//! | `finished` | whether the scrub is complete |
//!
//! Poll `GET /status` for progress. A drain survives a restart of the cell.
//!
//! # 9. Compatibility
//!
//! Versions of this protocol differ only by additions. So:
//!
//! * Readers ignore unknown JSON keys, headers, and query keys (except on `/chunks` and `/chunks/have`), and read
//!   unknown values of `status`, `role` and `state` as section 3 and [`Presence::Unknown`] describe. Keys that are not
//!   required may be absent.
//! * A cell of an earlier version answers 404 or 405 (some servers 501) to a request that it does not have. The caller
//!   falls back:
//!
//! | request | fallback |
//! |---|---|
//! | probe | after 400 ms without a reply, wait up to 3 s for beacons |
//! | `GET /status` | the server is a cell if `HEAD` of a random chunk id returns 404; its id stays unknown |
//! | `GET /peers` without `cells` | use `peers` |
//! | `POST /chunks/have` | `HEAD /chunk/{id}` for each id |
//! | `POST /chunks/have?verify=1` | fetch the chunk and hash it |
//! | `GET /chunks/shared` | none: the cell cannot tell |
//! | `POST /chunks/holders`, `POST /alert` | none: the holders find out by their own audits |
//!
//! Earlier versions ignore the query `verify=1` and return the ids that are present, unverified. To detect that, send
//! 17 ids: a cell that verifies refuses the list (413), an earlier one returns 200.
//!
//! # 10. A minimal client and a minimal cell
//!
//! **A client that stores:** broadcast a probe, collect beacons. For each chunk choose cells with `status` `active`,
//! and `PUT` the chunk to each, with all of them in `CellSync-Holders`. On any error choose another cell.
//!
//! **A client that restores:** broadcast a probe. Send all ids to every cell with `POST /chunks/have`. `GET` each chunk
//! from a cell that has it with `X-Hops: 0`, hash it, and on a mismatch try the next. If no cell reports it, `GET` it
//! without `X-Hops`.
//!
//! **A cell:** send beacons and reply to probes. Serve `PUT`, `GET` and `HEAD /chunk/{id}` and `GET /status`; it is
//! advisable to serve `POST /chunks/have`, `GET /chunks` and `GET /peers` too. Do not return 200 to a `PUT` before the
//! bytes are durable. Other cells heal onto such a cell and audit it; it does not heal until it implements
//! [`crate::cell`].
//!
//! [`Activity`]: status::Activity
//! [`CellStatus`]: status::CellStatus
//! [`CellView`]: peers::CellView
//! [`DrainProgress`]: status::DrainProgress
//! [`HolderHint`]: holder_hints::HolderHint
//! [`MAX_DATAGRAM_BYTES`]: datagram::MAX_DATAGRAM_BYTES
//! [`MAX_HAVE_IDS`]: id_lists::MAX_HAVE_IDS
//! [`MAX_HOLDER_HINTS`]: holder_hints::MAX_HOLDER_HINTS
//! [`MAX_JSON_REQUEST_BYTES`]: routes::MAX_JSON_REQUEST_BYTES
//! [`MAX_JSON_RESPONSE_BYTES`]: routes::MAX_JSON_RESPONSE_BYTES
//! [`MAX_LIST_IDS`]: id_lists::MAX_LIST_IDS
//! [`MAX_SHARED_CHUNKS`]: shared_chunks::MAX_SHARED_CHUNKS
//! [`MAX_VERIFY_IDS`]: id_lists::MAX_VERIFY_IDS
//! [`Peers`]: peers::Peers
//! [`Presence::Unknown`]: peers::Presence::Unknown
//! [`Problem`]: problem::Problem
//! [`ScrubProgress`]: status::ScrubProgress
//! [`SharedChunk`]: shared_chunks::SharedChunk
//! [`StoredChunk`]: status::StoredChunk
//! [`WIRE_VERSION`]: beacon::WIRE_VERSION

pub mod beacon;
pub mod datagram;
pub mod holder_hints;
pub mod id_lists;
pub mod peers;
pub mod problem;
pub mod routes;
pub mod shared_chunks;
pub mod status;

#[cfg(test)]
mod tests {
    use crate::wire::datagram::Datagram;
    use crate::wire::peers::Peers;
    use crate::wire::problem::Problem;
    use crate::wire::shared_chunks::SharedChunk;
    use crate::wire::status::{CellStatus, DrainProgress, ScrubProgress};

    /// The examples in the specification above.
    fn examples() -> Vec<String> {
        let lines = include_str!("mod.rs").lines().map_while(|line| line.strip_prefix("//!"));
        let mut examples = Vec::new();
        let mut inside = false;
        for line in lines {
            match line.trim() {
                "```json" => {
                    inside = true;
                    examples.push(String::new());
                }
                "```" => inside = false,
                text if inside => examples.last_mut().unwrap().push_str(text),
                _ => {}
            }
        }
        examples
    }

    /// Goal: the examples are what the program reads. Method: parse each, and compare with what the program writes.
    #[test]
    fn the_examples_of_the_specification_are_valid() {
        let examples = examples();
        let [beacon, probe, alert, problem, shared, peers, status, drain, scrub] = &examples[..] else {
            panic!("{examples:#?}")
        };
        for datagram in [beacon, probe, alert] {
            assert_eq!(Datagram::parse(datagram.as_bytes()).unwrap().encode(), datagram.as_bytes());
        }
        assert_eq!(Problem::from_json(problem.as_bytes()).unwrap().to_json(), problem.as_bytes());
        assert_eq!(rewritten::<SharedChunk>(shared), *shared);
        assert_eq!(rewritten::<Peers>(peers), *peers);
        assert_eq!(rewritten::<CellStatus>(status), *status);
        assert_eq!(rewritten::<DrainProgress>(drain), *drain);
        assert_eq!(rewritten::<ScrubProgress>(scrub), *scrub);
    }

    fn rewritten<T: serde::Serialize + serde::de::DeserializeOwned>(example: &str) -> String {
        serde_json::to_string(&serde_json::from_str::<T>(example).unwrap()).unwrap()
    }
}
