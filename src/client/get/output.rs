//! Where restored bytes go. A file or directory is made beside its path under another name and renamed when it is
//! complete, so that its path never has half of it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::client::error::{ClientError, FileAction};
use crate::client::get::GetOptions;
use crate::client::get::file_output::{FileOutput, Kept};
use crate::client::get::omission::{RestoreOmission, RestoreOmissions};
#[cfg(unix)]
use crate::client::get::tree::output::TreeOutput;
use crate::client::notice::Notice;
use crate::client::progress::{Progress, StopSignal};
#[cfg(not(unix))]
use crate::client::usage_error::UsageError;
use crate::pipeline::{BlockChecksum, Content, Manifest};

/// Where the user wants the restored bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// At this path.
    Path(PathBuf),
    /// On standard output; a directory as its tar stream.
    StandardOutput,
    /// Nowhere: chunks are only fetched and verified.
    Nothing,
}

/// An output in progress. If it is dropped before it is finished, what can be continued is kept.
pub(in crate::client) struct Output {
    kind: Kind,
    omissions: RestoreOmissions,
}

enum Kind {
    File(FileOutput),
    #[cfg(unix)]
    Directory(TreeOutput),
    Standard,
    Nothing,
}

impl Output {
    /// Opens the output. What would make it fail at the end is checked now.
    pub(in crate::client) fn open(
        target: &Target,
        manifest: &Manifest,
        options: &GetOptions,
    ) -> Result<Self, ClientError> {
        let kind = match (target, manifest.content) {
            (Target::Nothing, _) => Kind::Nothing,
            (Target::StandardOutput, _) => Kind::Standard,
            (Target::Path(path), Content::File(metadata)) => {
                let part = options.part.label();
                Kind::File(FileOutput::open(path, manifest, metadata, part, options.force)?)
            }
            (Target::Path(path), Content::Tar) => open_directory(path, manifest, options)?,
        };
        Ok(Self { kind, omissions: RestoreOmissions::default() })
    }

    /// Is nothing written, because everything is only verified?
    pub(in crate::client) fn is_nothing(&self) -> bool {
        matches!(self.kind, Kind::Nothing)
    }

    /// Takes over what an interrupted get left. Reports it as it is verified.
    pub(in crate::client) fn resume(
        &mut self,
        progress: &dyn Progress,
        stop: &StopSignal,
    ) -> Result<Kept, ClientError> {
        match &mut self.kind {
            Kind::File(file) => file.resume(progress, stop),
            #[cfg(unix)]
            Kind::Directory(tree) => {
                if let Some(notice) = tree.take_notice() {
                    progress.notice(&notice);
                }
                let kept = tree.kept();
                if kept.bytes > 0 {
                    progress.advance(kept.bytes, 0);
                }
                Ok(kept)
            }
            Kind::Standard | Kind::Nothing => Ok(Kept::default()),
        }
    }

    /// Ends a get that failed. Returns the error, which says what is kept.
    pub(in crate::client) fn fail(self, cause: ClientError) -> ClientError {
        match self.kind {
            Kind::File(file) => file.fail(cause),
            #[cfg(unix)]
            Kind::Directory(tree) => tree.fail(cause),
            Kind::Standard | Kind::Nothing => cause,
        }
    }

    /// Writes the next bytes. If they are a whole block of the manifest, which has this checksum, a get that continues can
    /// use them again. Returns their memory, unless it is still in use.
    pub(in crate::client) fn write(
        &mut self,
        bytes: Vec<u8>,
        block: Option<BlockChecksum>,
        progress: &dyn Progress,
    ) -> Result<Option<Vec<u8>>, ClientError> {
        match &mut self.kind {
            Kind::Nothing => {}
            Kind::Standard => io::stdout().lock().write_all(&bytes).map_err(standard_output_error)?,
            Kind::File(file) => file.write(&bytes, block)?,
            #[cfg(unix)]
            Kind::Directory(tree) => {
                tree.write(bytes)?;
                report(&mut self.omissions, tree.omissions(), progress);
                return Ok(None);
            }
        }
        Ok(Some(bytes))
    }

