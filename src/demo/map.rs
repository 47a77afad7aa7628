//! The map of copies: which cells hold which chunks, with a row for each chunk and a column for each cell. Pure.

use std::collections::{BTreeMap, BTreeSet};

use console::style;

use crate::demo::narration::MAX_LISTED_CHUNKS;
use crate::human;
use crate::id::ChunkId;

/// With more cells than this, a column is one character wide, so that fifty cells fit 80 columns.
const MAX_WIDE: usize = 12;

/// The copies on one cell.
pub(super) struct Column {
    pub(super) is_dead: bool,
    /// Its copies, and whether they are good.
    pub(super) copies: BTreeMap<ChunkId, bool>,
}

/// Cells are numbered from 1, as in the output.
#[derive(Clone)]
pub(super) struct Map {
    chunks: Vec<(ChunkId, BTreeMap<usize, bool>)>,
    cells: usize,
    dead: BTreeSet<usize>,
}

impl Map {
    /// A map of these chunks, with a column for each cell, in order.
    pub(super) fn new(ids: &[ChunkId], columns: &[Column]) -> Self {
        let numbered = || (1..).zip(columns);
        let holders = |id| numbered().filter_map(|(cell, column)| Some((cell, *column.copies.get(id)?))).collect();
        let chunks = ids.iter().map(|id| (*id, holders(id))).collect();
        let dead = numbered().filter(|(_, column)| column.is_dead).map(|(cell, _)| cell).collect();
        Self { chunks, cells: columns.len(), dead }
    }

    /// The first chunk and its holders: the target of the attack. `None` for a file without chunks.
    pub(super) fn first(&self) -> Option<(&ChunkId, Vec<usize>)> {
        self.chunks.first().map(|(id, holders)| (id, holders.keys().copied().collect()))
    }

    /// A good copy that is not the last one, on a cell that is not in `spared`: its cell, and the chunk with its index. Of all
    /// such copies it is the one that a guard finds soonest: guards draw a random id and audit the cell's next chunk.
    pub(super) fn soonest_found(&self, spared: &[usize]) -> Option<(usize, usize, &ChunkId)> {
        let cells = (1..=self.cells).filter(|cell| !spared.contains(cell));
        let copies = cells.flat_map(|cell| {
            let gaps = self.gaps(cell);
            gaps.into_iter().map(move |(number, gap)| (gap, cell, number))
        });
        let can_be_spared = |cell, number| self.can_spare_copy(cell, number).is_some_and(|(found, _)| found == number);
        let (_, cell, number) = copies.filter(|(_, cell, number)| can_be_spared(*cell, *number)).max()?;
        Some((cell, number, &self.chunks.get(number)?.0))
    }

    /// For each chunk on a cell, by its index, the distance of its id from the id before it on that cell.
    fn gaps(&self, cell: usize) -> Vec<(usize, u64)> {
        let here = self.chunks.iter().enumerate().filter(|(_, (_, holders))| holders.contains_key(&cell));
        let mut here: Vec<(u64, usize)> = here.map(|(number, (id, _))| (leading(id), number)).collect();
        here.sort_unstable();
        // Ids wrap around: the last precedes the first, and a single chunk has the full distance.
        let before = here.iter().cycle().skip(here.len().saturating_sub(1));
        let gap = |((id, number), (before, _)): (&(u64, usize), &(u64, usize))| {
            (*number, id.wrapping_sub(*before).wrapping_sub(1))
        };
        here.iter().zip(before).map(gap).collect()
    }

    /// The first chunk at or after index `from`, wrapping around, of which this cell and another running cell have good copies.
    pub(super) fn can_spare_copy(&self, cell: usize, from: usize) -> Option<(usize, &ChunkId)> {
        let count = self.chunks.len().max(1);
        let in_turn = (0..count).map(|step| (from % count + step) % count);
        in_turn.filter_map(|number| Some((number, self.chunks.get(number)?))).find_map(|(number, (id, holders))| {
            let here = self.good(holders).any(|holder| holder == cell);
            let elsewhere = self.good(holders).any(|holder| holder != cell);
            (here && elsewhere).then_some((number, id))
        })
    }

    /// Whether every chunk has a good copy on another running cell.
    pub(super) fn can_spare(&self, cell: usize) -> bool {
        self.chunks.iter().all(|(_, holders)| self.good(holders).any(|other| other != cell))
    }

    /// Marks a cell as dead.
    pub(super) fn kill(&mut self, cell: usize) {
        self.dead.insert(cell);
    }

