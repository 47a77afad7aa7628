//! Where a file has data, and where it has holes.

use std::fs::File;

use crate::archive::{Extent, MAX_EXTENTS};

/// The unit of a tar stream, in bytes. Extents are extended to whole ones.
const UNIT: u64 = 512;

/// The parts of a file of `size` bytes that have data; `None` if it has no holes, or the file system does not tell.
#[cfg(target_os = "linux")]
pub(super) fn extents(file: &File, size: u64) -> Option<Vec<Extent>> {
    use rustix::fs::{SeekFrom, seek};
    use rustix::io::Errno;

    let mut extents = Extents::new(size, MAX_EXTENTS);
    let mut end = 0;
    while end < size {
        let start = match seek(file, SeekFrom::Data(end)) {
            // There is no data up to the end of the file.
            Err(Errno::NXIO) => break,
            start => start.ok()?,
        };
        end = seek(file, SeekFrom::Hole(start)).ok().filter(|end| *end > start)?;
        extents.add(start, end);
    }
    extents.finish()
}

#[cfg(not(target_os = "linux"))]
pub(super) fn extents(_: &File, _: u64) -> Option<Vec<Extent>> {
    None
}

/// Collects extents, at most twice as many as are allowed.
struct Extents {
    size: u64,
    max: usize,
    list: Vec<Extent>,
}

impl Extents {
    fn new(size: u64, max: usize) -> Self {
        Self { size, max, list: Vec::new() }
    }

    /// Adds the data from `start` to `end`.
    fn add(&mut self, start: u64, end: u64) {
        let start = (start - start % UNIT).min(self.size);
        let end = end.checked_next_multiple_of(UNIT).unwrap_or(u64::MAX).min(self.size);
        match self.list.last_mut() {
            Some(last) if start <= last.offset + last.length => {
                last.length = last.length.max(end.saturating_sub(last.offset));
            }
            _ if start < end => self.list.push(Extent { offset: start, length: end - start }),
            _ => {}
        }
        if self.list.len() >= 2 * self.max {
            self.merge();
        }
    }

    /// Merges extents across the smallest holes until there are few enough.
    fn merge(&mut self) {
        let excess = self.list.len().saturating_sub(self.max);
        if excess == 0 {
            return;
        }
        let hole = |before: &Extent, after: &Extent| after.offset - before.offset - before.length;
        let mut holes: Vec<u64> = self.list.iter().zip(self.list.iter().skip(1)).map(|(a, b)| hole(a, b)).collect();
        holes.sort_unstable();
        let limit = holes.get(excess - 1).copied().unwrap_or(u64::MAX);
        // Of the holes of exactly this size, the first are merged.
        let mut of_limit = excess - holes.partition_point(|size| *size < limit);
        let mut merged: Vec<Extent> = Vec::with_capacity(self.max);
        for extent in self.list.drain(..) {
            if let Some(last) = merged.last_mut() {
                let size = hole(last, &extent);
                let is_merged = size < limit || size == limit && of_limit > 0;
                of_limit -= usize::from(is_merged && size == limit);
                if is_merged {
                    last.length = extent.offset + extent.length - last.offset;
                    continue;
                }
            }
            merged.push(extent);
        }
        self.list = merged;
    }

    /// The extents, unless they are the whole file.
    fn finish(mut self) -> Option<Vec<Extent>> {
        self.merge();
        let is_whole = self.list.iter().map(|extent| extent.length).sum::<u64>() == self.size;
        (!is_whole).then_some(self.list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(size: u64, max: usize, data: &[(u64, u64)]) -> Option<Vec<(u64, u64)>> {
        let mut extents = Extents::new(size, max);
        for &(start, end) in data {
            extents.add(start, end);
        }
        extents.finish().map(|extents| extents.iter().map(|extent| (extent.offset, extent.length)).collect())
    }

    #[test]
    fn extents_are_extended_to_whole_units() {
        assert_eq!(found(10_000, 9, &[(100, 600), (5000, 5001)]), Some(vec![(0, 1024), (4608, 512)]));
        assert_eq!(found(9_000, 9, &[(8999, 9000)]), Some(vec![(8704, 296)]), "the end of the file is no whole unit");
        assert_eq!(found(2_000, 9, &[(0, 500), (510, 520), (1030, 1031)]), Some(vec![(0, 1536)]));
        assert_eq!((found(600, 9, &[(0, 1), (513, 514)]), found(600, 9, &[])), (None, Some(vec![])));
    }

    #[test]
    fn the_smallest_holes_are_stored_if_there_are_too_many() {
        // Holes of 1, 3, 1, 1 and 2 units.
        let data = [(0, 1), (2, 3), (6, 7), (8, 9), (10, 11), (13, 14)].map(|(start, end)| (start * 512, end * 512));
        let units =
            |max| found(100 * 512, max, &data).unwrap().iter().map(|&(o, l)| (o / 512, l / 512)).collect::<Vec<_>>();
        assert_eq!(units(6).len(), 6);
        assert_eq!(units(5), [(0, 3), (6, 1), (8, 1), (10, 1), (13, 1)]);
        assert_eq!(units(3), [(0, 3), (6, 5), (13, 1)]);
        assert_eq!(units(1), [(0, 14)]);
    }

    #[test]
    fn collecting_needs_no_more_than_twice_the_limit() {
        let mut extents = Extents::new(u64::MAX, 10);
        for n in 0..1000 {
            extents.add(n * 4096, n * 4096 + 512);
            assert!(extents.list.len() < 20);
        }
        assert_eq!(extents.finish().unwrap().len(), 10);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn holes_of_a_file_are_found() {
        use std::os::unix::fs::FileExt;
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        file.write_all_at(b"data", 600_000).unwrap();
        let found = extents(&file, 1 << 20).expect("a file system with holes");
        assert!(found.len() == 1 && found[0].offset <= 600_000 && found[0].length < 100_000, "{found:?}");
    }
}
