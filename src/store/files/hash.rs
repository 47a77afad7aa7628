//! Hashing a body of known length through a buffer.

use std::io::{self, ErrorKind, Read};

use sha2::{Digest, Sha256};

use crate::id::ChunkId;
use crate::store::contract::StoreError;

/// The most of a body that is in memory at a time.
const BUFFER_BYTES: usize = 64 * 1024;

/// Reads exactly `len` bytes of a body, passes each piece to `each`, and returns the id of the whole.
pub(super) fn hash_body(
    body: &mut dyn Read,
    len: u64,
    mut each: impl FnMut(&[u8]) -> Result<(), StoreError>,
) -> Result<ChunkId, StoreError> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES.min(usize::try_from(len).unwrap_or(BUFFER_BYTES))];
    let mut body = body.take(len);
    let mut received_bytes = 0;
    while received_bytes < len {
        let count = match body.read(&mut buffer) {
            Ok(0) => return Err(StoreError::Truncated { expected_bytes: len, received_bytes }),
            Ok(count) => count,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(StoreError::Body(e)),
        };
        let piece = buffer.get(..count).ok_or_else(|| StoreError::Body(io::Error::other("read past the buffer")))?;
        hasher.update(piece);
        each(piece)?;
        received_bytes += count as u64;
    }
    Ok(ChunkId::from_bytes(hasher.finalize().into()))
}