    /// Makes what was written durable and renames it to its path. Returns what could not be restored, or not as it was;
    /// all of it was reported.
    pub(in crate::client) fn finish(self, progress: &dyn Progress) -> Result<RestoreOmissions, ClientError> {
        let Self { kind, mut omissions } = self;
        let mut without_attributes = 0;
        let last = match kind {
            Kind::Nothing => Vec::new(),
            Kind::Standard => {
                io::stdout().lock().flush().map_err(standard_output_error)?;
                Vec::new()
            }
            Kind::File(file) => file.finish()?,
            #[cfg(unix)]
            Kind::Directory(tree) => {
                let finished = tree.finish()?;
                without_attributes = finished.without_attributes;
                finished.omissions
            }
        };
        report(&mut omissions, last.into_iter(), progress);
        for (reason, count) in omissions.unnamed() {
            progress.notice(&Notice::MoreNotRestored { reason: reason.clone(), count });
        }
        if without_attributes > 0 {
            progress.notice(&Notice::WithoutAttributes { entries: without_attributes });
        }
        Ok(omissions)
    }
}

/// Counts omissions, and names the first ones of each kind.
fn report(omissions: &mut RestoreOmissions, new: impl Iterator<Item = RestoreOmission>, progress: &dyn Progress) {
    for omission in new {
        if let Some(omission) = omissions.add(omission) {
            progress.notice(&Notice::NotRestored { omission: omission.clone() });
        }
    }
}

fn standard_output_error(error: io::Error) -> ClientError {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return ClientError::OutputClosed;
    }
    ClientError::file(FileAction::Write, Path::new("standard output"))(error)
}

#[cfg(unix)]
fn open_directory(path: &Path, manifest: &Manifest, options: &GetOptions) -> Result<Kind, ClientError> {
    Ok(Kind::Directory(TreeOutput::open(path, manifest, options)?))
}

#[cfg(not(unix))]
fn open_directory(path: &Path, _: &Manifest, _: &GetOptions) -> Result<Kind, ClientError> {
    Err(UsageError::DirectoriesUnsupported { path: path.to_owned() }.into())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::client::fixtures::{NoProgress, get_options};
    use crate::pipeline::Key;

    fn open(target: &Target, content: Content, force: bool) -> Result<Output, ClientError> {
        let manifest =
            Manifest { key: Key::generate(), size: None, copies: 1, content, chunks: Vec::new(), version2: None };
        Output::open(target, &manifest, &GetOptions { force, ..get_options() })
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_has_its_path_only_when_it_is_complete() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        let mut output = open(&Target::Path(path.clone()), Content::default(), false).unwrap();
        output.write(b"half".to_vec(), None, &NoProgress).unwrap();
        assert!(!path.exists());
        drop(output);
        assert!(names(directory.path()).is_empty(), "nothing is left of it");
        let mut output = open(&Target::Path(path.clone()), Content::default(), false).unwrap();
        output.write(b"whole".to_vec(), None, &NoProgress).unwrap();
        output.finish(&NoProgress).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(names(directory.path()), ["out"]);
    }

    #[test]
    fn only_files_are_overwritten_and_only_by_force() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        fs::write(&path, b"old").unwrap();
        let target = Target::Path(path.clone());
        assert!(matches!(open(&target, Content::default(), false), Err(ClientError::Usage(_))));
        let mut output = open(&target, Content::default(), true).unwrap();
        output.write(b"new".to_vec(), None, &NoProgress).unwrap();
        output.finish(&NoProgress).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(matches!(open(&target, Content::Tar, true), Err(ClientError::Usage(_))));
        let target = Target::Path(directory.path().to_owned());
        assert!(matches!(open(&target, Content::default(), true), Err(ClientError::Usage(_))));
    }

    #[test]
    fn a_damaged_tar_stream_leaves_no_directory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        let mut output = open(&Target::Path(path.clone()), Content::Tar, false).unwrap();
        let written = output.write(vec![b'x'; 100_000], None, &NoProgress);
        assert!(written.and_then(|_| output.finish(&NoProgress)).is_err());
        assert!(names(directory.path()).is_empty());
    }
}
