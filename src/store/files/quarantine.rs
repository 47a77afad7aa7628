//! The quarantine: bad copies, kept for people to inspect. No program reads them.

// A shell: a file's modification time says when it was quarantined.
#![allow(clippy::disallowed_methods)]

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::SystemTime;

use crate::human;

/// The most that all files in quarantine take together; the oldest are deleted first.
const MAX_BYTES: u64 = 64 << 20;

/// Moves a file into the quarantine. Durable once the caller has fsynced both folders.
pub(super) fn admit(quarantine: &Path, file: &Path) -> io::Result<()> {
    let Some(name) = file.file_name() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let moved = quarantine.join(name);
    fs::rename(file, &moved)?;
    // Only the order of deletion depends on the time.
    if let Err(e) = File::open(&moved).and_then(|file| file.set_modified(SystemTime::now())) {
        log::debug!("cannot set the time of {}: {e}", moved.display());
    }
    Ok(())
}

/// Deletes the oldest files until the others are within the limit.
pub(super) fn trim(quarantine: &Path) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(quarantine)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        if meta.is_file() {
            files.push((meta.modified()?, meta.len(), entry.path()));
        }
    }
    files.sort_unstable_by(|a, b| b.cmp(a));
    let mut kept_bytes = 0;
    for (_, len, path) in files.into_iter().skip_while(|(_, len, _)| {
        kept_bytes += len;
        kept_bytes <= MAX_BYTES
    }) {
        log::info!("deleting {} ({}) to make room for newer bad copies", path.display(), human::count(len, "byte"));
        fs::remove_file(path)?;
    }
    Ok(())
}
