//! A block with its checksum. By the checksum, a get that continues finds out what is still in the unfinished file.

use std::fmt;
use std::str::FromStr;

/// The CRC-64 of a block, with the polynomial of .xz (ECMA-182). As text it has 16 hexadecimal digits. It recognizes what
/// a power cut or a disk damaged; anyone who can write to the file can forge it. A cryptographic hash would take a quarter
/// of the processor time of a get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockChecksum(u64);

/// A block that was recovered from its chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedBlock {
    /// Its content.
    pub bytes: Vec<u8>,
    /// The checksum of `bytes`. The stored form contains it, so it costs nothing to have it here.
    pub checksum: BlockChecksum,
}

impl From<Vec<u8>> for OpenedBlock {
    fn from(bytes: Vec<u8>) -> Self {
        let checksum = BlockChecksum::of(&bytes);
        Self { bytes, checksum }
    }
}

/// The text is not a checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid checksum: it must be 16 hexadecimal digits")]
pub struct MalformedChecksum;

impl BlockChecksum {
    /// The checksum of a block.
    pub fn of(block: &[u8]) -> Self {
        let mut digest = crc64fast::Digest::new();
        digest.write(block);
        Self(digest.sum64())
    }

    /// The checksum with this value.
    pub(in crate::pipeline) const fn from_crc64(crc64: u64) -> Self {
        Self(crc64)
    }

    pub(in crate::pipeline) const fn crc64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for BlockChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for BlockChecksum {
    type Err = MalformedChecksum;

    fn from_str(text: &str) -> Result<Self, MalformedChecksum> {
        let is_hexadecimal = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u64::from_str_radix(text, 16).ok().filter(|_| is_hexadecimal).map(Self).ok_or(MalformedChecksum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of CRC-64/XZ.
    #[test]
    fn the_checksum_is_that_of_xz() {
        let checksum = BlockChecksum::of(b"123456789");
        assert_eq!(checksum.to_string(), "995dc9bbdf1939fa");
        assert_eq!(checksum.to_string().parse(), Ok(checksum));
        for text in ["", "995dc9bbdf1939f", "+95dc9bbdf1939fa", "g95dc9bbdf1939fa"] {
            assert_eq!(text.parse::<BlockChecksum>(), Err(MalformedChecksum), "{text}");
        }
    }
}
