//! A checksum of bytes that come piece by piece: of the data of an unfinished file, and of the records of a log.

use std::fmt;

/// The CRC-64 of [`BlockChecksum`](crate::pipeline::BlockChecksum), of the bytes so far.
#[derive(Clone, Default)]
pub(super) struct RunningChecksum(crc64fast::Digest);

impl RunningChecksum {
    /// Adds the next bytes.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    /// The checksum of the bytes so far.
    pub(super) fn sum(&self) -> u64 {
        self.0.sum64()
    }
}

/// As text it has 16 hexadecimal digits.
impl fmt::Display for RunningChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.sum())
    }
}

impl fmt::Debug for RunningChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunningChecksum({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::BlockChecksum;

    #[test]
    fn the_checksum_of_pieces_is_that_of_the_whole() {
        let mut running = RunningChecksum::default();
        running.add(b"12345");
        running.add(b"6789");
        assert_eq!(running.to_string(), BlockChecksum::of(b"123456789").to_string());
    }
}
