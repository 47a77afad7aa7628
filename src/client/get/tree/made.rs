//! The list of entries that were made since a checkpoint: a get that continues there removes them and makes them again.
//!
//! A record is `+`, the length of a path as four bytes (little-endian), and the path. It is written before the entry is
//! made. If the entry was not made after all, the same record with `-` follows. There are two lists, as there are two
//! files for checkpoints: the list of a checkpoint is emptied before the checkpoint is written.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Write};

use rustix::fs::{AtFlags, FileType, Mode, chmodat, statat, unlinkat};
use rustix::io::Errno;

use crate::client::get::tree::directories::open_on_the_way;

/// The longest path in a list. No archive has longer ones in its records.
const MAX_PATH: usize = crate::archive::MAX_EXTENSION_BYTES;

/// The largest list in bytes. One checkpoint follows the other after far less.
const MAX_LIST_BYTES: u64 = 64 << 20;

/// The two lists.
#[derive(Debug)]
pub(super) struct MadeLists {
    /// Opened for appending.
    files: [File; 2],
    current: Cell<usize>,
}

impl MadeLists {
    pub(super) fn new(files: [File; 2], current: usize) -> Self {
        Self { files, current: Cell::new(current) }
    }

    /// An entry is about to be made.
    pub(super) fn begin(&self, path: &[u8]) -> io::Result<()> {
        self.append(b'+', path)
    }

    /// The entry of the last record was not made.
    pub(super) fn cancel(&self, path: &[u8]) -> io::Result<()> {
        self.append(b'-', path)
    }

    fn append(&self, sign: u8, path: &[u8]) -> io::Result<()> {
        let Some(mut file) = self.files.get(self.current.get()) else { return Ok(()) };
        let length = u32::try_from(path.len()).map_err(io::Error::other)?;
        let mut record = vec![sign];
        record.extend(length.to_le_bytes());
        record.extend(path);
        file.write_all(&record)
    }

    /// Empties the list of a checkpoint that is about to be written.
    pub(super) fn empty(&self, list: usize) -> io::Result<()> {
        self.files.get(list).map_or(Ok(()), |file| file.set_len(0))
    }

    /// That checkpoint is written: from here on, its list is used.
    pub(super) fn switch(&self, list: usize) {
        self.current.set(list);
    }
}

/// Reads the paths in a list, up to an incomplete record.
pub(super) fn read(list: &mut File) -> io::Result<Vec<Vec<u8>>> {
    let mut bytes = Vec::new();
    list.take(MAX_LIST_BYTES).read_to_end(&mut bytes)?;
    let (mut paths, mut rest) = (Vec::new(), &bytes[..]);
    while let Some((sign, path, after)) = split_record(rest) {
        rest = after;
        match sign {
            b'+' => paths.push(path.to_vec()),
            b'-' if paths.last().is_some_and(|last| last == path) => drop(paths.pop()),
            _ => break,
        }
    }
    Ok(paths)
}

fn split_record(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[sign, a, b, c, d], rest) = bytes.split_first_chunk::<5>()?;
    let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).ok().filter(|&length| length <= MAX_PATH)?;
    let (path, rest) = rest.split_at_checked(length)?;
    Some((sign, path, rest))
}

/// Gives its user all permissions for a directory, so that entries in it can be removed.
pub(super) fn make_writable(root: &File, path: &[u8]) -> io::Result<()> {
    with_parent(root, path, |parent, name| {
        let status = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
            // Not every file system has modes.
            let _ = chmodat(parent, name, Mode::RWXU, AtFlags::empty());
        }
        Ok(())
    })
}

/// Removes these entries. Directories are after those that they are in, and before what is in them.
pub(super) fn remove(root: &File, paths: &[Vec<u8>]) -> io::Result<()> {
    // Some may have their final modes.
    for path in paths {
        match make_writable(root, path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    for path in paths.iter().rev() {
        match with_parent(root, path, |parent, name| match unlinkat(parent, name, AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => Ok(unlinkat(parent, name, AtFlags::REMOVEDIR)?),
            removed => Ok(removed?),
        }) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn with_parent<T>(root: &File, path: &[u8], act: impl FnOnce(&File, &[u8]) -> io::Result<T>) -> io::Result<T> {
    let names: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
    let is_safe = |name: &&[u8]| !name.is_empty() && **name != b"."[..] && **name != b".."[..];
    match &names[..] {
        [parents @ .., name] if names.iter().all(is_safe) => act(&open_on_the_way(root, parents)?, name),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn lists(folder: &std::path::Path) -> MadeLists {
        let open = |name: &str| OpenOptions::new().create(true).append(true).open(folder.join(name)).unwrap();
        MadeLists::new([open("0"), open("1")], 0)
    }

    #[test]
    fn what_was_made_since_the_checkpoint_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        fs::create_dir_all(tree.join("old")).unwrap();
        fs::write(tree.join("old/before"), b"").unwrap();
        let lists = lists(folder.path());
        lists.begin(b"of the current checkpoint").unwrap();
        lists.switch(1);
        lists.begin(b"old").unwrap();
        lists.switch(0);
        lists.empty(1).unwrap();
        lists.switch(1);
        for path in ["old/f", "new", "new/sub", "new/sub/f", "new/link", "old/before", "never"] {
            lists.begin(path.as_bytes()).unwrap();
            match path {
                "new" | "new/sub" => fs::create_dir(tree.join(path)).unwrap(),
                "new/link" => symlink("../old", tree.join(path)).unwrap(),
                // It exists: it was not made now.
                "old/before" => lists.cancel(b"old/before").unwrap(),
                "never" => {}
                _ => fs::write(tree.join(path), b"").unwrap(),
            }
        }
        fs::set_permissions(tree.join("new/sub"), fs::Permissions::from_mode(0o500)).unwrap();
        fs::set_permissions(tree.join("new"), fs::Permissions::from_mode(0o000)).unwrap();
        let paths = read(&mut File::open(folder.path().join("1")).unwrap()).unwrap();
        assert_eq!(paths.len(), 6);
        remove(&File::open(&tree).unwrap(), &paths).unwrap();
        let left: Vec<_> = walkdir::WalkDir::new(&tree).into_iter().map(|entry| entry.unwrap().into_path()).collect();
        assert_eq!(left, [tree.clone(), tree.join("old"), tree.join("old/before")]);
    }

    #[test]
    fn an_incomplete_record_ends_a_list_and_no_path_leads_out() {
        let folder = tempfile::tempdir().unwrap();
        let lists = lists(folder.path());
        lists.begin(b"a").unwrap();
        lists.begin(b"long name").unwrap();
        let path = folder.path().join("0");
        OpenOptions::new().write(true).open(&path).unwrap().set_len(12).unwrap();
        assert_eq!(read(&mut File::open(&path).unwrap()).unwrap(), [b"a"]);
        let root = File::open(folder.path()).unwrap();
        for out in [&b"../x"[..], b"/x", b"", b"a//b", b"."] {
            assert!(remove(&root, &[out.to_vec()]).is_err(), "{out:?}");
        }
    }
}
