//! Putting a file into the colony.
//!
//! One thread, the caller's, decides: it takes what the crew tells, asks the placer what is next for each chunk, and keeps
//! the journal. A chunk is done with when it has its copies; the manifest is written when all are.

// A shell: it looks at the clock so as not to look for lost cells too often.
#![allow(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use super::journal::{Earlier, Journal, journal_path};
use super::placer::{Copies, Failure, Next, Placer};
use super::upload::{Crew, Event, Job, Work};
use super::{ClientError, KnownCell, Place, Progress, Source, Stop, locate};
use crate::chunk::{BLOCK_BYTES, ChunkId};
use crate::net::client::{CallError, Http, Patience, PutHints};
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
    pub place: Place,
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
const MAX_LOOKS: u32 = 3;
const LOOK_PAUSE: Duration = Duration::from_secs(2);
/// Copies are sent by so many threads for each copy that is wanted, up to a limit.
const SENDERS_PER_COPY: usize = 4;
const MAX_SENDERS: usize = 32;
/// Chunks of an earlier run that are completed at the same time; each is in memory.
const MAX_EARLIER_UNDER_WAY: usize = 4;

fn senders(copies: u8) -> usize {
    (usize::from(copies) * SENDERS_PER_COPY).min(MAX_SENDERS)
}

/// Puts `source` into the colony and writes its manifest.
pub fn put(
    source: &Source,
    manifest: &Path,
    options: &PutOptions,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<PutReport, ClientError> {
    check_manifest_can_be_written(source, manifest, options)?;
    let fingerprint = source.fingerprint()?;
    progress.total(fingerprint.as_ref().filter(|_| matches!(source, Source::File(_))).map(|print| print.size));

    let senders = senders(options.copies);
    let http = Http::new(Patience::CHUNKS, senders, 4 * senders);
    let cells = find(&http, &options.place)?;
    let placer = Placer::new(cells, options.copies, options.min_copies, fastrand::u64(..));
    warn_of_few(&placer, options, progress)?;

    let mut put =
        Put { http, options, progress, placer, journal: None, chunks: BTreeMap::new(), report: PutReport::default() };
    let mut key = Key::generate();
    if let Some(fingerprint) = &fingerprint {
        let (mut journal, earlier) = Journal::open(manifest, fingerprint)?;
        if let Some(earlier) = earlier {
            key = earlier.key.clone();
            put.resume(earlier);
        } else if manifest.exists() && !options.force {
            journal.finish()?;
            return Err(exists(manifest));
        }
        let ids = put.chunks.iter().map(|(&index, chunk)| (index, chunk.id)).collect();
        journal.begin(&key, fingerprint, &ids)?;
        put.journal = Some(journal);
    }
    let size = put.run(source, &key, stop).map_err(|error| how_to_go_on(error, manifest, put.journal.is_some()))?;
    if source.fingerprint()? != fingerprint
        || fingerprint.is_some_and(|print| source_is_file(source) && print.size != size)
    {
        return Err(ClientError::SourceChanged { path: source.path().to_owned() });
    }
    put.finish(source, key, size, manifest)
}

fn source_is_file(source: &Source) -> bool {
    matches!(source, Source::File(_))
}

fn exists(manifest: &Path) -> ClientError {
    ClientError::Usage(format!(
        "{} exists, and with it the key of an earlier upload; use --force to write over it, or -o FILE for another name",
        manifest.display()
    ))
}

/// Found out before hours of work, not after.
fn check_manifest_can_be_written(source: &Source, manifest: &Path, options: &PutOptions) -> Result<(), ClientError> {
    let resumes = journal_path(manifest).exists() && *source != Source::StandardInput;
    if manifest.exists() && !options.force && !resumes {
        return Err(exists(manifest));
    }
    if let Source::Directory(root) = source {
        let (root, folder) = (root.canonicalize(), super::output::folder_of(manifest).canonicalize());
        if let (Ok(root), Ok(folder)) = (root, folder)
            && folder.starts_with(&root)
        {
            let what = format!(
                "{} would be inside the directory that is stored; choose a place outside with -o",
                manifest.display()
            );
            return Err(ClientError::Usage(what));
        }
    }
    temporary(manifest).map(drop)
}

fn temporary(manifest: &Path) -> Result<tempfile::NamedTempFile, ClientError> {
    // Made private by the library: nobody else reads the key.
    let made = tempfile::Builder::new().prefix(".cellsync-").tempfile_in(super::output::folder_of(manifest));
    made.map_err(ClientError::file("cannot write", manifest))
}

fn find(http: &Http, place: &Place) -> Result<Vec<KnownCell>, ClientError> {
    let cells =
        locate(http, place).map_err(|source| ClientError::File { doing: "cannot look for cells".into(), source })?;
    if cells.is_empty() { Err(super::no_cells(place)) } else { Ok(cells) }
}

fn warn_of_few(placer: &Placer, options: &PutOptions, progress: &dyn Progress) -> Result<(), ClientError> {
    let (willing, enough) = (placer.willing(), placer.enough());
    if willing < enough {
        let hint = if options.min_copies.is_none() && willing > 0 {
            format!("add cells, make room, or accept fewer copies with --min-copies {willing}")
        } else {
            "add cells or make room".to_owned()
        };
        let what =
            format!("{willing} cells take chunks and {enough} copies are wanted ({}); {hint}", placer.complaints());
        return Err(ClientError::TooFew(what));
    }
    if willing < usize::from(options.copies) {
        progress.notice(&format!(
            "only {willing} cells take chunks: each chunk gets {willing} copies instead of {}; the colony makes the others when cells join",
            options.copies
        ));
    }
    Ok(())
}

fn how_to_go_on(error: ClientError, manifest: &Path, has_journal: bool) -> ClientError {
    if !has_journal {
        return error;
    }
    let how = format!("{} keeps what is done; run the same command again to go on", journal_path(manifest).display());
    match error {
        ClientError::Stopped(what) => ClientError::Stopped(format!("{what}; {how}")),
        ClientError::TooFew(what) => ClientError::TooFew(format!("{what}; {how}")),
        ClientError::NoCells(what) => ClientError::NoCells(format!("{what}; {how}")),
        other => other,
    }
}

/// One block's way.
struct Chunk {
    id: ChunkId,
    copies: Copies,
    /// The user's bytes in it.
    plain: u64,
    /// The bytes, until it has its copies; then `None`.
    bytes: Option<Arc<SealedChunk>>,
    /// Was it sealed by the crew, and so takes one of its places?
    holds_place: bool,
}

struct Put<'a> {
    http: Http,
    options: &'a PutOptions,
    progress: &'a dyn Progress,
    placer: Placer,
    journal: Option<Journal>,
    chunks: BTreeMap<usize, Chunk>,
    report: PutReport,
}

