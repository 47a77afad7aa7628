//! Which cells hold which chunks, as a picture: a row for each chunk, a column for each cell. Pure.

use std::collections::BTreeSet;

use console::style;

use super::story::MAX_TOLD;
use crate::chunk::ChunkId;

/// With more cells than this, a column is one character wide: fifty cells then fit 80 columns.
const MAX_WIDE: usize = 12;

/// Cells are numbered from 1, as the story calls them.
pub(super) struct Map {
    chunks: Vec<(ChunkId, BTreeSet<usize>)>,
    cells: usize,
    dead: BTreeSet<usize>,
}

impl Map {
    /// A map of these chunks; `held` has for each cell, in order, what it holds.
    pub(super) fn new(ids: &[ChunkId], held: &[BTreeSet<ChunkId>]) -> Self {
        let holders = |id| (1..).zip(held).filter(|(_, held)| held.contains(id)).map(|(cell, _)| cell).collect();
        let chunks = ids.iter().map(|id| (*id, holders(id))).collect();
        Self { chunks, cells: held.len(), dead: BTreeSet::new() }
    }

    /// The first chunk and its holders: the chunk that is attacked. `None` for a file without any.
    pub(super) fn first(&self) -> Option<(&ChunkId, &BTreeSet<usize>)> {
        self.chunks.first().map(|(id, holders)| (id, holders))
    }

    /// Would there still be a copy of every chunk without this cell?
    pub(super) fn can_spare(&self, cell: usize) -> bool {
        self.chunks.iter().all(|(_, holders)| holders.difference(&self.dead).any(|&other| other != cell))
    }

    /// A cell is gone, and with it its copies.
    pub(super) fn kill(&mut self, cell: usize) {
        self.dead.insert(cell);
    }

    /// The fewest copies that are left of any chunk.
    pub(super) fn fewest_copies(&self) -> usize {
        self.chunks.iter().map(|(_, holders)| holders.difference(&self.dead).count()).min().unwrap_or_default()
    }

    /// Copies that are gone, of all.
    pub(super) fn lost(&self) -> (usize, usize) {
        let all = self.chunks.iter().map(|(_, holders)| holders.len()).sum();
        let lost = self.chunks.iter().map(|(_, holders)| holders.intersection(&self.dead).count()).sum();
        (lost, all)
    }

    /// The picture, line by line.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = self.header();
        for (number, (id, holders)) in self.chunks.iter().enumerate().take(MAX_TOLD) {
            let cells: String = (1..=self.cells).map(|cell| self.mark(cell, holders)).collect();
            let left = holders.difference(&self.dead).count();
            lines.push(format!("{number:>5}  {}  {cells}  {left:>6}", id.short()));
        }
        let untold = self.chunks.len().saturating_sub(MAX_TOLD);
        if untold > 0 {
            lines.push(style(format!("and {untold} more of them")).dim().to_string());
        }
        lines
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

    fn mark(&self, cell: usize, holders: &BTreeSet<usize>) -> String {
        let mark = match (holders.contains(&cell), self.dead.contains(&cell)) {
            (true, false) => style("■").green(),
            (true, true) => style("×").red(),
            (false, false) => style("·").dim(),
            (false, true) => style(" ").dim(),
        };
        let space = if self.is_wide() { "  " } else { "" };
        format!("{space}{mark}")
    }

    fn is_wide(&self) -> bool {
        self.cells <= MAX_WIDE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> ChunkId {
        ChunkId::of(&n.to_be_bytes())
    }

    fn plain(map: &Map) -> Vec<String> {
        map.lines().iter().map(|line| console::strip_ansi_codes(line).into_owned()).collect()
    }

    #[test]
    fn the_map_shows_who_holds_what_and_what_died() {
        let held = [[id(0)].into(), [id(0), id(1)].into(), [id(1)].into()];
        let mut map = Map::new(&[id(0), id(1)], &held);
        assert_eq!(map.first(), Some((&id(0), &[1, 2].into())));
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
    }

    #[test]
    fn fifty_cells_and_a_thousand_chunks_fit_a_terminal() {
        let ids: Vec<ChunkId> = (0..1000).map(id).collect();
        let held = vec![ids.iter().copied().collect(); 50];
        let lines = plain(&Map::new(&ids, &held));
        assert_eq!(lines.len(), 2 + MAX_TOLD + 1);
        assert!(lines[0].ends_with("1         2         3         4         5"), "{}", lines[0]);
        // Two more are the story's indent.
        assert!(lines.iter().all(|line| line.chars().count() <= 78), "{lines:#?}");
    }

    #[test]
    fn without_chunks_there_is_nothing_to_attack() {
        let map = Map::new(&[], &[BTreeSet::new()]);
        assert_eq!((map.first(), map.fewest_copies(), map.lost()), (None, 0, (0, 0)));
    }
}