    /// The number of good copies of each chunk on running cells.
    pub(super) fn counts(&self) -> Vec<usize> {
        self.chunks.iter().map(|(_, holders)| self.good(holders).count()).collect()
    }

    /// The fewest good copies that any chunk has on running cells.
    pub(super) fn fewest_copies(&self) -> usize {
        self.counts().into_iter().min().unwrap_or_default()
    }

    /// Whether each chunk has at least this many good copies on running cells.
    pub(super) fn has(&self, copies: usize) -> bool {
        self.counts().into_iter().all(|count| count >= copies)
    }

    /// Whether a running cell has a bad copy.
    pub(super) fn has_bad(&self) -> bool {
        let is_bad = |(cell, good): (&usize, &bool)| !good && !self.dead.contains(cell);
        self.chunks.iter().any(|(_, holders)| holders.iter().any(is_bad))
    }

    /// The number of copies on dead cells, and of all copies.
    pub(super) fn lost(&self) -> (usize, usize) {
        let all = self.chunks.iter().map(|(_, holders)| holders.len()).sum();
        let is_lost = |holder: &&usize| self.dead.contains(holder);
        let lost = self.chunks.iter().map(|(_, holders)| holders.keys().filter(is_lost).count()).sum();
        (lost, all)
    }

    fn good<'a>(&'a self, holders: &'a BTreeMap<usize, bool>) -> impl Iterator<Item = usize> + 'a {
        holders.iter().filter(|(cell, good)| **good && !self.dead.contains(cell)).map(|(cell, _)| *cell)
    }

    /// The map, line by line.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = self.header();
        for (number, (id, holders)) in self.chunks.iter().enumerate().take(MAX_LISTED_CHUNKS) {
            let cells: String = (1..=self.cells).map(|cell| self.mark(cell, holders)).collect();
            let left = self.good(holders).count();
            lines.push(format!("{number:>5}  {}  {cells}  {left:>6}", id.short()));
        }
        let unlisted = self.chunks.len().saturating_sub(MAX_LISTED_CHUNKS);
        if unlisted > 0 {
            lines.push(
                style(format!("and {unlisted} more {}", human::if_one(&unlisted, "chunk", "chunks"))).dim().to_string(),
            );
        }
        lines
    }

    /// The numbers of copies in one line.
    pub(super) fn summary(&self) -> String {
        let counts = self.counts();
        if counts.len() <= MAX_LISTED_CHUNKS {
            let counts: Vec<_> = counts.iter().map(ToString::to_string).collect();
            return format!("copies of each chunk: {}", counts.join(" "));
        }
        let mut chunks: BTreeMap<usize, usize> = BTreeMap::new();
        for count in counts {
            *chunks.entry(count).or_default() += 1;
        }
        let parts: Vec<_> = chunks.iter().map(|(copies, chunks)| format!("{copies}: {chunks}")).collect();
        format!("chunks by number of copies: {}", parts.join(", "))
    }

    fn header(&self) -> Vec<String> {
        let row = |left: &str, digits: String, right: &str| {
            style(format!("{left:<17}{digits}{right}").trim_end().to_owned()).dim().to_string()
        };
        let across = |digit: &dyn Fn(usize) -> String| (1..=self.cells).map(digit).collect::<String>();
        if self.is_wide() {
            return vec![row("chunk  id", across(&|cell| format!("{cell:>3}")), "  copies")];
        }
        let tens = across(&|cell| if cell % 10 == 0 { (cell / 10).to_string() } else { " ".to_owned() });
        vec![row("", tens, ""), row("chunk  id", across(&|cell| (cell % 10).to_string()), "  copies")]
    }

    fn mark(&self, cell: usize, holders: &BTreeMap<usize, bool>) -> String {
        let mark = match (holders.get(&cell), self.dead.contains(&cell)) {
            (Some(true), false) => style("■").green(),
            (Some(false), false) => style("!").red().bold(),
            (Some(_), true) => style("×").red(),
            (None, false) => style("·").dim(),
            (None, true) => style(" ").dim(),
        };
        let space = if self.is_wide() { "  " } else { "" };
        format!("{space}{mark}")
    }

    fn is_wide(&self) -> bool {
        self.cells <= MAX_WIDE
    }
}

