//! Where bad copies go, for people to look at.

// A shell: a file's time tells how long it has been here.
#![allow(clippy::disallowed_methods)]

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::SystemTime;

/// All that is kept; the oldest go first.
const MAX_BYTES: u64 = 64 << 20;

/// Moves a file in, durably once the caller has fsynced where it came from.
pub(super) fn admit(quarantine: &Path, file: &Path) -> io::Result<()> {
    let Some(name) = file.file_name() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let place = quarantine.join(name);
    fs::rename(file, &place)?;
    // Only the order of leaving depends on it.
    if let Err(e) = File::open(&place).and_then(|file| file.set_modified(SystemTime::now())) {
        log::debug!("setting the time of {}: {e}", place.display());
    }
    Ok(())
}

/// Removes the oldest until the rest is within the limit.
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
    let mut kept = 0;
    for (_, len, path) in files.into_iter().skip_while(|(_, len, _)| {
        kept += len;
        kept <= MAX_BYTES
    }) {
        log::info!("{} ({len} bytes) leaves the quarantine for newer ones", path.display());
        fs::remove_file(path)?;
    }
    Ok(())
}
