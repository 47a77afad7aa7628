//! The manifest: the private file that lists the chunks of a stored file, with the key that opens them.
//!
//! # Format
//!
//! One JSON object (RFC 8259) in UTF-8, followed by LF. This program writes it on one line, with the keys in this
//! order; a reader accepts any order and any white space.
//!
//! ```text
//! {"version":1,"key":"cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=","size":1048577,"chunk_size":1048576,"copies":5,
//!  "chunks":[{"index":0,"id":"ba7816bf…"},{"index":1,"id":"e3b0c442…"}]}
//! ```
//!
//! | key | required | value | absent |
//! |---|---|---|---|
//! | `version` | no | 1 | 1 |
//! | `key` | yes | the Fernet key: 32 bytes in URL-safe base64, 44 characters | |
//! | `size` | no | bytes of the restored file | unknown |
//! | `chunk_size` | no | 1048576, the bytes of a full block | 1048576 |
//! | `copies` | no | how many copies of each chunk the colony keeps, 1 to 255 | 5 |
//! | `content` | no | `"tar"`: the restored bytes are the tar stream of a directory | a file |
//! | `mode` | no | the permission bits of the file, 0 to 511 (octal 777) | unknown: only its owner may read it (octal 600) |
//! | `mtime_ns` | no | when the file was last modified, in nanoseconds since 1970-01-01 UTC; may be negative | unknown |
//! | `chunks` | yes | a list of `{"index":…,"id":…}` in any order, at most 67,108,864 ([`MAX_CHUNKS`]) | |
//!
//! `index` is the number of the block, from 0; each number below the length of the list occurs exactly once. `id` is
//! the id of its chunk. The restored file is all blocks in the order of `index`. If `size` is present, the number of
//! chunks is `size` ÷ `chunk_size`, rounded up.
//!
//! A reader ignores unknown keys, and refuses a known key that occurs twice. It refuses an unknown `version`, `content`
//! or `chunk_size`, since it would restore a wrong file. It checks `version` as soon as it reads it, because the keys
//! after it may have another shape in a newer version.
//!
//! `mode` and `mtime_ns` are for a single file: a tar stream has its own, and standard input has none.
//!
//! # Version 2
//!
//! Directories have version 2, so that one file can be found and restored alone:
//!
//! ```text
//! {"version":2,"key":"cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=","size":1050112,"copies":5,"content":"tar",
//!  "chunks":[{"index":0,"id":"ba7816bf…","len":1048576},{"index":1,"id":"e3b0c442…","len":1536,"key":"WaQP…"}],
//!  "tree":[{"index":0,"id":"9f86d081…","len":480}]}
//! ```
//!
//! The keys are those of version 1 but `chunk_size`, with these differences:
//!
//! | key | value |
//! |---|---|
//! | `len` of a chunk | bytes of its block, 1 to 1,048,576. The sum of those of `chunks` is `size` |
//! | `key` of a chunk | the key that opens it; absent if that is the key of its position |
//! | `tree` | the chunks of the index of the directory, in the form of `chunks`, at most 65,536 ([`MAX_TREE_CHUNKS`]) |
//!
//! Each chunk has its own key. That of a position is the HMAC-SHA256 (RFC 2104) of a label, followed by `index` as eight
//! bytes in big-endian order, under the 32 bytes of the manifest's `key`; its first 16 bytes are the HMAC key, the others
//! the AES key. The label is `chunk` for `chunks` and `tree` for `tree`. So a chunk can be shared with somebody who shall
//! not read the others, and a chunk that a changed source still has keeps its key at a new position.
//!
//! The index is in [`crate::archive::index`]. All is restored without it.
//!
//! # Earlier versions
//!
//! Earlier versions wrote `key` and `chunks` only, or all keys but `content`, `mode` and `mtime_ns`.
//!
//! The manifest contains the key, so it must be kept as secret as the file. It contains no name, path or address.
//!
//! # The journal
//!
//! While `cellsync-put` runs, a journal beside the future manifest (`NAME.manifest.part`, readable by its user only)
//! records the key and the id of each sealed block, so that an interrupted put can be resumed. It is text, one JSON
//! object a line:
//!
//! ```text
//! {"version":1,"key":"<as in the manifest>",
//!  "source":{"size":1048583,"modified_ns":1764248780000000000,"changed_ns":1764248780000000000,"inode":131073}}
//! {"index":0,"id":"ba7816bf…","hash":"9f86d081…"}
//! {"index":1,"id":"e3b0c442…","hash":"1be403ba…","len":7}
//! ```
//!
//! The first line has the key, and what identifies the source file: its size in bytes, the times of its modification
//! and of its last status change in nanoseconds since 1970, and its inode number. Earlier versions did not write the
//! last two, and they are compared only if they are there. (The first line is one line in the file.) Each other line is
//! written before the first copy of its chunk is sent, and replaces earlier lines for the same `index`. A resumed put
//! of the same file does not read the blocks whose chunks are stored.
//!
//! `hash` has 32 hexadecimal digits: the first 16 bytes of the HMAC-SHA256 of the block. Its key is the HMAC-SHA256 of
//! the five bytes `block` under the 32 bytes of `key`. Earlier versions did not write it for files. `len` is the length of
//! a block that is not full, and says how much room is needed no more.
//!
//! If the file has changed, all of it is read, and a block keeps a chunk whose line has the same `hash`, whatever its
//! `index`. Then the line `{"source":{…}}` with the changed file follows: the lines before it are of blocks that have to
//! be read and compared, those after it are of the changed file.
//!
//! A directory may change between any two puts, so its blocks are always read and compared:
//!
//! ```text
//! {"version":2,"key":"<as in the manifest>","source":"directory"}
//! {"index":0,"id":"ba7816bf…","hash":"9f86d081…"}
//! {"tree":0,"id":"2c26b46b…","hash":"fcde2b2e…","len":480}
//! ```
//!
//! `index` is the position in `chunks` at which the block was sealed, and so says which key its chunk has; `tree` is that
//! in the index of the directory, and such a chunk is used at the same position only. No line replaces another. In
//! version 1, which earlier versions wrote for directories, all chunks had the key of the manifest, and blocks other
//! limits; such a put starts anew. So does one that identified a directory by `entries`, a hash of the metadata of its
//! entries.
//!
//! A chunk that lacks copies gets them, from one that can be read; if there is none, the block is sealed again.
//!
//! Empty and truncated lines are ignored. The journal does not record which copies were stored; a resumed put asks the
//! cells. The journal is removed once the manifest is complete. Its code is `client/put/journal.rs`.
//!
//! # Memory
//!
//! A manifest has one chunk for each MiB of the file. Reading and writing hold 32 bytes for each id, and never the
//! whole text.

