//! A small archive for tests, with its index.

use std::io::Read;

use crate::archive::index::IndexEntry;
use crate::archive::{self, Decoder, END, Entry, Extent, Kind, Owner, Timestamp, padding};

/// A stream, its index, and what is in it.
pub(super) struct Sample {
    pub(super) stream: Vec<u8>,
    pub(super) index: Vec<IndexEntry>,
    /// The data of entries by path.
    data: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Sample {
    pub(super) fn new() -> Self {
        let mut sample = Self { stream: Vec::new(), index: Vec::new(), data: Vec::new() };
        let extents = vec![Extent { offset: 512, length: 1024 }, Extent { offset: 8192, length: 808 }];
        let file = |size| Kind::File { size, extents: None };
        sample.add(b".", Kind::Directory);
        sample.add(b"d", Kind::Directory);
        sample.add(b"d/a", file(1000));
        sample.add(&[b"d/", &[b'n'; 200][..]].concat(), file(3));
        sample.add(b"d/sparse", Kind::File { size: 9000, extents: Some(extents) });
        sample.add(b"e", Kind::Directory);
        sample.add(b"e/link", Kind::HardLink { target: b"d/a".to_vec() });
        sample.add(b"e/link2", Kind::HardLink { target: b"d/a".to_vec() });
        sample.add(b"f", file(2000));
        sample.stream.extend(END);
        sample
    }

    fn add(&mut self, path: &[u8], kind: Kind) {
        let data: Vec<u8> = (0..kind.data_bytes()).map(|at| u8::try_from(at % 251 + 1).unwrap()).collect();
        self.add_entry(path, kind, &data);
    }

    pub(super) fn add_file(&mut self, path: &[u8], data: &[u8]) {
        self.add_entry(path, Kind::File { size: data.len() as u64, extents: None }, data);
    }

    fn add_entry(&mut self, path: &[u8], kind: Kind, data: &[u8]) {
        let owner = |id| Owner { id, name: None };
        let entry = Entry {
            path: path.to_vec(),
            kind,
            mode: 0o640,
            user: owner(1),
            group: owner(2),
            modified: Timestamp { seconds: 77, nanoseconds: 5 },
            xattrs: vec![(b"user.a".to_vec(), b"b".to_vec())],
            access_acl: None,
            default_acl: None,
        };
        let offset = self.stream.len() as u64;
        self.stream.extend(archive::header(&entry).unwrap());
        self.stream.extend(data);
        self.stream.resize(self.stream.len() + padding(data.len() as u64), 0);
        self.index.push(IndexEntry::of(&entry, offset, self.stream.len() as u64 - offset));
        self.data.push((path.to_vec(), data.to_vec()));
    }

    pub(super) fn data_of(&self, path: &[u8]) -> &[u8] {
        &self.data.iter().find(|(other, _)| other == path).unwrap().1
    }
}

/// An entry, and its bytes in the stream.
pub(super) type EntryWithData = (Entry, Vec<u8>);

/// The entries of a stream with their data.
pub(super) fn entries(stream: &[u8]) -> Vec<EntryWithData> {
    let (mut decoder, mut entries) = (Decoder::new(stream), Vec::new());
    while let Some(entry) = decoder.next_entry().unwrap() {
        let mut data = Vec::new();
        decoder.read_to_end(&mut data).unwrap();
        entries.push((entry, data));
    }
    entries
}
