//! The roll of a colony: its members in the order of their names, in one piece of memory.
//!
//! A thousand beacons a second are a thousand lookups, and what they cost is the way through memory: in a tree it takes several
//! times as long (measured with the simulation's thousand cells: 80 ns a beacon in a `BTreeMap`, 33 ns in a sorted list, 24
//! ns since its records are half as large; all with what is around it). Members come and go far less often than they are heard.

use crate::cell::membership::Member;
use crate::id::CellId;

/// So many names are looked at, from the last one found on, before all are searched.
const NEAR: usize = 4;

#[derive(Default)]
pub(in crate::cell) struct Roll {
    /// In order. Apart from the members, so that a search touches little.
    ids: Vec<CellId>,
    members: Vec<Member>,
    /// Where the last one was found: whoever goes through the colony in order finds the next near it.
    last: usize,
}

impl Roll {
    pub(in crate::cell) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(in crate::cell) fn iter(&self) -> impl Iterator<Item = (&CellId, &Member)> {
        self.ids.iter().zip(&self.members)
    }

    pub(in crate::cell) fn iter_mut(&mut self) -> impl Iterator<Item = (&CellId, &mut Member)> {
        self.ids.iter().zip(&mut self.members)
    }

    pub(in crate::cell) fn values(&self) -> impl Iterator<Item = &Member> {
        self.members.iter()
    }

    pub(in crate::cell) fn get(&self, id: &CellId) -> Option<&Member> {
        self.members.get(self.ids.binary_search(id).ok()?)
    }

    pub(in crate::cell) fn get_mut(&mut self, id: &CellId) -> Option<&mut Member> {
        let near = self.ids.iter().skip(self.last).take(NEAR).position(|near| near == id);
        self.last = match near {
            Some(steps) => self.last + steps,
            None => self.ids.binary_search(id).ok()?,
        };
        self.members.get_mut(self.last)
    }

    /// Takes in a member that is not on the roll yet.
    pub(in crate::cell) fn insert(&mut self, id: CellId, member: Member) {
        if let Err(at) = self.ids.binary_search(&id) {
            self.ids.insert(at, id);
            self.members.insert(at, member);
        }
    }

    pub(in crate::cell) fn remove(&mut self, id: &CellId) {
        if let Ok(at) = self.ids.binary_search(id) {
            self.ids.remove(at);
            self.members.remove(at);
        }
    }

    /// Strikes off all for whom this is not true.
    pub(in crate::cell) fn retain(&mut self, keep: impl Fn(&Member) -> bool) {
        let gone: Vec<CellId> = self.iter().filter(|(_, member)| !keep(member)).map(|(id, _)| *id).collect();
        for id in &gone {
            self.remove(id);
        }
    }
}
