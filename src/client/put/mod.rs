//! Putting a file into the colony.
//!
//! One thread, the caller's, decides: it takes what the crew tells, asks the placer what is next for each chunk, and
//! keeps the journal. A chunk is done with when it has its copies; the manifest is written when all are.

// A shell: it looks at the clock so as not to look for lost cells too often.
#![allow(clippy::disallowed_methods)]

pub(super) mod availability;
pub(super) mod in_flight;
pub(super) mod journal;
pub(super) mod ledger;
pub(super) mod placer;
pub(super) mod source;
pub(super) mod upload;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use crate::client::discover::find_cells::find_cells;
use crate::client::discover::holder_index::HolderIndex;
use crate::client::discover::query::{Wait, ask_all};
use crate::client::put::in_flight::{Flow, senders};
use crate::client::put::journal::{Earlier, Journal, journal_path};
use crate::client::put::ledger::Ledger;
use crate::client::put::placer::{Copies, Failure, Next, Placer};
use crate::client::put::source::Fingerprint;
use crate::client::put::upload::{Crew, Event, Job, Work};
use crate::client::{ClientError, ColonyScope, KnownCell, Notice, Progress, Source, StopSignal, manifest_file};
use crate::id::{BLOCK_BYTES, ChunkId};
use crate::net::client::{CallError, Http, PutHints, Timeouts};
use crate::pipeline::{Key, Level, Manifest, SealedChunk};

/// How a put is to go.
#[derive(Debug, Clone)]
pub struct PutOptions {
    /// Copies of each chunk; 1 to 32.
    pub copies: u8,
    /// The fewest copies that are accepted; without it, all, or as many as there are living cells.
    pub min_copies: Option<u8>,
    /// How hard to compress.
    pub level: Level,
    /// Blocks compressed at the same time.
    pub jobs: usize,
    /// Write over a manifest that is there.
    pub force: bool,
    /// Where the colony is.
    pub scope: ColonyScope,
}

/// What a put did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PutReport {
    /// Bytes of the source.
    pub size: u64,
    /// Chunks that they became.
    pub chunks: usize,
    /// Bytes of the chunks that this run sealed, each counted once.
    pub sealed_bytes: u64,
    /// Bytes of all copies that this run sent.
    pub sent_bytes: u64,
    /// How many copies those are.
    pub sent_copies: u64,
    /// Chunks that an earlier run had put already.
    pub resumed_chunks: usize,
    /// Chunks with fewer copies than wanted.
    pub short_chunks: usize,
    /// The fewest copies that any chunk has.
    pub fewest_copies: usize,
    /// Cells that took part.
    pub cells: usize,
    /// Requests made.
    pub requests: u64,
}

/// How often the user's wish to stop is looked at.
const STOP_LOOK: Duration = Duration::from_millis(100);
/// A colony that vanished is looked for again so often, and with so much time between, before the put gives up.
const MAX_LOOKS: u32 = 4;
const LOOK_PAUSE: Duration = Duration::from_secs(2);
/// How often, and with how much time between, an interrupted put is looked at until its copies grow no more.
const MAX_SETTLING_LOOKS: u32 = 10;
const SETTLING_PAUSE: Duration = Duration::from_millis(500);
/// Chunks of an earlier run that are completed at the same time; each is in memory.
const MAX_EARLIER_UNDER_WAY: usize = 4;

