//! A transfer of a chunk between two cells. It is hashed before it is sent, and when it arrives.

// Reads the clock: chunks are stored with the time of their arrival.
#![allow(clippy::disallowed_methods)]

use std::io::Read;
use std::net::SocketAddr;

use crate::cell::{FetchOutcome, SendOutcome};
use crate::id::{CellId, ChunkId, MAX_CHUNK_BYTES};
use crate::net::client::{CallError, Http, PutHints, UnverifiedCopy};
use crate::node::local_copies::LocalCopies;
use crate::store::{CopyState, PutMetadata, PutOutcome, StoreError, is_damage};
use crate::unix_time;

/// A chunk and the other cell. The whole chunk is in memory during the transfer.
pub(super) struct Transfer {
    pub(super) local_copies: LocalCopies,
    pub(super) http: Http,
    pub(super) chunk: ChunkId,
    /// The address of the other cell.
    pub(super) peer: SocketAddr,
    /// Number of copies that the colony must keep.
    pub(super) copies: u8,
    /// Is that number a guess?
    pub(super) bare: bool,
    pub(super) holders: Vec<CellId>,
}

impl Transfer {
    /// Sends the local copy, if it is good. Blocks.
    pub(super) fn send(self) -> SendOutcome {
        let bytes = match self.read_local_copy() {
            Ok(bytes) => bytes,
            Err(outcome) => return outcome,
        };
        // The record has the owner. A copy without a record is sent too.
        let owner = self.local_copies.store.record(&self.chunk).ok().flatten().and_then(|record| record.metadata.owner);
        let hints = PutHints { copies: self.copies, bare: self.bare, holders: self.holders, owner };
        match self.http.put_chunk(&format!("http://{}", self.peer), &self.chunk, &bytes, &hints) {
            Ok(()) => SendOutcome::Stored,
            Err(error) => {
                log::debug!("cannot send chunk {} to {}: {error}", self.chunk.short(), self.peer);
                match error {
                    // It has no space, accepts no chunks, or none from this cell.
                    CallError::Refused { status: 401 | 403 | 413 | 429 | 503 | 507, .. } => SendOutcome::Refused,
                    _ => SendOutcome::Failed,
                }
            }
        }
    }

    /// The bytes of the local copy, or why there are none to send.
    fn read_local_copy(&self) -> Result<Vec<u8>, SendOutcome> {
        let unreadable = |error: StoreError| {
            log::warn!("cannot read the copy of chunk {}: {error}", self.chunk.short());
            SendOutcome::OwnCopyUnreadable
        };
        let copy = self.local_copies.open(&self.chunk).map_err(unreadable)?.ok_or(SendOutcome::OwnCopyGone)?;
        // At once: a buffer that grows takes up to three times as much memory. The file can be longer than it was.
        let mut bytes =
            Vec::with_capacity(usize::try_from(copy.len).unwrap_or(MAX_CHUNK_BYTES).min(MAX_CHUNK_BYTES) + 1);
        // A longer file is not a chunk, and must not fill the memory.
        match copy.reader.take(MAX_CHUNK_BYTES as u64 + 1).read_to_end(&mut bytes) {
            Ok(_) if ChunkId::of(&bytes) == self.chunk => return Ok(bytes),
            // It was reported. Another read would only wait for the disk again.
            Err(error) if is_damage(&error) => return Err(SendOutcome::OwnCopyUnreadable),
            Ok(_) | Err(_) => drop(bytes),
        }
        match self.local_copies.store.verify(&self.chunk).map_err(unreadable)? {
            CopyState::Bad => Err(SendOutcome::OwnCopyBad),
            CopyState::Missing => Err(SendOutcome::OwnCopyGone),
            // It was replaced meanwhile, or the first read failed.
            CopyState::Good => Err(SendOutcome::OwnCopyUnreadable),
            CopyState::Unreadable => {
                self.local_copies.report_read_error(&self.chunk);
                Err(SendOutcome::OwnCopyUnreadable)
            }
        }
    }