impl Put<'_> {
    /// Asks the colony what is there of an earlier put. Chunks with copies are gone on with under their ids; those without
    /// any are forgotten, and made anew.
    fn resume(&mut self, earlier: Earlier) {
        let ids: Vec<ChunkId> = earlier.ids.values().copied().collect();
        let mut holders: BTreeMap<ChunkId, Vec<usize>> = BTreeMap::new();
        let cells: Vec<KnownCell> = (0..).map_while(|number| self.placer.cell(number).cloned()).collect();
        for (number, have) in super::have::ask_all(&self.http, &cells, &ids).into_iter().enumerate() {
            for id in have.into_iter().flat_map(|answer| answer.ids) {
                holders.entry(id).or_default().push(number);
            }
        }
        for (index, id) in earlier.ids {
            let Some(done) = holders.remove(&id) else { continue };
            let copies = Copies::held_by(done);
            self.chunks.insert(index, Chunk { id, copies, plain: 0, bytes: None, holds_place: false });
        }
        self.report.resumed_chunks = self.chunks.len();
        if !self.chunks.is_empty() {
            self.progress.notice(&format!("going on: {} chunks are in the colony already", self.chunks.len()));
        }
    }

    /// Does the work, in as many passes as it takes: chunks of an earlier run that turn out to be unreadable are made anew
    /// in the next one. Returns the size of the source.
    fn run(&mut self, source: &Source, key: &Key, stop: &Stop) -> Result<u64, ClientError> {
        self.progress.advance(self.chunks.len() as u64 * BLOCK_BYTES as u64, 0);
        loop {
            let work = Work {
                source: source.clone(),
                skip: self.chunks.keys().copied().collect(),
                key: key.clone(),
                level: self.options.level,
                sealers: self.options.jobs.max(1),
                senders: senders(self.options.copies),
            };
            let (blocks, bytes) = self.pass(&Crew::start(work, &self.http), stop)?;
            if self.chunks.len() == blocks {
                return Ok(bytes);
            }
        }
    }

    /// Reads the source to its end once. Returns how many blocks and bytes it has.
    fn pass(&mut self, crew: &Crew, stop: &Stop) -> Result<(usize, u64), ClientError> {
        let mut earlier: VecDeque<usize> = self.chunks.keys().copied().collect();
        let mut to_remake = 0;
        let mut end = None;
        let mut stuck = BTreeSet::new();
        let mut looks = 0;
        loop {
            if stop.is_asked() {
                return Err(ClientError::Stopped("stopped".into()));
            }
            let under_way = self.chunks.values().filter(|chunk| chunk.bytes.is_some()).count();
            if let Some(index) = earlier.front().copied().filter(|_| under_way < MAX_EARLIER_UNDER_WAY) {
                earlier.pop_front();
                to_remake += usize::from(!self.complete_earlier(index, crew, &mut stuck));
                continue;
            }
            if !stuck.is_empty() {
                self.look_again(&mut looks)?;
                for index in std::mem::take(&mut stuck) {
                    self.go_on(index, crew, &mut stuck);
                }
                continue;
            }
            if let Some((blocks, bytes)) =
                end.filter(|&(blocks, _)| under_way == 0 && self.chunks.len() + to_remake >= blocks)
            {
                return Ok((blocks, bytes));
            }
            match crew.events.recv_timeout(STOP_LOOK) {
                Ok(Event::Sealed { index, plain, chunk }) => {
                    if let Some(journal) = &mut self.journal {
                        journal.note(index, chunk.id)?;
                    }
                    self.report.sealed_bytes += chunk.bytes.len() as u64;
                    let (id, copies) = (chunk.id, Copies::default());
                    self.chunks.insert(index, Chunk { id, copies, plain, bytes: Some(chunk), holds_place: true });
                    self.go_on(index, crew, &mut stuck);
                }
                Ok(Event::Sent { index, cell, result }) => {
                    looks = if result.is_ok() { 0 } else { looks };
                    self.sent(index, cell, result);
                    self.go_on(index, crew, &mut stuck);
                }
                Ok(Event::SourceEnded { blocks, bytes }) => end = Some((blocks, bytes)),
                Ok(Event::Failed(error)) => return Err(error),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(ClientError::Stopped("a worker ended by itself".into()));
                }
            }
        }
    }

    /// A chunk of an earlier run that lacks copies gets them from one that is there. False if none of those can be read: the
    /// chunk is forgotten then.
    fn complete_earlier(&mut self, index: usize, crew: &Crew, stuck: &mut BTreeSet<usize>) -> bool {
        let Some(chunk) = self.chunks.get_mut(&index) else { return true };
        if chunk.copies.done.len() >= usize::from(self.options.copies).min(self.placer.willing()) {
            self.count(index);
            return true;
        }
        let id = chunk.id;
        // The first that can be read; those before it are no copies. The others are taken at the cells' word, as in every
        // answer to `have`.
        let readable = chunk.copies.done.iter().enumerate().find_map(|(at, &cell)| {
            let url = &self.placer.cell(cell)?.url;
            let bytes = self.http.get_chunk(url, &id, 0, None).ok()??;
            (ChunkId::of(&bytes) == id).then_some((at, bytes))
        });
        let Some((bad, bytes)) = readable else {
            self.chunks.remove(&index);
            return false;
        };
        chunk.copies.done.drain(..bad);
        chunk.bytes = Some(Arc::new(SealedChunk { id, bytes }));
        self.go_on(index, crew, stuck);
        true
    }

    /// Does what is next for a chunk.
    fn go_on(&mut self, index: usize, crew: &Crew, stuck: &mut BTreeSet<usize>) {
        let Some(chunk) = self.chunks.get_mut(&index) else { return };
        let Some(bytes) = &chunk.bytes else { return };
        match self.placer.next(&mut chunk.copies) {
            Next::Send(cells) => {
                let all: Vec<usize> = chunk.copies.done.iter().chain(&chunk.copies.pending).copied().collect();
                let hints = PutHints { copies: self.options.copies, holders: self.placer.names(&all) };
                for cell in cells {
                    let Some(known) = self.placer.cell(cell) else { continue };
                    let (url, bytes, hints) = (known.url.clone(), Arc::clone(bytes), hints.clone());
                    crew.send(Job { index, cell, url, id: chunk.id, bytes, hints });
                }
            }
            Next::Wait => {}
            Next::Whole | Next::Short => {
                let sealed = bytes.bytes.len() as u64;
                self.progress.advance(chunk.plain, sealed);
                chunk.bytes = None;
                if chunk.holds_place {
                    crew.give_place();
                }
                self.count(index);
            }
            Next::Stuck => {
                stuck.insert(index);
            }
        }
    }

    fn sent(&mut self, index: usize, cell: usize, result: Result<(), CallError>) {
        let Some(chunk) = self.chunks.get_mut(&index) else { return };
        match result {
            Ok(()) => {
                self.report.sent_bytes += chunk.bytes.as_ref().map_or(0, |bytes| bytes.bytes.len() as u64);
                self.report.sent_copies += 1;
                self.placer.succeeded(&mut chunk.copies, cell);
            }
            Err(error) => {
                let failure = match &error {
                    CallError::Refused { status, .. } => {
                        Failure::Refused(format!("answered {status} ({})", refusal_in_a_word(*status)))
                    }
                    CallError::Unreachable { .. } => Failure::Unreachable,
                    other => Failure::Refused(other.to_string()),
                };
                if self.placer.failed(&mut chunk.copies, cell, failure) {
                    self.progress.notice(&format!("{error}; another cell takes its place"));
                }
            }
        }
    }

    /// No cell is left for some chunk: perhaps cells came back, or others joined.
    fn look_again(&mut self, looks: &mut u32) -> Result<(), ClientError> {
        if *looks >= MAX_LOOKS {
            let enough = self.placer.enough();
            let what = format!("the colony cannot take {enough} copies: {}", self.placer.complaints());
            return Err(ClientError::TooFew(what));
        }
        let began = Instant::now();
        *looks += 1;
        let found = locate(&self.http, &self.options.place).unwrap_or_default();
        let none = found.is_empty();
        self.placer.found(found);
        for chunk in self.chunks.values_mut().filter(|chunk| chunk.bytes.is_some()) {
            Placer::forgive(&mut chunk.copies);
        }
        if none || *looks > 1 {
            std::thread::sleep(LOOK_PAUSE.saturating_sub(began.elapsed()));
        }
        Ok(())
    }

    fn count(&mut self, index: usize) {
        let Some(copies) = self.chunks.get(&index).map(|chunk| chunk.copies.done.len()) else { return };
        self.report.fewest_copies = match self.report.fewest_copies {
            0 => copies,
            fewest => fewest.min(copies),
        };
        self.report.short_chunks += usize::from(copies < usize::from(self.options.copies));
    }

    /// Writes the manifest under its name, whole and safe, and only then forgets the journal.
    fn finish(mut self, source: &Source, key: Key, size: u64, path: &Path) -> Result<PutReport, ClientError> {
        let chunks: Vec<ChunkId> = self.chunks.values().map(|chunk| chunk.id).collect();
        self.report.size = size;
        self.report.chunks = chunks.len();
        self.report.cells = self.placer.living();
        self.report.requests = self.http.requests();
        let manifest =
            Manifest { key, size: Some(size), copies: self.options.copies, content: source.content(), chunks };
        let wrong = |source| ClientError::Manifest { path: path.to_owned(), source };
        let mut file = temporary(path)?;
        manifest.write(&mut file).map_err(wrong)?;
        let synced = file.flush().and_then(|()| file.as_file().sync_all());
        synced.map_err(ClientError::file("cannot write", path))?;
        file.persist(path).map_err(|error| ClientError::file("cannot write", path)(error.error))?;
        super::output::sync_folder(path);
        if let Some(journal) = self.journal {
            journal.finish()?;
        }
        Ok(self.report)
    }
}

fn refusal_in_a_word(status: u16) -> &'static str {
    match status {
        507 => "no room",
        503 => "not now",
        422 => "bytes damaged on the way",
        429 => "too many requests",
        other => crate::wire::problem::phrase(other),
    }
}

/// The name of the manifest of this source, beside it: `photo.raw.manifest`.
pub fn default_manifest(source: &Source) -> Option<PathBuf> {
    let path = match source {
        Source::StandardInput => return None,
        Source::File(path) | Source::Directory(path) => path,
    };
    // `dir/` and `dir` are the same directory; `.` and `..` have no name of their own.
    let mut name =
        path.file_name().map(ToOwned::to_owned).or_else(|| Some(path.canonicalize().ok()?.file_name()?.to_owned()))?;
    name.push(".manifest");
    Some(path.parent().map_or_else(|| PathBuf::from(&name), |parent| parent.join(&name)))
}
