//! A disk that fails to read: nothing is lost when it can be read again.

use cellsync::id::ChunkId;
use cellsync::net::client::{Http, PutHints, Timeouts};
use cellsync::wire::status::ScrubProgress;

use crate::harness::{Cell, FailingReads, NO_AUDITS, UdpPort, random_bytes};
use crate::wait::wait_until;

/// More than the quarantine keeps.
const CHUNKS: usize = 120;
const CHUNK_BYTES: usize = 1 << 20;

/// Scrubs all copies of a cell.
fn scrub(http: &Http, cell: &Cell) -> ScrubProgress {
    http.scrub(&cell.url).unwrap();
    let progress = || http.status(&cell.url).unwrap().activity.scrub.unwrap();
    wait_until("the scrub is complete", || progress().finished);
    progress()
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
        http.put_chunk(&cell.url, &id, &bytes, &PutHints { copies: 1, holders: Vec::new(), owner: None }).unwrap();
        id
    };
    let ids: Vec<ChunkId> = (0..CHUNKS).map(put).collect();
    let is_good = |id: &&ChunkId| cell.has_good_copy(&id.to_string());

    reads.begin();
    let during = scrub(&http, &cell);
    assert_eq!((during.done, during.unread, during.bad), (CHUNKS as u64, CHUNKS as u64, 0));
    http.get_local_copy(&cell.url, &ids[0]).unwrap_err();
    reads.end();
    assert_eq!(ids.iter().filter(is_good).count(), CHUNKS, "copies were lost");
    assert_eq!(cell.quarantined(), 0);

    let after = scrub(&http, &cell);
    assert_eq!((after.done, after.unread, after.bad), (CHUNKS as u64, 0, 0));
    let served = |id: &&ChunkId| {
        http.get_local_copy(&cell.url, id).unwrap().is_some_and(|copy| ChunkId::of(&copy.bytes) == **id)
    };
    assert_eq!(ids.iter().filter(served).count(), CHUNKS);
}
