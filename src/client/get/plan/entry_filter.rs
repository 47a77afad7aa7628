//! From blocks of the stream to a tar stream of chosen entries.

use std::mem;
use std::ops::Range;
use std::vec;

use crate::archive::index::IndexEntry;
use crate::archive::{self, Decoder, END, Entry, Kind, Owner};
use crate::client::get::plan::StreamBlock;
use crate::client::get::plan::lost::{LostPart, LostParts, file_ranges};
use crate::client::get::plan::selector::Wanted;

/// Takes the blocks that its entries need, in order, and makes a tar stream of these entries. What is lost of a file
/// becomes zeros, and a lost header is made anew from the index.
pub(in crate::client) struct EntryFilter {
    wanted: vec::IntoIter<Wanted>,
    current: Option<Current>,
    /// Who owns what is made from the index: the user who restores.
    owner: (Owner, Owner),
    /// What was lost, entry by entry.
    lost: LostParts,
}

/// An entry in progress.
struct Current {
    wanted: Wanted,
    /// The rest of its header, and what was read of it.
    header: Range<u64>,
    header_bytes: Vec<u8>,
    is_header_lost: bool,
    /// The rest of its data, with padding.
    data: Range<u64>,
    /// Its data is not passed on: there is no header for it.
    is_skipped: bool,
    lost: LostPart,
}

/// A header in the stream is not the one that the index describes.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::client) struct WrongHeader(pub(in crate::client) Vec<u8>);

impl EntryFilter {
    /// `wanted` is in the order of the stream. Headers that are made anew get this user and group.
    pub(in crate::client) fn new(wanted: Vec<Wanted>, user: u32, group: u32) -> Self {
        let owner = |id| Owner { id, name: None };
        Self {
            wanted: wanted.into_iter(),
            current: None,
            owner: (owner(user), owner(group)),
            lost: LostParts::default(),
        }
    }

    /// The ranges of the stream that these entries need, in order.
    pub(in crate::client) fn needed(wanted: &[Wanted]) -> Vec<Range<u64>> {
        let fetched = wanted.iter().filter(|wanted| !wanted.is_around);
        fetched.map(|Wanted { entry, .. }| entry.offset..entry.offset + entry.length).collect()
    }

    /// Takes the block that has these bytes of the stream, and appends to `out` what can be passed on. Blocks come in
    /// order, and none that is needed is left out.
    pub(in crate::client) fn push(
        &mut self,
        bytes: &Range<u64>,
        block: &StreamBlock,
        out: &mut Vec<u8>,
    ) -> Result<(), WrongHeader> {
        while let Some(mut current) = self.next(out) {
            let is_complete = self.advance(&mut current, bytes, block, out)?;
            if !is_complete {
                self.current = Some(current);
                return Ok(());
            }
            self.end(current);
        }
        Ok(())
    }

    /// Records what was lost of an entry.
    fn end(&mut self, Current { wanted, lost, .. }: Current) {
        match (&wanted.entry.kind, &lost.path) {
            // The metadata of a hard link is that of its file.
            (Kind::HardLink { target }, Some(path)) => {
                self.lost.add_link(path, wanted.new_target.as_ref().unwrap_or(target));
            }
            _ => self.lost.add(lost),
        }
    }

    /// Appends the end of the stream. Returns what was lost.
    pub(in crate::client) fn finish(mut self, out: &mut Vec<u8>) -> LostParts {
        // Directories around others may be left.
        while self.next(out).is_some() {}
        out.extend(END);
        self.lost
    }

    /// The entry in progress, or the next one. Directories around others are passed on right away.
    fn next(&mut self, out: &mut Vec<u8>) -> Option<Current> {
        if let Some(current) = self.current.take() {
            return Some(current);
        }
        for wanted in self.wanted.by_ref() {
            if wanted.is_around {
                out.extend(made_header(&wanted.entry, &self.owner).unwrap_or_default());
                continue;
            }
            let IndexEntry { offset, length, .. } = wanted.entry;
            let data_offset = wanted.entry.data_offset();
            let path = wanted.new_path.as_ref().unwrap_or(&wanted.entry.path).clone();
            return Some(Current {
                header: offset..data_offset,
                header_bytes: Vec::new(),
                is_header_lost: false,
                data: data_offset..offset.saturating_add(length),
                is_skipped: false,
                lost: LostPart { path: Some(path), bytes: Vec::new(), metadata: false },
                wanted,
            });
        }
        None
    }

