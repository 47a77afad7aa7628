//! A directory tree with every kind of entry, name, date, owner and attribute that Linux has.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, chmod, mknodat, setxattr, utimensat};

/// Directories are at most this deep.
const MAX_DEPTH: usize = 7;
/// The largest path that is made, in bytes. Linux accepts 4,096.
const MAX_PATH: usize = 3000;
/// Seconds since 1970 in 1955 and 2400. ext4 cannot hold dates outside of 1901 to 2446.
const DATES: std::ops::Range<i64> = -473_385_600..13_569_465_600;
/// User and group numbers: common ones, and some that need more than the seven octal digits of a tar header.
const OWNERS: [u32; 7] = [0, 1, 33, 1000, 65_534, 100_000, 3_000_000_000];
/// The value of a file's `security.capability`.
pub(crate) const CAPABILITY_NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// An attribute whose name is escaped in an archive.
pub(crate) const ESCAPED_ATTRIBUTE: &str = "user.a=b%c";
const PIECES: [&[u8]; 16] = [
    b"a",
    b"photo",
    b" ",
    b"\n",
    b"-",
    b"\xff\xfe",
    "\u{e9}".as_bytes(),
    b"%",
    b"=",
    b"\\",
    b"*",
    b"'\"",
    b"\x1b[31m",
    b".",
    "\u{65e5}\u{672c}".as_bytes(),
    b"\x01",
];

/// What was made.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) entries: usize,
    /// Of those, FIFOs and sockets.
    pub(crate) special: usize,
    /// Of those, files with holes.
    pub(crate) sparse: usize,
    /// Of those, further names of files.
    pub(crate) hard_links: usize,
}

/// Makes a tree of this many entries below `root`, the same for the same seed. Needs root.
pub(crate) fn make_tree(root: &Path, entries: usize, seed: u64) -> Made {
    fs::create_dir(root).unwrap();
    let mut maker = Maker {
        rng: fastrand::Rng::with_seed(seed),
        directories: vec![(root.to_owned(), 0)],
        files: Vec::new(),
        made: Made::default(),
    };
    while maker.made.entries < entries {
        maker.make_entry();
    }
    // After their entries, which change the time of a directory.
    for (directory, _) in std::mem::take(&mut maker.directories).iter().rev() {
        maker.set_metadata(directory);
    }
    maker.made
}

struct Maker {
    rng: fastrand::Rng,
    /// With their depth.
    directories: Vec<(PathBuf, usize)>,
    /// Files that can get further names.
    files: Vec<PathBuf>,
    made: Made,
}

impl Maker {
    fn make_entry(&mut self) {
        let chosen = self.rng.usize(..self.directories.len());
        let (parent, depth) = self.directories[chosen].clone();
        let path = parent.join(self.name());
        if path.as_os_str().len() > MAX_PATH || fs::symlink_metadata(&path).is_ok() {
            return;
        }
        self.made.entries += 1;
        match self.rng.u32(..100) {
            0..10 if depth < MAX_DEPTH => {
                fs::create_dir(&path).unwrap();
                self.directories.push((path, depth + 1));
            }
            10..20 => {
                symlink(self.link_target(), &path).unwrap();
                self.set_owner(&path);
                self.set_time(&path);
            }
            20..28 if !self.files.is_empty() => {
                let target = &self.files[self.rng.usize(..self.files.len())];
                fs::hard_link(target, &path).unwrap();
                self.made.hard_links += 1;
            }
            28..32 => {
                self.write_sparse(&path);
                self.made.sparse += 1;
                self.finish_file(path);
            }
            32 => {
                let kind = if self.rng.bool() { FileType::Fifo } else { FileType::Socket };
                mknodat(CWD, &path, kind, Mode::RUSR, 0).unwrap();
                self.made.special += 1;
            }
            _ => {
                let size = match self.rng.u32(..500) {
                    0 => self.rng.usize(..2_500_000),
                    1..50 => 0,
                    _ => self.rng.usize(..3000),
                };
                let word = self.rng.u64(..).to_le_bytes();
                fs::write(&path, word.iter().copied().cycle().take(size).collect::<Vec<_>>()).unwrap();
                self.finish_file(path);
            }
        }
    }

