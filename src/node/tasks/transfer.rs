//! A chunk's way between two cells: hashed where it leaves, and where it arrives.

// A shell: chunks are stamped with the time at which they came.
#![allow(clippy::disallowed_methods)]

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::cell::{FetchOutcome, SendOutcome};
use crate::id::CellId;
use crate::id::{ChunkId, MAX_CHUNK_BYTES};
use crate::net::client::{CallError, Http, PutHints, UnverifiedCopy};
use crate::store::{CopyState, PutMetadata, Store, StoreError};
use crate::unix_time;

/// One chunk, and the cell that it goes to or comes from. The whole of it is in memory meanwhile.
pub(in crate::node) struct Transfer {
    pub(in crate::node) store: Arc<dyn Store>,
    pub(in crate::node) http: Http,
    pub(in crate::node) chunk: ChunkId,
    pub(in crate::node) with: SocketAddr,
    pub(in crate::node) copies: u8,
    pub(in crate::node) holders: Vec<CellId>,
}

impl Transfer {
    /// Sends our copy, if it is good.
    pub(in crate::node) fn send(self) -> SendOutcome {
        let bytes = match self.own_copy() {
            Ok(bytes) => bytes,
            Err(no_copy) => return no_copy,
        };
        // Without its record the chunk is a copy all the same.
        let owner = self.store.record(&self.chunk).ok().flatten().and_then(|record| record.metadata.owner);
        let hints = PutHints { copies: self.copies, holders: self.holders, owner };
        match self.http.put_chunk(&format!("http://{}", self.with), &self.chunk, &bytes, &hints) {
            Ok(()) => SendOutcome::Stored,
            Err(error) => {
                log::debug!("sending chunk {}: {error}", self.chunk.short());
                match error {
                    // No room, does not want it, or not from us.
                    CallError::Refused { status: 401 | 403 | 413 | 429 | 503 | 507, .. } => SendOutcome::Refused,
                    _ => SendOutcome::Failed,
                }
            }
        }
    }

    /// The bytes of our copy, or why there are none to send.
    fn own_copy(&self) -> Result<Vec<u8>, SendOutcome> {
        let failed = |error: StoreError| {
            log::warn!("cannot read the copy of chunk {}: {error}", self.chunk.short());
            SendOutcome::OwnCopyUnreadable
        };
        let copy = self.store.open(&self.chunk).map_err(failed)?.ok_or(SendOutcome::OwnCopyGone)?;
        let mut bytes = Vec::new();
        // No file that is longer is a chunk, whatever its name is.
        let whole = copy.reader.take(MAX_CHUNK_BYTES as u64 + 1).read_to_end(&mut bytes).is_ok();
        if whole && ChunkId::of(&bytes) == self.chunk {
            return Ok(bytes);
        }
        drop(bytes);
        match self.store.verify(&self.chunk).map_err(failed)? {
            CopyState::Bad => Err(SendOutcome::OwnCopyBad),
            CopyState::Missing => Err(SendOutcome::OwnCopyGone),
            // It was mended meanwhile, or read badly this once.
            CopyState::Good => Err(SendOutcome::OwnCopyUnreadable),
        }
    }

