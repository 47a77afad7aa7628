//! A manifest while it is being read: keys in any order, chunks in any order, and nothing believed yet.

use std::fmt;

use serde::Deserializer;
use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::id::{ChunkId, DEFAULT_COPIES};
use crate::pipeline::manifest::{CHUNK_SIZE, Content, Entry, Manifest, ManifestError, VERSION};

/// A manifest as far as it was read. What is refused for a reason that serde has no word for is told in `refusal`.
pub(super) struct Draft {
    max_chunks: usize,
    pub(super) refusal: Option<ManifestError>,
    key: Option<String>,
    size: Option<u64>,
    chunk_size: Option<u64>,
    copies: Option<u64>,
    content: Option<String>,
    chunks: Option<Listed>,
}

impl Draft {
    pub(super) fn new(max_chunks: usize) -> Self {
        Self {
            max_chunks,
            refusal: None,
            key: None,
            size: None,
            chunk_size: None,
            copies: None,
            content: None,
            chunks: None,
        }
    }

    /// Stops reading; the error that goes through serde is never shown.
    fn refuse<E: de::Error>(&mut self, refusal: ManifestError) -> E {
        self.refusal = Some(refusal);
        E::custom("refused")
    }

    pub(super) fn finish(self) -> Result<Manifest, ManifestError> {
        let key = self.key.ok_or(ManifestError::Missing { key: "key" })?.parse()?;
        let chunks = self.chunks.ok_or(ManifestError::Missing { key: "chunks" })?.in_order()?;
        match self.chunk_size {
            None | Some(CHUNK_SIZE) => {}
            Some(found) => return Err(ManifestError::ChunkSize { found }),
        }
        let copies = self.copies.unwrap_or(DEFAULT_COPIES.into());
        let copies = u8::try_from(copies).map_err(|_| ManifestError::Copies { found: copies })?;
        let content = match self.content.as_deref() {
            None => Content::File,
            Some("tar") => Content::Tar,
            Some(found) => return Err(ManifestError::Content { found: found.to_owned() }),
        };
        let manifest = Manifest { key, size: self.size, copies, content, chunks };
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
                // At once, not at the end: what follows may have a shape that only a newer reader knows.
                "version" => match map.next_value()? {
                    VERSION => {}
                    found => return Err(self.refuse(ManifestError::Version { found })),
                },
                "key" => once(&mut self.key, "key", map.next_value()?)?,
                "size" => once(&mut self.size, "size", map.next_value()?)?,
                "chunk_size" => once(&mut self.chunk_size, "chunk_size", map.next_value()?)?,
                "copies" => once(&mut self.copies, "copies", map.next_value()?)?,
                "content" => once(&mut self.content, "content", map.next_value()?)?,
                "chunks" => {
                    let listed = map.next_value_seed(List(self))?;
                    once(&mut self.chunks, "chunks", listed)?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// The value of `chunks`, on its way into a draft.
struct List<'a>(&'a mut Draft);

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
            if listed.ids.len() == self.0.max_chunks {
                return Err(self.0.refuse(ManifestError::TooManyChunks));
            }
            listed.push(entry);
        }
        Ok(listed)
    }
}

/// Refuses a key that comes twice: which of the two was meant cannot be known.
fn once<T, E: de::Error>(slot: &mut Option<T>, key: &'static str, value: T) -> Result<(), E> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::duplicate_field(key)),
    }
}

/// The chunks as they are listed. Nearly always they are in order and `indices` stays empty; otherwise it has the
/// index of every one.
#[derive(Default)]
struct Listed {
    ids: Vec<ChunkId>,
    indices: Vec<u64>,
}

impl Listed {
    fn push(&mut self, Entry { index, id }: Entry) {
        let place = self.ids.len() as u64;
        if self.indices.is_empty() && index != place {
            self.indices.extend(0..place);
        }
        // The first chunk of a scrambled list lands here with an empty list of indices, which then has one.
        if index != place || !self.indices.is_empty() {
            self.indices.push(index);
        }
        self.ids.push(id);
    }

    /// The ids by index, sorted where they lie.
    fn in_order(mut self) -> Result<Vec<ChunkId>, ManifestError> {
        let chunks = self.ids.len() as u64;
        for at in 0..self.indices.len() {
            // Each swap brings one id to its place, so that there are no more swaps than ids.
            while let Some(&index) = self.indices.get(at)
                && index != at as u64
            {
                let home = usize::try_from(index).ok().filter(|&home| home < self.indices.len());
                let Some(home) = home else { return Err(self.missing(chunks)) };
                if self.indices.get(home) == Some(&index) {
                    return Err(ManifestError::DoubleIndex { index });
                }
                self.indices.swap(at, home);
                self.ids.swap(at, home);
            }
        }
        Ok(self.ids)
    }

    /// An index is past the end, so that one before the end is missing: which?
    fn missing(mut self, chunks: u64) -> ManifestError {
        self.indices.sort_unstable();
        let index = (0..).zip(&self.indices).find(|&(place, &index)| place < index).map_or(0, |(place, _)| place);
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

    /// What becomes of chunks listed with these indices.
    fn in_order(indices: &[u64]) -> Result<Vec<ChunkId>, ManifestError> {
        let mut listed = Listed::default();
        for &index in indices {
            listed.push(Entry { index, id: id(index) });
        }
        listed.in_order()
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
    fn every_block_has_exactly_one_chunk() {
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
    fn chunks_that_come_in_order_cost_no_memory_for_their_indices() {
        let mut listed = Listed::default();
        for index in 0..1000 {
            listed.push(Entry { index, id: id(index) });
        }
        assert!(listed.indices.is_empty());
    }
}
