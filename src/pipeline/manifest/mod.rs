//! The manifest: the private recipe that makes a file of chunks again.
//!
//! JSON, one object (RFC 8259), written in this order and read in any:
//!
//! ```text
//!  "version"     1
//!  "key"         the Fernet key, URL-safe base64                       needed by every reader
//!  "size"        bytes of the file
//!  "chunk_size"  bytes of a full block
//!  "copies"      how many copies of each chunk were asked for
//!  "content"     "tar" where the bytes are a tar stream of a directory; absent for a file
//!  "chunks"      [{"index": 0, "id": "<64 hex digits>"}, …]            needed by every reader
//! ```
//!
//! It holds the key and so must be kept as secret as the file; it holds no name, path, address or time, so that it
//! tells nothing else to whoever finds it. Unknown keys are passed over, for newer writers; an unknown version or
//! content is refused, since restoring it by the rules of this one would give a wrong file. Older writers gave what
//! every reader needs and no more.
//!
//! A manifest has a chunk for each mebibyte, and a client's memory must not grow with the file by more than it has to:
//! ids are kept as 32 bytes each, and the text is never held as a whole, neither when reading nor when writing.

mod fields;

use std::io::{self, Read, Write};

use serde::ser::{SerializeMap, SerializeSeq, Serializer};
use serde::{Deserialize, Deserializer as _, Serialize};
use serde_json::error::Category;

use crate::id::{BLOCK_BYTES, ChunkId};
use crate::pipeline::manifest::fields::Draft;
use crate::pipeline::seal::{Key, MalformedKey};

/// The version that is written, and the only one that is read.
const VERSION: u64 = 1;

/// What `chunk_size` must say: the size of a full block in bytes.
const CHUNK_SIZE: u64 = BLOCK_BYTES as u64;

/// The most chunks of one file: 64 TiB of it. Their ids take 2 GiB of memory.
pub const MAX_CHUNKS: usize = 64 << 20;

/// What a file's chunks are and how to open them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Opens every chunk.
    pub key: Key,
    /// Length of the restored bytes; older manifests do not tell.
    pub size: Option<u64>,
    /// How many copies of each chunk were asked for; at least 1.
    pub copies: u8,
    /// What the restored bytes are.
    pub content: Content,
    /// The chunks in the order of their blocks, at most [`MAX_CHUNKS`].
    pub chunks: Vec<ChunkId>,
}

/// What the restored bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Content {
    /// A file's own bytes.
    #[default]
    File,
    /// A tar stream of a directory.
    Tar,
}

