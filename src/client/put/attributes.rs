//! Extended attributes and access control lists of a file.
//!
//! Stored are attributes of users (`user.*`), and those that only root can restore: `security.capability`, which holds
//! capabilities, and `trusted.*`. Labels such as `security.selinux` are not: they describe the policy of one machine.
//!
//! The group bits in the mode of a file with an access control list are the most that the list grants to anybody named in
//! it. If the list is not stored, a mode that grants no more than the list takes its place.

use std::fs::File;
use std::io;
use std::path::Path;

/// What is stored of a file's attributes.
#[derive(Debug, Default)]
pub(in crate::client) struct Attributes {
    /// By their names, in the order of these.
    pub(in crate::client) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// In the text form of archives.
    pub(in crate::client) access_acl: Option<String>,
    pub(in crate::client) default_acl: Option<String>,
}

/// The file whose attributes are read.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(target_os = "linux"), allow(dead_code))] // Only Linux is supported.
pub(in crate::client) enum Target<'a> {
    /// A file that is open.
    Open(&'a File),
    /// What has this path, and that may be a symbolic link.
    Path(&'a Path),
    /// What has this path, or what it points to if it is a symbolic link.
    Followed(&'a Path),
}

/// Reads the attributes of a file.
#[cfg(target_os = "linux")]
pub(in crate::client) fn read(target: Target<'_>) -> io::Result<Attributes> {
    let mut attributes = Attributes::default();
    for name in linux::names(target)? {
        let is_acl = matches!(&name[..], linux::ACCESS_ACL | b"system.posix_acl_default");
        let is_stored = name.starts_with(b"user.") || name.starts_with(b"trusted.") || name == linux::CAPABILITIES;
        if !is_acl && !is_stored {
            continue;
        }
        // It may have been removed meanwhile.
        let Some(value) = linux::value(target, &name)? else { continue };
        if !is_acl {
            attributes.xattrs.push((name, value));
            continue;
        }
        let text = linux::acl_text(&value)?;
        if name == linux::ACCESS_ACL {
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
pub(in crate::client) fn read(_: Target<'_>) -> io::Result<Attributes> {
    Ok(Attributes::default())
}

/// The mode of a file if its access control list is not stored. If the list cannot be read, nothing is left to the group
/// and to others.
#[cfg(target_os = "linux")]
pub(in crate::client) fn mode_without_acl(target: Target<'_>, mode: u32) -> u32 {
    let stored = linux::value(target, linux::ACCESS_ACL);
    limited(mode, stored.and_then(|stored| stored.map(|stored| linux::acl_text(&stored)).transpose()))
}

/// Whether a file has capabilities, and whether it has an access control list, as far as that can be read.
#[cfg(target_os = "linux")]
pub(in crate::client) fn special(target: Target<'_>) -> (bool, bool) {
    let has = |name| linux::value(target, name).is_ok_and(|value| value.is_some());
    (has(linux::CAPABILITIES), has(linux::ACCESS_ACL))
}

/// Only Linux is supported.
#[cfg(all(unix, not(target_os = "linux")))]
pub(in crate::client) fn special(_: Target<'_>) -> (bool, bool) {
    (false, false)
}

/// Only Linux is supported.
#[cfg(not(target_os = "linux"))]
pub(in crate::client) fn mode_without_acl(_: Target<'_>, mode: u32) -> u32 {
    mode
}

#[cfg(target_os = "linux")]
fn limited(mode: u32, access_acl: io::Result<Option<String>>) -> u32 {
    match access_acl {
        Ok(None) => mode,
        // An empty list grants nothing.
        text => crate::archive::acl::mode_without(&text.ok().flatten().unwrap_or_default(), mode),
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;

    use rustix::fs::{fgetxattr, flistxattr, getxattr, lgetxattr, listxattr, llistxattr};
    use rustix::io::Errno;

    use super::Target;
    use crate::archive::acl;

    /// The attribute with the access control list.
    pub(super) const ACCESS_ACL: &[u8] = b"system.posix_acl_access";

    /// The attribute with the capabilities.
    pub(super) const CAPABILITIES: &[u8] = b"security.capability";
    /// Linux has this limit for a value, and for all names of a file together.
    const MAX_BYTES: usize = 65_536;

    /// The names of the attributes.
    pub(super) fn names(target: Target<'_>) -> io::Result<Vec<Vec<u8>>> {
        let list = |buffer: &mut [u8]| match target {
            Target::Open(file) => flistxattr(file, buffer),
            Target::Path(path) => llistxattr(path, buffer),
            Target::Followed(path) => listxattr(path, buffer),
        };
        // Enough for the names of nearly all files, of which there may be a million.
        let mut buffer = vec![0; 1024];
        let mut length = list(&mut buffer);
        if length == Err(Errno::RANGE) {
            buffer.resize(MAX_BYTES, 0);
            length = list(&mut buffer);
        }
        let length = match length {
            // A file system without attributes.
            Err(Errno::NOTSUP | Errno::NOSYS) => 0,
            length => length?,
        };
        let names = buffer.get(..length).unwrap_or_default().split(|byte| *byte == 0);
        Ok(names.filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
    }

    /// The value of an attribute, if it exists.
    pub(super) fn value(target: Target<'_>, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let get = |buffer: &mut [u8]| match target {
            Target::Open(file) => fgetxattr(file, name, buffer),
            Target::Path(path) => lgetxattr(path, name, buffer),
            Target::Followed(path) => getxattr(path, name, buffer),
        };
        let mut buffer = Vec::new();
        // Without room for a value, the answer is whether there is one.
        let length = get(&mut buffer).and_then(|_| {
            buffer.resize(MAX_BYTES, 0);
            get(&mut buffer)
        });
        match length {
            Err(Errno::NODATA | Errno::NOTSUP | Errno::NOSYS) => Ok(None),
            length => {
                buffer.truncate(length?);
                Ok(Some(buffer))
            }
        }
    }

    /// The text of a stored list.
    pub(super) fn acl_text(stored: &[u8]) -> io::Result<String> {
        acl::to_text(stored).map_err(|_| Errno::INVAL.into())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn many_names_of_attributes_are_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let name = |n: usize| format!("user.{n:02}{}", "n".repeat(100));
        for n in 0..20 {
            let set = rustix::fs::setxattr(file.path(), name(n), b"v", rustix::fs::XattrFlags::empty());
            if set.is_err() {
                // A file system without attributes.
                return;
            }
        }
        let attributes = read(Target::Path(file.path())).unwrap();
        let expected: Vec<_> = (0..20).map(|n| (name(n).into_bytes(), b"v".to_vec())).collect();
        assert_eq!(attributes.xattrs, expected);
    }

    #[test]
    fn an_unreadable_list_grants_nothing_in_the_mode() {
        assert_eq!(limited(0o4775, Ok(None)), 0o4775);
        assert_eq!(limited(0o4775, Err(io::Error::from_raw_os_error(5))), 0o4700);
        let text = "user::rw-,user:1000:rw-,group::---,mask::rw-,other::---";
        assert_eq!(limited(0o660, Ok(Some(text.to_owned()))), 0o600);
    }
}
