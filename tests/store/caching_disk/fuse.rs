//! The caching disk as the kernel sees it.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::tree::{Kind, Tree};
use super::{Operation, State};

/// The kernel keeps nothing about files, so that it asks for everything.
const NOT_CACHED: Duration = Duration::ZERO;
/// It may keep where folders are, which saves most of the calls.
const CACHED: Duration = Duration::from_hours(1);
const BLOCK_BYTES: u32 = 4096;

pub(super) struct Files(pub(super) Arc<Mutex<State>>);

impl Files {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

fn name_of(name: &OsStr) -> Result<&str, Errno> {
    name.to_str().ok_or(Errno::EILSEQ)
}

fn attributes(tree: &Tree, number: u64) -> Result<FileAttr, Errno> {
    let node = tree.node(number)?;
    let (kind, perm, size) = match &node.kind {
        Kind::File(file) => (FileType::RegularFile, 0o644, file.bytes.len() as u64),
        Kind::Folder(_) => (FileType::Directory, 0o755, 0),
    };
    Ok(FileAttr {
        ino: INodeNo(number),
        size,
        blocks: size.div_ceil(512),
        atime: node.changed,
        mtime: node.changed,
        ctime: node.changed,
        crtime: node.changed,
        kind,
        perm,
        nlink: tree.links(number),
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        rdev: 0,
        blksize: BLOCK_BYTES,
        flags: 0,
    })
}

fn reply_empty(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

fn reply_entry(reply: ReplyEntry, result: Result<FileAttr, Errno>) {
    match result {
        Ok(attributes) => {
            let is_folder = attributes.kind == FileType::Directory;
            reply.entry(if is_folder { &CACHED } else { &NOT_CACHED }, &attributes, Generation(0));
        }
        Err(error) => reply.error(error),
    }
}

fn reply_attributes(reply: ReplyAttr, result: Result<FileAttr, Errno>) {
    match result {
        Ok(attributes) => reply.attr(&NOT_CACHED, &attributes),
        Err(error) => reply.error(error),
    }
}

fn reply_open(reply: ReplyOpen, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.opened(FileHandle(0), FopenFlags::empty()),
        Err(error) => reply.error(error),
    }
}

impl State {
    fn add(&mut self, parent: INodeNo, name: &OsStr, is_folder: bool) -> Result<FileAttr, Errno> {
        let (parent, name) = (u64::from(parent), name_of(name)?);
        let path = self.tree.path_in(parent, name);
        let operation = if is_folder { Operation::MakeFolder } else { Operation::Create };
        self.change(operation, &path, |tree| {
            let number = tree.create(parent, name, is_folder)?;
            attributes(tree, number)
        })
    }

    fn remove(&mut self, parent: INodeNo, name: &OsStr) -> Result<(), Errno> {
        let (parent, name) = (u64::from(parent), name_of(name)?);
        let path = self.tree.path_in(parent, name);
        self.change(Operation::Remove, &path, |tree| tree.remove(parent, name))
    }

    fn fsync(&mut self, operation: Operation, number: u64) -> Result<(), Errno> {
        let path = self.tree.path(number);
        let result = self.change(operation, &path, |tree| {
            tree.fsync(number, true);
            Ok(())
        });
        // A dead process calls for no fsync.
        if result.is_err() && self.steps_to_live != Some(0) {
            self.tree.fsync(number, false);
        }
        result
    }

