//! Choosing entries of an archive by their paths.

use std::collections::{BTreeMap, BTreeSet};

use crate::archive::Kind;
use crate::archive::index::IndexEntry;
use crate::human;

/// An entry that is restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::client) struct Wanted {
    pub(in crate::client) entry: IndexEntry,
    /// The path that it gets, if that is another one: it is restored in place of a hard link to it.
    pub(in crate::client) new_path: Option<Vec<u8>>,
    /// The file of which it is another name, if that is restored under another path.
    pub(in crate::client) new_target: Option<Vec<u8>>,
    /// It is a directory around an entry that was chosen. Its header is made from the index, not fetched.
    pub(in crate::client) is_around: bool,
}

impl Wanted {
    fn new(entry: IndexEntry, is_around: bool) -> Self {
        Self { entry, new_path: None, new_target: None, is_around }
    }
}

/// Chooses entries by path. A path chooses the entry of this path, and everything below it.
#[derive(Debug)]
pub(in crate::client) struct Selector {
    paths: Vec<Chosen>,
    wanted: Vec<Wanted>,
    /// Files that were not chosen, and whose other names were: the first of these names.
    targets: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A path that was chosen.
#[derive(Debug)]
struct Chosen {
    /// Names from the root.
    names: Vec<Vec<u8>>,
    is_found: bool,
    /// If it is the path that messages show as the path before it, which was chosen: it counts only if that is not found.
    is_unescaped: bool,
}

/// A path leads out of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::client) struct InvalidPath(pub(in crate::client) Vec<u8>);

impl Selector {
    /// `.` and empty names in a path mean nothing, so that `./a/` is `a`. A path may also have the form in which messages
    /// and listings show it, with escapes; an entry that has this path without escapes goes before.
    pub(in crate::client) fn new(paths: &[Vec<u8>]) -> Result<Self, InvalidPath> {
        let mut chosen = Vec::new();
        for path in paths {
            let names = names(path);
            if names.contains(&b"..".to_vec()) {
                return Err(InvalidPath(path.clone()));
            }
            let unescaped = unescaped(&names);
            chosen.push(Chosen { names, is_found: false, is_unescaped: false });
            chosen.extend(unescaped.map(|names| Chosen { names, is_found: false, is_unescaped: true }));
        }
        Ok(Self { paths: chosen, wanted: Vec::new(), targets: BTreeMap::new() })
    }

    /// Does some path count only if another one is not found? What is related to such a path may not be, once the whole
    /// index was read.
    pub(in crate::client) fn is_provisional(&self) -> bool {
        self.paths.iter().any(|chosen| chosen.is_unescaped)
    }

    /// Looks at the next entry of the index.
    pub(in crate::client) fn take(&mut self, entry: IndexEntry) {
        match self.relation(&entry.path) {
            Relation::Chosen => self.wanted.push(Wanted::new(entry, false)),
            Relation::Around if entry.kind == Kind::Directory => self.wanted.push(Wanted::new(entry, true)),
            Relation::Around | Relation::Elsewhere => {}
        }
    }

    /// How this path is related to those that were chosen. Marks them as found.
    pub(in crate::client) fn relation(&mut self, path: &[u8]) -> Relation {
        let names: Vec<&[u8]> =
            path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".").collect();
        let mut relation = Relation::Elsewhere;
        for Chosen { names: chosen, is_found, .. } in &mut self.paths {
            let common = chosen.iter().zip(&names).take_while(|(one, other)| one == *other).count();
            if common == chosen.len() {
                *is_found = true;
                relation = Relation::Chosen;
            } else if common == names.len() && relation == Relation::Elsewhere {
                relation = Relation::Around;
            }
        }
        relation
    }

    /// Ends the reading of the index. Returns the chosen paths of which there is no entry.
    pub(in crate::client) fn not_found(&mut self) -> Vec<Vec<u8>> {
        // Of a path and what it means without escapes, one is left.
        let mut paths: Vec<Chosen> = Vec::new();
        for chosen in self.paths.drain(..) {
            match paths.last_mut().filter(|_| chosen.is_unescaped) {
                None => paths.push(chosen),
                Some(literal) if !literal.is_found && chosen.is_found => *literal = chosen,
                Some(_) => {}
            }
        }
        self.paths = paths;
        for wanted in std::mem::take(&mut self.wanted) {
            self.take(wanted.entry);
        }
        let missing = self.paths.iter().filter(|chosen| !chosen.is_found);
        missing.map(|chosen| chosen.names.join(&b'/')).collect()
    }