    fn finish_file(&mut self, path: PathBuf) {
        self.set_metadata(&path);
        self.files.push(path);
    }

    fn name(&mut self) -> OsString {
        let mut name = match self.rng.u32(..20) {
            // The longest name.
            0 => vec![b'n'; 255 - 8],
            1 => b"-rf --".to_vec(),
            _ => Vec::new(),
        };
        for _ in 0..self.rng.usize(1..6) {
            name.extend(PIECES[self.rng.usize(..PIECES.len())]);
        }
        name.truncate(255 - 8);
        // Most names need a number, or they would all be taken.
        name.extend(format!("{:08x}", self.rng.u32(..)).bytes().take(255 - name.len()));
        OsStr::from_bytes(&name).to_owned()
    }

    fn link_target(&mut self) -> PathBuf {
        match self.rng.u32(..4) {
            0 => PathBuf::from("/nowhere/at all"),
            1 => PathBuf::from(OsStr::from_bytes(&b"../\xff\n/".repeat(self.rng.usize(1..100)))),
            2 => PathBuf::from("x".repeat(200)),
            _ => self.files.last().cloned().unwrap_or_else(|| PathBuf::from(".")),
        }
    }

    /// Some runs of data and holes between them. The file ends with data or with a hole.
    fn write_sparse(&mut self, path: &Path) {
        let mut file = File::create(path).unwrap();
        let mut offset = 0;
        for _ in 0..self.rng.u32(..30) {
            offset += self.rng.u64(1..50) * 4096;
            file.seek(SeekFrom::Start(offset)).unwrap();
            let length = self.rng.usize(1..9000);
            file.write_all(&vec![b'd'; length]).unwrap();
            offset += length as u64;
        }
        let end = if self.rng.bool() { self.rng.u64(..1_000_000) } else { 0 };
        file.set_len(offset + end).unwrap();
    }

    fn set_metadata(&mut self, path: &Path) {
        self.set_owner(path);
        self.set_attributes(path);
        self.set_mode(path);
        self.set_time(path);
    }

    fn set_owner(&mut self, path: &Path) {
        let mut owner = || OWNERS[self.rng.usize(..OWNERS.len())];
        lchown(path, Some(owner()), Some(owner())).unwrap();
    }

    fn set_mode(&mut self, path: &Path) {
        let special = if self.rng.u32(..10) == 0 { self.rng.u32(..8) << 9 } else { 0 };
        chmod(path, Mode::from_raw_mode(special | self.rng.u32(..0o1000))).unwrap();
    }

    fn set_attributes(&mut self, path: &Path) {
        let set = |name: &str, value: &[u8]| setxattr(path, name, value, XattrFlags::empty()).unwrap();
        match self.rng.u32(..60) {
            0 => set("user.comment", b"line one\nline two = 2\0\xff"),
            1 => set(ESCAPED_ATTRIBUTE, b""),
            2 => set("user.large", &vec![b'x'; 1500]),
            3 => set("trusted.secret", b"root only"),
            4 if path.is_file() => set("security.capability", &CAPABILITY_NET_RAW),
            5 => set("system.posix_acl_access", &access_list(&[1000, 100_000])),
            6 if path.is_dir() => set("system.posix_acl_default", &access_list(&[33])),
            _ => {}
        }
    }

    fn set_time(&mut self, path: &Path) {
        let seconds = match self.rng.u32(..10) {
            0 => -1,
            1 => 0,
            2 => self.rng.i64(DATES),
            _ => self.rng.i64(1_000_000_000..1_800_000_000),
        };
        let nanoseconds = if self.rng.u32(..4) == 0 { 0 } else { self.rng.i64(0..1_000_000_000) };
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// A POSIX access control list in the form of the kernel's attribute, with these users beside owner, group and others.
pub(crate) fn access_list(users: &[u32]) -> Vec<u8> {
    const NONE: u32 = u32::MAX;
    let named = users.iter().map(|&user| (2, 6, user));
    let entries = [(1, 7, NONE)].into_iter().chain(named).chain([(4, 5, NONE), (0x10, 7, NONE), (0x20, 0, NONE)]);
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        let (tag, permissions): (u16, u16) = (tag, permissions);
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(u32::to_le_bytes(id));
    }
    bytes
}