/// Puts `source` into the colony and writes its manifest.
pub fn put(
    source: &Source,
    manifest: &Path,
    options: &PutOptions,
    progress: &dyn Progress,
    stop: &StopSignal,
) -> Result<PutReport, ClientError> {
    manifest_file::check(source, manifest, options.force)?;
    let fingerprint = source.fingerprint()?;
    progress.total(fingerprint.as_ref().filter(|_| matches!(source, Source::File(_))).map(|print| print.size));

    let senders = senders(options.copies);
    let http = Http::new(Timeouts::STORE, senders, 4 * senders);
    let cells = find_cells(&http, &options.scope, options.copies.into())?;
    if cells.is_empty() {
        return Err(ClientError::none_responding(&options.scope, 0));
    }
    let placer = Placer::new(cells, options.copies, options.min_copies, fastrand::u64(..));
    check_availability(&placer, options, progress)?;

    let mut put = Put {
        http,
        options,
        progress,
        placer,
        journal: None,
        ledger: Ledger::default(),
        under_way: BTreeMap::new(),
        earlier: VecDeque::new(),
        flow: Flow::new(options.copies),
        report: PutReport::default(),
    };
    let mut key = Key::generate();
    if fingerprint.is_none() && !manifest_file::may_write(manifest, options.force, None) {
        return Err(manifest_file::exists(manifest));
    }
    if let Some(fingerprint) = &fingerprint {
        let (mut journal, earlier) = Journal::open(manifest, fingerprint)?;
        match earlier {
            Some(earlier) if manifest_file::may_write(manifest, options.force, Some(&earlier.key)) => {
                put.resume(&earlier);
                key = earlier.key;
                journal.go_on()?;
            }
            // What is in the journal stays there, for the put that it belongs to.
            _ if !manifest_file::may_write(manifest, options.force, None) => {
                return Err(manifest_file::exists(manifest));
            }
            _ => journal.begin(&key, fingerprint)?,
        }
        put.journal = Some(journal);
    }
    let size = put.run(source, &key, stop).map_err(|error| match &put.journal {
        Some(_) => resumable(error, manifest),
        None => error,
    })?;
    let resized = |print: &Fingerprint| matches!(source, Source::File(_)) && print.size != size;
    if source.fingerprint()? != fingerprint || fingerprint.as_ref().is_some_and(resized) {
        return Err(ClientError::SourceChanged { path: source.path().to_owned() });
    }
    put.finish(source, key, size, manifest)
}

fn check_availability(placer: &Placer, options: &PutOptions, progress: &dyn Progress) -> Result<(), ClientError> {
    let (cells, required) = (placer.availability(), placer.enough());
    let accepting = cells.accepting();
    if accepting < required {
        return Err(ClientError::TooFewCells { cells, required });
    }
    if accepting < usize::from(options.copies) {
        progress.notice(&Notice::FewerCopies { accepting, wanted: options.copies });
    }
    Ok(())
}

/// Names the journal in errors after which the same command continues the put.
fn resumable(cause: ClientError, manifest: &Path) -> ClientError {
    match cause {
        ClientError::Stopped
        | ClientError::WorkerPanicked
        | ClientError::TooFewCells { .. }
        | ClientError::TooFewCopies { .. }
        | ClientError::NoCells { .. } => {
            ClientError::Resumable { cause: Box::new(cause), journal: journal_path(manifest) }
        }
        other => other,
    }
}

/// A chunk that does not have its copies yet.
struct UnderWay {
    copies: Copies,
    /// The user's bytes in it; 0 if they were counted already.
    plain: u64,
    chunk: Arc<SealedChunk>,
    /// Was it sealed by the crew, and so takes one of its places?
    holds_place: bool,
}

/// A chunk of an earlier run that lacks copies.
struct Incomplete {
    index: usize,
    id: ChunkId,
    holders: Vec<usize>,
}

struct Put<'a> {
    http: Http,
    options: &'a PutOptions,
    progress: &'a dyn Progress,
    placer: Placer,
    journal: Option<Journal>,
    ledger: Ledger,
    under_way: BTreeMap<usize, UnderWay>,
    earlier: VecDeque<Incomplete>,
    flow: Flow,
    report: PutReport,
}

