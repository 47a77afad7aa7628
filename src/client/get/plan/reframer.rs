//! From what is left of a stream to a tar stream, without an index.
//!
//! ```text
//!   header ─▶ its data, lost bytes as zeros ─▶ header ─▶ …
//!     │ lost
//!     ▼
//!   seek: the next place where a header can be ─▶ header ─▶ …
//! ```
//!
//! The length of an entry is in its header. So lost data costs only itself, and a lost header costs its entry and what
//! follows up to the next header that is found. In a stream of version 2 a header is searched for at the beginnings of
//! blocks alone; in one of version 1 at each multiple of 512 bytes, and an archive that is stored in the archive can be
//! taken for a part of it.

use std::mem;

use crate::archive::index::IndexEntry;
use crate::archive::{DecodeError, Decoder, END, Entry, Kind, MAX_EXTENSION_BYTES, padding};
use crate::client::get::plan::StreamBlock;
use crate::client::get::plan::lost::{LostPart, LostParts, file_ranges};

/// The unit of a tar stream in bytes.
const UNIT: usize = 512;

/// The longest header in bytes: extension records, and the map of a sparse file with all its parts.
const MAX_HEADER_BYTES: usize = 2 * MAX_EXTENSION_BYTES + 8 * MAX_EXTENSION_BYTES;

/// Where headers can be, after one was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::client) enum HeaderPlaces {
    /// At the beginnings of blocks.
    Blocks,
    /// At each multiple of 512 bytes.
    Units,
}

/// Takes all blocks of a stream in order, and makes a tar stream of what is left.
pub(in crate::client) struct Reframer {
    places: HeaderPlaces,
    state: State,
    /// Bytes that wait for the rest of their header, and where they begin in the stream.
    pending: Vec<u8>,
    at: u64,
    /// Entries that were found since they were last taken.
    found: Vec<IndexEntry>,
    lost: LostParts,
    /// Ranges of the stream of which it is unknown what they had.
    unknown: LostPart,
}

enum State {
    /// A header is next.
    Header,
    /// The data of an entry is next: this much is done of it and its padding.
    Data { entry: Box<Entry>, done: u64, lost: LostPart },
    /// The header of an entry is lost.
    Seeking,
    /// The archive has ended.
    Ended,
}

impl Reframer {
    pub(in crate::client) fn new(places: HeaderPlaces) -> Self {
        let unknown = LostPart { path: None, bytes: Vec::new(), metadata: false };
        let (pending, lost) = (Vec::new(), LostParts::default());
        Self { places, state: State::Header, pending, at: 0, found: Vec::new(), lost, unknown }
    }

    /// Takes the next block, and appends to `out` what can be passed on.
    pub(in crate::client) fn push(&mut self, block: &StreamBlock, out: &mut Vec<u8>) {
        match block {
            StreamBlock::Bytes(bytes) => {
                // What is pending is the beginning of a header, or nothing.
                let mut bytes = if self.pending.is_empty() {
                    bytes.clone()
                } else {
                    [&mem::take(&mut self.pending), &bytes[..]].concat()
                };
                let taken = self.take(&bytes, out);
                bytes.drain(..taken);
                self.at += taken as u64;
                self.pending = bytes;
            }
            StreamBlock::Lost(length) => {
                let start = self.at;
                self.at += (self.pending.len() + length) as u64;
                if !mem::take(&mut self.pending).is_empty() {
                    // A header begins before the block and ends in it.
                    self.state = State::Seeking;
                }
                self.lose(start, self.at, out);
            }
        }
    }

    /// The entries that were found since the last call.
    pub(in crate::client) fn found(&mut self) -> impl Iterator<Item = IndexEntry> {
        mem::take(&mut self.found).into_iter()
    }

