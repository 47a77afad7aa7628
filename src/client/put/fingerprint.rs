//! How a file is recognized when its put continues, and how a change to it is noticed.

use std::fs;

use serde::{Deserialize, Serialize};

/// Identifies the content of a file. If any of it differs, the file may have changed.
///
/// Programs can set the time of modification back, and some do after each change. The time of the last status change,
/// which nothing can set, and the inode number show that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::client) struct Fingerprint {
    /// Bytes of the file.
    pub(in crate::client) size: u64,
    /// Time of modification in nanoseconds since 1970; negative before.
    modified_ns: i64,
    /// Time of the last status change in nanoseconds since 1970. Journals of earlier versions do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    changed_ns: Option<i64>,
    /// Inode number. Journals of earlier versions do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inode: Option<u64>,
}

impl Fingerprint {
    /// The fingerprint of a file.
    #[cfg(unix)]
    pub(in crate::client) fn of_file(metadata: &fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;

        let time_ns =
            |seconds: i64, nanoseconds: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds);
        Self {
            size: metadata.len(),
            modified_ns: time_ns(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: Some(time_ns(metadata.ctime(), metadata.ctime_nsec())),
            inode: Some(metadata.ino()),
        }
    }

    /// The fingerprint of a file.
    #[cfg(not(unix))]
    pub(in crate::client) fn of_file(metadata: &fs::Metadata) -> Self {
        let since = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        let modified_ns = i64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(i64::MAX);
        Self { size: metadata.len(), modified_ns, changed_ns: None, inode: None }
    }

    /// Is this the fingerprint that a journal has? What the journal does not have is not compared.
    pub(in crate::client) fn matches(&self, recorded: &Self) -> bool {
        (self.size, self.modified_ns) == (recorded.size, recorded.modified_ns)
            && (recorded.changed_ns.is_none() || recorded.changed_ns == self.changed_ns)
            && (recorded.inode.is_none() || recorded.inode == self.inode)
    }

    /// Do both have the same size and time of modification, whatever else changed?
    pub(in crate::client) fn has_same_content_times(&self, other: &Self) -> bool {
        (self.size, self.modified_ns) == (other.size, other.modified_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_journal_lacks_is_not_compared() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), b"x").unwrap();
        let now = Fingerprint::of_file(&fs::metadata(dir.path().join("f")).unwrap());
        assert!(now.matches(&now));
        assert!(now.matches(&Fingerprint { changed_ns: None, inode: None, ..now }));
        for other in [
            Fingerprint { size: 2, ..now },
            Fingerprint { modified_ns: now.modified_ns - 1, ..now },
            Fingerprint { changed_ns: Some(0), ..now },
            Fingerprint { inode: Some(0), ..now },
        ] {
            assert!(!now.matches(&other), "{other:?}");
        }
    }

    /// Goal: a file that was rewritten is not taken for the one before. Method: its size and time of modification are set
    /// back, as some programs do.
    #[cfg(unix)]
    #[test]
    fn a_file_that_got_its_old_time_back_has_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, b"old").unwrap();
        let metadata = fs::metadata(&path).unwrap();
        let before = Fingerprint::of_file(&metadata);
        let mut after = before;
        // The clock of a file system advances in steps of some milliseconds.
        while after.changed_ns == before.changed_ns {
            fs::write(&path, b"new").unwrap();
            fs::File::options().write(true).open(&path).unwrap().set_modified(metadata.modified().unwrap()).unwrap();
            after = Fingerprint::of_file(&fs::metadata(&path).unwrap());
        }
        assert!(after.has_same_content_times(&before) && !after.matches(&before));
    }
}
