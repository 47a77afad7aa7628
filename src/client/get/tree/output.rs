//! The output of a get that restores a directory: it hands blocks to the thread that unpacks them.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};

use crate::archive::Entry;
use crate::client::error::{ClientError, Damage, FileAction};
use crate::client::get::GetOptions;
use crate::client::get::difference::{Difference, Unfinished};
use crate::client::get::file_output::Kept;
use crate::client::get::omission::{OmissionSink, RestoreOmission};
use crate::client::get::part::Part;
use crate::client::get::partial::Header;
use crate::client::get::restore_options::RestoreOptions;
use crate::client::get::tree::continuation::Place;
use crate::client::get::tree::metadata::MetadataSetter;
use crate::client::get::tree::restorer::{RestoreError, Restored, Restorer};
use crate::client::get::tree::staging::Staging;
use crate::client::get::tree::state::{OpenState, State, save_synced, sync_file_system};
use crate::client::notice::Notice;
use crate::client::usage_error::UsageError;
use crate::pipeline::{Key, Manifest, ManifestHash};

/// Blocks that wait for the thread.
const QUEUED_BLOCKS: usize = 2;

/// What there is to say of a directory that is restored.
#[derive(Debug, Default)]
pub(in crate::client) struct FinishedTree {
    /// The last omissions.
    pub(in crate::client) omissions: Vec<RestoreOmission>,
    /// Entries with extended attributes or access control lists that were not to be restored.
    pub(in crate::client) without_attributes: usize,
}

/// A directory in progress. If it is dropped before it is finished, it is kept up to its last checkpoint. If it has none,
/// nothing of it is left.
pub(in crate::client) struct TreeOutput {
    path: PathBuf,
    kept: Kept,
    /// What to report of what an interrupted get left.
    anew: Option<Notice>,
    blocks: Option<SyncSender<Vec<u8>>>,
    thread: Option<JoinHandle<Result<Restored, RestoreError>>>,
    omissions: Receiver<RestoreOmission>,
    // Dropped last, after the thread has ended.
    staging: Option<Staging>,
}

impl TreeOutput {
    /// Starts a restore, or continues the one that an interrupted get left. What would make it fail at the end is checked
    /// now.
    pub(in crate::client) fn open(path: &Path, manifest: &Manifest, options: &GetOptions) -> Result<Self, ClientError> {
        let hash = ManifestHash::of(&manifest.chunks, &manifest.key);
        // A salvage restores another stream: it must not take the place of what an interrupted get left.
        let salvage = options.salvage.then(|| "salvage".to_owned());
        let what = [salvage, options.part.label(), Some(options.restore.to_text())];
        let what = what.into_iter().flatten().collect::<Vec<_>>();
        let mut staging = Staging::open(path, &Header::new(hash, Some(what.join(", "))), options.force)?;
        // Any other stream is made as it is restored, and depends on what the cells have.
        let is_resumable = options.part == Part::Whole && !options.salvage;
        let folder = staging.folder().to_owned();
        let mut start = || begin(&mut staging, &manifest.key, options.restore, is_resumable);
        let error = |error| ClientError::file(FileAction::Unpack, path)(error);
        let (begun, mut difference) = start().map_err(error)?;
        let Begun { restorer, blocks, omissions, kept } = match begun {
            Begin::Restore(begun) => *begun,
            Begin::Blocked => {
                let (path, unfinished) = (path.to_owned(), Unfinished { folder, difference });
                return Err(UsageError::OutputDirectoryNotEmpty { path, unfinished: Some(Box::new(unfinished)) }.into());
            }
            Begin::Failed(cause) => {
                State::clear(&folder).map_err(error)?;
                let reason = cause.to_string();
                difference = Some(Difference::Unreadable { path: Vec::new(), reason });
                match start().map_err(error)?.0 {
                    Begin::Restore(begun) => *begun,
                    Begin::Blocked | Begin::Failed(_) => return Err(error(cause)),
                }
            }
        };
        let anew = difference.map(|difference| Notice::RestoreBegunAnew { folder, difference });
        let thread = thread::spawn(move || restorer.run());
        Ok(Self {
            path: path.to_owned(),
            kept,
            anew,
            blocks: Some(blocks),
            thread: Some(thread),
            omissions,
            staging: Some(staging),
        })
    }

    /// What an interrupted get left that is used again.
    pub(in crate::client) fn kept(&self) -> Kept {
        self.kept
    }

    /// What there is to report of what an interrupted get left, once.
    pub(in crate::client) fn take_notice(&mut self) -> Option<Notice> {
        self.anew.take()
    }

    /// Ends a get that failed. Returns the error, which says where the directory is if it can be continued.
    pub(in crate::client) fn fail(mut self, cause: ClientError) -> ClientError {
        // The last checkpoint is made by then.
        drop(self.blocks.take());
        drop(self.thread.take().map(JoinHandle::join));
        // Another get of a manifest that does not fit its chunks fails in the same way.
        let is_final = matches!(
            &cause,
            ClientError::Corrupt {
                damage: Damage::Unopenable(_) | Damage::ShortBlock { .. } | Damage::WrongSize { .. },
                ..
            }
        );
        match &self.staging {
            Some(staging) if is_final => staging.is_kept().store(false, Ordering::SeqCst),
            Some(staging) if staging.is_kept().load(Ordering::SeqCst) => {
                return ClientError::Resumable { cause: Box::new(cause), kept: staging.folder().to_owned() };
            }
            _ => {}
        }
        cause
    }

