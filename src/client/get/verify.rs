//! Verifying everything, and writing nothing: all chunks of the data and of the index, and whether the index is that of
//! the data.

use crate::archive::index::{IndexLine, IndexReader};
use crate::client::byte_ranges::{ByteRange, ByteRanges};
use crate::client::error::{ClientError, Damage};
use crate::client::get::positions::Positions;
use crate::client::get::{Arrived, Get, Losses};
use crate::client::progress::StopSignal;
use crate::human;
use crate::pipeline::{BlockHash, Manifest, OpenedBlock};

impl Get<'_> {
    /// Fetches and verifies every chunk, also if some are lost. The error has all that is wrong.
    pub(super) fn verify(&mut self, stop: &StopSignal) -> Result<(), ClientError> {
        let manifest = self.manifest;
        let chunks = manifest.chunks.len();
        self.restored.extend(manifest.size.map(|size| 0..size));
        self.report.chunks = self.ids.len();
        let positions = Positions::from(0..self.ids.len());
        let mut index = IndexCheck::new(manifest);
        let mut size = 0;
        if !positions.is_empty() {
            let fetched = self.start(&positions, Losses::Skipped).and_then(|pool| {
                self.fetch(&pool, &positions, stop, &mut |position, arrived| {
                    match arrived {
                        Arrived::Block(OpenedBlock { bytes, .. }) if position < chunks => {
                            size += bytes.len() as u64;
                            index.add_data(Some(&bytes));
                        }
                        Arrived::Lost if position < chunks => index.add_data(None),
                        Arrived::Block(OpenedBlock { bytes, .. }) => index.read(&bytes),
                        Arrived::Lost => index.is_lost = true,
                    }
                    Ok(())
                })
            });
            match fetched {
                // What was found before cells stopped responding is reported too.
                Err(error @ ClientError::Missing { .. }) => {
                    let errors = [error].into_iter().chain(self.lost_chunks()).collect();
                    return ClientError::several(errors).map_or(Ok(()), Err);
                }
                fetched => fetched?,
            }
        }
        self.report.size = size;
        let mut errors = self.lost_chunks();
        if let Some(expected) = manifest.size.filter(|expected| errors.is_empty() && *expected != size) {
            let bytes = ByteRange { start: 0, end: size }.into();
            errors.push(ClientError::Corrupt { bytes, damage: Damage::WrongSize { expected } });
        }
        errors.extend(index.finish().map(|reason| ClientError::BadIndex { reason }));
        ClientError::several(errors).map_or(Ok(()), Err)
    }
}

/// Compares the index of a directory with the blocks of its data, which come first.
struct IndexCheck<'a> {
    manifest: &'a Manifest,
    /// The hash of each block of the data; `None` if it is lost.
    data: Vec<Option<BlockHash>>,
    reader: IndexReader,
    /// Hashes in the index.
    hashes: usize,
    /// The blocks of which the index has another hash.
    other: Vec<usize>,
    /// The first problem that was found.
    problem: Option<String>,
    /// Is a block of the index lost? Nothing is known of it then.
    is_lost: bool,
}

impl<'a> IndexCheck<'a> {
    fn new(manifest: &'a Manifest) -> Self {
        let (data, reader, other) = (Vec::new(), IndexReader::default(), Vec::new());
        Self { manifest, data, reader, hashes: 0, other, problem: None, is_lost: false }
    }

    /// Takes the next block of the data; `None` if it is lost.
    fn add_data(&mut self, block: Option<&[u8]>) {
        if !self.manifest.tree().is_empty() {
            self.data.push(block.map(|bytes| BlockHash::of(bytes, &self.manifest.key)));
        }
    }

    /// Takes the next block of the index.
    fn read(&mut self, bytes: &[u8]) {
        if self.is_lost || self.problem.is_some() {
            return;
        }
        let Self { manifest, data, reader, hashes, other, problem, .. } = self;
        let mut line = |line| match line {
            IndexLine::Entry(entry) => {
                let end = entry.offset.saturating_add(entry.length);
                if manifest.size.is_some_and(|size| end > size) {
                    problem.get_or_insert(format!("{} ends behind the data", human::shown(&entry.path)));
                }
            }
            IndexLine::Block(hash) => {
                if let Some(Some(found)) = data.get(*hashes)
                    && *found != hash
                {
                    other.push(*hashes);
                }
                *hashes += 1;
            }
        };
        let read = reader.read(bytes, &mut line);
        if let Err(error) = read {
            self.problem.get_or_insert(error.to_string());
        }
    }

    /// Why the index cannot be used, if it is not that of the data.
    fn finish(self) -> Option<String> {
        if self.is_lost || self.manifest.tree().is_empty() {
            return None;
        }
        let Self { manifest, data, reader, hashes, other, problem, .. } = self;
        if problem.is_some() {
            return problem;
        }
        if let Err(error) = reader.finish() {
            return Some(error.to_string());
        }
        if hashes != data.len() {
            return Some(format!("it has {} of {}", hashes, human::count(data.len(), "block")));
        }
        let bytes = ByteRanges::of_blocks(&other, manifest);
        (!other.is_empty())
            .then(|| format!("it is not that of the data: bytes {bytes} are others than it has hashes of"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::index::{IndexEntry, index_line};
    use crate::archive::{Kind, Timestamp};
    use crate::id::ChunkId;
    use crate::pipeline::{Content, Key, Version2};

    const BLOCKS: [&[u8]; 3] = [b"first", b"second", b"third"];

    fn manifest() -> Manifest {
        let id = ChunkId::of(b"");
        let mut end = 0;
        let ends = BLOCKS.map(|block| {
            end += block.len() as u64;
            end
        });
        let version2 = Version2 { ends: ends.to_vec(), tree: vec![id], ..Version2::default() };
        Manifest {
            key: Key::generate(),
            size: Some(end),
            copies: 1,
            content: Content::Tar,
            chunks: vec![id; 3],
            version2: Some(version2),
        }
    }

    fn entry(length: u64) -> IndexLine {
        let modified = Timestamp::default();
        IndexLine::Entry(IndexEntry {
            path: b"f".to_vec(),
            kind: Kind::Directory,
            mode: 0,
            modified,
            offset: 0,
            length,
        })
    }

    /// The problem of an index with these lines for [`BLOCKS`], of which some are lost.
    fn problem(manifest: &Manifest, lines: &[IndexLine], lost: &[usize]) -> Option<String> {
        let mut check = IndexCheck::new(manifest);
        for (number, block) in BLOCKS.iter().enumerate() {
            check.add_data((!lost.contains(&number)).then_some(*block));
        }
        check.read(lines.iter().map(index_line).collect::<String>().as_bytes());
        check.finish()
    }

    #[test]
    fn an_index_is_compared_with_the_data() {
        let manifest = manifest();
        let hash = |block: &[u8]| IndexLine::Block(BlockHash::of(block, &manifest.key));
        let good = [entry(10), hash(b"first"), hash(b"second"), hash(b"third")];
        assert_eq!(problem(&manifest, &good, &[]), None);
        assert_eq!(problem(&manifest, &good, &[1]), None);
        let other = [hash(b"first"), hash(b"other"), hash(b"third")];
        assert!(problem(&manifest, &other, &[]).unwrap().contains("bytes 5-10 are others"));
        assert_eq!(problem(&manifest, &other, &[1]), None, "what is lost is not compared");
        assert!(problem(&manifest, &good[..3], &[]).unwrap().contains("2 of 3 blocks"));
        assert!(problem(&manifest, &[entry(1000)], &[]).unwrap().contains("f ends behind"));
    }
}
