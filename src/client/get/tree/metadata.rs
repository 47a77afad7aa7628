//! The metadata of one entry: it is set when the content is complete, by an open file where there is one.
//!
//! The order matters: owner, attributes, mode, access control list, time. A change of the owner clears set-user-id,
//! set-group-id and capabilities. Attributes of users need the permission to write. A change of the mode changes the mask
//! of an access control list.

use std::cell::Cell;
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use rustix::fs::{
    AtFlags, Gid, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chownat, fchown, futimens, utimensat,
};
use rustix::io::Errno;

use crate::archive::{Entry, Owner, Timestamp, acl};
use crate::client::get::omission::RestoreOmissionReason;
use crate::client::get::restore_options::{RestoreOptions, RestoreOwners};
use crate::client::get::tree::accounts::Accounts;
use crate::client::get::tree::refusal::is_metadata_refusal;

const SET_USER_ID: u32 = 0o4000;
const SET_GROUP_ID: u32 = 0o2000;
const ACCESS_ACL: &str = "system.posix_acl_access";
const DEFAULT_ACL: &str = "system.posix_acl_default";

/// Sets metadata.
#[derive(Debug)]
pub(super) struct MetadataSetter {
    options: RestoreOptions,
    accounts: Accounts,
    /// Entries with attributes or lists that were not restored, because they were not to be.
    without_attributes: Cell<usize>,
}

/// Collects what could not be set. Errors of the disk end the restore.
type Omissions = Vec<RestoreOmissionReason>;

impl MetadataSetter {
    pub(super) fn new(options: RestoreOptions) -> Self {
        let accounts = if options.owners == RestoreOwners::ByNumber { Accounts::default() } else { Accounts::read() };
        Self { options, accounts, without_attributes: Cell::new(0) }
    }

    /// Drops what is not to be restored, and counts the entries that had it.
    pub(super) fn drop_unwanted(&self, entry: &mut Entry) {
        if self.options.xattrs {
            return;
        }
        // The access control list stays: the mode must not grant what it did not.
        if !entry.xattrs.is_empty() || entry.access_acl.is_some() || entry.default_acl.is_some() {
            self.without_attributes.set(self.without_attributes.get() + 1);
        }
        entry.xattrs.clear();
        entry.default_acl = None;
    }

    /// Entries with attributes or lists that were not restored, because they were not to be.
    pub(super) fn without_attributes(&self) -> usize {
        self.without_attributes.get()
    }

    /// Continues the count of an interrupted get.
    pub(super) fn set_without_attributes(&self, entries: usize) {
        self.without_attributes.set(entries);
    }

    /// Sets the extended attributes of a new directory and drops them, so that no more of them than those of one entry
    /// are in memory. A change of its owner does not clear them.
    pub(super) fn take_attributes(&self, directory: &File, entry: &mut Entry) -> io::Result<Omissions> {
        let mut omissions = Omissions::new();
        self.set_attributes(directory, entry, &mut omissions)?;
        entry.xattrs.clear();
        Ok(omissions)
    }

    fn set_attributes(&self, file: &File, entry: &Entry, omissions: &mut Omissions) -> io::Result<()> {
        if self.options.xattrs {
            for (name, value) in &entry.xattrs {
                let set = set_attribute(file, name, value);
                note(set, omissions, |os_error| attribute(name, os_error))?;
            }
        }
        Ok(())
    }

    /// Sets all metadata of a file or directory. Returns what could not be set.
    pub(super) fn set(&self, file: &File, entry: &Entry) -> io::Result<Omissions> {
        let mut omissions = Omissions::new();
        let (uid, gid) = (self.uid(&entry.user), self.gid(&entry.group));
        if self.options.owners != RestoreOwners::None {
            let owner = own(uid, gid, |uid, gid| fchown(file, uid, gid));
            note(owner, &mut omissions, |os_error| RestoreOmissionReason::Owner { os_error })?;
        }
        self.set_attributes(file, entry, &mut omissions)?;
        let mut mode = entry.mode;
        if mode & (SET_USER_ID | SET_GROUP_ID) != 0 {
            let metadata = file.metadata()?;
            let lost = if metadata.uid() == uid { 0 } else { SET_USER_ID }
                | if metadata.gid() == gid { 0 } else { SET_GROUP_ID };
            if mode & lost != 0 {
                mode &= !lost;
                omissions.push(RestoreOmissionReason::SetId);
            }
        }
        // As long as its list is not there, the mode must not grant what the list did not.
        if let Some(text) = &entry.access_acl {
            mode = acl::mode_without(text, mode);
        }
        let set = file.set_permissions(Permissions::from_mode(mode));
        let has_mode = file.metadata()?.mode() & 0o7777 == mode;
        match set {
            Ok(()) if has_mode => {}
            Ok(()) => omissions.push(RestoreOmissionReason::Mode { os_error: None }),
            Err(error) => {
                note(Err(error), &mut omissions, |os_error| RestoreOmissionReason::Mode { os_error })?;
            }
        }
        if self.options.xattrs {
            for (name, text) in [(ACCESS_ACL, &entry.access_acl), (DEFAULT_ACL, &entry.default_acl)] {
                match text.as_deref().map(acl::from_text) {
                    None => {}
                    Some(Err(_)) => omissions.push(RestoreOmissionReason::Acl { os_error: None }),
                    Some(Ok(stored)) => {
                        let set = set_attribute(file, name.as_bytes(), &stored);
                        note(set, &mut omissions, |os_error| RestoreOmissionReason::Acl { os_error })?;
                    }
                }
            }
        }
        let set = futimens(file, &modified(entry.modified)).map_err(io::Error::from);
        let metadata = file.metadata()?;
        let has_time = metadata.mtime() == entry.modified.seconds
            && u32::try_from(metadata.mtime_nsec()) == Ok(entry.modified.nanoseconds);
        match set {
            Ok(()) if has_time => {}
            Ok(()) => omissions.push(RestoreOmissionReason::Time { os_error: None }),
            Err(error) => {
                note(Err(error), &mut omissions, |os_error| RestoreOmissionReason::Time { os_error })?;
            }
        }
        Ok(omissions)
    }

