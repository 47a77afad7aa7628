//! Positions of chunks in a manifest: ranges in ascending order, without overlap.

use std::ops::Range;

/// The positions of chunks that are fetched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Positions(Vec<Range<usize>>);

impl Positions {
    /// Adds a range. None of those that were added before begins behind it.
    pub(super) fn add(&mut self, range: Range<usize>) {
        match self.0.last_mut() {
            _ if range.is_empty() => {}
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => self.0.push(range),
        }
    }

    pub(super) fn contains(&self, position: usize) -> bool {
        let next = self.0.partition_point(|range| range.end <= position);
        self.0.get(next).is_some_and(|range| range.start <= position)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().cloned().flatten()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Range<usize>> for Positions {
    fn from(range: Range<usize>) -> Self {
        let mut positions = Self::default();
        positions.add(range);
        positions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_join_and_are_found() {
        let mut positions = Positions::default();
        for range in [0..0, 1..3, 2..3, 3..4, 7..9, 8..8, 8..12] {
            positions.add(range);
        }
        assert_eq!(positions.0, [1..4, 7..12]);
        assert_eq!((positions.iter().count(), positions.iter().nth(3), positions.is_empty()), (8, Some(7), false));
        let found: Vec<usize> = (0..15).filter(|position| positions.contains(*position)).collect();
        assert_eq!(found, positions.iter().collect::<Vec<_>>());
        assert!(Positions::from(4..4).is_empty());
    }
}
