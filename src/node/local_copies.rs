//! The copies on this cell's disk. Every change to them is reported to the core, and every copy that the disk cannot
//! read.
//!
//! Puts, verifications and removals of one chunk can overlap, and their reports can reach the core in another order than
//! the changes reached the disk. Therefore every report that a copy is gone is followed by a check whether it is present
//! again: the last report about a chunk is always true.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use smol::Timer;

use crate::cell::{CopyInput, Input, LocalCopy, VerifyOutcome};
use crate::id::ChunkId;
use crate::node::mailbox::Mailbox;
use crate::node::read_back::ReadBack;
use crate::store::{CopyState, OpenChunk, PutMetadata, PutOutcome, Record, Store, StoreError, is_damage};
use crate::sync::lock;

/// Copies in one report of the listing after the start.
const PAGE: usize = 500;
/// Pause before a failing disk is read again.
const RETRY_DELAY: Duration = Duration::from_secs(30);
/// When the quarantine is examined for the first time after the start, so that boards that are off at night do it too.
const FIRST_EXAMINATION: Duration = Duration::from_hours(1);
/// Pause between two examinations of the quarantine. Files that were only unreadable return after a day at most.
const EXAMINATION_PERIOD: Duration = Duration::from_hours(24);
/// Pause between two files in quarantine: 8 MiB/s at most, so that clients are not disturbed.
const EXAMINATION_PAUSE: Duration = Duration::from_millis(250);
/// Maximum number of unreadable copies that are remembered: 32 bytes each. Further ones are reported to the core only.
const MAX_UNREADABLE: usize = 1 << 16;

/// Clones share everything.
#[derive(Clone)]
pub(super) struct LocalCopies {
    pub(super) store: Arc<dyn Store>,
    mailbox: Mailbox,
    disk: Arc<DiskHealth>,
    read_back: Arc<ReadBack>,
}

/// What is known about the disk.
#[derive(Default)]
struct DiskHealth {
    /// The copies that it could not read the last time. No other cell may rely on them.
    unreadable: Mutex<BTreeSet<ChunkId>>,
    /// Reads of copies since the start.
    reads: AtomicU64,
    /// Whether the core has decided that it is failing.
    is_failing: AtomicBool,
}

fn local_copy(id: ChunkId, len: u64, metadata: PutMetadata) -> LocalCopy {
    // A chunk is at most 2 MiB, so the length always fits.
    LocalCopy {
        id,
        len: u32::try_from(len).unwrap_or(u32::MAX),
        copies: metadata.copies,
        bare: metadata.bare,
        holders: metadata.holders,
    }
}

impl LocalCopies {
    pub(super) fn new(store: Arc<dyn Store>, mailbox: Mailbox) -> Self {
        Self { store, mailbox, disk: Arc::default(), read_back: Arc::default() }
    }

    /// New copies that were not read yet.
    pub(super) fn read_back(&self) -> Arc<ReadBack> {
        Arc::clone(&self.read_back)
    }

    /// Opens a chunk ([`Store::open`]). A read error is reported, now or when it occurs. Blocks.
    pub(super) fn open(&self, id: &ChunkId) -> Result<Option<OpenChunk>, StoreError> {
        self.count_read();
        let opened = self.store.open(id);
        if opened.as_ref().is_err_and(StoreError::is_unreadable) {
            self.report_read_error(id);
        }
        Ok(opened?.map(|OpenChunk { len, reader }| {
            let reader = Box::new(ReportingReader { reader, id: *id, copies: self.clone() });
            OpenChunk { len, reader }
        }))
    }

    /// Whether other cells and clients may rely on a copy of this chunk: it is stored, and the disk could read it the
    /// last time. Blocks.
    pub(super) fn has(&self, id: &ChunkId) -> Result<bool, StoreError> {
        if self.is_unreadable(id) {
            return Ok(false);
        }
        match self.store.contains(id) {
            Err(error) if error.is_unreadable() => {
                log::warn!("{error}");
                self.report_read_error(id);
                Ok(false)
            }
            has => has,
        }
    }

    /// Whether the disk could not read a copy the last time.
    pub(super) fn is_unreadable(&self, id: &ChunkId) -> bool {
        lock(&self.disk.unreadable).contains(id)
    }

