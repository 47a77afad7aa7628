//! A disk that fails to read: nothing is lost when it can be read again.

use cellsync::id::ChunkId;
use cellsync::net::client::{CallError, Http, PutHints, Timeouts};
use cellsync::wire::beacon::Status;
use cellsync::wire::id_lists::MAX_VERIFY_IDS;
use cellsync::wire::status::Activity;

use crate::harness::{Cell, FailingReads, NO_AUDITS, UdpPort, random_bytes};
use crate::wait::wait_until;

/// More than the quarantine keeps.
const CHUNKS: usize = 120;
const CHUNK_BYTES: usize = 1 << 20;

/// The number of these chunks that a cell reports to have.
fn has(http: &Http, cell: &Cell, ids: &[ChunkId]) -> usize {
    let mut count = 0;
    http.have(&cell.url, ids, &mut |_| count += 1).unwrap();
    count
}

/// The number of copies that a cell could not read the last time.
fn suspects(http: &Http, cell: &Cell) -> u64 {
    activity(http, cell).suspect_copies
}

fn activity(http: &Http, cell: &Cell) -> Activity {
    http.status(&cell.url).unwrap().activity
}

/// Goal: a loose cable loses nothing. Method: reads fail with EIO while a full scrub runs. Each read error moved a good
/// copy into quarantine, which deleted its oldest files: half of them were lost.
#[test]
fn a_scrub_of_an_unreadable_disk_loses_no_copy() {
    let Some(reads) = FailingReads::new() else { return };
    let (udp_port, folder) = (UdpPort::free(), tempfile::tempdir().unwrap());
    let http = Http::new(Timeouts::TRANSFER, 1, 4);
    let cell = Cell::start_with_reads(&folder.path().join("cell"), udp_port.number, &reads, &NO_AUDITS);
    let put = |n: usize| {
        let bytes = random_bytes(n as u64, CHUNK_BYTES);
        let id = ChunkId::of(&bytes);
        let hints = PutHints { copies: 1, bare: false, holders: Vec::new(), owner: None };
        http.put_chunk(&cell.url, &id, &bytes, &hints).map(|()| id)
    };
    let ids: Vec<ChunkId> = (0..CHUNKS).map(|n| put(n).unwrap()).collect();
    let is_good = |id: &&ChunkId| cell.has_good_copy(&id.to_string());

    reads.begin();
    http.scrub(&cell.url).unwrap();
    for id in &ids {
        http.get_local_copy(&cell.url, id).unwrap_err();
    }
    wait_until("the disk is failing", || activity(&http, &cell).failing);
    assert!(activity(&http, &cell).scrub.unwrap().finished);
    // Nobody may rely on a copy that cannot be read, or send this cell another.
    assert_eq!((has(&http, &cell, &ids), suspects(&http, &cell)), (0, CHUNKS as u64));
    assert!(!http.has_chunk(&cell.url, &ids[0]).unwrap());
    assert_eq!(http.status(&cell.url).unwrap().beacon.status, Status::Full);
    assert!(matches!(put(CHUNKS), Err(CallError::Refused { status: 503, .. })));
    reads.end();
    assert_eq!(ids.iter().filter(is_good).count(), CHUNKS, "copies were lost");
    assert_eq!((cell.quarantined(), activity(&http, &cell).bad_copies), (0, 0));

    let served = |id: &&ChunkId| {
        http.get_local_copy(&cell.url, id).unwrap().is_some_and(|copy| ChunkId::of(&copy.bytes) == **id)
    };
    assert_eq!(ids.iter().filter(served).count(), CHUNKS);
    let mut good = 0;
    for some in ids.chunks(MAX_VERIFY_IDS) {
        http.verify(&cell.url, some, &mut |_| good += 1).unwrap();
    }
    assert_eq!((good, has(&http, &cell, &ids)), (CHUNKS, CHUNKS));
    wait_until("no copy is suspect", || suspects(&http, &cell) == 0);
}

/// Goal: a copy that cannot be read when a client asks for it no longer counts, and a put of the chunk replaces it.
/// Method: reads fail while the chunk is requested, and put again.
#[test]
fn a_read_error_of_a_get_makes_the_copy_suspect() {
    let Some(reads) = FailingReads::new() else { return };
    let (udp_port, folder) = (UdpPort::free(), tempfile::tempdir().unwrap());
    let http = Http::new(Timeouts::TRANSFER, 1, 4);
    let cell = Cell::start_with_reads(&folder.path().join("cell"), udp_port.number, &reads, &NO_AUDITS);
    let bytes = random_bytes(1, CHUNK_BYTES);
    let id = ChunkId::of(&bytes);
    let hints = PutHints { copies: 1, bare: false, holders: Vec::new(), owner: None };
    http.put_chunk(&cell.url, &id, &bytes, &hints).unwrap();
    reads.begin();
    http.get_local_copy(&cell.url, &id).unwrap_err();
    assert_eq!(has(&http, &cell, &[id]), 0);
    wait_until("the copy is suspect", || suspects(&http, &cell) == 1);
    // A put replaces it, although it is there.
    http.put_chunk(&cell.url, &id, &bytes, &hints).unwrap();
    assert_eq!(has(&http, &cell, &[id]), 1);
    wait_until("the new copy counts", || suspects(&http, &cell) == 0);
    reads.end();
    assert!(cell.has_good_copy(&id.to_string()) && cell.quarantined() == 0);
}
