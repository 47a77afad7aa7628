//! A mounted file system in memory that lacks what those of memory cards lack: it ignores case, has no links, modes,
//! owners, sockets and attributes, keeps even seconds, and cannot rename without replacing.
//!
//! It needs root and FUSE. Without them, the tests print that they are skipped and pass; with
//! `CELLSYNC_REQUIRE_ROOT_TESTS` set they fail instead, if there is `/dev/fuse`.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use tempfile::TempDir;

/// The kernel keeps nothing: another spelling of a name is the same file.
const NOT_CACHED: Duration = Duration::ZERO;
/// The mode of everything.
const MODE: u16 = 0o755;

/// The parent of a file that was removed.
const UNLINKED: usize = usize::MAX;

/// A mounted file system, unmounted when dropped.
pub(crate) struct PoorDisk {
    // Unmounted before the directory is removed.
    _session: BackgroundSession,
    directory: TempDir,
}

impl PoorDisk {
    /// Mounts an empty one; `None` if that is not possible here.
    pub(crate) fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let root =
            Node { parent: 1, name: String::new(), kind: FileType::Directory, bytes: Vec::new(), mtime: UNIX_EPOCH };
        let files = Files(Mutex::new(vec![None, Some(root)]));
        match fuser::spawn_mount(files, directory.path(), &Config::default()) {
            Ok(session) => Some(Self { _session: session, directory }),
            Err(why) => {
                let is_required = std::env::var_os("CELLSYNC_REQUIRE_ROOT_TESTS").is_some();
                assert!(!is_required || !Path::new("/dev/fuse").exists(), "cannot mount: {why}");
                eprintln!("skipped: cannot mount a file system (it needs root and FUSE): {why}");
                None
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// A file or a directory.
struct Node {
    parent: usize,
    name: String,
    kind: FileType,
    bytes: Vec<u8>,
    mtime: SystemTime,
}

/// All of them. The number of a node is its position.
struct Files(Mutex<Vec<Option<Node>>>);

type Nodes = Vec<Option<Node>>;

impl Files {
    fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.0.lock().unwrap()
    }
}

fn number(inode: INodeNo) -> usize {
    usize::try_from(u64::from(inode)).unwrap()
}

fn find(nodes: &Nodes, parent: INodeNo, name: &OsStr) -> Result<usize, Errno> {
    let name = name.to_str().ok_or(Errno::EILSEQ)?.to_lowercase();
    let is_it = |node: &Option<Node>| {
        node.as_ref().is_some_and(|node| node.parent == number(parent) && node.name.to_lowercase() == name)
    };
    // The root is its own parent and has no name.
    nodes.iter().position(is_it).ok_or(Errno::ENOENT)
}

fn attributes(nodes: &Nodes, number: usize) -> Result<FileAttr, Errno> {
    let node = nodes.get(number).and_then(Option::as_ref).ok_or(Errno::ENOENT)?;
    Ok(FileAttr {
        ino: INodeNo(number as u64),
        size: node.bytes.len() as u64,
        blocks: node.bytes.len().div_ceil(512) as u64,
        atime: node.mtime,
        mtime: node.mtime,
        ctime: node.mtime,
        crtime: node.mtime,
        kind: node.kind,
        perm: MODE,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 512,
        flags: 0,
    })
}

fn add(nodes: &mut Nodes, parent: INodeNo, name: &OsStr, kind: FileType) -> Result<FileAttr, Errno> {
    if find(nodes, parent, name).is_ok() {
        return Err(Errno::EEXIST);
    }
    let name = name.to_str().ok_or(Errno::EILSEQ)?.to_owned();
    nodes.push(Some(Node { parent: number(parent), name, kind, bytes: Vec::new(), mtime: UNIX_EPOCH }));
    attributes(nodes, nodes.len() - 1)
}

fn remove(nodes: &mut Nodes, parent: INodeNo, name: &OsStr) -> Result<(), Errno> {
    let number = find(nodes, parent, name)?;
    if nodes.iter().flatten().any(|node| node.parent == number) {
        return Err(Errno::ENOTEMPTY);
    }
    // An open file stays readable.
    let node = nodes[number].as_mut().ok_or(Errno::ENOENT)?;
    (node.parent, node.name) = (UNLINKED, String::new());
    Ok(())
}

fn rename(
    nodes: &mut Nodes,
    (parent, name): (INodeNo, &OsStr),
    (new_parent, new_name): (INodeNo, &OsStr),
    flags: RenameFlags,
) -> Result<(), Errno> {
    if !flags.is_empty() {
        return Err(Errno::EINVAL);
    }
    let moved = find(nodes, parent, name)?;
    if find(nodes, new_parent, new_name).is_ok_and(|replaced| replaced != moved) {
        remove(nodes, new_parent, new_name)?;
    }
    let node = nodes[moved].as_mut().unwrap();
    (node.parent, node.name) = (number(new_parent), new_name.to_str().ok_or(Errno::EILSEQ)?.to_owned());
    Ok(())
}

fn reply_empty(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

fn reply_entry(reply: ReplyEntry, result: Result<FileAttr, Errno>) {
    match result {
        Ok(attributes) => reply.entry(&NOT_CACHED, &attributes, Generation(0)),
        Err(error) => reply.error(error),
    }
}

fn even_seconds(time: TimeOrNow) -> SystemTime {
    let time = match time {
        TimeOrNow::SpecificTime(time) => time,
        TimeOrNow::Now => SystemTime::now(),
    };
    // Nothing is before 1980 on a memory card; here 1970 is the limit.
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |duration| duration.as_secs());
    UNIX_EPOCH + Duration::from_secs(seconds / 2 * 2)
}

impl Filesystem for Files {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let nodes = self.nodes();
        reply_entry(reply, find(&nodes, parent, name).and_then(|number| attributes(&nodes, number)));
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match attributes(&self.nodes(), number(inode)) {
            Ok(attributes) => reply.attr(&NOT_CACHED, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut nodes = self.nodes();
        let number = number(inode);
        let is_mode_kept = mode.is_none_or(|mode| mode & 0o7777 == u32::from(MODE));
        let (Some(node), true) = (nodes[number].as_mut(), is_mode_kept && uid.is_none() && gid.is_none()) else {
            return reply.error(Errno::EPERM);
        };
        if let Some(size) = size {
            node.bytes.resize(usize::try_from(size).unwrap(), 0);
        }
        if let Some(mtime) = mtime {
            node.mtime = even_seconds(mtime);
        }
        match attributes(&nodes, number) {
            Ok(attributes) => reply.attr(&NOT_CACHED, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply_entry(reply, add(&mut self.nodes(), parent, name, FileType::Directory));
    }

    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        match add(&mut self.nodes(), parent, name, FileType::RegularFile) {
            Ok(attributes) => {
                reply.created(&NOT_CACHED, &attributes, Generation(0), FileHandle(0), FopenFlags::empty());
            }
            Err(error) => reply.error(error),
        }
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &Path, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        reply_empty(reply, remove(&mut self.nodes(), parent, name));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        reply_empty(reply, remove(&mut self.nodes(), parent, name));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply_empty(reply, rename(&mut self.nodes(), (parent, name), (new_parent, new_name), flags));
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let nodes = self.nodes();
        let bytes = nodes[number(inode)].as_ref().map_or(&[][..], |node| &node.bytes);
        let start = usize::try_from(offset).unwrap().min(bytes.len());
        let end = (start + size as usize).min(bytes.len());
        reply.data(&bytes[start..end]);
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut nodes = self.nodes();
        let Some(node) = nodes[number(inode)].as_mut() else { return reply.error(Errno::ENOENT) };
        let start = usize::try_from(offset).unwrap();
        let end = start + data.len();
        node.bytes.resize(node.bytes.len().max(end), 0);
        node.bytes[start..end].copy_from_slice(data);
        node.mtime = even_seconds(TimeOrNow::Now);
        reply.written(u32::try_from(data.len()).unwrap());
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    /// Like FAT, it has no number of inodes.
    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let (free_blocks, block_bytes, name_bytes) = (1 << 20, 512, 255);
        reply.statfs(free_blocks, free_blocks, free_blocks, 0, 0, block_bytes, name_bytes, block_bytes);
    }

    fn readdir(&self, _: &Request, inode: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let nodes = self.nodes();
        let inside = (0_u64..).zip(nodes.iter()).filter_map(|(at, node)| Some((at, node.as_ref()?)));
        let inside = inside.filter(|(at, node)| *at > 1 && node.parent == number(inode));
        for (at, node) in inside.filter(|(at, _)| *at > offset) {
            if reply.add(INodeNo(at), at, node.kind, &node.name) {
                break;
            }
        }
        reply.ok();
    }
}
