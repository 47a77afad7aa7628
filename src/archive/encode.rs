//! Writing entries: the bytes before and after the data of each.
//!
//! ```text
//!  entry ─▶ header(entry):  [ pax header, records, padding ]  header  [ further extents of a sparse file ]
//!           data_bytes() bytes of data, then padding(data_bytes()) zeros
//!  … further entries …
//!  END
//! ```
//!
//! An entry depends on no other, and the same entry always makes the same bytes. So entries can be written in any order
//! and kept apart, and a stream has a known length before its data is read.
//!
//! The headers are those of GNU tar, with raw bytes in the names, because the field of a path has the full 100 bytes
//! there, and because a sparse file needs no second format. What does not fit is in a pax header before them, which GNU
//! tar, bsdtar and Python's `tarfile` apply to these headers as well: long or long-linked paths, times with nanoseconds,
//! before 1970 or after 2242 (of which bsdtar misreads fractions of seconds before 1970), large ids, long names of owners, access control lists, extended attributes. Sizes beyond
//! 8 GiB and large ids are in the header as base-256 numbers.
//!
//! Paths begin with `./`, since bsdtar removes a backslash, or a letter with a colon, from the beginning of a path.
//!
//! A sparse file has GNU's old form, the type `S`: it is the one that all of these programs and earlier versions of this
//! one restore with holes.
//!
//! Sources: POSIX.1-2017, the utility `pax`; the GNU tar manual, "Basic Tar Format" and "Storing Sparse Files".

use std::borrow::Cow;

use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

use crate::archive::entry::{Entry, Extent, Kind, Owner};
use crate::archive::pax;
use crate::archive::{HERE, MAX_EXTENSION_BYTES, MAX_EXTENTS};

/// The unit of a stream in bytes: headers have one, and data is padded to whole ones.
const UNIT: usize = 512;
/// What ends a stream: two units of zeros.
pub const END: [u8; 2 * UNIT] = [0; 2 * UNIT];
/// The largest time that the header's field holds, in 2242.
const MAX_HEADER_TIME: i64 = 0o77_777_777_777;
/// The largest id that the header's field holds in octal digits.
const MAX_HEADER_ID: u32 = 0o7_777_777;
/// The last byte of a field is a zero to readers that take the field for a C string.
const MAX_OWNER_NAME: usize = 31;

/// Why an entry cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Its path, names, access control lists and extended attributes are larger than a reader accepts.
    #[error("its metadata has {bytes} bytes, more than {MAX_EXTENSION_BYTES}")]
    TooMuchMetadata {
        /// The size of the pax records.
        bytes: usize,
    },
    /// The parts of a sparse file that have data are not in order, overlap, are too many, or are not whole units.
    #[error("invalid extents")]
    InvalidExtents,
    /// The type cannot be written.
    #[error("a type that archives of this program do not have")]
    UnsupportedType,
}

/// All bytes of an entry that come before its data.
pub fn header(entry: &Entry) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = Vec::new();
    let path = relative(&entry.path);
    let (kind, target) = match &entry.kind {
        Kind::File { extents: None, .. } => (EntryType::Regular, Cow::default()),
        Kind::File { extents: Some(_), .. } => (EntryType::GNUSparse, Cow::default()),
        Kind::Directory => (EntryType::Directory, Cow::default()),
        Kind::SymbolicLink { target } => (EntryType::Symlink, Cow::from(target)),
        Kind::HardLink { target } => (EntryType::Link, relative(target)),
        Kind::Other { .. } => return Err(EncodeError::UnsupportedType),
    };
    let records = records(entry, &path, &target);
    if !records.is_empty() {
        if records.len() > MAX_EXTENSION_BYTES {
            return Err(EncodeError::TooMuchMetadata { bytes: records.len() });
        }
        bytes.extend_from_slice(pax_header(entry, records.len()).as_bytes());
        bytes.extend_from_slice(&records);
        bytes.resize(bytes.len() + padding(records.len() as u64), 0);
    }
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(entry.mode & 0o7777);
    header.set_uid(entry.user.id.into());
    header.set_gid(entry.group.id.into());
    header.set_size(entry.data_bytes());
    header.set_mtime(entry.modified.seconds.clamp(0, MAX_HEADER_TIME).unsigned_abs());
    let mut further = Vec::new();
    if let Some(fields) = header.as_gnu_mut() {
        fill(&mut fields.name, &path);
        fill(&mut fields.linkname, &target);
        fill(&mut fields.uname, header_name(&entry.user));
        fill(&mut fields.gname, header_name(&entry.group));
        if let Kind::File { size, extents: Some(extents) } = &entry.kind {
            let map = map(*size, extents)?;
            let (first, rest) = map.split_at(map.len().min(fields.sparse.len()));
            fill_map(&mut fields.sparse, first);
            set_number(&mut fields.realsize, *size);
            fields.isextended = [u8::from(!rest.is_empty())];
            further = further_headers(rest);
        }
    }
    header.set_cksum();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(&further);
    Ok(bytes)
}

