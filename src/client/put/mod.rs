//! Putting a file into the colony.
//!
//! ```text
//!  Source ─▶ blocks ─▶ seal ─▶ Journal ─▶ Placer: which cells ─▶ SendWindow: how many at once ─▶ send
//!                                                                                                  │
//!           manifest ◀─ FinishedBlocks ◀─ the chunk has its copies ◀───────────────────────────────┘
//! ```
//!
//! [`upload_pipeline`] has the threads, [`session`] the loop that decides, and [`placer`] its rules.

pub(super) mod availability;
mod directory;
mod fingerprint;
mod finished_blocks;
mod journal;
pub(super) mod manifest_path;
pub(super) mod options;
pub(super) mod placer;
mod resume;
mod send_window;
mod session;
pub(super) mod source;
mod upload_pipeline;

use std::path::Path;

use crate::client::discover::find_cells::find_cells;
use crate::client::error::ClientError;
use crate::client::notice::Notice;
use crate::client::progress::{Progress, StopSignal};
use crate::client::put::fingerprint::Fingerprint;
use crate::client::put::journal::{Journal, journal_path};
use crate::client::put::options::{PutOptions, PutReport};
use crate::client::put::placer::Placer;
use crate::client::put::send_window::senders;
use crate::client::put::session::PutSession;
use crate::client::put::source::Source;
use crate::net::client::{Http, Timeouts};
use crate::pipeline::Key;

/// Stores `source` in the colony and writes its manifest.
pub fn put(
    source: &Source,
    manifest: &Path,
    options: &PutOptions,
    progress: &dyn Progress,
    stop: &StopSignal,
) -> Result<PutReport, ClientError> {
    manifest_path::check(source, manifest, options.force)?;
    let fingerprint = source.fingerprint()?;
    let is_file = matches!(source, Source::File(_));
    progress.total(fingerprint.as_ref().filter(|_| is_file).map(|fingerprint| fingerprint.size));

    let senders = senders(options.copies);
    let http = Http::new(Timeouts::STORE, senders, 4 * senders);
    let cells = find_cells(&http, &options.scope, options.copies.into())?;
    if cells.is_empty() {
        return Err(ClientError::none_responding(&options.scope, 0));
    }
    let placer = Placer::new(cells, options.copies, options.min_copies, fastrand::u64(..));
    check_availability(&placer, options, progress)?;

    let mut session = PutSession::new(http, placer, options, progress);
    let key = open_journal(&mut session, fingerprint.as_ref(), manifest, options.force)?;
    let has_journal = session.has_journal();
    let size = session
        .run(source, &key, stop)
        .map_err(|error| if has_journal { resumable(error, manifest) } else { error })?;
    if size == 0 && fingerprint.is_none() && !options.allow_empty {
        return Err(ClientError::EmptyPipe { path: source.path().to_owned() });
    }
    let is_resized = |fingerprint: &Fingerprint| is_file && fingerprint.size != size;
    if source.fingerprint()? != fingerprint || fingerprint.as_ref().is_some_and(is_resized) {
        return Err(ClientError::SourceChanged { path: source.path().to_owned() });
    }
    session.finish(source, key, size, manifest)
}

/// Fails if too few cells accept chunks, and warns if there are fewer than copies wanted.
fn check_availability(placer: &Placer, options: &PutOptions, progress: &dyn Progress) -> Result<(), ClientError> {
    let (accepting, required) = (placer.accepting(), placer.required());
    if accepting < required {
        return Err(ClientError::TooFewCells { cells: placer.availability(), required });
    }
    if accepting < usize::from(options.copies) {
        progress.notice(&Notice::FewerCopies { accepting, wanted: options.copies });
    }
    Ok(())
}

/// Opens the journal, if the source can be read twice, and resumes the put that it is of. Returns the key for the
/// chunks.
fn open_journal(
    session: &mut PutSession<'_>,
    fingerprint: Option<&Fingerprint>,
    manifest: &Path,
    force: bool,
) -> Result<Key, ClientError> {
    let check_overwrite = |key| manifest_path::check_overwrite(manifest, force, key);
    let Some(fingerprint) = fingerprint else {
        check_overwrite(None)?;
        return Ok(Key::generate());
    };
    let (mut journal, interrupted) = Journal::open(manifest, fingerprint)?;
    let key = match interrupted {
        Some(interrupted) if check_overwrite(Some(&interrupted.key)).is_ok() => {
            session.resume(&interrupted);
            journal.resume()?;
            interrupted.key
        }
        _ => {
            // If this fails, the journal stays as it is, for the put that it is of.
            check_overwrite(None)?;
            let key = Key::generate();
            journal.start(&key, fingerprint)?;
            key
        }
    };
    session.use_journal(journal);
    Ok(key)
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