    /// Appends the end of the stream. Returns what was lost.
    pub(in crate::client) fn finish(mut self, out: &mut Vec<u8>) -> LostParts {
        if let State::Data { entry, done, .. } = &self.state {
            // The stream is shorter than the entry.
            let left = whole_data(entry).saturating_sub(*done);
            self.lose(self.at, self.at.saturating_add(left), out);
        }
        let end = self.at + self.pending.len() as u64;
        if !matches!(self.state, State::Ended) {
            self.unknown.add(self.at..end);
        }
        out.extend(END);
        self.lost.add(self.unknown);
        self.lost
    }

    /// Takes the bytes of the stream from `start` to `end`, which are lost.
    fn lose(&mut self, mut start: u64, end: u64, out: &mut Vec<u8>) {
        while start < end {
            match mem::replace(&mut self.state, State::Seeking) {
                State::Data { entry, done, mut lost } => {
                    let part = (whole_data(&entry) - done).min(end - start);
                    for range in file_ranges(&entry.kind, &(done..done + part)) {
                        lost.add(range);
                    }
                    self.lost.zero_bytes += part;
                    out.resize(out.len() + usize::try_from(part).unwrap_or_default(), 0);
                    start += part;
                    self.continue_data(entry, done + part, lost);
                }
                State::Header | State::Seeking => {
                    self.unknown.add(start..end);
                    return;
                }
                State::Ended => {
                    self.state = State::Ended;
                    return;
                }
            }
        }
    }

    /// Takes bytes that are there. Returns how many; the others are the beginning of a header.
    fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> usize {
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            match mem::replace(&mut self.state, State::Seeking) {
                State::Ended => {
                    self.state = State::Ended;
                    return bytes.len();
                }
                State::Data { entry, done, lost } => {
                    let left = usize::try_from(whole_data(&entry) - done).unwrap_or(usize::MAX);
                    let part = rest.get(..left.min(rest.len())).unwrap_or(rest);
                    out.extend_from_slice(part);
                    taken += part.len();
                    self.continue_data(entry, done + part.len() as u64, lost);
                }
                State::Header => match header(rest) {
                    Found::Entry { entry, length } => {
                        out.extend_from_slice(rest.get(..length).unwrap_or_default());
                        let data = whole_data(&entry);
                        let whole = (length as u64).saturating_add(data);
                        self.found.push(IndexEntry::of(&entry, self.at + taken as u64, whole));
                        taken += length;
                        self.begin(entry);
                    }
                    Found::Incomplete if rest.len() < MAX_HEADER_BYTES => {
                        self.state = State::Header;
                        return taken;
                    }
                    Found::End => self.state = State::Ended,
                    Found::Incomplete | Found::Nothing => self.state = State::Seeking,
                },
                State::Seeking => {
                    let at = self.at + taken as u64;
                    let Some(skipped) = self.seek(rest, taken == 0) else {
                        self.unknown.add(at..self.at + bytes.len() as u64);
                        return bytes.len();
                    };
                    self.unknown.add(at..at + skipped as u64);
                    taken += skipped;
                    self.state = State::Header;
                }
            }
        }
        taken
    }

    /// Where the next header begins.
    fn seek(&self, bytes: &[u8], is_block: bool) -> Option<usize> {
        let is_header = |at: usize| match bytes.get(at..).map(header) {
            Some(Found::Entry { .. }) => true,
            // The rest may be in the next block.
            Some(Found::Incomplete) => bytes.len() - at >= UNIT,
            Some(Found::Nothing | Found::End) | None => false,
        };
        match self.places {
            HeaderPlaces::Blocks => Some(0).filter(|_| is_block && is_header(0)),
            HeaderPlaces::Units => (0..bytes.len()).step_by(UNIT).find(|&at| is_header(at)),
        }
    }

    fn begin(&mut self, entry: Box<Entry>) {
        let lost = LostPart { path: Some(entry.path.clone()), bytes: Vec::new(), metadata: false };
        self.continue_data(entry, 0, lost);
    }

    fn continue_data(&mut self, entry: Box<Entry>, done: u64, lost: LostPart) {
        if done < whole_data(&entry) {
            self.state = State::Data { entry, done, lost };
            return;
        }
        match &entry.kind {
            Kind::HardLink { target } => self.lost.add_link(&entry.path, target),
            Kind::File { .. } | Kind::Directory | Kind::SymbolicLink { .. } | Kind::Other { .. } => self.lost.add(lost),
        }
        self.state = State::Header;
    }
}

