//! Putting a file into the colony.
//!
//! ```text
//!  Input ─▶ blocks ─▶ seal ─▶ Journal ─▶ Placer: which cells ─▶ SendWindow: how many at once ─▶ send
//!                                                                                                  │
//!           manifest ◀─ FinishedBlocks ◀─ the chunk has its copies ◀───────────────────────────────┘
//! ```
//!
//! [`input`] reads a file, a directory ([`tree`]) or standard input. [`upload_pipeline`] has the threads, [`session`] the
//! loop that decides, and [`placer`] its rules. What cannot be stored as it is becomes an [`omission`], and the put goes
//! on. A put that was interrupted leaves a [`journal`]; the chunks that it names are [`reusable_chunks`].

mod attributes;
pub(super) mod availability;
mod block_writer;
mod fingerprint;
mod finished_blocks;
mod input;
mod journal;
pub(super) mod manifest_path;
pub(super) mod omission;
pub(super) mod options;
pub(super) mod placer;
mod position;
mod resume;
mod reusable_chunks;
mod room;
mod send_window;
mod session;
mod single_file;
pub(super) mod source;
pub(super) mod tree;
mod upload_pipeline;

use std::path::Path;

use crate::client::discover::find_cells::find_cells;
use crate::client::error::ClientError;
use crate::client::notice::Notice;
use crate::client::progress::{Progress, StopSignal};
use crate::client::put::input::Input;
use crate::client::put::journal::{Journal, JournalSource, journal_path};
use crate::client::put::omission::Omissions;
use crate::client::put::options::{PutOptions, PutReport};
use crate::client::put::placer::Placer;
use crate::client::put::room::Room;
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
    let input = Input::new(source, options)?;
    let (size, omissions) = plan(&input, options, progress, stop)?;

    let senders = senders(options.copies);
    let http = Http::new(Timeouts::STORE, senders, 4 * senders);
    let cells = find_cells(&http, &options.scope, options.copies.into())?;
    if cells.is_empty() {
        return Err(ClientError::none_responding(&options.scope, 0));
    }
    let placer = Placer::new(cells, options.copies, options.required_copies(), fastrand::u64(..));
    check_availability(&placer)?;
    if !journal_path(manifest).exists() {
        // Before there is a journal.
        check_room(&placer, size, options)?;
    }

    let mut session = PutSession::new(http, placer, options, input.chunk_keys(), progress, omissions);
    let key = open_journal(&mut session, input.journal_source(), manifest, options.force)?;
    let has_journal = session.has_journal();
    // What an interrupted put has stored needs no room.
    let left = size.map(|size| size.saturating_sub(session.stored_bytes()));
    let checked = check_room(session.placer(), left, options);
    checked.map_err(|error| if session.stored_bytes() > 0 { resumable(error, manifest) } else { error })?;
    report_scarcity(session.placer(), left, options, progress);
    let size = session
        .run(&input, &key, stop)
        .map_err(|error| if has_journal { resumable(error, manifest) } else { error })?;
    if size == 0 && input.journal_source().is_none() && !options.allow_empty {
        return Err(ClientError::EmptyPipe { path: source.path().to_owned() });
    }
    session.finish(&input, key, size, manifest)
}

/// Finds out how many bytes there are to store, and what cannot be stored, before the first byte is sent.
fn plan(
    input: &Input,
    options: &PutOptions,
    progress: &dyn Progress,
    stop: &StopSignal,
) -> Result<(Option<u64>, Omissions), ClientError> {
    let mut omissions = Omissions { of_file: input.is_file(), ..Omissions::default() };
    // The error has all there is to say about a single file.
    let has_notices = !(options.strict && omissions.of_file);
    let size = input.plan(stop, &mut |omission| {
        if has_notices {
            progress.notice(&Notice::Omitted { omission: omission.clone() });
        }
        omissions.add(omission);
    })?;
    progress.total(size);
    if options.strict && omissions.count > 0 {
        return Err(ClientError::strict(&omissions));
    }
    Ok((size, omissions))
}