mod fields;
mod version2;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use serde::ser::{SerializeMap, SerializeSeq, Serializer};
use serde::{Deserialize, Deserializer as _, Serialize};
use serde_json::error::Category;

use crate::human;
use crate::id::{BLOCK_BYTES, ChunkId};
use crate::pipeline::manifest::fields::Draft;
pub use crate::pipeline::manifest::version2::Version2;
use crate::pipeline::seal::{Key, MalformedKey};

/// The version of files and streams, and of the directories of earlier programs.
const VERSION_1: u64 = 1;
/// The version of directories.
const VERSION_2: u64 = 2;

/// The only value of `chunk_size`: the size of a full block in bytes.
const CHUNK_SIZE: u64 = BLOCK_BYTES as u64;

/// The most chunks of one file, for 64 TiB. Their ids take 2 GiB of memory.
pub const MAX_CHUNKS: usize = 64 << 20;

/// The most chunks of the index of a directory: 64 GiB of it.
pub const MAX_TREE_CHUNKS: usize = 1 << 16;

/// All permission bits: read, write and execute for owner, group and others.
const MAX_MODE: u32 = 0o777;

/// The chunks of a file and the key that opens them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The key that opens every chunk.
    pub key: Key,
    /// The size of the restored bytes; absent in manifests of earlier versions.
    pub size: Option<u64>,
    /// How many copies of each chunk the colony keeps, at least 1.
    pub copies: u8,
    /// What the restored bytes are.
    pub content: Content,
    /// The chunks in the order of their blocks, at most [`MAX_CHUNKS`].
    pub chunks: Vec<ChunkId>,
    /// What only version 2 has.
    pub version2: Option<Version2>,
}

