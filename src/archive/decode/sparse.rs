//! Sparse files in the older form of GNU tar: the entry has the type `S`, and its header and blocks after that list the
//! parts with data (GNU tar manual, "Old GNU Format").

use tar::GnuSparseHeader;

use crate::archive::MAX_EXTENTS;
use crate::archive::entry::Extent;

/// The parts of a sparse file, as they are collected from its headers.
#[derive(Debug, Default)]
pub(super) struct SparseMap {
    extents: Vec<Extent>,
    end: u64,
}

/// Parts are padded to whole units of this size in bytes. Readers differ in whether `size` counts the padding between
/// two of them, so only the last one may have any.
const UNIT: u64 = 512;

/// Why a map is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SparseError {
    /// A part begins before the end of the one before it, is not in the file, or has no valid numbers.
    Malformed,
    /// There are more than [`MAX_EXTENTS`].
    TooMany,
}

impl SparseMap {
    /// Adds the parts that one header lists.
    pub(super) fn add(&mut self, listed: &[GnuSparseHeader]) -> Result<(), SparseError> {
        for part in listed.iter().filter(|part| !part.is_empty()) {
            let offset = part.offset().map_err(|_| SparseError::Malformed)?;
            let length = part.length().map_err(|_| SparseError::Malformed)?;
            let is_whole = self.extents.last().is_none_or(|before| before.length.is_multiple_of(UNIT));
            if offset < self.end || (length > 0 && !is_whole) {
                return Err(SparseError::Malformed);
            }
            self.end = offset.checked_add(length).ok_or(SparseError::Malformed)?;
            // An empty part marks a hole at the end.
            if length == 0 {
                continue;
            }
            if self.extents.len() == MAX_EXTENTS {
                return Err(SparseError::TooMany);
            }
            self.extents.push(Extent { offset, length });
        }
        Ok(())
    }

    /// The parts, if they are within a file of this size and have this much data together.
    pub(super) fn finish(self, size: u64, data_bytes: u64) -> Result<Vec<Extent>, SparseError> {
        let sum = self.extents.iter().try_fold(0_u64, |sum, extent| sum.checked_add(extent.length));
        if self.end <= size && sum == Some(data_bytes) { Ok(self.extents) } else { Err(SparseError::Malformed) }
    }
}
