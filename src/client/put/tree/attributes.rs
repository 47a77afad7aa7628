//! Extended attributes and access control lists of a file.
//!
//! Stored are attributes of users (`user.*`), and those that only root can restore: `security.capability`, which holds
//! capabilities, and `trusted.*`. Labels such as `security.selinux` are not: they describe the policy of one machine.

use std::fs::File;
use std::io;
use std::path::Path;

/// What is stored of a file's attributes.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    /// By their names, in the order of these.
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// In the text form of archives.
    pub(super) access_acl: Option<String>,
    pub(super) default_acl: Option<String>,
}

/// Reads the attributes of a file. A file that is open is read by its handle, any other by its path.
#[cfg(target_os = "linux")]
pub(super) fn read(path: &Path, file: Option<&File>) -> io::Result<Attributes> {
    use crate::archive::acl;

    let mut attributes = Attributes::default();
    for name in linux::names(path, file)? {
        let is_acl = matches!(&name[..], b"system.posix_acl_access" | b"system.posix_acl_default");
        let is_stored = name.starts_with(b"user.") || name.starts_with(b"trusted.") || name == b"security.capability";
        if !is_acl && !is_stored {
            continue;
        }
        // It may have been removed meanwhile.
        let Some(value) = linux::value(path, file, &name)? else { continue };
        if !is_acl {
            attributes.xattrs.push((name, value));
            continue;
        }
        let text = acl::to_text(&value).map_err(|_| io::Error::from(rustix::io::Errno::INVAL))?;
        if name.ends_with(b"access") {
            attributes.access_acl = Some(text);
        } else {
            attributes.default_acl = Some(text);
        }
    }
    attributes.xattrs.sort_unstable();
    Ok(attributes)
}

/// Only Linux is supported.
#[cfg(not(target_os = "linux"))]
#[allow(clippy::unnecessary_wraps)] // Reading fails on Linux only.
pub(super) fn read(_: &Path, _: Option<&File>) -> io::Result<Attributes> {
    Ok(Attributes::default())
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::io;
    use std::path::Path;

    use rustix::fs::{fgetxattr, flistxattr, lgetxattr, llistxattr};
    use rustix::io::Errno;

    /// Linux has this limit for a value, and for all names of a file together.
    const MAX_BYTES: usize = 65_536;

    /// The names of the attributes.
    pub(super) fn names(path: &Path, file: Option<&File>) -> io::Result<Vec<Vec<u8>>> {
        let mut buffer = vec![0; MAX_BYTES];
        let length = match file {
            Some(file) => flistxattr(file, &mut buffer),
            None => llistxattr(path, &mut buffer),
        };
        let length = match length {
            // A file system without attributes.
            Err(Errno::NOTSUP | Errno::NOSYS) => 0,
            length => length?,
        };
        let names = buffer.get(..length).unwrap_or_default().split(|byte| *byte == 0);
        Ok(names.filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
    }

    /// The value of an attribute, if it exists.
    pub(super) fn value(path: &Path, file: Option<&File>, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; MAX_BYTES];
        let length = match file {
            Some(file) => fgetxattr(file, name, &mut buffer),
            None => lgetxattr(path, name, &mut buffer),
        };
        match length {
            Err(Errno::NODATA) => Ok(None),
            length => {
                buffer.truncate(length?);
                Ok(Some(buffer))
            }
        }
    }
}
