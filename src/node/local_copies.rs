//! The copies on this cell's disk, and what the core must hear of them: each that comes, each that goes.
//!
//! Puts, verifications and removals of the same chunk can overlap, and what they tell can reach the core in another
//! order than they reached the disk. So whoever tells that a copy is gone looks afterwards whether it is here again,
//! and says so: what the core hears last is then true.

// A shell: it waits before it reads a failing disk again.
#![allow(clippy::disallowed_methods)]

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use smol::Timer;

use crate::cell::{CopyInput, Input, LocalCopy, VerifyOutcome};
use crate::id::ChunkId;
use crate::node::mailbox::Mailbox;
use crate::store::{CopyState, PutMetadata, PutOutcome, Record, Store, StoreError};

/// Copies that are told at once after the start.
const PAGE: usize = 500;
/// Before a disk that failed is read again.
const AGAIN: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub(super) struct LocalCopies {
    pub(super) store: Arc<dyn Store>,
    mailbox: Mailbox,
}

fn held(id: ChunkId, len: u64, metadata: PutMetadata) -> LocalCopy {
    // A chunk is far smaller.
    LocalCopy { id, len: u32::try_from(len).unwrap_or(u32::MAX), copies: metadata.copies, holders: metadata.holders }
}

impl LocalCopies {
    pub(super) fn new(store: Arc<dyn Store>, mailbox: Mailbox) -> Self {
        Self { store, mailbox }
    }

    /// Stores a chunk ([`Store::put`]) and tells the core of it. Blocks.
    pub(super) fn put(
        &self,
        expected: Option<&ChunkId>,
        len: u64,
        body: &mut dyn Read,
        metadata: PutMetadata,
    ) -> Result<(ChunkId, PutOutcome), StoreError> {
        let before = expected.filter(|id| self.store.contains(id).unwrap_or(false));
        let put = self.store.put(expected, len, body, &metadata);
        match (&put, before) {
            (Ok((id, PutOutcome::Stored)), _) => {
                self.mailbox.send(Input::Copy(CopyInput::Present(vec![held(*id, len, metadata)])));
            }
            // The store found the copy that was here to be bad and set it aside, and then nothing came in its place.
            (Err(_), Some(id)) if self.store.contains(id).is_ok_and(|here| !here) => self.report_bad(id),
            _ => {}
        }
        put
    }

    /// Re-hashes a copy ([`Store::verify`]) for somebody else than the core, and tells the core if it is bad. Blocks.
    pub(super) fn verify(&self, id: &ChunkId) -> Result<CopyState, StoreError> {
        let checked = self.store.verify(id)?;
        if checked == CopyState::Bad {
            self.report_bad(id);
        }
        Ok(checked)
    }

    fn report_bad(&self, id: &ChunkId) {
        self.mailbox.send(Input::Copy(CopyInput::VerifyDone { chunk: *id, outcome: VerifyOutcome::Bad }));
        self.report_if_present(id);
    }

    /// After the core was told that a copy is gone: is it here again? Blocks.
    pub(super) fn report_if_present(&self, id: &ChunkId) {
        match self.store.record(id) {
            Ok(Some(record)) => self.is_here(*id, record),
            Ok(None) => {}
            Err(error) => log::debug!("looking for chunk {}: {error}", id.short()),
        }
    }

    fn is_here(&self, id: ChunkId, record: Record) {
        self.mailbox.send(Input::Copy(CopyInput::Present(vec![held(id, record.len, record.metadata)])));
    }

    /// Tells the core of a copy that is gone. Blocks.
    pub(super) fn report_gone(&self, id: &ChunkId) {
        self.mailbox.send(Input::Copy(CopyInput::Gone(*id)));
        self.report_if_present(id);
    }

    /// Tells the core all that is here, after the start.
    pub(super) async fn report_all(self) {
        let mut after = None;
        loop {
            let copies = self.clone();
            match smol::unblock(move || copies.report_page(after)).await {
                Ok(Some(last)) => after = Some(last),
                Ok(None) => return self.mailbox.send_async(Input::Copy(CopyInput::ListingDone)).await,
                Err(error) => {
                    log::error!("cannot list the chunks that are here, and tries again: {error}");
                    Timer::after(AGAIN).await;
                }
            }
        }
    }

