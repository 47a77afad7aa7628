//! Reading and writing manifest files. A manifest has the only key to its chunks: it is never overwritten unless the user
//! forces it.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::client::error::{ClientError, FileAction};
use crate::client::paths::{TEMPORARY_PREFIX, parent_of, sync_parent};
use crate::client::rename::RenameMethod;
use crate::pipeline::{Key, Manifest};

/// Reads a manifest.
pub(in crate::client) fn read(path: &Path) -> Result<Manifest, ClientError> {
    let file = File::open(path).map_err(ClientError::file(FileAction::Read, path))?;
    Manifest::read(file).map_err(|source| ClientError::Manifest { path: path.to_owned(), source })
}

/// Is there a manifest with this key?
pub(in crate::client) fn has_key(path: &Path, key: &Key) -> bool {
    let manifest = File::open(path).ok().and_then(|file| Manifest::read(file).ok());
    manifest.is_some_and(|manifest| manifest.key == *key)
}

/// Makes the temporary file that becomes the manifest. Only its user can read it.
pub(in crate::client) fn temporary(path: &Path) -> Result<NamedTempFile, ClientError> {
    let made = tempfile::Builder::new().prefix(TEMPORARY_PREFIX).tempfile_in(parent_of(path));
    made.map_err(ClientError::file(FileAction::Write, path))
}

/// Writes a manifest durably and atomically. Another file at its path is overwritten only by `force`.
pub(in crate::client) fn write(manifest: &Manifest, path: &Path, force: bool) -> Result<(), ClientError> {
    let mut file = temporary(path)?;
    manifest.write(&mut file).map_err(|source| ClientError::Manifest { path: path.to_owned(), source })?;
    let synced = file.flush().and_then(|()| file.as_file().sync_all());
    synced.map_err(ClientError::file(FileAction::Write, path))?;
    if force || has_key(path, &manifest.key) {
        file.persist(path).map_err(|error| ClientError::file(FileAction::Write, path)(error.error))?;
    } else {
        let file = file.into_temp_path();
        let renamed = RenameMethod::detect(parent_of(path)).and_then(|method| method.rename(&file, path));
        if let Err(source) = renamed {
            // Another process has made a file here since the check. This manifest has the only key: it is kept.
            let saved_as = file.keep().map_err(|error| ClientError::file(FileAction::Write, path)(error.error))?;
            return Err(ClientError::ManifestSavedElsewhere { path: path.to_owned(), saved_as, source });
        }
    }
    sync_parent(path);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::pipeline::Content;

    /// Goal: the only key is never lost, neither that of another upload nor the new one. Method: a file takes the name
    /// of the manifest before it is written.
    #[test]
    fn a_manifest_replaces_no_other_file_and_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m");
        let manifest = |key| Manifest {
            key,
            size: Some(0),
            copies: 2,
            content: Content::default(),
            chunks: Vec::new(),
            version2: None,
        };
        let (first, second) = (Key::generate(), Key::generate());
        write(&manifest(first.clone()), &path, false).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing temporary is left");
        let error = write(&manifest(second.clone()), &path, false).unwrap_err();
        let ClientError::ManifestSavedElsewhere { saved_as, .. } = error else { panic!("{error}") };
        assert!(has_key(&path, &first) && has_key(&saved_as, &second));
    }
}