/// Why a manifest could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Reading the file failed.
    #[error("reading the manifest: {0}")]
    Read(#[source] io::Error),
    /// Writing the file failed; what is there is not a manifest.
    #[error("writing the manifest: {0}")]
    Write(#[source] io::Error),
    /// The text ends within the manifest.
    #[error("the manifest is cut short; only a complete copy of it restores the file")]
    Truncated,
    /// The text is no manifest, or a damaged one.
    #[error("not a CellSync manifest: {0}")]
    Malformed(#[source] serde_json::Error),
    /// A newer writer made it.
    #[error("the manifest is of version {found}, and this program reads version {VERSION}; use a newer one")]
    Version {
        /// The version it states.
        found: u64,
    },
    /// It is JSON without what a restore needs.
    #[error("not a CellSync manifest: it has no {key:?}")]
    Missing {
        /// The absent key.
        key: &'static str,
    },
    /// The key cannot be one.
    #[error("damaged manifest: {0}")]
    Key(#[from] MalformedKey),
    /// A block's chunk is not named.
    #[error("damaged manifest: of {chunks} chunks none has index {index}")]
    MissingIndex {
        /// The first block without a chunk.
        index: u64,
        /// How many chunks are listed.
        chunks: u64,
    },
    /// Two chunks claim the same block.
    #[error("damaged manifest: two chunks have index {index}")]
    DoubleIndex {
        /// The block.
        index: u64,
    },
    /// More chunks than any file may have.
    #[error("a manifest has at most {MAX_CHUNKS} chunks")]
    TooManyChunks,
    /// Blocks of a size that is not ours.
    #[error("the manifest has blocks of {found} bytes, and this program reads blocks of {CHUNK_SIZE}")]
    ChunkSize {
        /// What it states, in bytes.
        found: u64,
    },
    /// The size and the number of chunks contradict each other.
    #[error("damaged manifest: {size} bytes cannot be {chunks} chunks of {CHUNK_SIZE}")]
    Size {
        /// The stated size in bytes.
        size: u64,
        /// How many chunks are listed.
        chunks: u64,
    },
    /// A number of copies that makes no sense.
    #[error("damaged manifest: {found} copies; from 1 to 255 can be kept")]
    Copies {
        /// What it states.
        found: u64,
    },
    /// The bytes are of a kind this program cannot restore.
    #[error("the manifest's content is {found:?}, and this program restores files and \"tar\"; use a newer one")]
    Content {
        /// What it states.
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
        match (draft.refusal.take(), read) {
            (Some(refusal), _) => Err(refusal),
            (None, Ok(())) => draft.finish(),
            (None, Err(error)) => Err(match error.classify() {
                Category::Io => ManifestError::Read(error.into()),
                Category::Eof => ManifestError::Truncated,
                Category::Syntax | Category::Data => ManifestError::Malformed(error),
            }),
        }
    }

    /// Writes the manifest, a line. One that could not be read back is refused before anything is written.
    pub fn write(&self, writer: impl Write) -> Result<(), ManifestError> {
        self.check()?;
        let mut writer = io::BufWriter::new(writer);
        serde_json::to_writer(&mut writer, self).map_err(|error| ManifestError::Write(error.into()))?;
        writer.write_all(b"\n").and_then(|()| writer.flush()).map_err(ManifestError::Write)
    }

    /// What must hold whether it was read or is to be written.
    fn check(&self) -> Result<(), ManifestError> {
        if self.copies == 0 {
            return Err(ManifestError::Copies { found: 0 });
        }
        if self.chunks.len() > MAX_CHUNKS {
            return Err(ManifestError::TooManyChunks);
        }
        let chunks = self.chunks.len() as u64;
        match self.size {
            Some(size) if size.div_ceil(CHUNK_SIZE) != chunks => Err(ManifestError::Size { size, chunks }),
            _ => Ok(()),
        }
    }
}

/// An element of `chunks`.
#[derive(Serialize, Deserialize)]
struct Entry {
    index: u64,
    id: ChunkId,
}

impl Serialize for Manifest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("version", &VERSION)?;
        map.serialize_entry("key", &self.key.to_text())?;
        if let Some(size) = self.size {
            map.serialize_entry("size", &size)?;
        }
        map.serialize_entry("chunk_size", &CHUNK_SIZE)?;
        map.serialize_entry("copies", &self.copies)?;
        match self.content {
            Content::File => {}
            Content::Tar => map.serialize_entry("content", "tar")?,
        }
        map.serialize_entry("chunks", &Entries(&self.chunks))?;
        map.end()
    }
}

struct Entries<'a>(&'a [ChunkId]);

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.0.len()))?;
        for (index, &id) in (0..).zip(self.0) {
            seq.serialize_element(&Entry { index, id })?;
        }
        seq.end()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

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
        Manifest { key: KEY.parse().unwrap(), size, copies: 3, content: Content::File, chunks }
    }

    fn read(value: &Value) -> Result<Manifest, ManifestError> {
        Manifest::read(value.to_string().as_bytes())
    }

    /// What reading says after `change` was made to a good manifest of two chunks.
    fn refused(change: impl FnOnce(&mut Value)) -> ManifestError {
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
    fn it_is_written_in_the_shape_that_other_programs_read() {
        let mut manifest = manifest(1);
        let expected = format!(
            "{{\"version\":1,\"key\":\"{KEY}\",\"size\":1048576,\"chunk_size\":1048576,\"copies\":3,\
             \"chunks\":[{{\"index\":0,\"id\":\"{}\"}}]}}\n",
            id(0)
        );
        assert_eq!(written(&manifest), expected);
        manifest.content = Content::Tar;
        assert_eq!(written(&manifest), expected.replace("\"chunks\"", "\"content\":\"tar\",\"chunks\""));
    }

    #[test]
    fn what_is_written_reads_back() {
        for (chunks, size) in [(0, 0), (1, 1), (1, MIB), (2, MIB + 1), (300, 300 * MIB - 7)] {
            for content in [Content::File, Content::Tar] {
                let manifest = Manifest { size: Some(size), content, ..manifest(chunks) };
                assert_eq!(Manifest::read(written(&manifest).as_bytes()).unwrap(), manifest);
            }
        }
    }

    #[test]
    fn key_and_chunks_are_enough_and_unknown_keys_are_passed_over() {
        let bare = read(&json!({"key": KEY, "chunks": entries(&[0, 1])})).unwrap();
        assert_eq!(bare, Manifest { size: None, copies: crate::id::DEFAULT_COPIES, ..manifest(2) });
        let mut value = serde_json::to_value(manifest(2)).unwrap();
        value["novelty"] = json!({"deep": [1, 2, {"er": null}]});
        value["chunks"][1]["novelty"] = json!([]);
        assert_eq!(read(&value).unwrap(), manifest(2));
    }

    #[test]
    fn size_and_number_of_chunks_must_agree() {
        for size in [0, MIB, 2 * MIB + 1, u64::MAX] {
            match refused(|m| m["size"] = size.into()) {
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
    fn what_a_newer_writer_may_mean_is_refused_by_name() {
        let error = refused(|m| m["version"] = 2.into());
        assert!(matches!(error, ManifestError::Version { found: 2 }), "{error}");
        let error = refused(|m| m["content"] = "zip".into());
        assert!(matches!(&error, ManifestError::Content { found } if found == "zip"), "{error}");
        let error = refused(|m| m["chunk_size"] = 4096.into());
        assert!(matches!(error, ManifestError::ChunkSize { found: 4096 }), "{error}");
    }

    /// Goal: a manifest of another version is told by its version, not by the first key that has another shape.
    #[test]
    fn the_version_is_refused_before_what_follows_it_is_understood() {
        let text = r#"{"version": 2, "key": {"nonce": 1}, "chunks": "elsewhere"}"#;
        assert!(matches!(Manifest::read(text.as_bytes()), Err(ManifestError::Version { found: 2 })));
    }

    #[test]
    fn copies_are_one_to_255() {
        for copies in [0, 256, u64::MAX] {
            let error = refused(|m| m["copies"] = copies.into());
            assert!(matches!(error, ManifestError::Copies { found } if found == copies), "{error}");
        }
    }

    #[test]
    fn what_a_restore_needs_must_be_there_and_valid() {
        let without = |key: &str| refused(|m| drop(m.as_object_mut().unwrap().remove(key)));
        assert!(matches!(without("key"), ManifestError::Missing { key: "key" }));
        assert!(matches!(without("chunks"), ManifestError::Missing { key: "chunks" }));
        assert!(matches!(refused(|m| m["key"] = "short".into()), ManifestError::Key(MalformedKey)));
        for change in [
            (|m| m["chunks"][1]["id"] = "xyz".into()) as fn(&mut Value),
            |m| m["chunks"][1]["id"] = id(1).to_string().to_uppercase().into(),
            |m| m["chunks"][1]["index"] = (-1).into(),
            |m| drop(m["chunks"][1].as_object_mut().unwrap().remove("index")),
            |m| m["chunks"] = json!({}),
            |m| m["size"] = "large".into(),
        ] {
            let error = refused(change);
            assert!(matches!(error, ManifestError::Malformed(_)), "{error}");
        }
    }

    #[test]
    fn there_is_a_most_of_chunks() {
        let text = written(&manifest(3));
        assert_eq!(Manifest::read_limited(text.as_bytes(), 3).unwrap(), manifest(3));
        assert!(matches!(Manifest::read_limited(text.as_bytes(), 2), Err(ManifestError::TooManyChunks)));
    }

    #[test]
    fn a_cut_manifest_says_so_at_every_length() {
        let text = written(&manifest(2));
        for len in 0..text.trim_end().len() {
            let error = Manifest::read(&text.as_bytes()[..len]).unwrap_err();
            assert!(matches!(error, ManifestError::Truncated), "{len}: {error}");
        }
    }

    #[test]
    fn foreign_files_are_refused() {
        let twice = format!("{{\"key\":\"{KEY}\",\"key\":\"{KEY}\",\"chunks\":[]}}");
        let two = written(&manifest(1)).repeat(2);
        for foreign in [&b"\x7FELF"[..], b"[]", b"null", b"hello", b"\xFF\xFE", twice.as_bytes(), two.as_bytes()] {
            let error = Manifest::read(foreign).unwrap_err();
            assert!(matches!(error, ManifestError::Malformed(_)), "{error}");
        }
        assert!(matches!(Manifest::read(&b"{}"[..]), Err(ManifestError::Missing { key: "key" })));
    }

    #[test]
    fn failing_files_are_told_as_such() {
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
    fn the_key_is_in_no_debug_form() {
        let debug = format!("{:?}", manifest(1));
        assert!(!debug.contains(&KEY[..10]) && debug.contains("secret"), "{debug}");
    }
}
