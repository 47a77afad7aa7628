//! Listing what a directory's manifest has.

use std::path::Path;
use std::time::Instant;

use crate::archive::index::IndexEntry;
use crate::client::error::ClientError;
use crate::client::get::part::Part;
use crate::client::get::plan::selector::{InvalidPath, Relation, Selector};
use crate::client::get::{Get, GetOptions};
use crate::client::manifest_file;
use crate::client::progress::{Progress, StopSignal};
use crate::client::usage_error::UsageError;

/// Passes the entries of a directory to `take` that have these paths or are below them, in the order of the archive. No
/// paths are all entries. Only the index is fetched, if there is one that can be used.
pub fn list(
    manifest: &Path,
    paths: &[Vec<u8>],
    options: &GetOptions,
    progress: &dyn Progress,
    stop: &StopSignal,
    take: &mut dyn FnMut(&IndexEntry),
) -> Result<(), ClientError> {
    let name = manifest;
    let manifest = manifest_file::read(manifest)?;
    Part::Paths(Vec::new()).check(&manifest, name)?;
    let all = [Vec::new()];
    let paths = if paths.is_empty() { &all } else { paths };
    let mut selector = Selector::new(paths).map_err(|InvalidPath(path)| UsageError::PathLeadsOut { path })?;
    let mut get = Get::new(&manifest, options, progress, Instant::now());
    let is_provisional = selector.is_provisional();
    let mut provisional = Vec::new();
    let unread = get.index(stop, &mut |entry| match selector.relation(&entry.path) {
        Relation::Chosen if is_provisional => provisional.push(entry),
        Relation::Chosen => take(&entry),
        Relation::Around | Relation::Elsewhere => {}
    })?;
    let missing = selector.not_found();
    let chosen = provisional.iter().filter(|entry| selector.relation(&entry.path) == Relation::Chosen);
    chosen.for_each(&mut *take);
    // A directory has itself as an entry, so that only chosen paths can be missing.
    get.check_found(missing, &unread)?;
    if unread.is_empty() { Ok(()) } else { Err(ClientError::MayLackEntries { cause: Box::new(get.unread()) }) }
}
