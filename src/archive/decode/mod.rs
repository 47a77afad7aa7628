//! Reading an archive: a tar stream becomes entries, each followed by its data.
//!
//! It reads the headers of POSIX (ustar and pax, POSIX.1-2017, *pax*) and of GNU tar, the long names of GNU tar, which
//! earlier versions of CellSync wrote, and its older form of sparse files. Only one entry's records are in memory.

mod error;
mod records;
mod sparse;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::io::{self, BufRead, ErrorKind, Read};

use tar::{GnuExtSparseHeader, Header};

pub use crate::archive::decode::error::DecodeError;
use crate::archive::decode::records::PaxRecords;
use crate::archive::decode::sparse::{SparseError, SparseMap};
use crate::archive::entry::{Entry, Extent, Kind, Owner, Timestamp};
use crate::archive::{HERE, MAX_EXTENSION_BYTES};

const BLOCK: usize = 512;
type Block = [u8; BLOCK];

/// Where the checksum is in a header. It counts itself as spaces.
const CHECKSUM_FIELD: std::ops::Range<usize> = 148..156;

/// Reads an archive from a stream.
#[derive(Debug)]
pub struct Decoder<R> {
    reader: R,
    /// Bytes read so far.
    at: u64,
    /// Data of the current entry that was not read yet, and the padding after it.
    data_left: u64,
    padding: u64,
    /// Records for all later entries, and how many bytes of the stream they took.
    globals: PaxRecords,
    globals_bytes: usize,
    is_at_end: bool,
}

/// The extension records before one entry.
#[derive(Debug, Default)]
struct Extensions {
    records: Vec<u8>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    bytes: usize,
}

impl<R: BufRead> Decoder<R> {
    /// Reads an archive from the beginning of `reader`.
    pub fn new(reader: R) -> Self {
        Self {
            reader,
            at: 0,
            data_left: 0,
            padding: 0,
            globals: PaxRecords::default(),
            globals_bytes: 0,
            is_at_end: false,
        }
    }

    /// Continues an archive in the data of an entry, or before a header: `reader` begins at byte `at` of the archive,
    /// which is after `done` of the `data_bytes` of the entry. The archive has no records for all entries.
    pub fn resume(reader: R, at: u64, data_bytes: u64, done: u64) -> Self {
        let padding = data_bytes.checked_next_multiple_of(BLOCK as u64).map_or(0, |padded| padded - data_bytes);
        Self { at, data_left: data_bytes.saturating_sub(done), padding, ..Self::new(reader) }
    }

    /// Bytes read so far, or the position with which it was resumed and those since.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Where the header after the current entry is.
    pub fn next_header(&self) -> u64 {
        self.at.saturating_add(self.data_left).saturating_add(self.padding)
    }

    /// Were there records for all later entries?
    pub fn has_globals(&self) -> bool {
        self.globals_bytes > 0
    }

    /// Where the bytes come from.
    pub fn reader(&self) -> &R {
        &self.reader
    }