    /// Whether the disk is failing, so that this cell takes no new chunks.
    pub(super) fn is_failing(&self) -> bool {
        self.disk.is_failing.load(Ordering::Relaxed)
    }

    /// Called by the driver with what the core has decided.
    pub(super) fn set_failing(&self, is_failing: bool) {
        self.disk.is_failing.store(is_failing, Ordering::Relaxed);
    }

    /// Number of reads of copies since the start.
    pub(super) fn reads(&self) -> u64 {
        self.disk.reads.load(Ordering::Relaxed)
    }

    fn count_read(&self) {
        self.disk.reads.fetch_add(1, Ordering::Relaxed);
    }

    /// Reports that the disk cannot read a copy.
    pub(super) fn report_read_error(&self, id: &ChunkId) {
        self.set_readable(id, false);
        self.mailbox.send(Input::Copy(CopyInput::ReadFailed(*id)));
    }

    /// True if that is new.
    fn set_readable(&self, id: &ChunkId, is_readable: bool) -> bool {
        let mut unreadable = lock(&self.disk.unreadable);
        if is_readable { unreadable.remove(id) } else { unreadable.len() < MAX_UNREADABLE && unreadable.insert(*id) }
    }

    /// Stores a chunk ([`Store::put`]) and reports it. Blocks.
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
                self.set_readable(id, true);
                self.read_back.stored(id);
                self.report_present(vec![local_copy(*id, len, metadata)]);
            }
            // The store found the existing copy to be bad and moved it to quarantine; then the put failed.
            (Err(_), Some(id)) if self.store.contains(id).is_ok_and(|present| !present) => self.report_bad(id),
            // It was read for that.
            (Ok((id, PutOutcome::AlreadyPresent)), _) => {
                if !metadata.bare {
                    let (chunk, copies) = (*id, metadata.copies);
                    self.mailbox.send(Input::Copy(CopyInput::CopiesStated { chunk, copies }));
                }
                if self.set_readable(id, true) {
                    self.report_readable(id);
                }
            }
            (Err(_), _) => {}
        }
        put
    }

    /// Re-hashes a copy ([`Store::verify`]) at the request of another program, and reports one that is bad or cannot be
    /// read, or can be read again. Blocks.
    pub(super) fn verify(&self, id: &ChunkId) -> Result<CopyState, StoreError> {
        self.count_read();
        let verified = self.store.verify(id);
        // It was found bad and is in quarantine, but perhaps not durably.
        if verified.is_err() && self.store.contains(id).is_ok_and(|present| !present) {
            self.report_gone(id);
        }
        let state = verified?;
        let was_unreadable = self.set_readable(id, state != CopyState::Unreadable);
        match state {
            CopyState::Bad => self.report_bad(id),
            CopyState::Unreadable => self.report_read_error(id),
            CopyState::Good if was_unreadable => self.report_readable(id),
            CopyState::Good | CopyState::Missing => {}
        }
        Ok(state)
    }

    /// Re-hashes a copy for the core, which gets the result from the caller. `finally`: see [`Store::verify_finally`].
    /// Blocks.
    pub(super) fn verify_for_core(&self, id: &ChunkId, finally: bool) -> VerifyOutcome {
        self.count_read();
        let state = if finally { self.store.verify_finally(id) } else { self.store.verify(id) };
        let outcome = match state {
            Ok(CopyState::Good) => VerifyOutcome::Good,
            Ok(CopyState::Bad) => VerifyOutcome::Bad,
            Ok(CopyState::Missing) => VerifyOutcome::Missing,
            Ok(CopyState::Unreadable) => VerifyOutcome::Unreadable,
            Err(error) => {
                log::warn!("cannot verify the copy of chunk {}: {error}", id.short());
                if error.is_unreadable() { VerifyOutcome::Unreadable } else { VerifyOutcome::Failed }
            }
        };
        if outcome != VerifyOutcome::Failed {
            self.set_readable(id, outcome != VerifyOutcome::Unreadable);
        }
        outcome
    }

    /// Reports a good copy that the disk could not read the last time.
    fn report_readable(&self, id: &ChunkId) {
        self.mailbox.send(Input::Copy(CopyInput::VerifyDone { chunk: *id, outcome: VerifyOutcome::Good }));
    }

    fn report_bad(&self, id: &ChunkId) {
        self.mailbox.send(Input::Copy(CopyInput::VerifyDone { chunk: *id, outcome: VerifyOutcome::Bad }));
        self.report_if_present(id);
    }

    /// Reports a copy that is gone. Blocks.
    pub(super) fn report_gone(&self, id: &ChunkId) {
        self.mailbox.send(Input::Copy(CopyInput::Gone(*id)));
        self.report_if_present(id);
    }

    /// Reports a copy if it is in the store. To be called after any report that it is gone. Blocks.
    pub(super) fn report_if_present(&self, id: &ChunkId) {
        match self.store.record(id) {
            Ok(Some(Record { len, metadata, .. })) => self.report_present(vec![local_copy(*id, len, metadata)]),
            Ok(None) => {}
            Err(error) => log::debug!("cannot look up chunk {}: {error}", id.short()),
        }
    }

    fn report_present(&self, copies: Vec<LocalCopy>) {
        self.mailbox.send(Input::Copy(CopyInput::Present(copies)));
    }

    /// Reports all copies, after the start.
    pub(super) async fn report_all(self) {
        let mut after = None;
        loop {
            let copies = self.clone();
            match smol::unblock(move || copies.report_page(after)).await {
                Ok(Some(last)) => after = Some(last),
                Ok(None) => return self.mailbox.send_async(Input::Copy(CopyInput::ListingDone)).await,
                Err(error) => {
                    log::error!("cannot list this cell's chunks, retrying in {} s: {error}", RETRY_DELAY.as_secs());
                    Timer::after(RETRY_DELAY).await;
                }
            }
        }
    }

    /// Hashes the files in quarantine from time to time, and reports the copies that were stored again. Runs until it is
    /// dropped.
    pub(super) async fn examine_quarantine(self) {
        Timer::after(FIRST_EXAMINATION).await;
        loop {
            let mut after = None;
            loop {
                let copies = self.clone();
                let quarantined = smol::unblock(move || copies.store.quarantined(after.as_ref(), PAGE)).await;
                let ids = quarantined.unwrap_or_else(|error| {
                    log::warn!("cannot examine the quarantine: {error}");
                    Vec::new()
                });
                let Some(last) = ids.last().copied() else { break };
                after = Some(last);
                for id in ids {
                    let copies = self.clone();
                    smol::unblock(move || copies.restore(&id)).await;
                    Timer::after(EXAMINATION_PAUSE).await;
                }
            }
            Timer::after(EXAMINATION_PERIOD).await;
        }
    }

    /// Stores a quarantined copy again if it is good ([`Store::restore`]), and reports it. Blocks.
    fn restore(&self, id: &ChunkId) {
        match self.store.restore(id) {
            Ok(true) => {
                self.set_readable(id, true);
                self.read_back.stored(id);
                self.report_if_present(id);
            }
            Ok(false) => {}
            Err(error) => log::warn!("cannot store the quarantined copy of chunk {} again: {error}", id.short()),
        }
    }

    /// Reports the page of copies after this id. Returns the last id of the page; `None` if there are no more copies.
    fn report_page(&self, after: Option<ChunkId>) -> Result<Option<ChunkId>, StoreError> {
        let page = self.store.records(after.as_ref(), PAGE)?;
        let ids: Vec<ChunkId> = page.iter().map(|(id, _)| *id).collect();
        let never_read = page.iter().filter(|(_, record)| record.scrubbed_at_s == 0);
        never_read.for_each(|(id, _)| self.read_back.add(id));
        if ids.is_empty() {
            return Ok(None);
        }
        let copies = page.into_iter().map(|(id, record)| local_copy(id, record.len, record.metadata));
        self.report_present(copies.collect());
        // A copy that disappeared while the page waited for a slot was reported gone before it was reported present.
        for id in &ids {
            if self.store.contains(id).is_ok_and(|present| !present) {
                self.report_gone(id);
            }
        }
        Ok(ids.last().copied())
    }
}