/// What the restored bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// The bytes of a file.
    File(FileMetadata),
    /// The tar stream of a directory.
    Tar,
}

impl Default for Content {
    /// A file of which nothing but its bytes is known.
    fn default() -> Self {
        Self::File(FileMetadata::default())
    }
}

/// What a manifest records of a single file besides its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileMetadata {
    /// Permission bits, at most `0o777`.
    pub mode: Option<u32>,
    /// When it was last modified, in nanoseconds since 1970-01-01 UTC; negative before.
    pub mtime_ns: Option<i64>,
}

/// Why a manifest could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Reading the file failed.
    #[error("cannot read the manifest: {0}")]
    Read(#[source] io::Error),
    /// Writing the file failed. What was written is not a manifest.
    #[error("cannot write the manifest: {0}")]
    Write(#[source] io::Error),
    /// The text ends before the manifest does.
    #[error("the manifest is truncated; use a complete copy of it")]
    Truncated,
    /// The text is not a manifest, or a damaged one.
    #[error("not a CellSync manifest: {0}")]
    Malformed(#[source] serde_json::Error),
    /// A newer version of the program wrote it.
    #[error("the manifest has version {found}, and this program reads versions 1 and 2; use a newer program")]
    Version {
        /// The version of the manifest.
        found: u64,
    },
    /// A required key is missing.
    #[error("not a CellSync manifest: it has no key {key:?}")]
    Missing {
        /// The missing key.
        key: &'static str,
    },
    /// The value of `key` is not a key.
    #[error("damaged manifest: {0}")]
    Key(#[from] MalformedKey),
    /// A block has no chunk.
    #[error("damaged manifest: it has {}, and none has index {index}", human::count(*chunks, "chunk"))]
    MissingIndex {
        /// The first block without a chunk.
        index: u64,
        /// The number of chunks in the list.
        chunks: u64,
    },
    /// A block has two chunks.
    #[error("damaged manifest: two chunks have index {index}")]
    DoubleIndex {
        /// The block.
        index: u64,
    },
    /// There are more than [`MAX_CHUNKS`] chunks, or more than [`MAX_TREE_CHUNKS`] of the index.
    #[error("the manifest has more than {max} chunks in {list:?}")]
    TooManyChunks {
        /// The key of the list.
        list: &'static str,
        /// The limit.
        max: usize,
    },
    /// A block of version 2 has no length, or one that no block has.
    #[error("damaged manifest: block {index} of {list:?} has no length from 1 to {BLOCK_BYTES}")]
    BlockLength {
        /// The key of the list.
        list: &'static str,
        /// The block.
        index: u64,
    },
    /// The blocks have another size.
    #[error("the manifest has blocks of {}; this program reads blocks of {CHUNK_SIZE}", human::count(*found, "byte"))]
    ChunkSize {
        /// The value of `chunk_size`, in bytes.
        found: u64,
    },
    /// The size does not match the number of chunks.
    #[error(
        "damaged manifest: its {} do not have {}",
        human::count(*chunks, "chunk"), human::count(*size, "byte")
    )]
    Size {
        /// The value of `size`, in bytes.
        size: u64,
        /// The number of chunks in the list.
        chunks: u64,
    },
    /// The number of copies is out of range.
    #[error("damaged manifest: {found} copies, not 1 to 255")]
    Copies {
        /// The value of `copies`.
        found: u64,
    },
    /// The mode has other bits than those of permissions.
    #[error("damaged manifest: the mode {found} is not from 0 to {MAX_MODE}")]
    Mode {
        /// The value of `mode`.
        found: u64,
    },
    /// The content is of a kind that this program cannot restore.
    #[error("the manifest has the content {found:?}, and this program restores files and \"tar\"; use a newer program")]
    Content {
        /// The value of `content`.
        found: String,
    },
}

impl Manifest {
    /// Reads a manifest to the end of `reader`.
    pub fn read(reader: impl Read) -> Result<Self, ManifestError> {
        Self::read_limited(reader, MAX_CHUNKS)
    }

    fn read_limited(reader: impl Read, max_chunks: usize) -> Result<Self, ManifestError> {
        let mut draft = Draft::new(max_chunks);
        let mut json = serde_json::Deserializer::from_reader(io::BufReader::new(reader));
        let read = json.deserialize_map(&mut draft).and_then(|()| json.end());
        match (draft.error.take(), read) {
            (Some(error), _) => Err(error),
            (None, Ok(())) => draft.finish(),
            (None, Err(error)) => Err(match error.classify() {
                Category::Io => ManifestError::Read(error.into()),
                Category::Eof => ManifestError::Truncated,
                Category::Syntax | Category::Data => ManifestError::Malformed(error),
            }),
        }
    }

    /// Writes the manifest. One that [`Manifest::read`] would refuse is an error before anything is written.
    pub fn write(&self, writer: impl Write) -> Result<(), ManifestError> {
        self.check()?;
        let mut writer = io::BufWriter::new(writer);
        serde_json::to_writer(&mut writer, self).map_err(|error| ManifestError::Write(error.into()))?;
        writer.write_all(b"\n").and_then(|()| writer.flush()).map_err(ManifestError::Write)
    }

    /// Checks what must hold both after reading and before writing.
    fn check(&self) -> Result<(), ManifestError> {
        if self.copies == 0 {
            return Err(ManifestError::Copies { found: 0 });
        }
        for (list, ids, max) in [("chunks", &self.chunks[..], MAX_CHUNKS), ("tree", self.tree(), MAX_TREE_CHUNKS)] {
            if ids.len() > max {
                return Err(ManifestError::TooManyChunks { list, max });
            }
        }
        if let Some(version2) = &self.version2 {
            check_lengths("chunks", &self.chunks, &version2.ends)?;
            check_lengths("tree", &version2.tree, &version2.tree_ends)?;
        }
        if let Content::File(FileMetadata { mode: Some(mode), .. }) = self.content
            && mode > MAX_MODE
        {
            return Err(ManifestError::Mode { found: mode.into() });
        }
        let chunks = self.chunks.len() as u64;
        let is_sum = |size: u64| match &self.version2 {
            Some(version2) => version2.ends.last().copied().unwrap_or_default() == size,
            None => size.div_ceil(CHUNK_SIZE) == chunks,
        };
        match self.size {
            Some(size) if !is_sum(size) => Err(ManifestError::Size { size, chunks }),
            _ => Ok(()),
        }
    }
}

/// Fails if not every block has a length from 1 to [`BLOCK_BYTES`].
fn check_lengths(list: &'static str, ids: &[ChunkId], ends: &[u64]) -> Result<(), ManifestError> {
    let mut start = 0;
    for (index, end) in (0..ids.len()).zip(ends.iter().copied().map(Some).chain(std::iter::repeat(None))) {
        let length = end.and_then(|end| end.checked_sub(start)).unwrap_or_default();
        if length == 0 || length > CHUNK_SIZE {
            return Err(ManifestError::BlockLength { list, index: index as u64 });
        }
        start += length;
    }
    Ok(())
}

/// An element of `chunks` or `tree`.
#[derive(Serialize, Deserialize)]
struct Entry {
    index: u64,
    id: ChunkId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    len: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

impl Serialize for Manifest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("version", if self.version2.is_some() { &VERSION_2 } else { &VERSION_1 })?;
        map.serialize_entry("key", &self.key.to_text())?;
        if let Some(size) = self.size {
            map.serialize_entry("size", &size)?;
        }
        if self.version2.is_none() {
            map.serialize_entry("chunk_size", &CHUNK_SIZE)?;
        }
        map.serialize_entry("copies", &self.copies)?;
        match self.content {
            Content::File(FileMetadata { mode, mtime_ns }) => {
                if let Some(mode) = mode {
                    map.serialize_entry("mode", &mode)?;
                }
                if let Some(mtime_ns) = mtime_ns {
                    map.serialize_entry("mtime_ns", &mtime_ns)?;
                }
            }
            Content::Tar => map.serialize_entry("content", "tar")?,
        }
        let Some(version2) = &self.version2 else {
            map.serialize_entry("chunks", &Entries { ids: &self.chunks, ends: None, keys: &BTreeMap::new() })?;
            return map.end();
        };
        let chunks = Entries { ids: &self.chunks, ends: Some(&version2.ends), keys: &version2.keys };
        map.serialize_entry("chunks", &chunks)?;
        if !version2.tree.is_empty() {
            let tree = Entries { ids: &version2.tree, ends: Some(&version2.tree_ends), keys: &BTreeMap::new() };
            map.serialize_entry("tree", &tree)?;
        }
        map.end()
    }
}