    /// Finds the hard links to files that were not chosen. If there are any, the index must be read again, with
    /// [`Selector::take_target`].
    pub(in crate::client) fn needs_targets(&mut self) -> bool {
        let is_link = |wanted: &Wanted| matches!(wanted.entry.kind, Kind::HardLink { .. });
        if !self.wanted.iter().any(is_link) {
            return false;
        }
        let paths: BTreeSet<&[u8]> =
            self.wanted.iter().filter(|it| !is_link(it)).map(|wanted| &wanted.entry.path[..]).collect();
        for wanted in &self.wanted {
            if let Kind::HardLink { target } = &wanted.entry.kind
                && !paths.contains(&target[..])
            {
                self.targets.entry(target.clone()).or_insert_with(|| wanted.entry.path.clone());
            }
        }
        !self.targets.is_empty()
    }

    /// Looks at an entry again: is it the file of a chosen hard link?
    pub(in crate::client) fn take_target(&mut self, entry: &IndexEntry) {
        let Some(first_name) = self.targets.get(&entry.path) else { return };
        if !matches!(entry.kind, Kind::File { .. } | Kind::SymbolicLink { .. }) {
            return;
        }
        for wanted in &mut self.wanted {
            match &wanted.entry.kind {
                Kind::HardLink { target } if *target == entry.path => {
                    if wanted.entry.path == *first_name {
                        let new_path = Some(first_name.clone());
                        *wanted = Wanted { entry: entry.clone(), new_path, new_target: None, is_around: false };
                    } else {
                        wanted.new_target = Some(first_name.clone());
                    }
                }
                Kind::HardLink { .. }
                | Kind::File { .. }
                | Kind::Directory
                | Kind::SymbolicLink { .. }
                | Kind::Other { .. } => {}
            }
        }
    }

    /// The entries, in the order of the stream.
    pub(in crate::client) fn finish(mut self) -> Vec<Wanted> {
        self.wanted.sort_by_key(|wanted| wanted.entry.offset);
        self.wanted
    }
}

/// The names in a path.
fn names(path: &[u8]) -> Vec<Vec<u8>> {
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    names.map(<[u8]>::to_vec).collect()
}

/// The names that are shown as these, if those are others.
fn unescaped(names: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
    let name = |name: &Vec<u8>| human::unescaped(str::from_utf8(name).ok()?);
    let unescaped = names.iter().map(name).collect::<Option<Vec<_>>>()?;
    (unescaped != names).then_some(unescaped)
}

