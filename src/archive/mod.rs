//! The archive: a directory as one tar stream.
//!
//! A put of a directory writes the stream, and its blocks are sealed like those of a file. So a directory can be
//! restored without CellSync: `restore.py photos.manifest | tar -x`. Nothing here touches a file system; the entries
//! come from `client::put` and go to `client::get`.
//!
//! [`header`] writes an entry, [`Decoder`] reads them, and [`acl`] converts access control lists. [`index`] lists the
//! entries of a stream, and [`cuts`] divides it into blocks.

pub mod acl;
pub mod cuts;
mod decode;
mod encode;
mod entry;
pub mod index;
mod pax;

pub use crate::archive::decode::{DecodeError, Decoder};
pub use crate::archive::encode::{END, EncodeError, header, padding};
pub use crate::archive::entry::{Entry, Extent, Kind, Owner, Timestamp};

/// Maximum size of the extension records of an entry: of its path, names, access control lists and extended attributes
/// together.
pub const MAX_EXTENSION_BYTES: usize = 1 << 20;
/// Maximum number of parts with data of a sparse file. The holes between further parts are stored as zeros.
pub const MAX_EXTENTS: usize = 1 << 16;
/// What paths in a stream begin with.
const HERE: &[u8] = b"./";
