//! An entry of an archive: what it records of one file, directory or link.

/// A file, directory or link in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The path below the directory that was stored, as the file system has it: names separated by `/`, of any bytes
    /// but 0. The directory itself is `.`. A reader accepts no path that is absolute or has `..` in it.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, with set-user-id (`0o4000`), set-group-id (`0o2000`) and sticky (`0o1000`). The permissions of
    /// a symbolic link mean nothing.
    pub mode: u32,
    /// The user who owns it.
    pub user: Owner,
    /// The group that owns it.
    pub group: Owner,
    /// When its content was last modified.
    pub modified: Timestamp,
    /// Extended attributes by their full names, such as `user.comment` or `security.capability`, in the order of the
    /// names. Those of POSIX access control lists are in `access_acl` and `default_acl`.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The POSIX access control list, in the text form of POSIX.1e with numbers in place of names:
    /// `user::rw-,user:1000:r--,group::r--,mask::r--,other::---`.
    pub access_acl: Option<String>,
    /// The access control list that new files in this directory get, in the same form.
    pub default_acl: Option<String>,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// Its size in bytes, with its holes.
        size: u64,
        /// If the file has holes, the parts that have data, in order and without overlap. The stream has the bytes of
        /// these parts only; all other bytes of the file are zeros.
        extents: Option<Vec<Extent>>,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    SymbolicLink {
        /// What it points to, as any bytes but 0.
        target: Vec<u8>,
    },
    /// Another name of a file that is earlier in the archive.
    HardLink {
        /// The path of that file in the archive.
        target: Vec<u8>,
    },
    /// A type that CellSync does not write: a device, a FIFO, or a type of another program.
    Other {
        /// The type in the header.
        flag: u8,
    },
}

/// A part of a file that has data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins, in bytes from the beginning of the file.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
}

/// A user or a group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owner {
    /// The number.
    pub id: u32,
    /// The name on the machine of the put, if it has one.
    pub name: Option<String>,
}

/// A time with nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timestamp {
    /// Seconds since 1970-01-01 UTC; negative before.
    pub seconds: i64,
    /// Nanoseconds after that second, 0 to 999,999,999.
    pub nanoseconds: u32,
}

impl Entry {
    /// The bytes of data that follow the entry's header in the stream, without padding.
    pub fn data_bytes(&self) -> u64 {
        self.kind.data_bytes()
    }
}

impl Kind {
    /// The bytes of data that follow the header in the stream, without padding.
    pub fn data_bytes(&self) -> u64 {
        match self {
            Self::File { extents: Some(extents), .. } => {
                extents.iter().fold(0, |sum, extent| sum.saturating_add(extent.length))
            }
            Self::File { size, extents: None } => *size,
            Self::Directory | Self::SymbolicLink { .. } | Self::HardLink { .. } | Self::Other { .. } => 0,
        }
    }
}