    /// Unpacks the next bytes of the stream.
    pub(in crate::client) fn write(&mut self, block: Vec<u8>) -> Result<(), ClientError> {
        if self.blocks.as_ref().is_some_and(|blocks| blocks.send(block).is_ok()) {
            return Ok(());
        }
        // The thread ended early. Its error is the reason.
        match self.join() {
            Err(error) => Err(error),
            Ok(_) => Err(self.error(io::Error::other("internal error: the unpacking thread ended early"))),
        }
    }

    /// Omissions since the last call.
    pub(in crate::client) fn omissions(&self) -> impl Iterator<Item = RestoreOmission> {
        self.omissions.try_iter()
    }

    /// Makes the directory durable and gives it its name.
    pub(in crate::client) fn finish(mut self) -> Result<FinishedTree, ClientError> {
        match self.complete() {
            Ok(finished) => Ok(finished),
            Err(error @ ClientError::RestoredElsewhere { .. }) => Err(error),
            Err(error) => Err(self.fail(error)),
        }
    }

    fn complete(&mut self) -> Result<FinishedTree, ClientError> {
        let Restored { root, setter, sink, checkpoint } = self.join()?;
        let Some(staging) = &self.staging else { return Ok(FinishedTree::default()) };
        let is_inside = staging.is_inside();
        if !is_inside {
            self.set_root_metadata(staging.directory(), root.as_ref(), &setter, &sink)?;
        }
        match checkpoint {
            // While the entries are moved one by one, a get that continues must know that they are complete.
            Some(checkpoint) if is_inside => staging.save_complete(|folder| save_synced(folder, &checkpoint)),
            _ => sync_file_system(staging.directory()),
        }
        .map_err(|error| self.error(error))?;
        let Some(staging) = self.staging.take() else { return Ok(FinishedTree::default()) };
        let directory = staging.publish()?;
        if is_inside {
            self.set_root_metadata(&directory, root.as_ref(), &setter, &sink)?;
            directory.sync_all().map_err(|error| self.error(error))?;
        }
        let omissions = self.omissions.try_iter().collect();
        Ok(FinishedTree { omissions, without_attributes: setter.without_attributes() })
    }

    fn set_root_metadata(
        &self,
        directory: &File,
        root: Option<&Entry>,
        setter: &MetadataSetter,
        sink: &OmissionSink,
    ) -> Result<(), ClientError> {
        if let Some(root) = root {
            sink.all(&root.path, setter.set(directory, root).map_err(|error| self.error(error))?);
        }
        Ok(())
    }

    fn join(&mut self) -> Result<Restored, ClientError> {
        drop(self.blocks.take());
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result.map_err(|error| self.error(error.into())),
            Some(Err(_)) | None => Err(self.error(io::Error::other("internal error: the unpacking thread panicked"))),
        }
    }

    fn error(&self, error: io::Error) -> ClientError {
        ClientError::file(FileAction::Unpack, &self.path)(error)
    }
}

impl Drop for TreeOutput {
    fn drop(&mut self) {
        // The directory is removed after its last writer has ended.
        drop(self.blocks.take());
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// A restore that is about to run: where its blocks go, where its omissions come from, and what it keeps.
struct Begun {
    restorer: Restorer,
    blocks: SyncSender<Vec<u8>>,
    omissions: Receiver<RestoreOmission>,
    kept: Kept,
}

/// How a restore begins.
enum Begin {
    Restore(Box<Begun>),
    /// The target has entries that an interrupted get moved to it, and that get cannot be continued.
    Blocked,
    /// The interrupted get cannot be continued.
    Failed(io::Error),
}

/// Begins a restore, or continues an interrupted one. Returns with it why that cannot be continued.
fn begin(
    staging: &mut Staging,
    key: &Key,
    options: RestoreOptions,
    is_resumable: bool,
) -> io::Result<(Begin, Option<Difference>)> {
    let is_kept = Arc::clone(staging.is_kept());
    let place = Place { folder: staging.folder(), tree: staging.directory(), target: staging.occupied_target() };
    let OpenState { state, continuation, difference } = State::open(place, key, is_kept, is_resumable)?;
    let (blocks, receiver) = sync_channel(QUEUED_BLOCKS);
    let (sender, omissions) = channel();
    let (setter, sink) = (MetadataSetter::new(options), OmissionSink::new(sender));
    let Some(continuation) = continuation else {
        if staging.occupied_target().is_some() {
            staging.is_kept().store(true, Ordering::SeqCst);
            return Ok((Begin::Blocked, difference));
        }
        staging.empty()?;
        let root = staging.directory().try_clone()?;
        let restorer = Restorer::new(receiver, root, setter, sink, state);
        let begun = Begun { restorer, blocks, omissions, kept: Kept::default() };
        return Ok((Begin::Restore(Box::new(begun)), difference));
    };
    let kept = Kept { blocks: continuation.checkpoint.block, bytes: continuation.checkpoint.block_start };
    let begin = match Restorer::resume(receiver, setter, sink, state, continuation) {
        Ok(restorer) => Begin::Restore(Box::new(Begun { restorer, blocks, omissions, kept })),
        Err(error) => Begin::Failed(error),
    };
    Ok((begin, difference))
}