/// The zeros that follow this many bytes of data.
pub fn padding(bytes: u64) -> usize {
    let rest = usize::try_from(bytes % UNIT as u64).unwrap_or_default();
    (UNIT - rest) % UNIT
}

/// The path as it is in the stream.
fn relative(path: &[u8]) -> Cow<'_, [u8]> {
    if path == b"." { path.into() } else { [HERE, path].concat().into() }
}

/// The pax records of what does not fit in the header.
fn records(entry: &Entry, path: &[u8], target: &[u8]) -> Vec<u8> {
    let mut records = Vec::new();
    let long: Vec<_> = [(pax::PATH, path), (pax::LINK_PATH, target)]
        .into_iter()
        .filter(|(_, path)| path.len() > Header::new_gnu().as_old().name.len())
        .collect();
    if long.iter().any(|(_, path)| std::str::from_utf8(path).is_err()) {
        pax::push(&mut records, pax::CHARSET.as_bytes(), pax::BINARY.as_bytes());
    }
    for (keyword, path) in long {
        pax::push(&mut records, keyword.as_bytes(), path);
    }
    if entry.modified.nanoseconds != 0 || !(0..=MAX_HEADER_TIME).contains(&entry.modified.seconds) {
        pax::push(&mut records, pax::MODIFIED.as_bytes(), pax::time(entry.modified).as_bytes());
    }
    let owners = [(&entry.user, pax::USER_ID, pax::USER_NAME), (&entry.group, pax::GROUP_ID, pax::GROUP_NAME)];
    for (owner, id_keyword, name_keyword) in owners {
        if owner.id > MAX_HEADER_ID {
            pax::push(&mut records, id_keyword.as_bytes(), owner.id.to_string().as_bytes());
        }
        if let Some(name) = owner.name.as_ref().filter(|name| name.len() > MAX_OWNER_NAME) {
            pax::push(&mut records, name_keyword.as_bytes(), name.as_bytes());
        }
    }
    for (keyword, acl) in [(pax::ACCESS_ACL, &entry.access_acl), (pax::DEFAULT_ACL, &entry.default_acl)] {
        if let Some(acl) = acl {
            pax::push(&mut records, keyword.as_bytes(), acl.as_bytes());
        }
    }
    for (name, value) in &entry.xattrs {
        pax::push(&mut records, &pax::xattr_keyword(name), value);
    }
    records
}

/// The header of the pax records. Programs that do not know the type restore the records as a file of this name.
fn pax_header(entry: &Entry, size: usize) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::XHeader);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size as u64);
    header.set_mtime(0);
    let name = entry.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    fill(&mut header.as_old_mut().name, &[b"./PaxHeaders/", name].concat());
    header.set_cksum();
    header
}

fn header_name(owner: &Owner) -> &[u8] {
    owner.name.as_ref().map(String::as_bytes).filter(|name| name.len() <= MAX_OWNER_NAME).unwrap_or_default()
}

/// Writes as much of `bytes` to a field as fits.
fn fill(field: &mut [u8], bytes: &[u8]) {
    for (to, from) in field.iter_mut().zip(bytes) {
        *to = *from;
    }
}

/// The map of a sparse file as GNU tar writes it: a file that ends in a hole has an empty extent at its end. Each
/// extent is read in whole units, so only the last one may end within a unit.
fn map(size: u64, extents: &[Extent]) -> Result<Vec<Extent>, EncodeError> {
    let mut map = Vec::with_capacity(extents.len() + 1);
    let mut end = 0;
    if extents.len() > MAX_EXTENTS {
        return Err(EncodeError::InvalidExtents);
    }
    for extent in extents {
        let next = extent.offset.checked_add(extent.length).ok_or(EncodeError::InvalidExtents)?;
        let is_whole = padding(extent.length) == 0 || next == size;
        if extent.offset < end || extent.length == 0 || next > size || !is_whole {
            return Err(EncodeError::InvalidExtents);
        }
        end = next;
        map.push(*extent);
    }
    if end < size || map.is_empty() {
        map.push(Extent { offset: size, length: 0 });
    }
    Ok(map)
}