impl Put<'_> {
    /// Asks the colony what is there of an earlier put. Chunks with copies are gone on with under their ids; those
    /// without any are made anew.
    fn resume(&mut self, earlier: &Earlier) {
        let (indices, ids): (Vec<usize>, Vec<ChunkId>) = earlier.ids.iter().map(|(&index, &id)| (index, id)).unzip();
        let cells: Vec<KnownCell> = (0..).map_while(|number| self.placer.cell(number).cloned()).collect();
        let holders = self.settled_holders(&cells, &ids);
        for (place, (&index, &id)) in indices.iter().zip(&ids).enumerate() {
            let holders: Vec<usize> = holders.of(place).filter_map(|url| self.placer.number_of(url)).collect();
            match holders.len() {
                0 => {}
                copies if self.placer.suffice(copies) => self.ledger.finish(index, id, copies),
                _ => self.earlier.push_back(Incomplete { index, id, holders }),
            }
        }
        let there = self.ledger.finished() + self.earlier.len();
        self.report.resumed_chunks = there;
        if there > 0 {
            self.progress.notice(&Notice::PutResumed { chunks: there });
        }
    }

    /// Who has what, when that has come to rest: cells may still be writing copies that were on their way when the earlier
    /// put was cut off, and those need not be sent again.
    fn settled_holders(&self, cells: &[KnownCell], ids: &[ChunkId]) -> HolderIndex {
        let look = || HolderIndex::new(cells, ask_all(&self.http, cells, ids, Wait::ForHolders), ids.len());
        let copies = |holders: &HolderIndex| (0..ids.len()).map(|place| holders.count(place)).sum::<usize>();
        let whole = ids.len() * usize::from(self.options.copies).min(self.placer.willing());
        let mut holders = look();
        for _ in 0..MAX_SETTLING_LOOKS {
            let before = copies(&holders);
            if before >= whole {
                break;
            }
            std::thread::sleep(SETTLING_PAUSE);
            holders = look();
            if copies(&holders) == before {
                break;
            }
        }
        holders
    }

    /// Does the work, in as many passes as it takes: chunks of an earlier run that turn out to be unreadable are made
    /// anew in the next one. Returns the size of the source.
    fn run(&mut self, source: &Source, key: &Key, stop: &StopSignal) -> Result<u64, ClientError> {
        self.progress.advance(self.report.resumed_chunks as u64 * BLOCK_BYTES as u64, 0);
        loop {
            let incomplete = self.earlier.iter().map(|chunk| chunk.index);
            let work = Work {
                source: source.clone(),
                skip: (0..self.ledger.end()).filter(|&index| self.ledger.has(index)).chain(incomplete).collect(),
                key: key.clone(),
                level: self.options.level,
                sealers: self.options.jobs.max(1),
                senders: senders(self.options.copies),
            };
            let (blocks, bytes) = self.pass(&Crew::start(work, &self.http), stop)?;
            // A journal of this very source names no block beyond its end; one that was tampered with may.
            self.ledger.truncate(blocks);
            if self.ledger.finished() == blocks {
                return Ok(bytes);
            }
        }
    }

    /// Reads the source to its end once. Returns how many blocks and bytes it has.
    fn pass(&mut self, crew: &Crew, stop: &StopSignal) -> Result<(usize, u64), ClientError> {
        let mut to_remake = 0;
        let mut end = None;
        let mut stuck = BTreeSet::new();
        let mut looks = 0;
        loop {
            if stop.is_set() {
                return Err(ClientError::Stopped);
            }
            if self.under_way.len() < MAX_EARLIER_UNDER_WAY
                && let Some(incomplete) = self.earlier.pop_front()
            {
                to_remake += usize::from(!self.complete_earlier(incomplete, crew, &mut stuck));
                continue;
            }
            if !stuck.is_empty() {
                let chunks = std::mem::take(&mut stuck);
                if looks >= MAX_LOOKS {
                    self.settle(chunks, crew)?;
                    continue;
                }
                self.look_again(looks)?;
                looks += 1;
                for index in chunks {
                    self.go_on(index, crew, &mut stuck);
                }
                continue;
            }
            let all_done = |blocks| self.under_way.is_empty() && self.ledger.finished() + to_remake >= blocks;
            if let Some(end) = end.filter(|&(blocks, _)| all_done(blocks)) {
                return Ok(end);
            }
            match crew.events.recv_timeout(STOP_LOOK) {
                Ok(Event::Sealed { index, plain, chunk }) => {
                    if let Some(journal) = &mut self.journal {
                        journal.note(index, chunk.id)?;
                    }
                    self.report.sealed_bytes += chunk.bytes.len() as u64;
                    let copies = Copies::default();
                    self.under_way.insert(index, UnderWay { copies, plain, chunk, holds_place: true });
                    self.go_on(index, crew, &mut stuck);
                }
                Ok(Event::Sent { index, cell, result }) => {
                    looks = if result.is_ok() { 0 } else { looks };
                    self.flow.ended(result.as_ref().is_err_and(CallError::is_slow));
                    self.flow.send(crew);
                    self.sent(index, cell, result);
                    self.go_on(index, crew, &mut stuck);
                }
                Ok(Event::SourceEnded { blocks, bytes }) => end = Some((blocks, bytes)),
                Ok(Event::Failed(error)) => return Err(error),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(ClientError::WorkerPanicked);
                }
            }
        }
    }

    /// A chunk of an earlier run that lacks copies gets them from one that is there. False if none of those can be
    /// read: the chunk is forgotten then.
    fn complete_earlier(&mut self, chunk: Incomplete, crew: &Crew, stuck: &mut BTreeSet<usize>) -> bool {
        let Incomplete { index, id, mut holders } = chunk;
        // The first that can be read; those before it are no copies. The others are taken at the cells' word, as in
        // every answer to `have`.
        let readable = holders.iter().enumerate().find_map(|(at, &cell)| {
            let bytes = self.http.get_chunk(&self.placer.cell(cell)?.url, &id, 0, None).ok()??;
            (ChunkId::of(&bytes) == id).then_some((at, bytes))
        });
        let Some((bad, bytes)) = readable else { return false };
        holders.drain(..bad);
        let (copies, chunk) = (Copies::held_by(holders), Arc::new(SealedChunk { id, bytes }));
        self.under_way.insert(index, UnderWay { copies, plain: 0, chunk, holds_place: false });
        self.go_on(index, crew, stuck);
        true
    }

    /// Does what is next for a chunk.
    fn go_on(&mut self, index: usize, crew: &Crew, stuck: &mut BTreeSet<usize>) {
        let Some(under_way) = self.under_way.get_mut(&index) else { return };
        let chunk = &under_way.chunk;
        match self.placer.next(&mut under_way.copies) {
            Next::Send(cells) => {
                let Copies { done, pending, .. } = &under_way.copies;
                let all: Vec<usize> = done.iter().chain(pending).copied().collect();
                let hints = PutHints { copies: self.options.copies, holders: self.placer.names(&all), owner: None };
                for cell in cells {
                    let Some(known) = self.placer.cell(cell) else { continue };
                    let (url, chunk, hints) = (known.url.clone(), Arc::clone(chunk), hints.clone());
                    self.flow.add(Job { index, cell, url, chunk, hints });
                }
                self.flow.send(crew);
            }
            Next::Wait => {}
            Next::Whole | Next::Short => self.done_with(index, crew),
            Next::Stuck => {
                stuck.insert(index);
            }
        }
    }

    fn sent(&mut self, index: usize, cell: usize, result: Result<(), CallError>) {
        let Some(under_way) = self.under_way.get_mut(&index) else { return };
        match result {
            Ok(()) => {
                self.report.sent_bytes += under_way.chunk.bytes.len() as u64;
                self.report.sent_copies += 1;
                self.placer.succeeded(&mut under_way.copies, cell);
            }
            Err(error) => {
                let failure = Failure::of(&error);
                if self.placer.failed(&mut under_way.copies, cell, failure) {
                    self.progress.notice(&Notice::CellSkipped { error });
                }
            }
        }
    }

    /// No cell is left for some chunk: perhaps cells came back, or others joined.
    fn look_again(&mut self, look: u32) -> Result<(), ClientError> {
        let began = Instant::now();
        let found = find_cells(&self.http, &self.options.scope, usize::MAX)?;
        let none = found.is_empty();
        self.placer.found(found);
        for chunk in self.under_way.values_mut() {
            Placer::forgive(&mut chunk.copies);
        }
        if none || look > 0 {
            std::thread::sleep(LOOK_PAUSE.saturating_sub(began.elapsed()));
        }
        Ok(())
    }

    /// All looks have been taken: chunks with as many copies as are accepted are done with; for others there is no way.
    fn settle(&mut self, stuck: BTreeSet<usize>, crew: &Crew) -> Result<(), ClientError> {
        for index in stuck {
            let Some(under_way) = self.under_way.get(&index) else { continue };
            if !self.placer.settle(&under_way.copies) {
                let (cells, required) = (self.placer.availability(), self.placer.enough());
                return Err(ClientError::TooFewCopies { cells, required, made: under_way.copies.done.len() });
            }
            self.done_with(index, crew);
        }
        Ok(())
    }

    /// A chunk has its copies, or as many as there can be.
    fn done_with(&mut self, index: usize, crew: &Crew) {
        let Some(UnderWay { copies, plain, chunk, holds_place }) = self.under_way.remove(&index) else { return };
        self.progress.advance(plain, chunk.bytes.len() as u64);
        self.ledger.finish(index, chunk.id, copies.done.len());
        if holds_place {
            crew.give_place();
        }
    }

    /// Writes the manifest under its name, whole and safe, and only then forgets the journal.
    fn finish(mut self, source: &Source, key: Key, size: u64, path: &Path) -> Result<PutReport, ClientError> {
        let chunks = self.ledger.ids().unwrap_or_default();
        self.report.size = size;
        self.report.chunks = chunks.len();
        self.report.fewest_copies = self.ledger.fewest_copies();
        self.report.short_chunks = self.ledger.with_fewer_than(self.options.copies);
        self.report.cells = self.placer.living();
        self.report.requests = self.http.requests();
        let manifest =
            Manifest { key, size: Some(size), copies: self.options.copies, content: source.content(), chunks };
        manifest_file::write(&manifest, path, self.options.force)?;
        if let Some(journal) = self.journal {
            journal.finish()?;
        }
        Ok(self.report)
    }
}