/// The leading bytes of an id, as a number.
fn leading(id: &ChunkId) -> u64 {
    id.as_bytes().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> ChunkId {
        ChunkId::of(&n.to_be_bytes())
    }

    fn column<const N: usize>(copies: [(usize, bool); N]) -> Column {
        Column { is_dead: false, copies: copies.into_iter().map(|(n, good)| (id(n), good)).collect() }
    }

    fn plain(map: &Map) -> Vec<String> {
        map.lines().iter().map(|line| console::strip_ansi_codes(line).into_owned()).collect()
    }

    #[test]
    fn the_map_shows_holders_and_lost_copies() {
        let held = [column([(0, true)]), column([(0, true), (1, true)]), column([(1, true)])];
        let mut map = Map::new(&[id(0), id(1)], &held);
        assert_eq!(map.first(), Some((&id(0), vec![1, 2])));
        assert_eq!((map.fewest_copies(), map.lost()), (2, (0, 4)));
        assert!((1..=3).all(|cell| map.can_spare(cell)));
        map.kill(2);
        assert!(map.can_spare(2) && !map.can_spare(1) && !map.can_spare(3));
        let (a, b) = (id(0).short(), id(1).short());
        assert_eq!(
            plain(&map),
            [
                "chunk  id          1  2  3  copies".to_owned(),
                format!("    0  {a}    ■  ×  ·       1"),
                format!("    1  {b}    ·  ×  ■       1"),
            ]
        );
        assert_eq!((map.fewest_copies(), map.lost()), (1, (2, 4)));
        assert_eq!(map.summary(), "copies of each chunk: 1 1");
        assert!(map.has(1) && !map.has(2) && !map.has_bad());
    }

    #[test]
    fn bad_copies_do_not_count_and_last_copies_are_kept() {
        let held = [column([(0, true), (1, true)]), column([(0, false), (1, true)]), column([(1, true)])];
        let map = Map::new(&[id(0), id(1)], &held);
        assert_eq!(map.counts(), [1, 3]);
        assert!(!map.can_spare(1) && map.can_spare(2) && map.can_spare(3) && map.has_bad());
        // Chunk 0 is on cell 1 alone, and cell 2 has no good copy of it to lose.
        for from in 0..4 {
            assert_eq!(map.can_spare_copy(1, from), Some((1, &id(1))));
            assert_eq!(map.can_spare_copy(2, from), Some((1, &id(1))));
            assert_eq!(map.can_spare_copy(4, from), None);
        }
        assert_eq!(map.soonest_found(&[1, 2, 3]), None);
        assert!(plain(&map)[1].ends_with("■  !  ·       1"), "{:#?}", plain(&map));
    }

    #[test]
    fn the_copy_after_the_widest_gap_is_found_soonest() {
        let named = |first: u8| ChunkId::from_bytes([first; 32]);
        let all = [named(10), named(20), named(200), named(40)];
        let on = |ids: &[ChunkId]| Column { is_dead: false, copies: ids.iter().map(|id| (*id, true)).collect() };
        let map = Map::new(&all, &[on(&all), on(&all), on(&all[..2])]);
        // On cell 3 the gap before 10 is all that does not lie between 10 and 20.
        assert_eq!(map.soonest_found(&[]), Some((3, 0, &named(10))));
        assert_eq!(map.soonest_found(&[3]), Some((2, 2, &named(200))));
        let alone = Map::new(&all, &[on(&all[..3]), on(&all[1..2])]);
        assert_eq!(alone.soonest_found(&[]), Some((2, 1, &named(20))), "no other cell has the other chunks");
    }

    #[test]
    fn fifty_cells_and_many_chunks_fit_a_terminal() {
        let ids: Vec<ChunkId> = (0..1000).map(id).collect();
        let held: Vec<Column> =
            (0..50).map(|_| Column { is_dead: false, copies: ids.iter().map(|id| (*id, true)).collect() }).collect();
        let map = Map::new(&ids, &held);
        let lines = plain(&map);
        assert_eq!(lines.len(), 2 + MAX_LISTED_CHUNKS + 1);
        assert!(lines[0].ends_with("1         2         3         4         5"), "{}", lines[0]);
        // The indent adds two columns.
        assert!(lines.iter().all(|line| line.chars().count() <= 78), "{lines:#?}");
        assert_eq!(map.summary(), "chunks by number of copies: 50: 1000");
    }

    #[test]
    fn a_map_without_chunks_has_no_target() {
        let map = Map::new(&[], &[Column { is_dead: false, copies: BTreeMap::new() }]);
        assert_eq!((map.first(), map.fewest_copies(), map.lost()), (None, 0, (0, 0)));
        assert_eq!(map.can_spare_copy(1, 7), None);
        assert!(map.has(5) && map.can_spare(1));
    }
}