    /// The next entry, or `None` at the end of the archive. Data of the entry before it that was not read is skipped.
    /// At the end, the rest of the stream is read: only zeros may be there.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, DecodeError> {
        self.skip_data()?;
        let mut extensions = Extensions::default();
        while !self.is_at_end {
            let at = self.at;
            let block = self.read_block()?;
            if block.iter().all(|&byte| byte == 0) {
                if extensions.bytes > 0 {
                    return Err(DecodeError::Records { at });
                }
                self.read_end(at)?;
                self.is_at_end = true;
                break;
            }
            let header = Header::from_byte_slice(&block);
            check(header, at)?;
            match type_flag(header) {
                b'L' => {
                    let name = self.read_extension(header, at, &mut extensions.bytes)?;
                    extensions.long_name = Some(until_zero(name));
                }
                b'K' => {
                    let name = self.read_extension(header, at, &mut extensions.bytes)?;
                    extensions.long_link = Some(until_zero(name));
                }
                b'x' => {
                    let records = self.read_extension(header, at, &mut extensions.bytes)?;
                    extensions.records.extend(records);
                }
                b'g' => {
                    let mut bytes = self.globals_bytes;
                    let records = self.read_extension(header, at, &mut bytes)?;
                    self.globals_bytes = bytes;
                    self.globals.add(&records).map_err(|_| DecodeError::Records { at: self.at })?;
                }
                _ => return self.read_entry(header, at, extensions).map(Some),
            }
        }
        Ok(None)
    }

    /// The next bytes of the entry's data; empty at their end. [`Decoder::consume_data`] advances.
    pub fn data(&mut self) -> Result<&[u8], DecodeError> {
        if self.data_left == 0 {
            return Ok(&[]);
        }
        let bytes = self.reader.fill_buf().map_err(DecodeError::Read)?;
        let wanted = usize::try_from(self.data_left).unwrap_or(usize::MAX);
        match bytes.get(..wanted.min(bytes.len())) {
            Some(bytes) if !bytes.is_empty() => Ok(bytes),
            _ => Err(DecodeError::Truncated { at: self.at }),
        }
    }

    /// Advances past bytes that [`Decoder::data`] returned.
    pub fn consume_data(&mut self, bytes: usize) {
        self.reader.consume(bytes);
        self.at = self.at.saturating_add(bytes as u64);
        self.data_left = self.data_left.saturating_sub(bytes as u64);
    }

    /// The entry whose header this is. Its data follows in the stream.
    fn read_entry(&mut self, header: &Header, at: u64, extensions: Extensions) -> Result<Entry, DecodeError> {
        let invalid = |field| DecodeError::Field { at, field };
        let mut records = self.globals.clone();
        records.add(&extensions.records).map_err(|_| DecodeError::Records { at })?;
        let mut path = records.path.or(extensions.long_name).unwrap_or_else(|| header.path_bytes().into_owned());
        let link = records.link_path.or(extensions.long_link);
        let link = link.or_else(|| header.link_name_bytes().map(Cow::into_owned)).unwrap_or_default();
        if path.is_empty() || path.contains(&0) {
            return Err(invalid("path"));
        }
        let link_target = || if link.is_empty() || link.contains(&0) { Err(invalid("link target")) } else { Ok(link) };
        let size = match records.size {
            Some(size) => size,
            None => header.entry_size().map_err(|_| invalid("size"))?,
        };
        if i64::try_from(size).is_err() {
            return Err(invalid("size"));
        }
        let flag = type_flag(header);
        let kind = match flag {
            _ if records.is_sparse => return Err(DecodeError::PaxSparse { path }),
            // As programs before POSIX wrote a directory.
            0 if path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' => Kind::File { size, extents: None },
            b'S' => {
                let (size, extents) = self.read_sparse_map(header, at, &path, size)?;
                Kind::File { size, extents: Some(extents) }
            }
            b'1' => Kind::HardLink { target: without_here(link_target()?) },
            b'2' => Kind::SymbolicLink { target: link_target()? },
            b'5' => Kind::Directory,
            flag => Kind::Other { flag },
        };
        // The size of types without data means something else (POSIX.1-2017, "ustar Interchange Format"). An unknown
        // type has data.
        self.data_left = if matches!(flag, b'1'..=b'6') || kind == Kind::Directory { 0 } else { size };
        self.padding = self.data_left.next_multiple_of(BLOCK as u64) - self.data_left;
        if kind == Kind::Directory {
            let kept = path.iter().rposition(|&byte| byte != b'/').map_or(1, |last| last + 1);
            path.truncate(kept);
        }
        let uid = records.uid.or_else(|| header.uid().ok()?.try_into().ok()).ok_or_else(|| invalid("user"))?;
        let gid = records.gid.or_else(|| header.gid().ok()?.try_into().ok()).ok_or_else(|| invalid("group"))?;
        let modified = match records.modified {
            Some(modified) => modified,
            // Times before 1970 have a sign in GNU headers, and earlier versions wrote them without one: as numbers of
            // 64 bits, both are the same.
            None => Timestamp { seconds: header.mtime().map_err(|_| invalid("time"))?.cast_signed(), nanoseconds: 0 },
        };
        Ok(Entry {
            path: without_here(path),
            kind,
            mode: header.mode().map_err(|_| invalid("mode"))? & 0o7777,
            user: Owner { id: uid, name: records.user.or_else(|| owner_name(header.username_bytes())) },
            group: Owner { id: gid, name: records.group.or_else(|| owner_name(header.groupname_bytes())) },
            modified,
            xattrs: records.xattrs.into_iter().collect(),
            access_acl: records.access_acl,
            default_acl: records.default_acl,
        })
    }

    /// The size of a sparse file, and its parts with data.
    fn read_sparse_map(
        &mut self,
        header: &Header,
        at: u64,
        path: &[u8],
        data_bytes: u64,
    ) -> Result<(u64, Vec<Extent>), DecodeError> {
        let refused = |error| match error {
            SparseError::TooMany => DecodeError::Extents { path: path.to_owned() },
            SparseError::Malformed => DecodeError::SparseMap { path: path.to_owned() },
        };
        let gnu = header.as_gnu().ok_or(DecodeError::Field { at, field: "type" })?;
        let size = gnu.real_size().map_err(|_| DecodeError::Field { at, field: "size" })?;
        if i64::try_from(size).is_err() {
            return Err(DecodeError::Field { at, field: "size" });
        }
        let mut map = SparseMap::default();
        map.add(&gnu.sparse).map_err(refused)?;
        let mut is_extended = gnu.is_extended();
        while is_extended {
            let mut more = GnuExtSparseHeader::new();
            self.fill(more.as_mut_bytes())?;
            map.add(more.sparse()).map_err(refused)?;
            // A block without parts would make the loop endless.
            is_extended = more.is_extended() && more.sparse().iter().any(|part| !part.is_empty());
        }
        Ok((size, map.finish(size, data_bytes).map_err(refused)?))
    }

    /// The data of an extension header. `bytes` counts the data of all of them that are in memory.
    fn read_extension(&mut self, header: &Header, at: u64, bytes: &mut usize) -> Result<Vec<u8>, DecodeError> {
        let size = header.entry_size().map_err(|_| DecodeError::Field { at, field: "size" })?;
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        *bytes = bytes.saturating_add(length);
        if *bytes > MAX_EXTENSION_BYTES {
            return Err(DecodeError::Extensions { at });
        }
        let mut data = vec![0; length.next_multiple_of(BLOCK)];
        self.fill(&mut data)?;
        data.truncate(length);
        Ok(data)
    }

    /// The rest of the stream, after the first of the blocks that end the archive: another one, and padding.
    fn read_end(&mut self, at: u64) -> Result<(), DecodeError> {
        if self.read_block()?.iter().any(|&byte| byte != 0) {
            return Err(DecodeError::Trailing { at });
        }
        self.read_padding(at)
    }

    /// Reads the rest of a stream of which the end of the archive was read before: only zeros may be there.
    pub fn read_zeros(&mut self) -> Result<(), DecodeError> {
        self.read_padding(self.at)
    }

    /// Reads zeros to the end of the stream. The archive ended at `at`.
    fn read_padding(&mut self, at: u64) -> Result<(), DecodeError> {
        loop {
            let bytes = self.reader.fill_buf().map_err(DecodeError::Read)?;
            match bytes.len() {
                0 => return Ok(()),
                _ if bytes.iter().any(|&byte| byte != 0) => return Err(DecodeError::Trailing { at }),
                length => self.reader.consume(length),
            }
        }
    }

    fn skip_data(&mut self) -> Result<(), DecodeError> {
        // The padding is skipped like data.
        self.data_left = self.data_left.saturating_add(std::mem::take(&mut self.padding));
        loop {
            let length = self.data()?.len();
            if length == 0 {
                return Ok(());
            }
            self.consume_data(length);
        }
    }

    fn read_block(&mut self) -> Result<Block, DecodeError> {
        let mut block = [0; BLOCK];
        self.fill(&mut block)?;
        Ok(block)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), DecodeError> {
        self.reader.read_exact(bytes).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => DecodeError::Truncated { at: self.at },
            _ => DecodeError::Read(error),
        })?;
        self.at = self.at.saturating_add(bytes.len() as u64);
        Ok(())
    }
}

