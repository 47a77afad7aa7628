//! The reader of a manifest: it collects keys and chunks in any order, and checks them at the end.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserializer;
use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::id::{ChunkId, DEFAULT_COPIES};
use crate::pipeline::manifest::{
    CHUNK_SIZE, Content, Entry, FileMetadata, MAX_TREE_CHUNKS, Manifest, ManifestError, VERSION_1, VERSION_2, Version2,
};
use crate::pipeline::seal::Key;

/// A partly read manifest. `error` holds an error that serde's own error type cannot express.
pub(super) struct Draft {
    max_chunks: usize,
    pub(super) error: Option<ManifestError>,
    version: u64,
    key: Option<String>,
    size: Option<u64>,
    chunk_size: Option<u64>,
    copies: Option<u64>,
    content: Option<String>,
    mode: Option<u64>,
    mtime_ns: Option<i64>,
    chunks: Option<Listed>,
    tree: Option<Listed>,
}

impl Draft {
    pub(super) fn new(max_chunks: usize) -> Self {
        Self {
            max_chunks,
            error: None,
            version: VERSION_1,
            key: None,
            size: None,
            chunk_size: None,
            copies: None,
            content: None,
            mode: None,
            mtime_ns: None,
            chunks: None,
            tree: None,
        }
    }

    /// Stops reading with this error. The returned error only stops serde and is never shown.
    fn fail<E: de::Error>(&mut self, error: ManifestError) -> E {
        self.error = Some(error);
        E::custom("see `error`")
    }

    pub(super) fn finish(self) -> Result<Manifest, ManifestError> {
        let key = self.key.ok_or(ManifestError::Missing { key: "key" })?.parse()?;
        let chunks = self.chunks.ok_or(ManifestError::Missing { key: "chunks" })?.in_order()?;
        let (chunks, version2) = match (self.version, self.chunk_size) {
            (VERSION_2, _) => {
                let keys = chunks.parsed_keys()?;
                let tree = self.tree.unwrap_or_default().in_order()?;
                let (ends, tree_ends) = (chunks.ends("chunks")?, tree.ends("tree")?);
                (chunks.ids, Some(Version2 { ends, keys, tree: tree.ids, tree_ends }))
            }
            (_, None | Some(CHUNK_SIZE)) => (chunks.ids, None),
            (_, Some(found)) => return Err(ManifestError::ChunkSize { found }),
        };
        let copies = self.copies.unwrap_or(DEFAULT_COPIES.into());
        let copies = u8::try_from(copies).map_err(|_| ManifestError::Copies { found: copies })?;
        let mode =
            self.mode.map(|found| u32::try_from(found).map_err(|_| ManifestError::Mode { found })).transpose()?;
        let content = match self.content.as_deref() {
            None => Content::File(FileMetadata { mode, mtime_ns: self.mtime_ns }),
            Some("tar") => Content::Tar,
            Some(found) => return Err(ManifestError::Content { found: found.to_owned() }),
        };
        let manifest = Manifest { key, size: self.size, copies, content, chunks, version2 };
        manifest.check()?;
        Ok(manifest)
    }
}

impl<'de> Visitor<'de> for &mut Draft {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                // Checked at once: the keys that follow may have another shape in a newer version.
                "version" => match map.next_value()? {
                    found @ (VERSION_1 | VERSION_2) => self.version = found,
                    found => return Err(self.fail(ManifestError::Version { found })),
                },
                "key" => once(&mut self.key, "key", map.next_value()?)?,
                "size" => once(&mut self.size, "size", map.next_value()?)?,
                "chunk_size" => once(&mut self.chunk_size, "chunk_size", map.next_value()?)?,
                "copies" => once(&mut self.copies, "copies", map.next_value()?)?,
                "content" => once(&mut self.content, "content", map.next_value()?)?,
                "mode" => once(&mut self.mode, "mode", map.next_value()?)?,
                "mtime_ns" => once(&mut self.mtime_ns, "mtime_ns", map.next_value()?)?,
                "chunks" => {
                    let max = self.max_chunks;
                    let listed = map.next_value_seed(List { draft: self, name: "chunks", max })?;
                    once(&mut self.chunks, "chunks", listed)?;
                }
                // Nothing before the version can say whether it counts.
                "tree" => {
                    let listed = map.next_value_seed(List { draft: self, name: "tree", max: MAX_TREE_CHUNKS })?;
                    once(&mut self.tree, "tree", listed)?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// Reads the value of `chunks` or `tree`.
struct List<'a> {
    draft: &'a mut Draft,
    name: &'static str,
    max: usize,
}

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = Listed;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Listed, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = Listed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of chunks")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Listed, A::Error> {
        let mut listed = Listed::default();
        while let Some(entry) = seq.next_element()? {
            if listed.ids.len() == self.max {
                return Err(self.draft.fail(ManifestError::TooManyChunks { list: self.name, max: self.max }));
            }
            listed.push(entry);
        }
        Ok(listed)
    }
}

/// Refuses a key that occurs twice, since either value could be the right one.
fn once<T, E: de::Error>(slot: &mut Option<T>, key: &'static str, value: T) -> Result<(), E> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::duplicate_field(key)),
    }
}

