//! What a put could not store, or not as it was.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::human;

/// Omissions that a report lists. Further ones are only counted; each was reported to the progress.
const MAX_LISTED: usize = 1000;

/// Something that a put could not store, or not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Omission {
    /// The file or directory.
    pub path: PathBuf,
    /// What is missing, and why.
    pub reason: OmissionReason,
}

/// What is missing, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OmissionReason {
    /// A FIFO, a socket or a device. It is not stored.
    Special(SpecialFile),
    /// It cannot be read. It is not stored.
    Unreadable(SystemError),
    /// A directory cannot be listed, or not to its end. It is stored with what was found.
    Unlisted(SystemError),
    /// It was removed, or another file took its place, before it could be stored. It is not stored.
    Vanished,
    /// It was written to, removed or renamed while it was stored. It may have parts of both versions.
    Changed,
    /// It grew while it was stored. It is stored up to the size that it had at the beginning.
    Grew {
        /// That size in bytes.
        stored: u64,
    },
    /// It shrank while it was stored. It is stored with its former size, and the rest is zeros.
    Shrank {
        /// Its former size in bytes.
        before: u64,
        /// Its size in bytes after it was read.
        after: u64,
        /// The bytes at its beginning that are stored.
        read: u64,
    },
    /// Parts of it cannot be read. They are zeros.
    Damaged {
        /// The bytes that are zeros.
        bytes: u64,
        /// The first error.
        error: SystemError,
    },
    /// All of it was read, and its metadata cannot be read anew. It may have parts of two versions.
    Unverified(SystemError),
    /// Its extended attributes or access control lists cannot be read. It is stored without them.
    AttributesUnreadable(SystemError),
    /// Its extended attributes are larger than an archive may have. It is stored without them.
    AttributesTooLarge,
    /// A single file has metadata for which its manifest has no place. It is stored without that.
    NotInManifest(SpecialMetadata),
}

/// Metadata that decide what a file may do, or who may use it, beyond its permission bits. A manifest of a single file
/// has no place for them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpecialMetadata {
    /// Its set-user-id or set-group-id bit, or both.
    pub set_id: bool,
    /// Its capabilities.
    pub capabilities: bool,
    /// Its access control list.
    pub access_acl: bool,
}

/// A type of file that has no content of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecialFile {
    /// A named pipe.
    Fifo,
    /// A Unix domain socket.
    Socket,
    /// A block device or a character device.
    Device,
    /// A type that this program does not know.
    Unknown,
}

/// An error of the operating system, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SystemError(i32);

impl From<&io::Error> for SystemError {
    fn from(error: &io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or_default())
    }
}

impl From<SystemError> for io::Error {
    fn from(error: SystemError) -> Self {
        match error.0 {
            0 => Self::other("unknown error"),
            number => Self::from_raw_os_error(number),
        }
    }
}

impl fmt::Display for SystemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from(*self).fmt(f)
    }
}

impl fmt::Display for SpecialFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fifo => "a FIFO",
            Self::Socket => "a socket",
            Self::Device => "a device",
            Self::Unknown => "a file of unknown type",
        })
    }
}

impl fmt::Display for SpecialMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (self.set_id, "set-user-id and set-group-id bits"),
            (self.capabilities, "capabilities"),
            (self.access_acl, "access control list"),
        ];
        let names: Vec<_> = names.into_iter().filter_map(|(is_there, name)| is_there.then_some(name)).collect();
        f.write_str(&names.join(", "))
    }
}

impl fmt::Display for OmissionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Special(kind) => write!(f, "not stored: it is {kind}"),
            Self::Unreadable(error) => write!(f, "not stored: it cannot be read: {error}"),
            Self::Unlisted(error) => write!(f, "stored without its contents: it cannot be listed: {error}"),
            Self::Vanished => f.write_str("not stored: it vanished"),
            Self::Changed => f.write_str("it changed while it was stored, and may be a mixture of both versions"),
            Self::Grew { stored } => {
                let stored = human::bytes(*stored);
                write!(f, "it grew while it was stored; its first {stored} are stored, a mixture if they changed too")
            }
            Self::Shrank { before, after, read } => write!(
                f,
                "it shrank while it was stored: of its {}, the first {} are stored, and zeros in place of the rest; it has \
                 {} now",
                human::bytes(*before),
                human::bytes(*read),
                human::bytes(*after)
            ),
            Self::Damaged { bytes, error } => {
                write!(f, "{} of it cannot be read and are stored as zeros: {error}", human::bytes(*bytes))
            }
            Self::Unverified(error) => {
                write!(f, "stored, but it may have changed meanwhile: its metadata cannot be read: {error}")
            }
            Self::AttributesUnreadable(error) => {
                write!(f, "stored without its extended attributes: they cannot be read: {error}")
            }
            Self::AttributesTooLarge => f.write_str("stored without its extended attributes: they are too large"),
            Self::NotInManifest(metadata) => {
                write!(f, "stored without its {metadata}: only a directory that is stored keeps these of its files")
            }
        }
    }
}

impl fmt::Display for Omission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", escaped(&self.path), self.reason)
    }
}

/// A path, safe to print on a terminal.
pub(in crate::client) fn escaped(path: &Path) -> String {
    human::shown(path.as_os_str().as_encoded_bytes())
}

/// The omissions of a put.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::client) struct Omissions {
    /// Their number.
    pub(in crate::client) count: usize,
    /// The first of them, at most 1,000.
    pub(in crate::client) first: Vec<Omission>,
    /// Is the source a single file?
    pub(in crate::client) of_file: bool,
}

impl Omissions {
    /// Counts one.
    pub(in crate::client) fn add(&mut self, omission: Omission) {
        self.count += 1;
        if self.first.len() < MAX_LISTED {
            self.first.push(omission);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_omission_names_the_file_and_the_reason() {
        let text = |reason| Omission { path: "dir/new\nline".into(), reason }.to_string();
        assert_eq!(text(OmissionReason::Special(SpecialFile::Fifo)), "dir/new\\nline: not stored: it is a FIFO");
        let denied = SystemError::from(&io::Error::from_raw_os_error(13));
        assert!(text(OmissionReason::Unreadable(denied)).contains("ermission denied"));
        let shrank = text(OmissionReason::Shrank { before: 3072, after: 1024, read: 2048 });
        assert!(shrank.contains("of its 3.0 KiB, the first 2.0 KiB are stored"), "{shrank}");
        assert!(shrank.ends_with("it has 1.0 KiB now"), "{shrank}");
    }

    #[test]
    fn what_a_manifest_has_no_place_for_is_named() {
        let metadata = SpecialMetadata { set_id: true, access_acl: true, ..SpecialMetadata::default() };
        let text = OmissionReason::NotInManifest(metadata).to_string();
        assert!(text.contains("its set-user-id and set-group-id bits, access control list:"), "{text}");
    }

    #[test]
    fn the_list_of_omissions_is_bounded() {
        let mut omissions = Omissions::default();
        for _ in 0..MAX_LISTED + 5 {
            omissions.add(Omission { path: PathBuf::new(), reason: OmissionReason::Vanished });
        }
        assert_eq!((omissions.count, omissions.first.len()), (MAX_LISTED + 5, MAX_LISTED));
    }
}