    /// Takes what this block has of an entry. True if the entry is complete.
    fn advance(
        &mut self,
        current: &mut Current,
        bytes: &Range<u64>,
        block: &StreamBlock,
        out: &mut Vec<u8>,
    ) -> Result<bool, WrongHeader> {
        let part = |range: &Range<u64>| range.start.max(bytes.start)..range.end.min(bytes.end);
        if !current.header.is_empty() {
            let part = part(&current.header);
            if part.is_empty() {
                return Ok(false);
            }
            match slice(block, bytes, &part) {
                Some(bytes) => current.header_bytes.extend_from_slice(bytes),
                None => current.is_header_lost = true,
            }
            current.header.start = part.end;
            if !current.header.is_empty() {
                return Ok(false);
            }
            self.end_header(current, out)?;
        }
        let part = part(&current.data);
        if !part.is_empty() {
            if !current.is_skipped {
                if let Some(bytes) = slice(block, bytes, &part) {
                    out.extend_from_slice(bytes);
                } else {
                    let zeros = part.end - part.start;
                    self.lost.zero_bytes += zeros;
                    out.resize(out.len() + usize::try_from(zeros).unwrap_or_default(), 0);
                }
            }
            if current.is_skipped || matches!(block, StreamBlock::Lost(_)) {
                let begin = current.wanted.entry.data_offset();
                let data = part.start - begin..part.end - begin;
                for range in file_ranges(&current.wanted.entry.kind, &data) {
                    current.lost.add(range);
                }
            }
            current.data.start = part.end;
        }
        Ok(current.data.is_empty())
    }

    fn end_header(&self, current: &mut Current, out: &mut Vec<u8>) -> Result<(), WrongHeader> {
        let Wanted { entry, new_path, new_target, .. } = &current.wanted;
        let bytes = mem::take(&mut current.header_bytes);
        let renamed = |mut entry: Entry| {
            if let Some(path) = new_path {
                entry.path.clone_from(path);
            }
            if let (Some(target), Kind::HardLink { target: old }) = (new_target, &mut entry.kind) {
                old.clone_from(target);
            }
            archive::header(&entry).ok()
        };
        let header = if current.is_header_lost {
            current.lost.metadata = true;
            entry_of(entry, &self.owner).and_then(renamed)
        } else {
            let wrong = || WrongHeader(entry.path.clone());
            let found = Decoder::new(&bytes[..]).next_entry().ok().flatten().ok_or_else(wrong)?;
            if found.path != entry.path || found.data_bytes() != entry.kind.data_bytes() {
                return Err(wrong());
            }
            if new_path.is_none() && new_target.is_none() { Some(bytes) } else { renamed(found) }
        };
        match header {
            Some(header) => out.extend(header),
            None => current.is_skipped = true,
        }
        Ok(())
    }
}

/// The bytes of a block that are in this range of the stream; `None` if they are lost.
fn slice<'b>(block: &'b StreamBlock, bytes: &Range<u64>, part: &Range<u64>) -> Option<&'b [u8]> {
    let StreamBlock::Bytes(block) = block else { return None };
    let at = |offset: u64| usize::try_from(offset - bytes.start).unwrap_or(usize::MAX);
    block.get(at(part.start)..at(part.end))
}

/// What the index knows of an entry; `None` for types that are not written.
fn entry_of(entry: &IndexEntry, (user, group): &(Owner, Owner)) -> Option<Entry> {
    let IndexEntry { path, kind, mode, modified, .. } = entry.clone();
    if matches!(kind, Kind::Other { .. }) {
        return None;
    }
    Some(Entry {
        path,
        kind,
        // Its access control list may have granted less to its group than the mode, and it has another owner now.
        mode: mode & 0o700,
        user: user.clone(),
        group: group.clone(),
        modified,
        xattrs: Vec::new(),
        access_acl: None,
        default_acl: None,
    })
}

