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
use crate::client::get::file_output::Kept;
use crate::client::get::omission::{OmissionSink, RestoreOmission};
use crate::client::get::part::Part;
use crate::client::get::partial::Header;
use crate::client::get::restore_options::RestoreOptions;
use crate::client::get::tree::metadata::MetadataSetter;
use crate::client::get::tree::restorer::{RestoreError, Restorer};
use crate::client::get::tree::staging::Staging;
use crate::client::get::tree::state::State;
use crate::pipeline::{Key, Manifest, ManifestHash};

/// Blocks that wait for the thread.
const QUEUED_BLOCKS: usize = 2;

/// What the thread returns: the entry of the root, and what sets its metadata.
type Restored = Result<(Option<Entry>, MetadataSetter, OmissionSink), RestoreError>;

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
    blocks: Option<SyncSender<Vec<u8>>>,
    thread: Option<JoinHandle<Restored>>,
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
        let (restorer, blocks, omissions, kept) = match start().map_err(error)? {
            Ok(begun) => begun,
            // The interrupted one cannot be continued.
            Err(cause) => {
                log::debug!("what is at {} cannot be continued: {cause}", path.display());
                State::clear(&folder).map_err(error)?;
                start().map_err(error)?.map_err(error)?
            }
        };
        let thread = thread::spawn(move || restorer.run());
        Ok(Self {
            path: path.to_owned(),
            kept,
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
        let (root, setter, sink) = self.join()?;
        let Some(staging) = &self.staging else { return Ok(FinishedTree::default()) };
        let is_inside = staging.is_inside();
        if !is_inside {
            self.set_root_metadata(staging.directory(), root.as_ref(), &setter, &sink)?;
        }
        sync_all(staging.directory()).map_err(|error| self.error(error))?;
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

    fn join(&mut self) -> Result<(Option<Entry>, MetadataSetter, OmissionSink), ClientError> {
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
type Begun = (Restorer, SyncSender<Vec<u8>>, Receiver<RestoreOmission>, Kept);

/// Begins a restore, or continues an interrupted one. The inner error says why that cannot be continued.
fn begin(
    staging: &mut Staging,
    key: &Key,
    options: RestoreOptions,
    is_resumable: bool,
) -> io::Result<io::Result<Begun>> {
    let is_kept = Arc::clone(staging.is_kept());
    let (state, continuation) = State::open(staging.folder(), staging.directory(), key, is_kept, is_resumable)?;
    let (blocks, receiver) = sync_channel(QUEUED_BLOCKS);
    let (sender, omissions) = channel();
    let (setter, sink) = (MetadataSetter::new(options), OmissionSink::new(sender));
    let Some(continuation) = continuation else {
        staging.empty()?;
        let root = staging.directory().try_clone()?;
        let restorer = Restorer::new(receiver, root, setter, sink, state);
        return Ok(Ok((restorer, blocks, omissions, Kept::default())));
    };
    let kept = Kept { blocks: continuation.checkpoint.block, bytes: continuation.checkpoint.block_start };
    let root = staging.directory().try_clone()?;
    let resumed = Restorer::resume(receiver, root, setter, sink, state, continuation);
    Ok(resumed.map(|restorer| (restorer, blocks, omissions, kept)))
}

/// Makes everything below the directory durable.
#[cfg(target_os = "linux")]
fn sync_all(directory: &File) -> io::Result<()> {
    // One call for all files, whatever their modes are.
    Ok(rustix::fs::syncfs(directory)?)
}

/// Makes everything below the directory durable.
#[cfg(not(target_os = "linux"))]
fn sync_all(_: &File) -> io::Result<()> {
    rustix::fs::sync();
    Ok(())
}
