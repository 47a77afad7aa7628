//! The member table: a sorted list of members in contiguous memory.
//!
//! A thousand beacons per second are a thousand lookups, and their cost is memory access. Measured with the thousand
//! cells of the simulation, everything around the lookup included: 80 ns per beacon with a `BTreeMap`, 33 ns with a
//! sorted list, 24 ns with records of half the size. Members come and go far more rarely than their beacons arrive.

use crate::cell::membership::member::Member;
use crate::id::CellId;

/// Entries that a lookup checks after the last one found, before it searches all.
const NEAR: usize = 4;

#[derive(Default)]
pub(in crate::cell) struct MemberTable {
    /// In ascending order, and apart from the members, so that a search touches little memory.
    ids: Vec<CellId>,
    members: Vec<Member>,
    /// Index of the last one found: who goes through the members in order finds the next one near it.
    last: usize,
}

impl MemberTable {
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

    /// Adds a member. No effect if it is in the table.
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

    /// Removes all members for which `keep` is false.
    pub(in crate::cell) fn retain(&mut self, keep: impl Fn(&Member) -> bool) {
        let gone: Vec<CellId> = self.iter().filter(|(_, member)| !keep(member)).map(|(id, _)| *id).collect();
        for id in &gone {
            self.remove(id);
        }
    }
}