/// Fails if too few cells accept chunks.
fn check_availability(placer: &Placer) -> Result<(), ClientError> {
    let required = placer.required();
    if placer.accepting() < required {
        return Err(ClientError::TooFewCells { cells: placer.availability(), required });
    }
    Ok(())
}

/// Fails if the cells have too little room for `size` bytes. A put that fails in the middle would leave them full.
fn check_room(placer: &Placer, size: Option<u64>, options: &PutOptions) -> Result<(), ClientError> {
    let Some(size) = size.filter(|_| !options.skip_room_check) else { return Ok(()) };
    let (room, required) = (Room::new(size, placer.free_bytes()), placer.required());
    if room.fits(required) {
        return Ok(());
    }
    Err(ClientError::TooLittleRoom {
        required,
        needed_bytes: room.needed_bytes(required),
        room_bytes: room.bytes(),
        fits: room.copies(required),
        full: placer.full_cells(),
    })
}

/// Warns if chunks get fewer copies than wanted, or may get fewer.
fn report_scarcity(placer: &Placer, size: Option<u64>, options: &PutOptions, progress: &dyn Progress) {
    let (accepting, wanted) = (placer.accepting(), usize::from(options.copies));
    let room = size.map_or(wanted, |size| Room::new(size, placer.free_bytes()).copies(wanted));
    if let Some(notice) = scarcity(accepting, room, options.copies) {
        progress.notice(&notice);
    }
}

/// The warning for cells of which this many accept chunks, with room for this many copies of each.
fn scarcity(accepting: usize, room: usize, wanted: u8) -> Option<Notice> {
    if accepting < usize::from(wanted) {
        Some(Notice::FewerCopies { accepting, room: room.min(accepting), wanted })
    } else if room < usize::from(wanted) {
        Some(Notice::ScarceRoom { copies: room, wanted })
    } else {
        None
    }
}

/// Opens the journal, if the source can be read twice, and resumes the put that it is of. Returns the key for the
/// chunks.
fn open_journal(
    session: &mut PutSession<'_>,
    source: Option<JournalSource>,
    manifest: &Path,
    force: bool,
) -> Result<Key, ClientError> {
    let check_overwrite = |key| manifest_path::check_overwrite(manifest, force, key);
    let Some(source) = source else {
        check_overwrite(None)?;
        return Ok(Key::generate());
    };
    let (mut journal, interrupted) = Journal::open(manifest, &source)?;
    let key = match interrupted {
        // The manifest of a file before it changed is not a former state of this one.
        Some(interrupted) if check_overwrite(Some(&interrupted.key).filter(|_| !interrupted.has_changed)).is_ok() => {
            session.resume(&interrupted);
            journal.resume(interrupted.has_changed.then_some(&source))?;
            interrupted.key
        }
        _ => {
            // If this fails, the journal stays as it is, for the put that it is of.
            check_overwrite(None)?;
            let key = Key::generate();
            journal.start(&key, &source)?;
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
        | ClientError::Omissions { .. }
        | ClientError::TooFewCells { .. }
        | ClientError::TooFewCopies { .. }
        | ClientError::TooLittleRoom { .. }
        | ClientError::NoCells { .. } => {
            ClientError::Resumable { cause: Box::new(cause), kept: journal_path(manifest) }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_says_whether_cells_or_room_are_scarce() {
        let text = |accepting, room| scarcity(accepting, room, 5).map(|notice| notice.to_string());
        assert_eq!(text(5, 5), None);
        assert!(text(3, 5).is_some_and(|text| text.contains("each chunk gets 3 copies instead of 5")));
        let both = text(3, 2).unwrap();
        assert!(both.contains("at most 3 copies") && both.contains("room for 2 copies of each"), "{both}");
        assert!(text(6, 2).is_some_and(|text| text.contains("room for 2 copies of each chunk instead of 5")));
    }
}