    /// Gets a chunk, and keeps it if it is good.
    pub(in crate::node) fn fetch(self) -> FetchOutcome {
        let UnverifiedCopy { bytes, length_declared } =
            match self.http.get_local_copy(&format!("http://{}", self.with), &self.chunk) {
                Ok(Some(sample)) => sample,
                Ok(None) => return FetchOutcome::Missing,
                Err(error) => {
                    log::debug!("fetching chunk {}: {error}", self.chunk.short());
                    return FetchOutcome::Failed;
                }
            };
        let stored_at_s = unix_time::now_s();
        let metadata = PutMetadata { copies: self.copies, holders: self.holders, owner: None, stored_at_s };
        match self.store.put(Some(&self.chunk), bytes.len() as u64, &mut &bytes[..], &metadata) {
            Ok(_) => FetchOutcome::Stored,
            Err(StoreError::WrongHash { found, .. }) if length_declared => FetchOutcome::Bad { found },
            Err(StoreError::WrongHash { .. }) => FetchOutcome::Failed,
            Err(error) => {
                log::warn!("cannot keep chunk {}: {error}", self.chunk.short());
                FetchOutcome::NoRoom
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::client::Timeouts;
    use crate::net::test_server::{
        TestServer, response, response_without_length, truncated_response, unreachable_address,
    };
    use crate::store::{FileStore, MemoryStore, StoreOptions};

    const CHUNK: &[u8] = b"a chunk that wants to be elsewhere";

    fn cell(n: u8) -> CellId {
        CellId::from_bytes([n; 16])
    }

    fn transfer(store: Arc<dyn Store>, with: SocketAddr) -> Transfer {
        let http = Http::new(Timeouts::PROBE, 1, 1);
        Transfer { store, http, chunk: ChunkId::of(CHUNK), with, copies: 3, holders: vec![cell(1), cell(2)] }
    }

    fn store_with_chunk(owner: Option<[u8; 32]>) -> Arc<dyn Store> {
        let store = MemoryStore::new(1 << 20);
        let metadata = PutMetadata { copies: 5, holders: Vec::new(), owner, stored_at_s: 1 };
        store.put(None, CHUNK.len() as u64, &mut &CHUNK[..], &metadata).unwrap();
        Arc::new(store)
    }

    #[test]
    fn a_copy_is_sent_with_all_that_is_known_about_it() {
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
    fn a_cell_that_does_not_want_the_chunk_is_told_from_one_that_failed() {
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
    fn a_bad_copy_is_never_sent_and_goes_into_quarantine() {
        let folder = tempfile::tempdir().unwrap();
        let id = ChunkId::of(CHUNK);
        FileStore::init(folder.path(), cell(0)).unwrap();
        let options = StoreOptions { reserve_bytes: Some(0), ..StoreOptions::default() };
        let store: Arc<dyn Store> = Arc::new(FileStore::open(folder.path(), &options).unwrap());
        let metadata = PutMetadata { copies: 5, holders: Vec::new(), owner: None, stored_at_s: 1 };
        let file = folder.path().join("chunks").join(&id.to_string()[..2]).join(id.to_string());
        // Another byte, none at all, and far too many.
        for bad in [&b"a chunk that wants to be elsewherf"[..], b"", &vec![b'x'; 3 * MAX_CHUNK_BYTES]] {
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
    fn a_copy_is_fetched_from_one_cell_alone_and_kept_if_it_is_good() {
        let peer = TestServer::always(response(200, CHUNK));
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(1 << 20));
        assert_eq!(transfer(Arc::clone(&store), peer.address).fetch(), FetchOutcome::Stored);
        let [request] = &peer.requests()[..] else { panic!("one request") };
        assert_eq!(request.line(), format!("GET /chunk/{}", ChunkId::of(CHUNK)));
        assert_eq!(request.field("X-Hops"), Some("0"));
        let metadata = store.record(&ChunkId::of(CHUNK)).unwrap().unwrap().metadata;
        assert_eq!((metadata.copies, metadata.holders), (3, vec![cell(1), cell(2)]));
    }

    /// A link that breaks must not look like a cell that lies.
    #[test]
    fn what_is_fetched_and_not_good_is_not_kept_and_bad_only_if_it_is_whole() {
        let wrong = b"something else";
        for (says, expected) in [
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
            let peer = TestServer::always(says);
            let store: Arc<dyn Store> = Arc::new(MemoryStore::new(4 << 20));
            assert_eq!(transfer(Arc::clone(&store), peer.address).fetch(), expected);
            assert_eq!(store.usage().chunks, 0);
        }
        let none: Arc<dyn Store> = Arc::new(MemoryStore::new(1 << 20));
        assert_eq!(transfer(none, unreachable_address()).fetch(), FetchOutcome::Failed);
        let unmeasured = TestServer::always(response_without_length(CHUNK));
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(1 << 20));
        assert_eq!(transfer(store, unmeasured.address).fetch(), FetchOutcome::Stored, "the hash is proof enough");
    }

    #[test]
    fn a_good_copy_for_which_there_is_no_room_is_no_fault_of_the_other_cell() {
        let peer = TestServer::always(response(200, CHUNK));
        assert_eq!(transfer(Arc::new(MemoryStore::new(10)), peer.address).fetch(), FetchOutcome::NoRoom);
    }
}