struct Entries<'a> {
    ids: &'a [ChunkId],
    ends: Option<&'a [u64]>,
    keys: &'a BTreeMap<usize, Key>,
}

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.ids.len()))?;
        let mut start = 0;
        for (index, &id) in self.ids.iter().enumerate() {
            let len = self.ends.map(|ends| {
                let end = ends.get(index).copied().unwrap_or(start);
                // `check` has seen that it is short.
                u32::try_from(end.saturating_sub(std::mem::replace(&mut start, end))).unwrap_or_default()
            });
            let key = self.keys.get(&index).map(Key::to_text);
            seq.serialize_element(&Entry { index: index as u64, id, len, key })?;
        }
        seq.end()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::id::DEFAULT_COPIES;

    const KEY: &str = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=";
    const MIB: u64 = 1 << 20;

    fn id(i: u64) -> ChunkId {
        ChunkId::of(&i.to_le_bytes())
    }

    fn entries(indices: &[u64]) -> Value {
        indices.iter().map(|&i| json!({"index": i, "id": id(i)})).collect()
    }

    fn manifest(chunks: u64) -> Manifest {
        let chunks: Vec<ChunkId> = (0..chunks).map(id).collect();
        let size = Some(chunks.len() as u64 * MIB);
        Manifest { key: KEY.parse().unwrap(), size, copies: 3, content: Content::default(), chunks, version2: None }
    }

    fn file(mode: Option<u32>, mtime_ns: Option<i64>) -> Content {
        Content::File(FileMetadata { mode, mtime_ns })
    }

    fn read(value: &Value) -> Result<Manifest, ManifestError> {
        Manifest::read(value.to_string().as_bytes())
    }

    /// The error of reading a valid manifest of two chunks after a change to it.
    fn error_after(change: impl FnOnce(&mut Value)) -> ManifestError {
        let mut value = serde_json::to_value(manifest(2)).unwrap();
        change(&mut value);
        read(&value).unwrap_err()
    }

    fn written(manifest: &Manifest) -> String {
        let mut text = Vec::new();
        manifest.write(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_manifest_is_written_in_the_documented_form() {
        let mut manifest = manifest(1);
        let expected = format!(
            "{{\"version\":1,\"key\":\"{KEY}\",\"size\":1048576,\"chunk_size\":1048576,\"copies\":3,\
             \"chunks\":[{{\"index\":0,\"id\":\"{}\"}}]}}\n",
            id(0)
        );
        assert_eq!(written(&manifest), expected);
        manifest.content = Content::Tar;
        assert_eq!(written(&manifest), expected.replace("\"chunks\"", "\"content\":\"tar\",\"chunks\""));
        manifest.content = file(Some(0o640), Some(-5));
        let expected = expected.replace("\"chunks\"", "\"mode\":416,\"mtime_ns\":-5,\"chunks\"");
        assert_eq!(written(&manifest), expected);
        manifest.content = file(Some(0o4755), None);
        assert!(matches!(manifest.write(io::sink()), Err(ManifestError::Mode { found: 0o4755 })));
    }

    #[test]
    fn a_written_manifest_reads_back() {
        for (chunks, size) in [(0, 0), (1, 1), (1, MIB), (2, MIB + 1), (300, 300 * MIB - 7)] {
            for content in [file(None, None), file(Some(0), Some(-1)), file(Some(0o777), Some(i64::MIN)), Content::Tar]
            {
                let manifest = Manifest { size: Some(size), content, ..manifest(chunks) };
                assert_eq!(Manifest::read(written(&manifest).as_bytes()).unwrap(), manifest);
            }
        }
    }

    #[test]
    fn key_and_chunks_suffice_and_unknown_keys_are_ignored() {
        let bare = read(&json!({"key": KEY, "chunks": entries(&[0, 1])})).unwrap();
        assert_eq!(bare, Manifest { size: None, copies: DEFAULT_COPIES, ..manifest(2) });
        let mut value = serde_json::to_value(manifest(2)).unwrap();
        value["novelty"] = json!({"deep": [1, 2, {"er": null}]});
        value["chunks"][1]["novelty"] = json!([]);
        assert_eq!(read(&value).unwrap(), manifest(2));
    }

    /// A directory of three blocks, the second of which has a key of its own, and an index of one block.
    fn directory() -> Manifest {
        let key: Key = KEY.parse().unwrap();
        let keys = BTreeMap::from([(1, key.derive(crate::pipeline::KeyLabel::Chunk, 300))]);
        let (ends, tree_ends) = (vec![MIB, MIB + 1536, MIB + 2048], vec![480]);
        let version2 = Some(Version2 { ends, keys, tree: vec![id(9)], tree_ends });
        Manifest { size: Some(MIB + 2048), content: Content::Tar, version2, ..manifest(3) }
    }

    #[test]
    fn version_2_is_written_in_the_documented_form() {
        let expected = format!(
            "{{\"version\":2,\"key\":\"{KEY}\",\"size\":1050624,\"copies\":3,\"content\":\"tar\",\"chunks\":[\
             {{\"index\":0,\"id\":\"{}\",\"len\":1048576}},\
             {{\"index\":1,\"id\":\"{}\",\"len\":1536,\"key\":\"oICdL_vKRTSml64HQDIBDNpD2cvKB9qajRaEPxA0Nek=\"}},\
             {{\"index\":2,\"id\":\"{}\",\"len\":512}}],\"tree\":[{{\"index\":0,\"id\":\"{}\",\"len\":480}}]}}\n",
            id(0),
            id(1),
            id(2),
            id(9)
        );
        assert_eq!(written(&directory()), expected);
        assert_eq!(Manifest::read(expected.as_bytes()).unwrap(), directory());
        // In another order, with the index before the chunks and the version last.
        let mut value: Value = serde_json::from_str(&expected).unwrap();
        value["chunks"].as_array_mut().unwrap().reverse();
        let rest = value.as_object_mut().unwrap();
        let version = rest.remove("version").unwrap();
        let text = value.to_string();
        let text = format!("{},\"version\":{version}}}", text.strip_suffix('}').unwrap());
        assert_eq!(Manifest::read(text.as_bytes()).unwrap(), directory());
    }

    #[test]
    fn blocks_of_version_2_need_lengths_that_add_up() {
        let error_after = |change: &dyn Fn(&mut Value)| {
            let mut value = serde_json::to_value(directory()).unwrap();
            change(&mut value);
            read(&value).unwrap_err()
        };
        for (length, index) in [(json!(0), 0), (json!(MIB + 1), 0), (Value::Null, 2)] {
            let error = error_after(&|m| m["chunks"][index]["len"] = length.clone());
            assert!(
                matches!(error, ManifestError::BlockLength { list: "chunks", index: found } if found == index as u64)
            );
        }
        let error = error_after(&|m| m["tree"][0]["len"] = 0.into());
        assert!(matches!(error, ManifestError::BlockLength { list: "tree", index: 0 }), "{error}");
        let error = error_after(&|m| m["size"] = 5.into());
        assert!(matches!(error, ManifestError::Size { size: 5, chunks: 3 }), "{error}");
        let error = error_after(&|m| m["chunks"][1]["key"] = "short".into());
        assert!(matches!(error, ManifestError::Key(_)), "{error}");
        let mut without_index = directory();
        without_index.version2.as_mut().unwrap().ends.pop();
        assert!(matches!(without_index.write(io::sink()), Err(ManifestError::BlockLength { .. })));
    }

    #[test]
    fn size_must_match_the_number_of_chunks() {
        for size in [0, MIB, 2 * MIB + 1, u64::MAX] {
            match error_after(|m| m["size"] = size.into()) {
                ManifestError::Size { size: found, chunks: 2 } => assert_eq!(found, size),
                other => panic!("{size}: {other}"),
            }
        }
        let inconsistent = Manifest { size: Some(1), ..manifest(2) };
        let mut text = Vec::new();
        assert!(matches!(inconsistent.write(&mut text), Err(ManifestError::Size { .. })));
        assert!(text.is_empty());
    }

    #[test]
    fn values_of_newer_versions_are_error_after() {
        let error = error_after(|m| m["version"] = 3.into());
        assert!(matches!(error, ManifestError::Version { found: 3 }), "{error}");
        let error = error_after(|m| m["content"] = "zip".into());
        assert!(matches!(&error, ManifestError::Content { found } if found == "zip"), "{error}");
        let error = error_after(|m| m["chunk_size"] = 4096.into());
        assert!(matches!(error, ManifestError::ChunkSize { found: 4096 }), "{error}");
    }

    /// Goal: the error for another version names the version, not the first key that has another shape.
    #[test]
    fn the_version_is_checked_before_later_keys() {
        let text = r#"{"version": 3, "key": {"nonce": 1}, "chunks": "elsewhere"}"#;
        assert!(matches!(Manifest::read(text.as_bytes()), Err(ManifestError::Version { found: 3 })));
    }

    #[test]
    fn copies_are_one_to_255() {
        for copies in [0, 256, u64::MAX] {
            let error = error_after(|m| m["copies"] = copies.into());
            assert!(matches!(error, ManifestError::Copies { found } if found == copies), "{error}");
        }
    }

    #[test]
    fn required_keys_must_be_present_and_valid() {
        let without = |key: &str| error_after(|m| drop(m.as_object_mut().unwrap().remove(key)));
        assert!(matches!(without("key"), ManifestError::Missing { key: "key" }));
        assert!(matches!(without("chunks"), ManifestError::Missing { key: "chunks" }));
        assert!(matches!(error_after(|m| m["key"] = "short".into()), ManifestError::Key(MalformedKey)));
        for change in [
            (|m| m["chunks"][1]["id"] = "xyz".into()) as fn(&mut Value),
            |m| m["chunks"][1]["id"] = id(1).to_string().to_uppercase().into(),
            |m| m["chunks"][1]["index"] = (-1).into(),
            |m| drop(m["chunks"][1].as_object_mut().unwrap().remove("index")),
            |m| m["chunks"] = json!({}),
            |m| m["size"] = "large".into(),
        ] {
            let error = error_after(change);
            assert!(matches!(error, ManifestError::Malformed(_)), "{error}");
        }
    }

    #[test]
    fn the_number_of_chunks_is_limited() {
        let text = written(&manifest(3));
        assert_eq!(Manifest::read_limited(text.as_bytes(), 3).unwrap(), manifest(3));
        assert!(matches!(Manifest::read_limited(text.as_bytes(), 2), Err(ManifestError::TooManyChunks { max: 2, .. })));
    }

    #[test]
    fn a_manifest_cut_at_any_length_is_truncated() {
        let text = written(&manifest(2));
        for len in 0..text.trim_end().len() {
            let error = Manifest::read(&text.as_bytes()[..len]).unwrap_err();
            assert!(matches!(error, ManifestError::Truncated), "{len}: {error}");
        }
    }

    #[test]
    fn other_files_are_error_after() {
        let twice = format!("{{\"key\":\"{KEY}\",\"key\":\"{KEY}\",\"chunks\":[]}}");
        let two = written(&manifest(1)).repeat(2);
        for other in [&b"\x7FELF"[..], b"[]", b"null", b"hello", b"\xFF\xFE", twice.as_bytes(), two.as_bytes()] {
            let error = Manifest::read(other).unwrap_err();
            assert!(matches!(error, ManifestError::Malformed(_)), "{error}");
        }
        assert!(matches!(Manifest::read(&b"{}"[..]), Err(ManifestError::Missing { key: "key" })));
    }

    #[test]
    fn failing_files_give_their_own_errors() {
        struct Fails;
        impl Read for Fails {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::PermissionDenied.into())
            }
        }
        impl Write for Fails {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        match Manifest::read(Fails) {
            Err(ManifestError::Read(error)) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
            other => panic!("{other:?}"),
        }
        for chunks in [1, 1000] {
            match manifest(chunks).write(Fails) {
                Err(ManifestError::Write(error)) => assert_eq!(error.kind(), io::ErrorKind::StorageFull),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn the_debug_form_hides_the_key() {
        let debug = format!("{:?}", manifest(1));
        assert!(!debug.contains(&KEY[..10]) && debug.contains("secret"), "{debug}");
    }
}
