//! The output of a get that restores a directory: it hands blocks to the thread that unpacks them.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};

use crate::archive::Entry;
use crate::client::error::{ClientError, FileAction};
use crate::client::get::omission::{OmissionSink, RestoreOmission};
use crate::client::get::restore_options::RestoreOptions;
use crate::client::get::tree::metadata::MetadataSetter;
use crate::client::get::tree::restorer::{RestoreError, Restorer};
use crate::client::get::tree::staging::Staging;
use crate::client::get::tree::stream::BlockStream;

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

/// A directory in progress. If it is dropped before it is finished, nothing of it is left.
pub(in crate::client) struct TreeOutput {
    path: PathBuf,
    blocks: Option<SyncSender<Vec<u8>>>,
    thread: Option<JoinHandle<Restored>>,
    omissions: Receiver<RestoreOmission>,
    // Dropped last, after the thread has ended.
    staging: Option<Staging>,
}

impl TreeOutput {
    /// Starts a restore. What would make it fail at the end is checked now.
    pub(in crate::client) fn open(path: &Path, options: RestoreOptions) -> Result<Self, ClientError> {
        let staging = Staging::create(path)?;
        let root = staging.directory().try_clone().map_err(ClientError::file(FileAction::Unpack, path))?;
        let (blocks, receiver) = sync_channel(QUEUED_BLOCKS);
        let (sender, omissions) = channel();
        let restorer =
            Restorer::new(BlockStream::new(receiver), root, MetadataSetter::new(options), OmissionSink::new(sender));
        let thread = thread::spawn(move || restorer.run());
        Ok(Self {
            path: path.to_owned(),
            blocks: Some(blocks),
            thread: Some(thread),
            omissions,
            staging: Some(staging),
        })
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
        let (root, setter, sink) = self.join()?;
        let Some(staging) = self.staging.take() else { return Ok(FinishedTree::default()) };
        let is_inside = staging.is_inside();
        if !is_inside {
            self.set_root_metadata(staging.directory(), root.as_ref(), &setter, &sink)?;
        }
        sync_all(staging.directory()).map_err(|error| self.error(error))?;
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