/// The chunks in the order of the list. `indices` stays empty while that is the order of the blocks, as it nearly
/// always is; otherwise it holds the index of each chunk.
#[derive(Default)]
struct Listed {
    ids: Vec<ChunkId>,
    indices: Vec<u64>,
    /// The lengths of the blocks, 0 where there is none; empty as long as there is none at all.
    lengths: Vec<u32>,
    /// The keys of chunks that have one, by index.
    keys: BTreeMap<u64, String>,
}

impl Listed {
    fn push(&mut self, Entry { index, id, len, key }: Entry) {
        let position = self.ids.len() as u64;
        if len.is_some() || !self.lengths.is_empty() {
            self.lengths.resize(self.ids.len(), 0);
            self.lengths.push(len.unwrap_or_default());
        }
        if let Some(key) = key {
            self.keys.insert(index, key);
        }
        if self.indices.is_empty() && index != position {
            self.indices.extend(0..position);
        }
        // If the first chunk of the list has another index than 0, `indices` is still empty here.
        if index != position || !self.indices.is_empty() {
            self.indices.push(index);
        }
        self.ids.push(id);
    }

    /// The chunks in the order of their indices, sorted in place.
    fn in_order(mut self) -> Result<Self, ManifestError> {
        let chunks = self.ids.len() as u64;
        for at in 0..self.indices.len() {
            // Each swap moves one id to its final position, so there are at most as many swaps as ids.
            while let Some(&index) = self.indices.get(at)
                && index != at as u64
            {
                let target = usize::try_from(index).ok().filter(|&target| target < self.indices.len());
                let Some(target) = target else { return Err(self.missing(chunks)) };
                if self.indices.get(target) == Some(&index) {
                    return Err(ManifestError::DoubleIndex { index });
                }
                self.indices.swap(at, target);
                self.ids.swap(at, target);
                if at < self.lengths.len() && target < self.lengths.len() {
                    self.lengths.swap(at, target);
                }
            }
        }
        Ok(self)
    }

    /// Where each block ends. Every block must have a length; that it is one of a block is checked later.
    fn ends(&self, list: &'static str) -> Result<Vec<u64>, ManifestError> {
        let mut end = 0;
        let mut ends = Vec::with_capacity(self.ids.len());
        for index in 0..self.ids.len() {
            let length = self.lengths.get(index).copied().unwrap_or_default();
            end += u64::from(length);
            if length == 0 {
                return Err(ManifestError::BlockLength { list, index: index as u64 });
            }
            ends.push(end);
        }
        Ok(ends)
    }

    fn parsed_keys(&self) -> Result<BTreeMap<usize, Key>, ManifestError> {
        let parsed = |(index, key): (&u64, &String)| {
            Ok((usize::try_from(*index).unwrap_or(usize::MAX), key.parse().map_err(ManifestError::Key)?))
        };
        self.keys.iter().map(parsed).collect()
    }

    /// The error for a list with an index past its end: the first index that is missing.
    fn missing(mut self, chunks: u64) -> ManifestError {
        self.indices.sort_unstable();
        let index =
            (0..).zip(&self.indices).find(|&(position, &index)| position < index).map_or(0, |(position, _)| position);
        ManifestError::MissingIndex { index, chunks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(i: u64) -> ChunkId {
        ChunkId::of(&i.to_le_bytes())
    }

    fn ids(chunks: u64) -> Vec<ChunkId> {
        (0..chunks).map(id).collect()
    }

    /// The ids of chunks that are listed with these indices.
    fn in_order(indices: &[u64]) -> Result<Vec<ChunkId>, ManifestError> {
        let mut listed = Listed::default();
        for &index in indices {
            listed.push(Entry { index, id: id(index), len: None, key: None });
        }
        Ok(listed.in_order()?.ids)
    }

    #[test]
    fn chunks_may_be_listed_in_any_order() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut indices: Vec<u64> = (0..1000).collect();
        for _ in 0..20 {
            assert_eq!(in_order(&indices).unwrap(), ids(1000));
            rng.shuffle(&mut indices);
        }
        assert_eq!(in_order(&[0, 1, 3, 2]).unwrap(), ids(4));
    }

    #[test]
    fn every_block_must_have_exactly_one_chunk() {
        for (indices, missing) in
            [(&[1][..], 0), (&[0, 2], 1), (&[2, 0], 1), (&[1, 2, 3], 0), (&[0, 1, u64::MAX], 2), (&[4, 0, 0], 2)]
        {
            match in_order(indices).unwrap_err() {
                ManifestError::MissingIndex { index, chunks } => {
                    assert_eq!((index, chunks), (missing, indices.len() as u64), "{indices:?}");
                }
                other => panic!("{indices:?}: {other}"),
            }
        }
        for indices in [&[0, 0][..], &[1, 1], &[0, 1, 1], &[2, 0, 2], &[1, 0, 1]] {
            assert!(matches!(in_order(indices).unwrap_err(), ManifestError::DoubleIndex { .. }), "{indices:?}");
        }
    }

    #[test]
    fn chunks_in_order_take_no_memory_for_indices() {
        let mut listed = Listed::default();
        for index in 0..1000 {
            listed.push(Entry { index, id: id(index), len: None, key: None });
        }
        assert!(listed.indices.is_empty());
    }
}