/// Reads a copy, and reports it if the disk cannot.
struct ReportingReader {
    reader: Box<dyn Read + Send>,
    id: ChunkId,
    copies: LocalCopies,
}

impl Read for ReportingReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer);
        // A file that has become shorter is bad. The next read by the core finds out.
        if read.as_ref().is_err_and(|error| is_damage(error) || error.kind() == ErrorKind::UnexpectedEof) {
            self.copies.report_read_error(&self.id);
        }
        read
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
        PutMetadata { copies: 3, bare: false, holders: vec![CellId::from_bytes([1; 16])], owner: None, stored_at_s: 1 }
    }

    fn copies(store: Arc<dyn Store>) -> (LocalCopies, Receiver<Input>) {
        let (mailbox, inputs) = Mailbox::stub(ColonySnapshot::of_lone_cell());
        (LocalCopies::new(store, mailbox), inputs)
    }

    /// All that was reported to the core.
    fn reports((copies, inputs): (LocalCopies, Receiver<Input>)) -> Vec<CopyInput> {
        // The last mailbox ends the stub, so that the inputs end too.
        drop(copies);
        let copy_input = |input| match input {
            Input::Copy(input) => input,
            other => panic!("{other:?}"),
        };
        std::iter::from_fn(|| next_input(&inputs)).map(copy_input).collect()
    }

    fn chunk() -> LocalCopy {
        local_copy(ChunkId::of(CHUNK), CHUNK.len() as u64, metadata())
    }

    fn put(copies: &LocalCopies, bytes: &[u8]) -> Result<(ChunkId, PutOutcome), StoreError> {
        copies.put(Some(&ChunkId::of(CHUNK)), CHUNK.len() as u64, &mut &bytes[..], metadata())
    }

    #[test]
    fn a_new_copy_is_reported_once() {
        let (copies, inputs) = copies(Arc::new(MemoryStore::new(100)));
        put(&copies, CHUNK).unwrap();
        put(&copies, CHUNK).unwrap();
        put(&copies, b"wrong").unwrap_err();
        let other = copies.put(None, 5, &mut &b"other"[..], metadata()).unwrap().0;
        copies.put(None, 200, &mut &[0; 200][..], metadata()).unwrap_err();
        let reports = reports((copies, inputs));
        let [CopyInput::Present(first), CopyInput::CopiesStated { copies: 3, .. }, CopyInput::Present(second)] =
            &reports[..]
        else {
            panic!("{reports:?}")
        };
        assert_eq!(*first, [chunk()]);
        assert_eq!(*second, [local_copy(other, 5, metadata())]);
    }

    /// A put of a stored chunk reads its copy, and so shows that the disk can read it again.
    #[test]
    fn a_put_that_finds_a_suspect_copy_good_reports_it() {
        let (copies, inputs) = copies(Arc::new(MemoryStore::new(100)));
        put(&copies, CHUNK).unwrap();
        let id = ChunkId::of(CHUNK);
        copies.report_read_error(&id);
        assert!(!copies.has(&id).unwrap());
        put(&copies, CHUNK).unwrap();
        assert!(copies.has(&id).unwrap());
        let reports = reports((copies, inputs));
        let [
            CopyInput::Present(_),
            CopyInput::ReadFailed(_),
            CopyInput::CopiesStated { .. },
            CopyInput::VerifyDone { chunk, outcome },
        ] = &reports[..]
        else {
            panic!("{reports:?}")
        };
        assert_eq!((*chunk, *outcome), (id, VerifyOutcome::Good));
    }

    /// A store with [`CHUNK`], in whose file one bit is flipped.
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
    fn a_put_that_replaces_a_bad_copy_reports_it_present() {
        let folder = tempfile::tempdir().unwrap();
        let (store, file) = damaged(&folder);
        let (copies, inputs) = copies(store);
        assert_eq!(put(&copies, CHUNK).unwrap().1, PutOutcome::Stored);
        assert_eq!(std::fs::read(file).unwrap(), CHUNK);
        let reports = reports((copies, inputs));
        assert!(matches!(&reports[..], [CopyInput::Present(copies)] if *copies == [chunk()]), "{reports:?}");
    }

    /// The store checks its own copy before it has received the new bytes, and the put can still fail.
    #[test]
    fn a_failed_put_that_finds_a_bad_copy_reports_it_bad() {
        let folder = tempfile::tempdir().unwrap();
        let (store, file) = damaged(&folder);
        let (copies, inputs) = copies(store);
        assert!(matches!(put(&copies, &CHUNK[..9]), Err(StoreError::Truncated { .. })));
        assert!(!file.exists());
        put(&copies, &CHUNK[..9]).unwrap_err();
        let reports = reports((copies, inputs));
        let [CopyInput::VerifyDone { chunk: id, outcome: VerifyOutcome::Bad }] = reports[..] else {
            panic!("{reports:?}")
        };
        assert_eq!(id, ChunkId::of(CHUNK));
    }

    #[test]
    fn a_verification_that_finds_a_bad_copy_reports_it() {
        let folder = tempfile::tempdir().unwrap();
        let (store, file) = damaged(&folder);
        let (copies, inputs) = copies(store);
        let id = ChunkId::of(CHUNK);
        assert_eq!(copies.verify(&id).unwrap(), CopyState::Bad);
        assert!(!file.exists());
        assert_eq!(copies.verify(&id).unwrap(), CopyState::Missing);
        put(&copies, CHUNK).unwrap();
        assert_eq!(copies.verify(&id).unwrap(), CopyState::Good);
        let reports = reports((copies, inputs));
        assert!(
            matches!(reports[..], [CopyInput::VerifyDone { chunk: bad, outcome: VerifyOutcome::Bad }, CopyInput::Present(_)] if bad == id),
            "{reports:?}"
        );
    }

    #[test]
    fn a_quarantined_copy_that_is_good_is_stored_and_reported() {
        let folder = tempfile::tempdir().unwrap();
        let (store, file) = damaged(&folder);
        let (copies, inputs) = copies(Arc::clone(&store));
        let id = ChunkId::of(CHUNK);
        // The bad copy stays in quarantine, and so does the good one until its chunk is not stored any more.
        assert_eq!(copies.verify(&id).unwrap(), CopyState::Bad);
        copies.restore(&id);
        put(&copies, CHUNK).unwrap();
        copies.restore(&id);
        assert!(store.quarantine(&id).unwrap() && !file.exists());
        copies.restore(&id);
        assert_eq!(std::fs::read(file).unwrap(), CHUNK);
        let reports = reports((copies, inputs));
        let [CopyInput::VerifyDone { .. }, CopyInput::Present(_), CopyInput::Present(restored)] = &reports[..] else {
            panic!("{reports:?}")
        };
        assert_eq!((restored[0].id, restored[0].len, restored[0].bare), (id, 27, true));
    }

    /// A put stored the copy again before the report that it is gone: the last report must be true.
    #[test]
    fn a_copy_reported_gone_that_exists_is_reported_present_again() {
        let (copies, inputs) = copies(Arc::new(MemoryStore::new(100)));
        put(&copies, CHUNK).unwrap();
        copies.report_gone(&ChunkId::of(CHUNK));
        let reports = reports((copies, inputs));
        assert!(
            matches!(&reports[..], [_, CopyInput::Gone(_), CopyInput::Present(copies)] if *copies == [chunk()]),
            "{reports:?}"
        );
    }

    #[test]
    fn all_copies_are_reported_in_pages_and_then_the_end() {
        let store = MemoryStore::new(1 << 20);
        for n in 0..=2 * PAGE as u64 {
            store.put(None, 8, &mut &n.to_le_bytes()[..], &metadata()).unwrap();
        }
        let (copies, inputs) = copies(Arc::new(store));
        smol::block_on(copies.clone().report_all());
        let mut reports = reports((copies, inputs));
        assert!(matches!(reports.pop(), Some(CopyInput::ListingDone)));
        let pages: Vec<Vec<LocalCopy>> = reports
            .into_iter()
            .map(|report| match report {
                CopyInput::Present(page) => page,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [PAGE, PAGE, 1]);
        let ids: Vec<ChunkId> = pages.iter().flatten().map(|copy| copy.id).collect();
        assert!(ids.is_sorted() && pages.iter().flatten().all(|copy| copy.copies == 3 && copy.holders.len() == 1));

        let (empty, inputs) = self::copies(Arc::new(MemoryStore::new(0)));
        smol::block_on(empty.clone().report_all());
        assert!(matches!(self::reports((empty, inputs))[..], [CopyInput::ListingDone]));
    }
}