/// How a path is related to paths that were chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::client) enum Relation {
    /// It is one of them, or below one.
    Chosen,
    /// One of them is below it.
    Around,
    /// Neither.
    Elsewhere,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Timestamp;

    fn entry(path: &str, kind: Kind, offset: u64) -> IndexEntry {
        let modified = Timestamp::default();
        IndexEntry { path: path.into(), kind, mode: 0o644, modified, offset, length: 512 }
    }

    fn file(path: &str, offset: u64) -> IndexEntry {
        entry(path, Kind::File { size: 0, extents: None }, offset)
    }

    fn directory(path: &str, offset: u64) -> IndexEntry {
        entry(path, Kind::Directory, offset)
    }

    fn link(path: &str, target: &str, offset: u64) -> IndexEntry {
        entry(path, Kind::HardLink { target: target.into() }, offset)
    }

    fn index() -> Vec<IndexEntry> {
        vec![
            directory(".", 0),
            directory("a", 1),
            file("a/f", 2),
            directory("a/sub", 3),
            file("a/sub/g", 4),
            file("ab", 5),
            directory("b", 6),
            link("b/first", "a/f", 7),
            link("b/second", "a/f", 8),
            link("b/third", "b/none", 9),
        ]
    }

    fn select(paths: &[&str]) -> (Vec<(String, bool)>, Selector) {
        let paths: Vec<Vec<u8>> = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
        let mut selector = Selector::new(&paths).unwrap();
        for entry in index() {
            selector.take(entry);
        }
        let shown = selector.wanted.iter().map(|it| (String::from_utf8(it.entry.path.clone()).unwrap(), it.is_around));
        (shown.collect(), selector)
    }

    fn shown(entries: &[(&str, bool)]) -> Vec<(String, bool)> {
        entries.iter().map(|(path, is_around)| ((*path).to_owned(), *is_around)).collect()
    }

    #[test]
    fn a_path_chooses_what_is_below_it() {
        let all: Vec<_> = index().iter().map(|entry| (String::from_utf8(entry.path.clone()).unwrap(), false)).collect();
        assert_eq!(select(&["."]).0, all);
        assert_eq!(select(&[""]).0, all);
        let sub = shown(&[(".", true), ("a", true), ("a/sub", false), ("a/sub/g", false)]);
        assert_eq!(select(&["./a//sub/"]).0, sub);
        assert_eq!(select(&["a/sub", "a/sub/g"]).0, sub);
        let a = shown(&[(".", true), ("a", false), ("a/f", false), ("a/sub", false), ("a/sub/g", false)]);
        assert_eq!(select(&["a"]).0, a, "ab is not below a");
        assert_eq!(select(&["ab"]).0, shown(&[(".", true), ("ab", false)]));
        let two = shown(&[(".", true), ("a", true), ("a/f", false), ("ab", false)]);
        assert_eq!(select(&["ab", "a/f"]).0, two);
    }

    #[test]
    fn paths_without_an_entry_are_named() {
        let (_, mut selector) = select(&["a/f", "a/x", "a/f/below"]);
        assert_eq!(selector.not_found(), [&b"a/x"[..], b"a/f/below"]);
        assert_eq!(Selector::new(&[b"a/../b".to_vec()]).unwrap_err(), InvalidPath(b"a/../b".to_vec()));
    }

    #[test]
    fn a_path_can_be_chosen_as_it_is_shown() {
        let all = [directory("d", 1), file("d/a\nb", 2), file("d/a\\nb", 3), file("d/c\nd", 4), file("e\\", 5)];
        let chosen = |paths: &[&str]| {
            let paths: Vec<Vec<u8>> = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
            let mut selector = Selector::new(&paths).unwrap();
            for entry in &all {
                selector.take(entry.clone());
            }
            let missing = selector.not_found();
            let found = selector.finish().into_iter().filter(|wanted| !wanted.is_around);
            (found.map(|wanted| wanted.entry.offset).collect::<Vec<_>>(), missing)
        };
        assert_eq!(chosen(&["d/a\\nb"]), (vec![3], vec![]), "the literal name goes before");
        assert_eq!(chosen(&["d/c\\nd"]), (vec![4], vec![]));
        assert_eq!(chosen(&["d/a\\\\nb", "e\\"]), (vec![3, 5], vec![]));
        assert_eq!(chosen(&["d/x\\ny"]), (vec![], vec![b"d/x\\ny".to_vec()]));
    }

    /// Goal: a hard link alone has the bytes of its file. Method: links whose file was chosen too, was not, and is
    /// missing.
    #[test]
    fn a_link_without_its_file_becomes_the_file() {
        let (_, mut selector) = select(&["a", "b/first"]);
        assert!(!selector.needs_targets(), "the file is chosen");
        let (_, mut selector) = select(&["b"]);
        assert!(selector.needs_targets());
        for entry in &index() {
            selector.take_target(entry);
        }
        let wanted = selector.finish();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let name = |path: &Option<Vec<u8>>| path.as_deref().map_or("-".to_owned(), text);
        let shown = wanted
            .iter()
            .map(|it| format!("{} as {} to {}", text(&it.entry.path), name(&it.new_path), name(&it.new_target)));
        let expected =
            [". as - to -", "a/f as b/first to -", "b as - to -", "b/second as - to b/first", "b/third as - to -"];
        assert_eq!(shown.collect::<Vec<_>>(), expected);
    }
}
