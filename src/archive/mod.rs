//! The archive: a directory as one tar stream.
//!
//! A put of a directory writes the stream, and its blocks are sealed like those of a file. So a directory can be
//! restored without CellSync: `restore.py photos.manifest | tar -x`. Nothing here touches a file system; the entries
//! come from `client::put` and go to `client::get`.

mod entry;

pub use crate::archive::entry::{Entry, Extent, Kind, Owner, Timestamp};