fn made_header(entry: &IndexEntry, owner: &(Owner, Owner)) -> Option<Vec<u8>> {
    archive::header(&entry_of(entry, owner)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::get::plan::fixtures::{Sample, entries};
    use crate::client::get::plan::selector::Selector;

    fn select(sample: &Sample, paths: &[&str]) -> Vec<Wanted> {
        let paths: Vec<Vec<u8>> = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
        let mut selector = Selector::new(&paths).unwrap();
        for entry in &sample.index {
            selector.take(entry.clone());
        }
        if selector.needs_targets() {
            for entry in &sample.index {
                selector.take_target(entry);
            }
        }
        selector.finish()
    }

    /// The entries and data that come out, with blocks of this size, of which those with these numbers are lost.
    fn filter(sample: &Sample, paths: &[&str], block: usize, lost: &[usize]) -> (Vec<(Entry, Vec<u8>)>, Vec<LostPart>) {
        let wanted = select(sample, paths);
        let needed = EntryFilter::needed(&wanted);
        let mut filter = EntryFilter::new(wanted, 7, 8);
        let mut out = Vec::new();
        for (number, bytes) in sample.stream.chunks(block).enumerate() {
            let start = (number * block) as u64;
            let range = start..start + bytes.len() as u64;
            if !needed.iter().any(|it| it.start < range.end && range.start < it.end) {
                continue;
            }
            let is_lost = lost.contains(&number);
            let block = if is_lost { StreamBlock::Lost(bytes.len()) } else { StreamBlock::Bytes(bytes.to_vec()) };
            filter.push(&range, &block, &mut out).unwrap();
        }
        let lost = filter.finish(&mut out).parts;
        (entries(&out), lost)
    }

    #[test]
    fn everything_comes_out_as_it_was() {
        let sample = Sample::new();
        for block in [512, 700, 1024, 5000, 1 << 20] {
            let (entries, lost) = filter(&sample, &["."], block, &[]);
            assert_eq!(lost, []);
            let expected: Vec<_> = sample.index.iter().map(|entry| (&entry.path, entry.mode)).collect();
            assert_eq!(entries.iter().map(|(entry, _)| (&entry.path, entry.mode)).collect::<Vec<_>>(), expected);
            for (entry, data) in &entries {
                assert_eq!(data, sample.data_of(&entry.path));
                assert_eq!((entry.xattrs.len(), entry.user.id), (1, 1));
            }
        }
    }

    #[test]
    fn chosen_entries_have_the_directories_around_them() {
        let sample = Sample::new();
        let (entries, _) = filter(&sample, &["d/sparse"], 512, &[]);
        let shown: Vec<_> = entries.iter().map(|(entry, _)| (&entry.path[..], entry.user.id)).collect();
        // Directories around are made from the index, for the user who restores.
        assert_eq!(shown, [(&b"."[..], 7), (b"d", 7), (b"d/sparse", 1)]);
        assert_eq!(entries[2].1, sample.data_of(b"d/sparse"));
        let (entries, _) = filter(&sample, &["e"], 512, &[]);
        let shown: Vec<_> = entries.iter().map(|(entry, _)| (&entry.path[..], &entry.kind)).collect();
        let link = Kind::HardLink { target: b"e/link".to_vec() };
        let file = Kind::File { size: 1000, extents: None };
        let expected =
            [(&b"."[..], &Kind::Directory), (b"e/link", &file), (b"e", &Kind::Directory), (b"e/link2", &link)];
        assert_eq!(shown, expected);
        assert_eq!(entries[1].1, sample.data_of(b"d/a"));
    }

    /// Goal: every byte that is there comes out at its place, the others are zeros, and exactly these are reported.
    /// Method: random sets of lost blocks of several sizes.
    #[test]
    fn lost_bytes_become_zeros_and_are_reported() {
        let sample = Sample::new();
        let mut rng = fastrand::Rng::with_seed(1);
        for round in 0..200 {
            let block = [512, 600, 1024, 3000][round % 4];
            let blocks = sample.stream.len().div_ceil(block);
            let lost: Vec<usize> = (0..blocks).filter(|_| rng.u8(..4) == 0).collect();
            let is_lost = |at: u64| lost.contains(&(usize::try_from(at).unwrap() / block));
            let (entries, reported) = filter(&sample, &["."], block, &lost);
            assert_eq!(entries.len(), sample.index.len());
            for ((entry, data), index) in entries.iter().zip(&sample.index) {
                assert_eq!((&entry.path, entry.modified.seconds), (&index.path, 77));
                let original = sample.data_of(&entry.path);
                let lost_data: Vec<u64> =
                    (0..original.len() as u64).filter(|at| is_lost(index.data_offset() + at)).collect();
                let expected: Vec<u8> =
                    (0..).zip(original).map(|(at, byte)| if lost_data.contains(&at) { 0 } else { *byte }).collect();
                assert_eq!(*data, expected, "{}", entry.path.escape_ascii());
                if matches!(entry.kind, Kind::HardLink { .. }) {
                    // It has lost what its file has.
                    continue;
                }
                let part = reported.iter().find(|part| part.path.as_ref() == Some(&entry.path));
                let expected: Vec<Range<u64>> =
                    lost_data.iter().flat_map(|at| file_ranges(&index.kind, &(*at..at + 1))).collect();
                let found: Vec<Range<u64>> = part
                    .iter()
                    .flat_map(|part| &part.bytes)
                    .flat_map(|range| range.clone().map(|at| at..at + 1))
                    .collect();
                assert_eq!(found, expected);
                let header_lost = (index.offset..index.data_offset()).any(is_lost);
                assert_eq!(part.is_some_and(|part| part.metadata), header_lost);
            }
        }
    }

    #[test]
    fn an_index_of_another_stream_is_noticed() {
        let mut sample = Sample::new();
        sample.index[2].path = b"d/b".to_vec();
        let mut filter = EntryFilter::new(select(&sample, &["d/b"]), 7, 8);
        let whole = 0..sample.stream.len() as u64;
        let error = filter.push(&whole, &StreamBlock::Bytes(sample.stream.clone()), &mut Vec::new()).unwrap_err();
        assert_eq!(error, WrongHeader(b"d/b".to_vec()));
    }

    #[test]
    fn every_name_of_a_file_loses_what_the_file_does() {
        let sample = Sample::new();
        let file = sample.index.iter().find(|entry| entry.path == b"d/a").unwrap();
        let block = usize::try_from(file.data_offset() / 512).unwrap();
        let names = |paths: &[&str]| {
            let lost = filter(&sample, paths, 512, &[block]).1;
            assert!(lost.iter().all(|part| part.lost_bytes() == 512), "{lost:?}");
            lost.into_iter().map(|part| String::from_utf8(part.path.unwrap()).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(names(&["."]), ["d/a", "e/link", "e/link2"]);
        // The first name that is restored is the file.
        assert_eq!(names(&["e"]), ["e/link", "e/link2"]);
    }
}