    fn meet_at(&mut self, operation: Operation, inode: INodeNo) -> Result<(), Errno> {
        let path = self.tree.path(u64::from(inode));
        self.meet(operation, &path)
    }
}

impl Filesystem for Files {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut state = self.state();
        let found = name_of(name).and_then(|name| {
            let path = state.tree.path_in(u64::from(parent), name);
            state.meet(Operation::Lookup, &path)?;
            attributes(&state.tree, state.tree.find(u64::from(parent), name)?)
        });
        reply_entry(reply, found);
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let mut state = self.state();
        let met = state.meet_at(Operation::Attributes, inode);
        reply_attributes(reply, met.and_then(|()| attributes(&state.tree, u64::from(inode))));
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let (mut state, number) = (self.state(), u64::from(inode));
        let path = state.tree.path(number);
        let result = state.change(Operation::Resize, &path, |tree| {
            size.map_or(Ok(()), |size| tree.resize(number, usize::try_from(size).unwrap()))?;
            attributes(tree, number)
        });
        reply_attributes(reply, result);
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply_entry(reply, self.state().add(parent, name, true));
    }

    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        match self.state().add(parent, name, false) {
            Ok(attributes) => {
                reply.created(&NOT_CACHED, &attributes, Generation(0), FileHandle(0), FopenFlags::empty());
            }
            Err(error) => reply.error(error),
        }
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &Path, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn link(&self, _: &Request, inode: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (mut state, number, parent) = (self.state(), u64::from(inode), u64::from(parent));
        if !state.has_links {
            return reply.error(Errno::EPERM);
        }
        let result = name_of(name).and_then(|name| {
            let path = state.tree.path_in(parent, name);
            state.change(Operation::Link, &path, |tree| {
                tree.link(number, parent, name)?;
                attributes(tree, number)
            })
        });
        reply_entry(reply, result);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        reply_empty(reply, self.state().remove(parent, name));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        reply_empty(reply, self.state().remove(parent, name));
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
        let mut state = self.state();
        let names = name_of(name).and_then(|name| Ok((name, name_of(new_name)?)));
        let result = names.and_then(|(name, new_name)| {
            if !flags.is_empty() {
                return Err(Errno::EINVAL);
            }
            let (from, to) = (u64::from(parent), u64::from(new_parent));
            let path = state.tree.path_in(to, new_name);
            state.change(Operation::Rename, &path, |tree| tree.rename((from, name), (to, new_name)))
        });
        reply_empty(reply, result);
    }

    fn open(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply_open(reply, self.state().meet_at(Operation::Open, inode));
    }

    fn opendir(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply_open(reply, self.state().meet_at(Operation::OpenFolder, inode));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
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
        let mut state = self.state();
        let met = state.meet_at(Operation::Read, inode);
        let is_unreadable = state.unreadable.contains(&u64::from(inode));
        if let Err(error) = met.and(if is_unreadable { Err(Errno::EIO) } else { Ok(()) }) {
            return reply.error(error);
        }
        match state.tree.file(u64::from(inode)) {
            Ok(file) => {
                let start = usize::try_from(offset).unwrap().min(file.bytes.len());
                let end = (start + size as usize).min(file.bytes.len());
                reply.data(&file.bytes[start..end]);
            }
            Err(error) => reply.error(error),
        }
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
        let (mut state, number) = (self.state(), u64::from(inode));
        let path = state.tree.path(number);
        let start = usize::try_from(offset).unwrap();
        match state.change(Operation::Write, &path, |tree| tree.write(number, start, data)) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap()),
            Err(error) => reply.error(error),
        }
    }

    fn fsync(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply_empty(reply, self.state().fsync(Operation::Fsync, u64::from(inode)));
    }

    fn fsyncdir(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply_empty(reply, self.state().fsync(Operation::FsyncFolder, u64::from(inode)));
    }

    fn fallocate(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        _: i32,
        reply: ReplyEmpty,
    ) {
        let (mut state, number) = (self.state(), u64::from(inode));
        let path = state.tree.path(number);
        let end = usize::try_from(offset + length).unwrap();
        reply_empty(reply, state.change(Operation::Allocate, &path, |tree| tree.resize(number, end)));
    }

    fn statfs(&self, _: &Request, inode: INodeNo, reply: ReplyStatfs) {
        let mut state = self.state();
        if let Err(error) = state.meet_at(Operation::Statfs, inode) {
            return reply.error(error);
        }
        let (blocks, free) = (1 << 20, state.free_bytes / u64::from(BLOCK_BYTES));
        reply.statfs(blocks, free, free, 0, 0, BLOCK_BYTES, 255, BLOCK_BYTES);
    }

    fn readdir(&self, _: &Request, inode: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let mut state = self.state();
        if offset == 0
            && let Err(error) = state.meet_at(Operation::ReadFolder, inode)
        {
            return reply.error(error);
        }
        let folder = match state.tree.folder(u64::from(inode)) {
            Ok(folder) => folder,
            Err(error) => return reply.error(error),
        };
        // By number, so that a name which is removed meanwhile hides no other.
        let mut entries: Vec<_> = folder.names.iter().filter(|(_, number)| **number > offset).collect();
        entries.sort_unstable_by_key(|(_, number)| **number);
        for (name, number) in entries {
            let Ok(node) = state.tree.node(*number) else { continue };
            let kind = if matches!(node.kind, Kind::File(_)) { FileType::RegularFile } else { FileType::Directory };
            if reply.add(INodeNo(*number), *number, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}
