//! Where a put's manifest goes: it is checked before the work, and written when all is done. It holds the only key,
//! so that nothing is ever written over by mistake.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::client::Source;
use crate::client::error::{ClientError, FileAction, UsageError};
use crate::client::put::journal::journal_path;
use crate::pipeline::{Key, Manifest};

/// The name of the manifest of this source, beside it: `photo.raw.manifest`.
pub fn default_manifest_path(source: &Source) -> Option<PathBuf> {
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

/// Reads a manifest.
pub(super) fn read(path: &Path) -> Result<Manifest, ClientError> {
    let file = File::open(path).map_err(ClientError::file(FileAction::Read, path))?;
    Manifest::read(file).map_err(|source| ClientError::Manifest { path: path.to_owned(), source })
}

/// What to say when a manifest must not be written over.
pub(super) fn exists(manifest: &Path) -> ClientError {
    UsageError::ManifestExists { path: manifest.to_owned() }.into()
}

/// May a manifest be written under this name? It may if there is none, by force, or if the one there has this very
/// key: then it is of the put that is gone on with, which was cut off after it was written.
pub(super) fn may_write(manifest: &Path, force: bool, key: Option<&Key>) -> bool {
    force || fs::symlink_metadata(manifest).is_err() || key.is_some_and(|key| is_written(manifest, key))
}

/// Is this the manifest of the put with this key?
fn is_written(manifest: &Path, key: &Key) -> bool {
    let there = File::open(manifest).ok().and_then(|file| Manifest::read(file).ok());
    there.is_some_and(|there| there.key == *key)
}

/// Found out before hours of work, not after.
pub(super) fn check(source: &Source, manifest: &Path, force: bool) -> Result<(), ClientError> {
    if crate::client::get::output::names_a_directory(manifest) {
        return Err(UsageError::ManifestIsDirectory { path: manifest.to_owned() }.into());
    }
    if crate::client::get::output::are_one(source.path(), manifest) {
        return Err(UsageError::ManifestIsSource { path: manifest.to_owned() }.into());
    }
    // With a journal there, its key decides; see below.
    if !may_write(manifest, force, None) && !journal_path(manifest).exists() {
        return Err(exists(manifest));
    }
    if let Source::Directory(root) = source {
        let (root, folder) = (root.canonicalize(), crate::client::get::output::folder_of(manifest).canonicalize());
        if let (Ok(root), Ok(folder)) = (root, folder)
            && folder.starts_with(&root)
        {
            return Err(UsageError::ManifestInSource { path: manifest.to_owned() }.into());
        }
    }
    temporary(manifest).map(drop)
}

fn temporary(manifest: &Path) -> Result<tempfile::NamedTempFile, ClientError> {
    // Made private by the library: nobody else reads the key.
    let made =
        tempfile::Builder::new().prefix(".cellsync-").tempfile_in(crate::client::get::output::folder_of(manifest));
    made.map_err(ClientError::file(FileAction::Write, manifest))
}

/// Writes a manifest under its name, whole and safe.
pub(super) fn write(manifest: &Manifest, path: &Path, force: bool) -> Result<(), ClientError> {
    let wrong = |source| ClientError::Manifest { path: path.to_owned(), source };
    let mut file = temporary(path)?;
    manifest.write(&mut file).map_err(wrong)?;
    let synced = file.flush().and_then(|()| file.as_file().sync_all());
    synced.map_err(ClientError::file(FileAction::Write, path))?;
    if force || is_written(path, &manifest.key) {
        file.persist(path).map_err(|error| ClientError::file(FileAction::Write, path)(error.error))?;
    } else if let Err(error) = file.persist_noclobber(path) {
        // Another program has taken the name meanwhile. This manifest holds the only key: it is kept where it is.
        let (_, saved_as) =
            error.file.keep().map_err(|error| ClientError::file(FileAction::Write, path)(error.error))?;
        return Err(ClientError::ManifestSavedElsewhere { path: path.to_owned(), saved_as, source: error.error });
    }
    crate::client::get::output::sync_folder(path);
    Ok(())
}