    /// Fetches the chunk and stores it, if it is good. Blocks.
    pub(super) fn fetch(self) -> FetchOutcome {
        let copy = match self.http.get_local_copy(&format!("http://{}", self.peer), &self.chunk) {
            Ok(copy) => copy,
            Err(error) => {
                log::debug!("cannot fetch chunk {} from {}: {error}", self.chunk.short(), self.peer);
                return FetchOutcome::Failed;
            }
        };
        let Some(UnverifiedCopy { bytes, length_declared }) = copy else { return FetchOutcome::Missing };
        let stored_at_s = unix_time::now_s();
        let metadata =
            PutMetadata { copies: self.copies, bare: self.bare, holders: self.holders, owner: None, stored_at_s };
        match self.local_copies.store.put(Some(&self.chunk), bytes.len() as u64, &mut &bytes[..], &metadata) {
            Ok((id, outcome)) => {
                if outcome == PutOutcome::Stored {
                    self.local_copies.read_back().stored(&id);
                }
                FetchOutcome::Stored
            }
            Err(StoreError::WrongHash { found, .. }) if length_declared => FetchOutcome::Bad { found },
            // The end of the response may be missing.
            Err(StoreError::WrongHash { .. }) => FetchOutcome::Failed,
            Err(error) => {
                log::warn!("cannot store chunk {}: {error}", self.chunk.short());
                FetchOutcome::NoRoom
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::net::client::Timeouts;
    use crate::net::test_server::{
        TestServer, response, response_without_length, truncated_response, unreachable_address,
    };
    use crate::node::mailbox::{ColonySnapshot, Mailbox};
    use crate::store::{FileStore, MemoryStore, Store, StoreOptions};

    const CHUNK: &[u8] = b"a chunk that is transferred";

    fn cell(n: u8) -> CellId {
        CellId::from_bytes([n; 16])
    }

    fn transfer(store: Arc<dyn Store>, peer: SocketAddr) -> Transfer {
        let http = Http::new(Timeouts::PROBE, 1, 1);
        let local_copies = LocalCopies::new(store, Mailbox::stub(ColonySnapshot::of_lone_cell()).0);
        Transfer {
            local_copies,
            http,
            chunk: ChunkId::of(CHUNK),
            peer,
            copies: 3,
            bare: false,
            holders: vec![cell(1), cell(2)],
        }
    }

    fn store_with_chunk(owner: Option<[u8; 32]>) -> Arc<dyn Store> {
        let store = MemoryStore::new(1 << 20);
        let metadata = PutMetadata { copies: 5, bare: false, holders: Vec::new(), owner, stored_at_s: 1 };
        store.put(None, CHUNK.len() as u64, &mut &CHUNK[..], &metadata).unwrap();
        Arc::new(store)
    }

    #[test]
    fn a_copy_is_sent_with_its_metadata() {
        let peer = TestServer::always(response(200, b""));
        let owner = *ChunkId::of(b"the owner's token").as_bytes();
        assert_eq!(transfer(store_with_chunk(Some(owner)), peer.address).send(), SendOutcome::Stored);
        assert_eq!(transfer(store_with_chunk(None), peer.address).send(), SendOutcome::Stored);
        let [with_owner, without] = &peer.requests()[..] else { panic!("two requests") };
        assert_eq!(with_owner.line(), format!("PUT /chunk/{}", ChunkId::of(CHUNK)));
        assert_eq!(with_owner.body, CHUNK);
        assert_eq!(with_owner.field("CellSync-Copies"), Some("3"));
        assert_eq!(with_owner.field("CellSync-Holders"), Some(&*format!("{},{}", cell(1), cell(2))));
        let hash = ChunkId::from_bytes(owner).to_string();
        assert_eq!((with_owner.field("CellSync-Owner"), without.field("CellSync-Owner")), (Some(&*hash), None));
    }

    #[test]
    fn a_refusal_differs_from_a_failure() {
        for (status, expected) in [
            (507, SendOutcome::Refused),
            (503, SendOutcome::Refused),
            (429, SendOutcome::Refused),
            (413, SendOutcome::Refused),
            (403, SendOutcome::Refused),
            (500, SendOutcome::Failed),
            (404, SendOutcome::Failed),
            (422, SendOutcome::Failed),
        ] {
            let peer = TestServer::always(response(status, b""));
            assert_eq!(transfer(store_with_chunk(None), peer.address).send(), expected, "{status}");
        }
        assert_eq!(transfer(store_with_chunk(None), unreachable_address()).send(), SendOutcome::Failed);
    }

    #[test]
    fn a_bad_copy_is_quarantined_and_not_sent() {
        let folder = tempfile::tempdir().unwrap();
        let id = ChunkId::of(CHUNK);
        FileStore::init(folder.path(), cell(0)).unwrap();
        let options = StoreOptions { reserve_bytes: Some(0), ..StoreOptions::default() };
        let store: Arc<dyn Store> = Arc::new(FileStore::open(folder.path(), &options).unwrap());
        let metadata = PutMetadata { copies: 5, bare: false, holders: Vec::new(), owner: None, stored_at_s: 1 };
        let file = folder.path().join("chunks").join(&id.to_string()[..2]).join(id.to_string());
        // A flipped bit, no bytes, too many bytes.
        for bad in [&b"a chunk that is transferrfd"[..], b"", &vec![b'x'; 3 * MAX_CHUNK_BYTES]] {
            store.put(Some(&id), CHUNK.len() as u64, &mut &CHUNK[..], &metadata).unwrap();
            std::fs::write(&file, bad).unwrap();
            let peer = TestServer::always(response(200, b""));
            assert_eq!(transfer(Arc::clone(&store), peer.address).send(), SendOutcome::OwnCopyBad);
            assert!(peer.requests().is_empty() && !file.exists());
            assert!(folder.path().join("quarantine").join(id.to_string()).exists());
            assert_eq!(transfer(Arc::clone(&store), peer.address).send(), SendOutcome::OwnCopyGone);
        }
    }

    #[test]
    fn a_good_copy_is_fetched_from_one_cell_and_stored() {
        let peer = TestServer::always(response(200, CHUNK));
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(1 << 20));
        let fetch = transfer(Arc::clone(&store), peer.address);
        let read_back = fetch.local_copies.read_back();
        assert_eq!(fetch.fetch(), FetchOutcome::Stored);
        assert_eq!(read_back.left(), 1);
        let [request] = &peer.requests()[..] else { panic!("one request") };
        assert_eq!(request.line(), format!("GET /chunk/{}", ChunkId::of(CHUNK)));
        assert_eq!(request.field("X-Hops"), Some("0"));
        let metadata = store.record(&ChunkId::of(CHUNK)).unwrap().unwrap().metadata;
        assert_eq!((metadata.copies, metadata.holders), (3, vec![cell(1), cell(2)]));
    }

    /// A broken connection must not look like a lying cell.
    #[test]
    fn an_incomplete_fetch_is_a_failure_and_not_a_bad_copy() {
        let wrong = b"something else";
        for (response, expected) in [
            (response(200, wrong), FetchOutcome::Bad { found: ChunkId::of(wrong) }),
            (response(200, b""), FetchOutcome::Bad { found: ChunkId::of(b"") }),
            (response(200, &vec![0; MAX_CHUNK_BYTES + 1]), FetchOutcome::Failed),
            (response(404, b""), FetchOutcome::Missing),
            (response(503, b""), FetchOutcome::Failed),
            (truncated_response(&CHUNK[..10], 24), FetchOutcome::Failed),
            (truncated_response(b"", 34), FetchOutcome::Failed),
            (response_without_length(&CHUNK[..10]), FetchOutcome::Failed),
            (b"hello".to_vec(), FetchOutcome::Failed),
        ] {
            let peer = TestServer::always(response);
            let store: Arc<dyn Store> = Arc::new(MemoryStore::new(4 << 20));
            assert_eq!(transfer(Arc::clone(&store), peer.address).fetch(), expected);
            assert_eq!(store.usage().chunks, 0);
        }
        let empty: Arc<dyn Store> = Arc::new(MemoryStore::new(1 << 20));
        assert_eq!(transfer(empty, unreachable_address()).fetch(), FetchOutcome::Failed);
        let without_length = TestServer::always(response_without_length(CHUNK));
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(1 << 20));
        assert_eq!(
            transfer(store, without_length.address).fetch(),
            FetchOutcome::Stored,
            "the hash proves that it is complete"
        );
    }

    #[test]
    fn a_full_local_store_is_not_the_other_cells_fault() {
        let peer = TestServer::always(response(200, CHUNK));
        assert_eq!(transfer(Arc::new(MemoryStore::new(10)), peer.address).fetch(), FetchOutcome::NoRoom);
    }
}