/// The data of an entry with its padding, in bytes.
fn whole_data(entry: &Entry) -> u64 {
    let data = entry.data_bytes();
    data.saturating_add(padding(data) as u64)
}

/// What is at the beginning of some bytes.
enum Found {
    /// The header of an entry, with its extensions, and its length in bytes.
    Entry {
        entry: Box<Entry>,
        length: usize,
    },
    /// The beginning of a header.
    Incomplete,
    /// The end of the archive.
    End,
    Nothing,
}

fn header(bytes: &[u8]) -> Found {
    let mut rest = bytes;
    match bytes.get(..UNIT) {
        None => return Found::Incomplete,
        Some(unit) if unit.iter().all(|byte| *byte == 0) => return Found::End,
        Some(_) => {}
    }
    match Decoder::new(&mut rest).next_entry() {
        Ok(Some(entry)) => {
            let length = bytes.len() - rest.len();
            Found::Entry { entry: Box::new(entry), length }
        }
        Err(DecodeError::Truncated { .. }) => Found::Incomplete,
        Ok(None) | Err(_) => Found::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::client::get::plan::fixtures::{EntryWithData, Sample, entries};

    fn reframe(
        stream: &[u8],
        blocks: &[Range<usize>],
        lost: &[usize],
        places: HeaderPlaces,
    ) -> (Vec<EntryWithData>, Vec<IndexEntry>, Vec<LostPart>) {
        let (mut reframer, mut out, mut found) = (Reframer::new(places), Vec::new(), Vec::new());
        for (number, range) in blocks.iter().enumerate() {
            let block = if lost.contains(&number) {
                StreamBlock::Lost(range.len())
            } else {
                StreamBlock::Bytes(stream[range.clone()].to_vec())
            };
            reframer.push(&block, &mut out);
            found.extend(reframer.found());
        }
        let lost = reframer.finish(&mut out).parts;
        (entries(&out), found, lost)
    }

    fn equal_blocks(length: usize, block: usize) -> Vec<Range<usize>> {
        (0..length).step_by(block).map(|start| start..(start + block).min(length)).collect()
    }

    #[test]
    fn a_whole_stream_stays_as_it_is() {
        let sample = Sample::new();
        for block in [512, 700, 1024, 5000, 1 << 20] {
            let blocks = equal_blocks(sample.stream.len(), block);
            let (found, index, lost) = reframe(&sample.stream, &blocks, &[], HeaderPlaces::Units);
            assert_eq!((&index, lost), (&sample.index, vec![]));
            assert_eq!(found, entries(&sample.stream));
        }
    }

    /// Goal: an entry comes out if its header is there, with all bytes that are there. Method: random sets of lost
    /// blocks of several sizes, none of which looks like a header.
    #[test]
    fn what_has_its_header_comes_out() {
        let sample = Sample::new();
        let mut rng = fastrand::Rng::with_seed(2);
        for round in 0..400 {
            // Blocks of a stream are multiples of 512 bytes.
            let block = [512, 1024, 1536, 4096][round % 4];
            let blocks = equal_blocks(sample.stream.len(), block);
            let lost: Vec<usize> = (0..blocks.len()).filter(|_| rng.u8(..5) == 0).collect();
            let is_lost = |at: u64| lost.contains(&(usize::try_from(at).unwrap() / block));
            let (found, index, parts) = reframe(&sample.stream, &blocks, &lost, HeaderPlaces::Units);
            let whole: Vec<_> = sample.index.iter().filter(|it| !(it.offset..it.data_offset()).any(is_lost)).collect();
            // A header without its extensions is found too: its path may be cut, so only whole ones are compared.
            assert!(index.len() >= whole.len() && found.len() == index.len(), "{} {}", index.len(), whole.len());
            for index in whole {
                let (entry, data) = found.iter().find(|(entry, _)| entry.path == index.path).unwrap();
                assert_eq!((&entry.kind, entry.mode), (&index.kind, index.mode));
                let original = sample.data_of(&entry.path);
                let lost_at = |at: &u64| is_lost(index.data_offset() + at);
                let expected: Vec<u8> =
                    (0..).zip(original).map(|(at, byte)| if lost_at(&at) { 0 } else { *byte }).collect();
                assert_eq!(*data, expected, "{}", entry.path.escape_ascii());
                if matches!(entry.kind, Kind::HardLink { .. }) {
                    // It has lost what its file has.
                    continue;
                }
                let reported: Vec<Range<u64>> = parts
                    .iter()
                    .filter(|part| part.path.as_ref() == Some(&entry.path))
                    .flat_map(|part| part.bytes.clone())
                    .flat_map(|range| range.map(|at| at..at + 1))
                    .collect();
                let expected: Vec<Range<u64>> = (0..original.len() as u64)
                    .filter(lost_at)
                    .flat_map(|at| file_ranges(&index.kind, &(at..at + 1)))
                    .collect();
                assert_eq!(reported, expected);
            }
        }
    }

    #[test]
    fn in_blocks_that_begin_with_headers_data_is_no_header() {
        let mut sample = Sample::new();
        // A file that is an archive itself, cut as version 2 cuts.
        let inner = sample.stream.clone();
        let start = sample.stream.len() - END.len();
        sample.stream.truncate(start);
        sample.add_file(b"inner.tar", &inner);
        let after = sample.stream.len();
        sample.add_file(b"last", b"bytes");
        sample.stream.extend(END);
        let data = usize::try_from(sample.index[sample.index.len() - 2].data_offset()).unwrap() + 512;
        let blocks = [0..start, start..data, data..after, after..sample.stream.len()];
        let names = |places| {
            let (found, _, _) = reframe(&sample.stream, &blocks, &[1], places);
            found.into_iter().map(|(entry, _)| entry.path).collect::<Vec<_>>()
        };
        let outside: Vec<Vec<u8>> =
            sample.index.iter().map(|entry| entry.path.clone()).filter(|path| path != b"inner.tar").collect();
        assert_eq!(names(HeaderPlaces::Blocks), outside);
        assert!(names(HeaderPlaces::Units).len() > outside.len());
    }

    #[test]
    fn a_stream_without_its_end_is_padded() {
        let sample = Sample::new();
        let cut = usize::try_from(sample.index.last().unwrap().data_offset()).unwrap() + 512;
        let (found, _, lost) = reframe(&sample.stream, &equal_blocks(cut, 1000), &[], HeaderPlaces::Units);
        assert_eq!(found.last().unwrap().1.len(), 2000);
        assert_eq!((lost[0].bytes.len(), lost[0].bytes[0].clone()), (1, 512..2000));
        let (found, index, lost) = reframe(&[], &[], &[], HeaderPlaces::Units);
        assert_eq!((found.len(), index.len(), lost.len()), (0, 0, 0));
    }

    #[test]
    fn every_name_of_a_file_loses_what_the_file_does() {
        let sample = Sample::new();
        let file = sample.index.iter().find(|entry| entry.path == b"d/a").unwrap();
        let block = usize::try_from(file.data_offset() / 512).unwrap();
        let blocks = equal_blocks(sample.stream.len(), 512);
        let (_, _, lost) = reframe(&sample.stream, &blocks, &[block], HeaderPlaces::Units);
        let names: Vec<_> = lost.iter().map(|part| part.path.as_deref().unwrap()).collect();
        assert_eq!(names, [&b"d/a"[..], b"e/link", b"e/link2"]);
        assert!(lost.iter().all(|part| part.lost_bytes() == 512), "{lost:?}");
    }
}
