//! Faults of the disk, for tests: an operation on a path fails with an error of the test's choice.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::io::Errno;

use crate::sync::lock;

/// What the store does with its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// The fsync of a folder.
    SyncFolder,
    /// A rename, by its new name.
    Rename,
    Remove,
    /// The trial whether the disk works, by its folder.
    TryWriting,
}

/// Those of all tests, which have folders of their own.
static FAULTS: Mutex<Vec<(Operation, PathBuf, Errno)>> = Mutex::new(Vec::new());

/// An operation on a path fails until this is dropped.
pub(super) struct Fault(Operation, PathBuf);

impl Fault {
    pub(super) fn new(operation: Operation, path: &Path, errno: Errno) -> Self {
        lock(&FAULTS).push((operation, path.to_owned(), errno));
        Self(operation, path.to_owned())
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        lock(&FAULTS).retain(|(operation, path, _)| (operation, path) != (&self.0, &self.1));
    }
}

/// Fails if there is a fault for this operation.
pub(super) fn meet(operation: Operation, path: &Path) -> io::Result<()> {
    let faults = lock(&FAULTS);
    let fault = faults.iter().find(|(of, at, _)| *of == operation && at == path);
    fault.map_or(Ok(()), |(_, _, errno)| Err(io::Error::from_raw_os_error(errno.raw_os_error())))
}
