//! One file, directory or link: its header for the stream, or the reason why it has none.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::archive::{self, EncodeError, Entry, Extent, Kind, Timestamp};
use crate::client::put::attributes::{self, Attributes, Target};
use crate::client::put::omission::{OmissionReason, SystemError};
use crate::client::put::tree::Tree;
use crate::client::put::tree::open::{check_readable, open};
use crate::client::put::tree::owners::Owners;
use crate::client::put::tree::sparse;
use crate::client::put::tree::stat::{FileType, Stat};
use crate::client::put::tree::walk::Found;

/// What a scan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To find out the length and the omissions. A file is opened only if it may have holes.
    Plan,
    /// To store it. Files are opened.
    Pack,
}

/// What was found, ready for the stream.
pub(super) struct Scanned {
    pub(super) entry: Entry,
    /// The bytes before the data.
    pub(super) header: Vec<u8>,
    /// The data of a regular file, if the scan is to store it.
    pub(super) data: Option<Data>,
    /// What is missing of it.
    pub(super) omission: Option<OmissionReason>,
}

impl Scanned {
    /// The bytes that the entry has in the stream.
    pub(super) fn stream_bytes(&self) -> u64 {
        let data = self.entry.data_bytes();
        self.header.len() as u64 + data + archive::padding(data) as u64
    }
}

/// The data of a regular file.
pub(super) struct Data {
    pub(super) file: File,
    pub(super) extents: Vec<Extent>,
    /// The metadata when it was opened.
    pub(super) stat: Stat,
}

/// Scans what a walk finds. It remembers the first name of each file that has several: only that carries the data.
pub(super) struct Scanner<'a> {
    tree: &'a Tree,
    purpose: Purpose,
    owners: Owners,
    first_names: BTreeMap<(u64, u64), FirstName>,
}

/// The first name of a file that has several. If the file differs at the next name, that is another file with the same
/// inode number, or another version of it, and carries its own data.
struct FirstName {
    path: Vec<u8>,
    size: u64,
    modified: Timestamp,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(tree: &'a Tree, purpose: Purpose) -> Self {
        Self { tree, purpose, owners: Owners::read(), first_names: BTreeMap::new() }
    }

    /// Scans one file, directory or link.
    pub(super) fn scan(&mut self, found: &Found) -> Result<Scanned, OmissionReason> {
        // Only the directory itself is followed, if it is a link.
        let metadata = if found.is_root { fs::metadata(&found.path) } else { fs::symlink_metadata(&found.path) };
        let mut stat = Stat::of(&metadata.map_err(|error| unreadable(&error))?);
        let mut data = None;
        let kind = match stat.file_type {
            FileType::Special(kind) => return Err(OmissionReason::Special(kind)),
            FileType::Directory => Kind::Directory,
            FileType::Regular | FileType::SymbolicLink if let Some(target) = self.first_name(&stat) => {
                Kind::HardLink { target }
            }
            FileType::SymbolicLink => {
                let target = fs::read_link(&found.path).map_err(|error| unreadable(&error))?;
                Kind::SymbolicLink { target: target.into_os_string().into_encoded_bytes() }
            }
            FileType::Regular => {
                let file = self.open(&found.path, &mut stat).map_err(|error| unreadable(&error))?;
                let file_ref = file.as_ref().filter(|_| stat.may_have_holes());
                let extents = file_ref.and_then(|file| sparse::extents(file, stat.size));
                if let Some(file) = file.filter(|_| self.purpose == Purpose::Pack) {
                    let whole = || vec![Extent { offset: 0, length: stat.size }];
                    data = Some(Data { file, extents: extents.clone().unwrap_or_else(whole), stat });
                }
                Kind::File { size: stat.size, extents }
            }
        };
        let is_hard_link = matches!(kind, Kind::HardLink { .. });
        let target = match &data {
            Some(data) => Target::Open(&data.file),
            None if found.is_root => Target::Followed(&found.path),
            None => Target::Path(&found.path),
        };
        let mut omission = None;
        // Another name of a file has the attributes of the first.
        let attributes = if self.tree.xattrs && !is_hard_link {
            attributes::read(target).unwrap_or_else(|error| {
                omission = Some(OmissionReason::AttributesUnreadable(SystemError::from(&error)));
                Attributes::default()
            })
        } else {
            Attributes::default()
        };
        let has_own_mode = attributes.access_acl.is_some() || stat.file_type == FileType::SymbolicLink;
        let mode = if has_own_mode { stat.mode } else { attributes::mode_without_acl(target, stat.mode) };
        let mut entry = Entry {
            path: found.name.as_os_str().as_encoded_bytes().to_vec(),
            kind,
            mode,
            user: self.owners.user(stat.user),
            group: self.owners.group(stat.group),
            modified: stat.modified,
            xattrs: attributes.xattrs,
            access_acl: attributes.access_acl,
            default_acl: attributes.default_acl,
        };
        let header = archive::header(&entry).or_else(|error| match error {
            EncodeError::TooMuchMetadata { .. } => {
                omission = Some(OmissionReason::AttributesTooLarge);
                entry.xattrs.clear();
                archive::header(&entry)
            }
            EncodeError::InvalidExtents | EncodeError::UnsupportedType => Err(error),
        });
        // No file system has paths or lists of a megabyte.
        let header = header.map_err(|_| OmissionReason::AttributesTooLarge)?;
        if let Some(shared) = stat.shared.filter(|_| !is_hard_link) {
            let path = entry.path.clone();
            self.first_names.insert(shared, FirstName { path, size: stat.size, modified: stat.modified });
        }
        Ok(Scanned { entry, header, data, omission })
    }

    /// The path in the archive under which this file is stored already.
    fn first_name(&self, stat: &Stat) -> Option<Vec<u8>> {
        let first = self.first_names.get(&stat.shared?)?;
        let is_same = first.size == stat.size && first.modified == stat.modified;
        is_same.then(|| first.path.clone())
    }

    /// Opens a regular file as far as the purpose requires. What counts from then on is what is open.
    fn open(&self, path: &Path, stat: &mut Stat) -> io::Result<Option<File>> {
        if self.purpose == Purpose::Plan && !stat.may_have_holes() {
            check_readable(path)?;
            return Ok(None);
        }
        let file = open(path)?;
        *stat = Stat::of(&file.metadata()?);
        Ok(Some(file))
    }
}

fn unreadable(error: &io::Error) -> OmissionReason {
    // A link in the place of a file cannot be opened without following it: ELOOP.
    #[cfg(unix)]
    if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        return OmissionReason::Vanished;
    }
    if error.kind() == io::ErrorKind::NotFound {
        return OmissionReason::Vanished;
    }
    OmissionReason::Unreadable(SystemError::from(error))
}