fn fill_map(fields: &mut [GnuSparseHeader], extents: &[Extent]) {
    for (field, extent) in fields.iter_mut().zip(extents) {
        field.set_offset(extent.offset);
        field.set_length(extent.length);
    }
}

/// The headers of the extents for which the entry's own header has no room.
fn further_headers(extents: &[Extent]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = extents;
    while !rest.is_empty() {
        let mut header = GnuExtSparseHeader::new();
        let (first, further) = rest.split_at(rest.len().min(header.sparse().len()));
        fill_map(header.sparse_mut(), first);
        header.set_is_extended(!further.is_empty());
        bytes.extend_from_slice(header.as_bytes());
        rest = further;
    }
    bytes
}

/// Writes a number to a field of 12 bytes: octal digits, or base-256 if it is too large.
fn set_number(field: &mut [u8; 12], number: u64) {
    let mut header = Header::new_gnu();
    header.set_size(number);
    *field = header.as_old().size;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::entry::Timestamp;

    fn entry(path: &[u8], kind: Kind) -> Entry {
        let modified = Timestamp { seconds: 1_700_000_000, nanoseconds: 0 };
        let (user, group, xattrs) = (Owner::default(), Owner::default(), Vec::new());
        Entry {
            path: path.to_vec(),
            kind,
            mode: 0o644,
            user,
            group,
            modified,
            xattrs,
            access_acl: None,
            default_acl: None,
        }
    }

    fn sparse(size: u64, extents: &[(u64, u64)]) -> Entry {
        let extents = extents.iter().map(|&(offset, length)| Extent { offset, length }).collect();
        entry(b"s", Kind::File { size, extents: Some(extents) })
    }

    #[test]
    fn a_plain_entry_is_one_header_that_readers_verify() {
        let bytes = header(&entry(b"dir/-name", Kind::File { size: 5, extents: None })).unwrap();
        assert_eq!(bytes.len(), UNIT);
        let stream = [&bytes[..], b"12345", &vec![0; padding(5)], &END].concat();
        let mut archive = tar::Archive::new(&stream[..]);
        let mut read = archive.entries().unwrap();
        let entry = read.next().unwrap().unwrap();
        assert_eq!((&*entry.path_bytes(), entry.size()), (&b"./dir/-name"[..], 5));
        assert!(read.next().is_none());
    }

    #[test]
    fn the_same_entry_makes_the_same_bytes() {
        let mut long = entry(&[b'x'; 300], Kind::Directory);
        long.xattrs = vec![(b"user.a=b%".to_vec(), b"1".to_vec())];
        let bytes = header(&long).unwrap();
        assert_eq!(header(&long), Ok(bytes.clone()));
        assert!(String::from_utf8(bytes).unwrap().contains("SCHILY.xattr.user.a%3Db%25=1\n"));
    }

    #[test]
    fn metadata_beyond_the_limit_of_readers_is_an_error() {
        let mut large = entry(b"f", Kind::Directory);
        large.xattrs = vec![(b"user.a".to_vec(), vec![0; MAX_EXTENSION_BYTES])];
        assert!(matches!(header(&large), Err(EncodeError::TooMuchMetadata { bytes }) if bytes > MAX_EXTENSION_BYTES));
        large.xattrs = vec![(b"user.a".to_vec(), vec![0; MAX_EXTENSION_BYTES - 100])];
        assert!(header(&large).is_ok());
    }

    #[test]
    fn extents_must_be_in_order_and_of_whole_units() {
        let maps: [&[(u64, u64)]; 4] = [&[], &[(0, 512)], &[(512, 512), (2048, 100)], &[(0, 2148)]];
        for extents in maps {
            assert!(header(&sparse(2148, extents)).is_ok(), "{extents:?}");
        }
        let maps: [&[(u64, u64)]; 6] = [
            &[(0, 0)],
            &[(0, 100)],
            &[(0, 1024), (512, 512)],
            &[(2048, 512)],
            &[(u64::MAX, 2)],
            &[(512, 512), (0, 512)],
        ];
        for extents in maps {
            assert_eq!(header(&sparse(2148, extents)), Err(EncodeError::InvalidExtents), "{extents:?}");
        }
        let many: Vec<_> = (0..=MAX_EXTENTS as u64).map(|n| (n * 1024, 512)).collect();
        assert!(header(&sparse(1 << 40, &many[1..])).is_ok());
        assert_eq!(header(&sparse(1 << 40, &many)), Err(EncodeError::InvalidExtents));
    }

    #[test]
    fn types_that_are_only_read_are_errors() {
        assert_eq!(header(&entry(b"p", Kind::Other { flag: b'6' })), Err(EncodeError::UnsupportedType));
    }
}
