//! The data of a file on its way into the stream, in exactly the length that the header states.

use std::fs::File;
use std::io::{self, ErrorKind};

use crate::archive::Extent;
use crate::client::put::block_writer::{BlockWriter, Ended};
use crate::client::put::omission::SystemError;

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 128 << 10;
/// After an error, reading continues at the next multiple of this: few disks fail in smaller parts.
const RETRY_BYTES: u64 = 4096;

/// What was found while a file was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Copied {
    /// Where the file ended, if that was before the length that its header states.
    pub(super) end: Option<u64>,
    /// Bytes that cannot be read.
    pub(super) damaged: u64,
    /// The first error.
    pub(super) error: Option<SystemError>,
}

/// Copies the extents of a file. Bytes that cannot be read, or are beyond the end, become zeros.
pub(super) fn copy(
    read_at: &dyn Fn(&mut [u8], u64) -> io::Result<usize>,
    extents: &[Extent],
    out: &mut BlockWriter<'_>,
) -> Result<Copied, Ended> {
    let mut copied = Copied::default();
    // After an error, the bytes up to here are read in small parts, so that few are lost.
    let mut careful_until = 0;
    let longest = extents.iter().map(|extent| extent.length).max().unwrap_or_default();
    let mut buffer = vec![0; BUFFER_BYTES.min(usize::try_from(longest).unwrap_or(usize::MAX))];
    for extent in extents {
        let end = extent.offset.saturating_add(extent.length);
        let mut at = extent.offset;
        while at < end && copied.end.is_none() {
            let next = (at - at % RETRY_BYTES).saturating_add(RETRY_BYTES);
            let is_careful = at < careful_until;
            let step = if is_careful { next.min(end) - at } else { end - at };
            let step = buffer.len().min(usize::try_from(step).unwrap_or(usize::MAX));
            let Some(part) = buffer.get_mut(..step) else { break };
            match read_at(part, at) {
                Ok(0) => copied.end = Some(at),
                Ok(read) => {
                    out.write(part.get(..read).unwrap_or_default())?;
                    at = at.saturating_add(read as u64).min(end);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if !is_careful => {
                    copied.error.get_or_insert(SystemError::from(&error));
                    careful_until = at.saturating_add(BUFFER_BYTES as u64);
                }
                Err(_) => {
                    let skipped = next.min(end) - at;
                    out.write_zeros(skipped)?;
                    copied.damaged += skipped;
                    at += skipped;
                }
            }
        }
        out.write_zeros(end - at)?;
    }
    Ok(copied)
}

/// Reads at an offset, without a position that the file would keep.
#[cfg(unix)]
pub(super) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

#[cfg(not(unix))]
pub(super) fn read_at(mut file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    use std::io::{Read, Seek, SeekFrom};

    file.seek(SeekFrom::Start(offset))?;
    file.read(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Copies from a file of these bytes, of which those in `bad` cannot be read.
    fn copied(bytes: &[u8], bad: std::ops::Range<u64>, extents: &[(u64, u64)]) -> (Copied, Vec<u8>) {
        let read_at = |buffer: &mut [u8], offset: u64| {
            let start = bytes.len().min(usize::try_from(offset).unwrap());
            let end = bytes.len().min(start + buffer.len());
            if (start as u64) < bad.end && (end as u64) > bad.start {
                return Err(io::Error::from_raw_os_error(5));
            }
            buffer[..end - start].copy_from_slice(&bytes[start..end]);
            Ok(end - start)
        };
        let extents: Vec<_> = extents.iter().map(|&(offset, length)| Extent { offset, length }).collect();
        let mut stream = Vec::new();
        let mut take = |_, bytes: Vec<u8>| {
            stream.extend(bytes);
            true
        };
        let mut out = BlockWriter::new(&mut take);
        let copied = copy(&read_at, &extents, &mut out).unwrap();
        out.finish().unwrap();
        (copied, stream)
    }

    #[test]
    fn a_file_that_ends_early_is_padded() {
        let (found, stream) = copied(b"0123456789", 0..0, &[(2, 4), (8, 5), (20, 3)]);
        assert_eq!(stream, b"234589\0\0\0\0\0\0");
        assert_eq!(found, Copied { end: Some(10), ..Copied::default() });
        assert_eq!(copied(b"0123", 0..0, &[(0, 2)]), (Copied::default(), b"01".to_vec()), "a file that grew is cut");
    }

    #[test]
    fn bytes_that_cannot_be_read_are_zeros_and_all_others_are_kept() {
        let zeros = |stream: &[u8]| stream.iter().map(|byte| u64::from(*byte == 0)).sum::<u64>();
        let bytes = vec![7; 500_000];
        for (bad, damaged) in [(300_000..300_001, 4096), (0..1, 4096), (499_999..500_000, 288), (0..500_000, 500_000)] {
            let (found, stream) = copied(&bytes, bad.clone(), &[(0, 500_000)]);
            assert_eq!((stream.len(), found.damaged, found.end), (500_000, damaged, None));
            assert_eq!(zeros(&stream), damaged);
            assert_eq!(found.error, Some(SystemError::from(&io::Error::from_raw_os_error(5))));
        }
    }
}
