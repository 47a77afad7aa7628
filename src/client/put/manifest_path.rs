//! Where the manifest of a put goes. This is checked before hours of work, not after.

use std::fs;
use std::path::{Path, PathBuf};

use crate::client::error::ClientError;
use crate::client::manifest_file;
use crate::client::paths::{check_parent, is_same_file, names_directory, parent_of};
use crate::client::put::journal::journal_path;
use crate::client::put::source::Source;
use crate::client::usage_error::UsageError;
use crate::pipeline::Key;

/// The path of a manifest by default: beside the source, as `photo.raw.manifest`. Standard input has none.
pub fn default_manifest_path(source: &Source) -> Option<PathBuf> {
    let path = match source {
        Source::StandardInput => return None,
        Source::File(path) | Source::Directory(path) => path,
    };
    // `dir/` and `dir` are the same directory; `.` and `..` have no name in their path.
    let mut name =
        path.file_name().map(ToOwned::to_owned).or_else(|| Some(path.canonicalize().ok()?.file_name()?.to_owned()))?;
    name.push(".manifest");
    Some(path.parent().map_or_else(|| PathBuf::from(&name), |parent| parent.join(&name)))
}

/// May a manifest with this key be written to this path? Yes if there is no file, or by `force`, or if the manifest
/// there has the same key: then an earlier run of this put wrote it, and was interrupted before it could remove the
/// journal.
fn may_write(path: &Path, force: bool, key: Option<&Key>) -> bool {
    force || fs::symlink_metadata(path).is_err() || key.is_some_and(|key| manifest_file::has_key(path, key))
}

/// Fails if the manifest would overwrite another file.
pub(in crate::client) fn check_overwrite(path: &Path, force: bool, key: Option<&Key>) -> Result<(), UsageError> {
    if may_write(path, force, key) { Ok(()) } else { Err(UsageError::ManifestExists { path: path.to_owned() }) }
}

/// Fails if the manifest cannot be written to this path at all.
pub(in crate::client) fn check(source: &Source, path: &Path, force: bool) -> Result<(), ClientError> {
    if names_directory(path) {
        return Err(UsageError::ManifestIsDirectory { path: path.to_owned() }.into());
    }
    check_parent(path)?;
    if is_same_file(source.path(), path) {
        return Err(UsageError::ManifestIsSource { path: path.to_owned() }.into());
    }
    // If there is a journal, its key decides later.
    if !journal_path(path).exists() {
        check_overwrite(path, force, None)?;
    }
    if let Source::Directory(root) = source
        && let (Ok(root), Ok(parent)) = (root.canonicalize(), parent_of(path).canonicalize())
        && parent.starts_with(&root)
    {
        return Err(UsageError::ManifestInSource { path: path.to_owned() }.into());
    }
    manifest_file::temporary(path).map(drop)
}