/// The data of the current entry.
impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.data().and_then(|mut bytes| bytes.read(buffer).map_err(DecodeError::Read));
        let read = read.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        self.consume_data(read);
        Ok(read)
    }
}

/// Checks the checksum of a header.
fn check(header: &Header, at: u64) -> Result<(), DecodeError> {
    let counted =
        |(position, &byte)| if CHECKSUM_FIELD.contains(&position) { u32::from(b' ') } else { u32::from(byte) };
    let sum: u32 = (0..).zip(header.as_bytes()).map(counted).sum();
    match header.cksum() {
        Ok(stated) if stated == sum => Ok(()),
        _ => Err(DecodeError::Checksum { at }),
    }
}

fn type_flag(header: &Header) -> u8 {
    let [flag] = header.as_old().linkflag;
    flag
}

/// The path without `./` before it, as earlier versions wrote it.
fn without_here(mut path: Vec<u8>) -> Vec<u8> {
    while path.starts_with(HERE) && path != HERE {
        path.drain(..HERE.len());
    }
    path
}

/// A long name of GNU tar ends with a zero.
fn until_zero(mut name: Vec<u8>) -> Vec<u8> {
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    name.truncate(end);
    name
}

/// The name of a user or group in a header.
fn owner_name(name: Option<&[u8]>) -> Option<String> {
    let name = str::from_utf8(name?).ok()?;
    (!name.is_empty()).then(|| name.to_owned())
}