    /// Sets the metadata of a symbolic link with this name in an open directory. A link has no mode of its own.
    pub(super) fn set_of_link(&self, directory: &File, name: &[u8], entry: &Entry) -> io::Result<Omissions> {
        let mut omissions = Omissions::new();
        if self.options.owners != RestoreOwners::None {
            let (uid, gid) = (self.uid(&entry.user), self.gid(&entry.group));
            let owner = own(uid, gid, |uid, gid| chownat(directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW));
            note(owner, &mut omissions, |os_error| RestoreOmissionReason::Owner { os_error })?;
        }
        if self.options.xattrs {
            for (attribute_name, value) in &entry.xattrs {
                let set = set_link_attribute(directory, name, attribute_name, value);
                note(set, &mut omissions, |os_error| attribute(attribute_name, os_error))?;
            }
        }
        let times = modified(entry.modified);
        let set = utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(io::Error::from);
        note(set, &mut omissions, |os_error| RestoreOmissionReason::Time { os_error })?;
        Ok(omissions)
    }

    fn uid(&self, owner: &Owner) -> u32 {
        if self.options.owners == RestoreOwners::ByNumber { owner.id } else { self.accounts.user(owner) }
    }

    fn gid(&self, owner: &Owner) -> u32 {
        if self.options.owners == RestoreOwners::ByNumber { owner.id } else { self.accounts.group(owner) }
    }
}

/// Sets the time of modification alone.
pub(super) fn set_time(file: &File, time: Timestamp) -> io::Result<()> {
    Ok(futimens(file, &modified(time))?)
}

/// Sets user and group, or the group alone where the user cannot be set.
fn own(uid: u32, gid: u32, set: impl Fn(Option<Uid>, Option<Gid>) -> rustix::io::Result<()>) -> io::Result<()> {
    // This number means that nothing is to be changed.
    if uid == u32::MAX || gid == u32::MAX {
        return Err(Errno::INVAL.into());
    }
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    if let Err(error) = set(Some(uid), Some(gid)) {
        // A member of the group may set it.
        let _ = set(None, Some(gid));
        return Err(error.into());
    }
    Ok(())
}

fn modified(time: Timestamp) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() },
    }
}

/// Turns an error into an omission, unless it is one of the disk.
fn note(
    result: io::Result<()>,
    omissions: &mut Omissions,
    reason: impl FnOnce(Option<i32>) -> RestoreOmissionReason,
) -> io::Result<()> {
    match result {
        Ok(()) => {}
        Err(error) if is_metadata_refusal(&error) => omissions.push(reason(error.raw_os_error())),
        Err(error) => return Err(error),
    }
    Ok(())
}

fn attribute(name: &[u8], os_error: Option<i32>) -> RestoreOmissionReason {
    RestoreOmissionReason::Attribute { name: name.to_owned(), os_error: os_error.unwrap_or_default() }
}

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn set_attribute(file: &File, name: &[u8], value: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(file, name, value, XattrFlags::empty())?)
}

/// The access control list of a file, if it has one. A list that cannot be read is empty, and then grants nothing.
#[cfg(target_os = "linux")]
pub(super) fn access_acl(file: &File) -> Option<String> {
    // The limit of Linux for a value.
    let mut stored = vec![0; 65_536];
    match rustix::fs::fgetxattr(file, ACCESS_ACL, &mut stored) {
        Ok(length) => Some(acl::to_text(stored.get(..length).unwrap_or_default()).unwrap_or_default()),
        Err(Errno::NODATA | Errno::NOTSUP | Errno::NOSYS) => None,
        Err(_) => Some(String::new()),
    }
}

/// Only Linux is supported.
#[cfg(not(target_os = "linux"))]
pub(super) fn access_acl(_: &File) -> Option<String> {
    None
}

/// Linux has no call for the attributes of a link in an open directory. The path through `/proc` leads to the
/// directory, and the link itself is not followed.
#[cfg(target_os = "linux")]
fn set_link_attribute(directory: &File, link: &[u8], name: &[u8], value: &[u8]) -> io::Result<()> {
    let path = [format!("/proc/self/fd/{}/", directory.as_fd().as_raw_fd()).as_bytes(), link].concat();
    Ok(rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())?)
}

#[cfg(not(target_os = "linux"))]
fn set_link_attribute(_: &File, _: &[u8], _: &[u8], _: &[u8]) -> io::Result<()> {
    Err(Errno::NOTSUP.into())
}