    /// Tells of the copies after this one; the last of them, or `None` if there are no more.
    fn report_page(&self, after: Option<ChunkId>) -> Result<Option<ChunkId>, StoreError> {
        let page = self.store.records(after.as_ref(), PAGE)?;
        let ids: Vec<ChunkId> = page.iter().map(|(id, _)| *id).collect();
        if ids.is_empty() {
            return Ok(None);
        }
        let page = page.into_iter().map(|(id, record)| held(id, record.len, record.metadata)).collect();
        self.mailbox.send(Input::Copy(CopyInput::Present(page)));
        // What went while the page waited to be heard was told already, and too early.
        for id in &ids {
            if self.store.contains(id).is_ok_and(|here| !here) {
                self.report_gone(id);
            }
        }
        Ok(ids.last().copied())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use smol::channel::Receiver;

    use super::*;
    use crate::id::CellId;
    use crate::node::mailbox::{ColonySnapshot, next_input};
    use crate::store::{FileStore, MemoryStore, StoreOptions};

    const CHUNK: &[u8] = b"a chunk that comes and goes";

    fn metadata() -> PutMetadata {
        PutMetadata { copies: 3, holders: vec![CellId::from_bytes([1; 16])], owner: None, stored_at_s: 1 }
    }

    fn copies(store: Arc<dyn Store>) -> (LocalCopies, Receiver<Input>) {
        let (mailbox, heard) = Mailbox::stub(ColonySnapshot::of_lone_cell());
        (LocalCopies::new(store, mailbox), heard)
    }

    /// All that the core has heard when nobody is left to tell more.
    fn told((copies, heard): (LocalCopies, Receiver<Input>)) -> Vec<Input> {
        drop(copies);
        let mut inputs = Vec::new();
        while let Some(input) = next_input(&heard) {
            inputs.push(input);
        }
        inputs
    }

    fn chunk() -> LocalCopy {
        held(ChunkId::of(CHUNK), CHUNK.len() as u64, metadata())
    }

    fn put(copies: &LocalCopies, bytes: &[u8]) -> Result<(ChunkId, PutOutcome), StoreError> {
        copies.put(Some(&ChunkId::of(CHUNK)), CHUNK.len() as u64, &mut &bytes[..], metadata())
    }

    #[test]
    fn the_core_hears_of_each_chunk_that_comes_once() {
        let (copies, heard) = copies(Arc::new(MemoryStore::new(100)));
        put(&copies, CHUNK).unwrap();
        put(&copies, CHUNK).unwrap();
        put(&copies, b"wrong").unwrap_err();
        let other = copies.put(None, 5, &mut &b"other"[..], metadata()).unwrap().0;
        copies.put(None, 200, &mut &[0; 200][..], metadata()).unwrap_err();
        let told = told((copies, heard));
        let [Input::Copy(CopyInput::Present(first)), Input::Copy(CopyInput::Present(second))] = &told[..] else {
            panic!("{told:?}")
        };
        assert_eq!(*first, [chunk()]);
        assert_eq!(*second, [held(other, 5, metadata())]);
    }

    /// A cell with [`CHUNK`], of which one bit has flipped on the disk.
    fn damaged(folder: &tempfile::TempDir) -> (Arc<dyn Store>, PathBuf) {
        FileStore::init(folder.path(), CellId::from_bytes([0; 16])).unwrap();
        let options = StoreOptions { reserve_bytes: Some(0), ..StoreOptions::default() };
        let store = FileStore::open(folder.path(), &options).unwrap();
        let (id, _) = store.put(None, CHUNK.len() as u64, &mut &CHUNK[..], &metadata()).unwrap();
        let file = folder.path().join("chunks").join(&id.to_string()[..2]).join(id.to_string());
        let mut bytes = CHUNK.to_vec();
        bytes[3] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        (Arc::new(store), file)
    }

    #[test]
    fn a_bad_copy_that_a_put_replaces_is_one_that_came() {
        let folder = tempfile::tempdir().unwrap();
        let (store, file) = damaged(&folder);
        let (copies, heard) = copies(store);
        assert_eq!(put(&copies, CHUNK).unwrap().1, PutOutcome::Stored);
        assert_eq!(std::fs::read(file).unwrap(), CHUNK);
        let told = told((copies, heard));
        assert!(matches!(&told[..], [Input::Copy(CopyInput::Present(held))] if *held == [chunk()]), "{told:?}");
    }

    /// The store looks at its copy before it has the new bytes, and those need not come.
    #[test]
    fn a_bad_copy_that_a_put_finds_and_does_not_replace_is_one_that_went() {
        let folder = tempfile::tempdir().unwrap();
        let (store, file) = damaged(&folder);
        let (copies, heard) = copies(store);
        assert!(matches!(put(&copies, &CHUNK[..9]), Err(StoreError::Truncated { .. })));
        assert!(!file.exists());
        put(&copies, &CHUNK[..9]).unwrap_err();
        let told = told((copies, heard));
        let [Input::Copy(CopyInput::VerifyDone { chunk: id, outcome: VerifyOutcome::Bad })] = told[..] else {
            panic!("{told:?}")
        };
        assert_eq!(id, ChunkId::of(CHUNK));
    }

    #[test]
    fn a_copy_that_others_find_to_be_bad_the_core_hears_of() {
        let folder = tempfile::tempdir().unwrap();
        let (store, file) = damaged(&folder);
        let (copies, heard) = copies(store);
        let id = ChunkId::of(CHUNK);
        assert_eq!(copies.verify(&id).unwrap(), CopyState::Bad);
        assert!(!file.exists());
        assert_eq!(copies.verify(&id).unwrap(), CopyState::Missing);
        put(&copies, CHUNK).unwrap();
        assert_eq!(copies.verify(&id).unwrap(), CopyState::Good);
        let told = told((copies, heard));
        assert!(
            matches!(told[..], [Input::Copy(CopyInput::VerifyDone { chunk: bad, outcome: VerifyOutcome::Bad }), Input::Copy(CopyInput::Present(_))] if bad == id),
            "{told:?}"
        );
    }

    /// A put brought it back before the core had heard that it was gone; what the core hears last is what holds.
    #[test]
    fn a_copy_that_is_here_again_when_the_core_hears_that_it_went_is_told_again() {
        let (copies, heard) = copies(Arc::new(MemoryStore::new(100)));
        put(&copies, CHUNK).unwrap();
        copies.report_gone(&ChunkId::of(CHUNK));
        let told = told((copies, heard));
        assert!(
            matches!(&told[..], [_, Input::Copy(CopyInput::Gone(_)), Input::Copy(CopyInput::Present(held))] if *held == [chunk()]),
            "{told:?}"
        );
    }

    #[test]
    fn all_that_is_here_is_told_page_by_page_and_then_that_it_was_all() {
        let store = MemoryStore::new(1 << 20);
        for n in 0..=2 * PAGE as u64 {
            store.put(None, 8, &mut &n.to_le_bytes()[..], &metadata()).unwrap();
        }
        let (copies, heard) = copies(Arc::new(store));
        smol::block_on(copies.clone().report_all());
        let mut told = told((copies, heard));
        assert!(matches!(told.pop(), Some(Input::Copy(CopyInput::ListingDone))));
        let pages: Vec<Vec<LocalCopy>> = told
            .into_iter()
            .map(|input| match input {
                Input::Copy(CopyInput::Present(page)) => page,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [PAGE, PAGE, 1]);
        let ids: Vec<ChunkId> = pages.iter().flatten().map(|held| held.id).collect();
        assert!(ids.is_sorted() && pages.iter().flatten().all(|held| held.copies == 3 && held.holders.len() == 1));

        let (empty, heard) = self::copies(Arc::new(MemoryStore::new(0)));
        smol::block_on(empty.clone().report_all());
        assert!(matches!(self::told((empty, heard))[..], [Input::Copy(CopyInput::ListingDone)]));
    }
}
