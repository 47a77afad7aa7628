//! What a cell does about copies, told step by step. The other cells are played by the test.

use std::collections::BTreeSet;

use super::*;
use crate::id::ChunkId;
use crate::wire::datagram::Alert;
use crate::wire::holder_hints::HolderHint;
use crate::wire::status::DrainProgress;

pub(super) const LEN: u32 = 1 << 20;

/// The cell under test among others that are heard each second, while they live.
pub(super) struct Colony {
    pub(super) world: World,
    pub(super) alive: BTreeSet<u8>,
    /// Those that say so of themselves.
    draining: BTreeSet<u8>,
    pub(super) out: Vec<Output>,
    full: bool,
}

impl Colony {
    /// Cell 1 is ours; these others live. Nothing is here yet.
    pub(super) fn new(others: &[u8]) -> Self {
        Self::with(others, Settings::default())
    }

    pub(super) fn with(others: &[u8], settings: Settings) -> Self {
        let mut colony = Self {
            world: World::with(&[], settings),
            alive: others.iter().copied().collect(),
            draining: BTreeSet::new(),
            out: Vec::new(),
            full: false,
        };
        colony.give(&Input::Copy(CopyInput::ListingDone));
        colony.pass(20);
        colony.out.clear();
        colony
    }

    pub(super) fn give(&mut self, input: &Input) {
        self.out.extend(self.world.give(input));
    }

    pub(super) fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            for byte in self.alive.clone() {
                let beacon = self.beacon_of(byte);
                self.out.extend(self.world.give(&Input::Member(MemberInput::Beacon { from: ip(byte), beacon })));
            }
            self.world.store.full = self.full;
            let out = self.world.pass(SECOND);
            for output in &out {
                if let Output::Task(Task::Probe { address: door, .. }) = output {
                    let address: SocketAddr = door.parse().unwrap();
                    let answer = if self.alive.contains(&byte_of(address)) {
                        ProbeOutcome::Cell(address, self.beacon_of(byte_of(address)))
                    } else {
                        ProbeOutcome::Unreachable
                    };
                    self.out.extend(
                        self.world
                            .give(&Input::Member(MemberInput::ProbeDone { address: door.clone(), outcome: answer })),
                    );
                }
            }
            self.out.extend(out);
        }
    }

    fn beacon_of(&self, byte: u8) -> Beacon {
        let status = if self.draining.contains(&byte) { Status::Draining } else { Status::Active };
        Beacon { status, ..beacon(byte, 1) }
    }

    /// Lets time pass until the cell has found out that these are dead.
    pub(super) fn kill(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.alive.remove(byte);
        }
        while bytes.iter().any(|byte| self.world.presence_of(*byte) != Some(Presence::Dead)) {
            self.pass(1);
        }
    }

    /// Gives our cell a name with which it is the guard among these others, and says which.
    pub(super) fn make_guard(&mut self, others: &[u8]) -> CellId {
        let others = || others.iter().map(|byte| name(*byte));
        let mut names = (10..=u8::MAX).map(|n| CellId::from_bytes([n; 16]));
        let guard = names.find(|id| membership::roles::needed(id, others()) == Role::Guard).unwrap();
        (self.world.cell.id, self.world.cell.needed) = (guard, Role::Guard);
        guard
    }

    pub(super) fn hold(&mut self, chunk: ChunkId, holders: &[u8]) {
        let holders = holders.iter().map(|byte| name(*byte)).collect();
        self.give(&Input::Copy(CopyInput::Present(vec![LocalCopy { id: chunk, len: LEN, copies: 5, holders }])));
    }

    pub(super) fn asks(&self) -> Vec<(TaskId, u8, Vec<ChunkId>)> {
        let ask = |o: &Output| match o {
            Output::Task(Task::QueryHave { task_id, to, chunks: ids }) => Some((*task_id, byte_of(*to), ids.clone())),
            _ => None,
        };
        self.out.iter().filter_map(ask).collect()
    }

    pub(super) fn sends(&self) -> Vec<(TaskId, u8, ChunkId)> {
        let send = |o: &Output| match o {
            Output::Task(Task::Send { task_id, to, chunk, .. }) => Some((*task_id, byte_of(*to), *chunk)),
            _ => None,
        };
        self.out.iter().filter_map(send).collect()
    }

    pub(super) fn audits(&self) -> Vec<(TaskId, u8, AuditTarget)> {
        let audit = |o: &Output| match o {
            Output::Task(Task::Audit { task_id, from: of, target: pick }) => Some((*task_id, byte_of(*of), *pick)),
            _ => None,
        };
        self.out.iter().filter_map(audit).collect()
    }

    fn events(&self) -> Vec<&Event> {
        events(&self.out)
    }

    /// Answers every question that is open: these cells have all that they are asked for, the others nothing.
    pub(super) fn answer(&mut self, having: &[u8]) {
        for (task_id, byte, ids) in self.asks() {
            let has = if having.contains(&byte) { ids } else { Vec::new() };
            self.give(&Input::Copy(CopyInput::QueryDone { task_id, has: Some(has) }));
        }
        self.out.retain(|o| !matches!(o, Output::Task(Task::QueryHave { .. })));
    }

    /// Answers every audit that is open: these cells have no copy, the others a good one.
    pub(super) fn audited(&mut self, without: &[u8]) {
        while let Some((task_id, byte, pick)) = self.audits().first().copied() {
            self.out.retain(|o| !matches!(o, Output::Task(Task::Audit { task_id: other, .. }) if *other == task_id));
            let (AuditTarget::Chunk(chunk) | AuditTarget::After(chunk)) = pick;
            let is_there = !without.contains(&byte);
            let audited = if is_there { AuditOutcome::Good { chunk, len: LEN } } else { AuditOutcome::Missing };
            self.give(&Input::Copy(CopyInput::AuditDone { task_id, outcome: audited }));
        }
    }

    /// What the cell does about healing by itself: questions and copies.
    fn is_quiet(&self) -> bool {
        self.asks().is_empty() && self.sends().is_empty()
    }
}

pub(super) fn byte_of(door: SocketAddr) -> u8 {
    u8::try_from(door.port() - 8000).unwrap()
}

/// A chunk for which cell 1 ranks so among these holders: 0 is first.
pub(super) fn chunk_with_rank(rank: usize, holders: &[u8]) -> ChunkId {
    let ranks_before =
        |id: &ChunkId| holders.iter().filter(|byte| rank::draw(id, &name(**byte)) > rank::draw(id, &name(1))).count();
    (0..u32::MAX).map(|n| ChunkId::of(&n.to_le_bytes())).find(|id| ranks_before(id) == rank).unwrap()
}

#[test]
fn one_dead_holder_of_five_is_replaced_after_two_minutes_by_who_ranks_first() {
    let mut colony = Colony::new(&[2, 3, 4, 5, 6, 7]);
    let chunk = chunk_with_rank(0, &[2, 3, 4]);
    colony.hold(chunk, &[1, 2, 3, 4, 5]);
    colony.pass(60);
    assert!(colony.is_quiet());
    colony.kill(&[5]);
    colony.pass(119);
    assert!(colony.is_quiet(), "a board may be rebooting: {:?}", colony.asks());
    // A death is noticed and a round begun at the next wake, a second later at most.
    colony.pass(3);
    let asked: Vec<u8> = colony.asks().iter().map(|(_, byte, _)| *byte).collect();
    assert_eq!(asked, [2, 3, 4, 6, 7], "all that live are asked before a byte moves");
    assert!(colony.sends().is_empty());
    colony.answer(&[2, 3, 4]);
    let [(task_id, target, sent)] = colony.sends()[..] else { panic!("{:?}", colony.out) };
    assert!(sent == chunk && [6, 7].contains(&target));
    colony.out.clear();
    colony.give(&Input::Copy(CopyInput::SendDone { task_id, outcome: SendOutcome::Stored }));
    let told: Vec<u8> = colony
        .out
        .iter()
        .filter_map(|o| if let Output::Task(Task::SendHints { to, .. }) = o { Some(byte_of(*to)) } else { None })
        .collect();
    assert_eq!(told, [2, 3, 4]);
    assert!(
        colony
            .out
            .iter()
            .any(|o| matches!(o, Output::Persist(Persist::Holders { chunk: noted, .. }) if *noted == chunk))
    );
    assert_eq!((colony.world.cell.life().healed_copies, colony.world.cell.life().short), (1, 0));
    colony.out.clear();
    colony.pass(300);
    assert!(colony.sends().is_empty());
}

#[test]
fn the_fewer_copies_are_left_the_sooner_and_the_lower_the_rank_the_later() {
    let step_s = Settings::default().heal_step_ms / 1000;
    for (dead, rank, after_s) in
        [(&[5][..], 1, 120 + step_s), (&[4, 5], 0, 30), (&[3, 4, 5], 0, 10), (&[3, 4, 5], 1, 10 + step_s)]
    {
        let mut colony = Colony::new(&[2, 3, 4, 5, 6, 7]);
        let living: Vec<u8> = [2, 3, 4, 5].into_iter().filter(|byte| !dead.contains(byte)).collect();
        colony.hold(chunk_with_rank(rank, &living), &[1, 2, 3, 4, 5]);
        colony.kill(dead);
        colony.out.clear();
        colony.pass(after_s - 2);
        assert!(colony.is_quiet(), "{dead:?} {rank}");
        colony.pass(4);
        assert_eq!(colony.asks().len(), living.len() + 2, "{dead:?} {rank}");
    }
}

#[test]
fn a_last_copy_is_saved_at_once_and_to_as_many_cells_as_are_missing() {
    let mut colony = Colony::new(&[2, 3, 6, 7, 8]);
    let chunk = chunk_with_rank(0, &[]);
    colony.hold(chunk, &[1, 2, 3]);
    colony.pass(60);
    colony.out.clear();
    colony.kill(&[2, 3]);
    colony.pass(2);
    colony.answer(&[]);
    let mut targets: Vec<u8> = colony.sends().iter().map(|(_, byte, _)| *byte).collect();
    targets.sort_unstable();
    assert_eq!(targets, [6, 7, 8]);
}

#[test]
fn a_board_that_reboots_moves_nothing() {
    let mut colony = Colony::new(&[2, 3, 4, 5, 6, 7]);
    colony.hold(chunk_with_rank(0, &[2, 3, 4]), &[1, 2, 3, 4, 5]);
    colony.kill(&[5]);
    colony.pass(30);
    colony.alive.insert(5);
    colony.pass(500);
    // It is asked what it still has, and that is all.
    colony.answer(&[2, 3, 4, 5]);
    assert!(colony.sends().is_empty());
}

/// When the cable was plugged in again, the cell sent all its chunks to the first neighbour that it heard.
#[test]
fn a_cell_that_was_cut_off_waits_for_all_the_others_before_it_asks() {
    let mut colony = Colony::new(&[2, 3, 4, 5, 6, 7]);
    colony.hold(chunk_with_rank(0, &[2, 3, 4]), &[1, 2, 3, 4, 5]);
    colony.kill(&[2, 3, 4, 5, 6, 7]);
    colony.pass(300);
    assert_eq!((colony.world.cell.life().stuck, colony.is_quiet()), (1, true));
    colony.alive.insert(7);
    colony.pass(2);
    assert!(colony.is_quiet(), "{:?}", colony.asks());
    colony.alive.extend([2, 3, 4, 5, 6]);
    colony.pass(60);
    colony.answer(&[2, 3, 4, 5]);
    assert!(colony.sends().is_empty());
    assert_eq!(colony.world.cell.life().short, 0);
}

#[test]
fn copies_that_nobody_knew_of_are_found_before_new_ones_are_made() {
    let mut colony = Colony::new(&[2, 3, 4, 5, 6, 7]);
    colony.hold(chunk_with_rank(0, &[2, 3, 4]), &[1, 2, 3, 4, 5]);
    colony.kill(&[5]);
    colony.pass(125);
    colony.answer(&[2, 3, 4, 7]);
    colony.pass(300);
    assert!(colony.sends().is_empty());
    assert_eq!(colony.world.cell.life().short, 0);
}

#[test]
fn a_cell_that_refuses_or_fails_a_copy_is_passed_over() {
    let mut colony = Colony::new(&[2, 3, 4, 5, 6, 7, 8]);
    colony.hold(chunk_with_rank(0, &[2, 3, 4]), &[1, 2, 3, 4, 5]);
    colony.kill(&[5]);
    colony.pass(125);
    colony.answer(&[2, 3, 4]);
    let mut tried = BTreeSet::new();
    for how in [SendOutcome::Refused, SendOutcome::Failed, SendOutcome::Stored] {
        let [(task_id, byte, _)] = colony.sends()[..] else { panic!("{:?}", colony.sends()) };
        tried.insert(byte);
        colony.out.clear();
        colony.give(&Input::Copy(CopyInput::SendDone { task_id, outcome: how }));
    }
    assert_eq!(tried, BTreeSet::from([6, 7, 8]));
    assert!(colony.sends().is_empty());
}

#[test]
fn in_a_colony_with_too_few_cells_nothing_is_asked_until_another_comes() {
    let mut colony = Colony::new(&[2, 3]);
    colony.hold(chunk_with_rank(0, &[2, 3]), &[1, 2, 3]);
    colony.pass(500);
    colony.answer(&[2, 3]);
    colony.out.clear();
    colony.pass(60);
    assert!(colony.is_quiet(), "{:?}", colony.asks());
    let life = colony.world.cell.life();
    assert_eq!((life.short, life.stuck), (1, 1));
    colony.alive.insert(4);
    colony.pass(3);
    colony.answer(&[2, 3]);
    assert_eq!(colony.sends().iter().map(|(_, byte, _)| *byte).collect::<Vec<_>>(), [4]);
}

#[test]
fn every_holder_is_asked_within_the_audit_period_and_one_that_lost_its_copy_is_found_out() {
    let mut colony = Colony::new(&[2, 3, 4, 5, 6]);
    let chunk = chunk_with_rank(0, &[2, 3, 4]);
    colony.hold(chunk, &[1, 2, 3, 4, 5]);
    colony.pass(2 * 660);
    let asked: BTreeSet<u8> = colony.asks().iter().map(|(_, byte, _)| *byte).collect();
    assert_eq!(asked, BTreeSet::from([2, 3, 4, 5]));
    colony.answer(&[2, 3, 4]);
    colony.pass(125);
    colony.answer(&[2, 3, 4]);
    assert_eq!(colony.sends().len(), 1);
}

#[test]
fn what_others_tell_of_copies_is_asked_for_before_it_is_believed() {
    let mut colony = Colony::new(&[2, 3, 4, 5, 6, 7]);
    let chunk = chunk_with_rank(0, &[2, 3, 4]);
    colony.hold(chunk, &[1, 2, 3, 4, 5]);
    colony.kill(&[5]);
    colony.pass(1);
    let news = vec![HolderHint { id: chunk, holders: vec![name(6)] }];
    colony.out.clear();
    colony.give(&Input::Copy(CopyInput::Hints(news.clone())));
    assert_eq!(colony.asks().iter().map(|(_, byte, _)| *byte).collect::<Vec<_>>(), [6]);
    colony.answer(&[]);
    assert_eq!(colony.world.cell.life().short, 1, "it was not so");
    colony.give(&Input::Copy(CopyInput::Hints(news)));
    colony.answer(&[6]);
    assert_eq!(colony.world.cell.life().short, 0);
}

fn alert(culprit: u8, chunk: ChunkId) -> Input {
    Input::Copy(CopyInput::Alert(Alert { node_id: name(9), culprit: name(culprit), chunk, found: ChunkId::of(b"bad") }))
}

#[test]
fn an_alert_about_our_own_copy_makes_us_look_and_a_bad_one_is_fetched_anew() {
    let mut colony = Colony::new(&[2, 3, 4, 5]);
    let chunk = chunk_with_rank(0, &[2]);
    colony.hold(chunk, &[1, 2, 3, 4, 5]);
    colony.give(&alert(1, chunk));
    assert_eq!(colony.out, [Output::Task(Task::Verify(chunk))]);
    colony.out.clear();
    colony.give(&Input::Copy(CopyInput::VerifyDone { chunk, outcome: VerifyOutcome::Bad }));
    let fetch = colony.out.iter().find_map(|o| {
        if let Output::Task(Task::Fetch { task_id, from, .. }) = o { Some((*task_id, *from)) } else { None }
    });
    let (task_id, from) = fetch.unwrap();
    assert!([2, 3, 4, 5].contains(&byte_of(from)));
    colony.out.clear();
    colony.give(&Input::Copy(CopyInput::FetchDone { task_id, outcome: FetchOutcome::Missing }));
    let again = colony.out.iter().find_map(|o| {
        if let Output::Task(Task::Fetch { task_id, from, .. }) = o { Some((*task_id, *from)) } else { None }
    });
    let (task_id, other) = again.unwrap();
    assert_ne!(from, other, "the next one is asked");
    colony.give(&Input::Copy(CopyInput::FetchDone { task_id, outcome: FetchOutcome::Stored }));
    assert!(colony.events().contains(&&Event::Refetched(chunk)));
    let life = colony.world.cell.life();
    assert_eq!((life.bad_copies, life.mended_copies, life.short), (1, 1, 0));
}

#[test]
fn forged_alerts_change_nothing_but_counters() {
    let mut colony = Colony::new(&[2, 3, 4, 5]);
    let chunks: Vec<ChunkId> = (0..100_u32).map(|n| ChunkId::of(&n.to_le_bytes())).collect();
    for chunk in &chunks {
        colony.hold(*chunk, &[1, 2, 3, 4, 5]);
    }
    colony.out.clear();
    for chunk in &chunks {
        colony.give(&alert(2, *chunk));
        colony.give(&alert(1, *chunk));
    }
    for _ in 0..300 {
        for output in std::mem::take(&mut colony.out) {
            match output {
                Output::Task(Task::Audit { task_id, target: AuditTarget::Chunk(chunk), .. }) => {
                    colony.give(&Input::Copy(CopyInput::AuditDone {
                        task_id,
                        outcome: AuditOutcome::Good { chunk, len: LEN },
                    }));
                }
                Output::Task(Task::Verify(chunk)) => {
                    colony.give(&Input::Copy(CopyInput::VerifyDone { chunk, outcome: VerifyOutcome::Good }));
                }
                Output::Task(Task::QueryHave { task_id, chunks: ids, .. }) => {
                    colony.give(&Input::Copy(CopyInput::QueryDone { task_id, has: Some(ids) }));
                }
                Output::Udp(Udp::Broadcast(_)) | Output::WakeAt(_) | Output::Event(Event::FalseAlert { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
        colony.pass(1);
    }
    let life = colony.world.cell.life();
    assert_eq!((life.alerts, life.alerts_false), (200, 200));
    assert_eq!((life.short, life.bad_copies, life.isolated.len()), (0, 0, 0));
}

#[test]
fn three_bad_chunks_seen_by_ourselves_isolate_a_cell_and_its_copies_count_no_more() {
    let mut colony = Colony::new(&[2, 3, 4, 5, 6]);
    let chunks: Vec<ChunkId> = (0..6_u32).map(|n| ChunkId::of(&n.to_le_bytes())).collect();
    for chunk in &chunks {
        colony.hold(*chunk, &[1, 2, 3, 4, 5]);
    }
    for (n, chunk) in chunks[..3].iter().enumerate() {
        assert!(colony.world.cell.life().isolated.is_empty(), "{n} are not enough");
        colony.give(&alert(2, *chunk));
        let (task_id, byte, pick) = *colony.audits().last().unwrap();
        assert_eq!((byte, pick), (2, AuditTarget::Chunk(*chunk)));
        let found = ChunkId::of(b"bad");
        colony.give(&Input::Copy(CopyInput::AuditDone {
            task_id,
            outcome: AuditOutcome::Bad { chunk: *chunk, found, len: 3 },
        }));
        colony.pass(1);
    }
    let life = colony.world.cell.life();
    assert_eq!((life.isolated, life.short), (vec![name(2)], 6));
    let kept = colony
        .out
        .iter()
        .rev()
        .find_map(|o| if let Output::Persist(Persist::State(memory)) = o { Some(memory) } else { None });
    assert_eq!(kept.unwrap().isolated.len(), 1, "a restart must not forget it");
    // It is not asked, and gets nothing.
    colony.out.clear();
    for _ in 0..200 {
        colony.pass(1);
        assert!(!colony.asks().iter().any(|(_, byte, _)| *byte == 2));
        colony.answer(&[3, 4, 5]);
    }
    assert!(!colony.sends().is_empty());
    assert!(colony.sends().iter().all(|(_, byte, _)| *byte == 6));
}

#[test]
fn a_draining_cell_asks_for_every_chunk_hands_on_what_is_missing_and_says_when_it_may_go() {
    let mut colony = Colony::new(&[2, 3, 4, 5, 6, 7]);
    let (there, here) = (chunk_with_rank(1, &[2, 3]), chunk_with_rank(0, &[2, 3]));
    colony.hold(there, &[1, 2, 3, 4, 5, 6]);
    colony.hold(here, &[1, 2, 3, 4, 5]);
    colony.out.clear();
    colony.give(&Input::Copy(CopyInput::Drain(true)));
    let drain = |colony: &Colony| colony.world.cell.life().drain;
    assert_eq!(drain(&colony), Some(DrainProgress { left: 2, total: 2, stuck: 0, safe: false }));
    colony.pass(2);
    assert_eq!(colony.world.cell.beacon(colony.world.now).status, Status::Draining);
    // Cell 6 has both; so one copy of the second chunk is enough already.
    colony.answer(&[2, 3, 4, 5]);
    let sends = colony.sends();
    assert!(sends.iter().all(|(_, byte, _)| [6, 7].contains(byte)), "{sends:?}");
    assert_eq!(sends.iter().filter(|(_, _, chunk)| *chunk == here).count(), 1);
    assert_eq!(sends.len(), 2, "the belief about cell 6 was wrong");
    for (task_id, _, _) in sends {
        colony.give(&Input::Copy(CopyInput::SendDone { task_id, outcome: SendOutcome::Stored }));
    }
    colony.pass(1);
    assert_eq!(drain(&colony), Some(DrainProgress { left: 0, total: 2, stuck: 0, safe: true }));
    assert!(colony.events().contains(&&Event::Drained));
    colony.give(&Input::Copy(CopyInput::Drain(false)));
    assert_eq!(drain(&colony), None);
    assert_eq!(colony.world.cell.beacon(colony.world.now).status, Status::Active);
}

#[test]
fn a_draining_holder_counts_no_more_though_it_lives() {
    let mut colony = Colony::new(&[2, 3, 4, 5, 6]);
    colony.hold(chunk_with_rank(0, &[3, 4, 5]), &[1, 2, 3, 4, 5]);
    // A beacon that says so is not enough: anybody could send it.
    let draining = Beacon { status: Status::Draining, ..beacon(2, 1) };
    colony.give(&Input::Member(MemberInput::Beacon { from: ip(2), beacon: draining }));
    colony.pass(3);
    assert_eq!(colony.world.cell.life().short, 0);
    colony.draining.insert(2);
    colony.pass(4);
    assert_eq!(colony.world.cell.life().short, 1);
    colony.draining.clear();
    colony.pass(2);
    assert_eq!(colony.world.cell.life().short, 0);
}

/// One forged datagram for each cell, and the colony would have copied all it had.
#[test]
fn forged_farewells_move_nothing_and_true_ones_count_when_the_cell_is_gone() {
    let mut colony = Colony::new(&[2, 3, 4, 5, 6, 7]);
    colony.hold(chunk_with_rank(0, &[2, 3, 4, 5]), &[1, 2, 3, 4, 5]);
    let leaving = |byte| Beacon { status: Status::Leaving, ..beacon(byte, 1) };
    for _ in 0..60 {
        for byte in [2, 3, 4, 5] {
            colony.give(&Input::Member(MemberInput::Beacon { from: ip(byte), beacon: leaving(byte) }));
        }
        assert_eq!(colony.world.presence_of(2), Some(Presence::Left), "nothing new goes there");
        colony.pass(1);
    }
    assert!(colony.sends().is_empty());
    assert_eq!(colony.world.cell.life().short, 0);
    colony.alive.remove(&2);
    colony.give(&Input::Member(MemberInput::Beacon { from: ip(2), beacon: leaving(2) }));
    colony.pass(4);
    assert_eq!(colony.world.cell.life().short, 1);
}

#[test]
fn a_full_scrub_looks_at_all_and_a_clean_one_is_told_in_the_beacon() {
    for bad in [0, 1] {
        let mut colony = Colony::new(&[2]);
        for n in 0..5_u32 {
            colony.hold(ChunkId::of(&n.to_le_bytes()), &[1, 2]);
        }
        colony.out.clear();
        colony.give(&Input::Copy(CopyInput::Scrub));
        let mut looked = BTreeSet::new();
        while let Some(at) = colony.out.iter().position(|o| matches!(o, Output::Task(Task::Verify(_)))) {
            let Output::Task(Task::Verify(id)) = colony.out.swap_remove(at) else { unreachable!() };
            let how = if looked.len() < bad { VerifyOutcome::Bad } else { VerifyOutcome::Good };
            looked.insert(id);
            colony.give(&Input::Copy(CopyInput::VerifyDone { chunk: id, outcome: how }));
        }
        assert_eq!(looked.len(), 5);
        let scrub = colony.world.cell.life().scrub.unwrap();
        assert_eq!((scrub.done, scrub.bad, scrub.finished), (5, bad as u64, true));
        colony.pass(3);
        assert_eq!(colony.world.cell.beacon(colony.world.now).clean_s, (bad == 0).then_some(3));
    }
}

#[test]
fn the_slow_scrub_looks_at_each_copy_once_in_its_period() {
    let mut colony = Colony::new(&[2]);
    for n in 0..200_u32 {
        colony.hold(ChunkId::of(&n.to_le_bytes()), &[1, 2]);
    }
    let period_s = Settings::default().scrub_period_ms / 1000;
    let mut looked = Vec::new();
    // Beacons of others do not matter here, and there are many of them in a month.
    colony.alive.clear();
    for _ in 0..period_s / 600 {
        colony.world.now = colony.world.now.plus_ms(600 * SECOND);
        colony.world.wake_at = colony.world.now;
        for output in colony.world.pass(0) {
            if let Output::Task(Task::Verify(id)) = output {
                looked.push(id);
                colony.give(&Input::Copy(CopyInput::VerifyDone { chunk: id, outcome: VerifyOutcome::Good }));
            }
        }
    }
    let each: BTreeSet<_> = looked.iter().collect();
    assert!((195..=200).contains(&looked.len()) && each.len() == looked.len(), "{} {}", looked.len(), each.len());
    let kept = colony.out.iter().filter(|o| matches!(o, Output::Persist(Persist::State(_)))).count();
    assert!(kept <= looked.len());
}

#[test]
fn an_extra_copy_goes_only_when_room_is_short_and_enough_others_have_proved_theirs() {
    let others = [2, 3, 4, 5, 6];
    // Without audits of other chunks.
    let mut colony = Colony::with(&others, Settings { audit_rate: 0, ..Settings::default() });
    let last = chunk_with_rank(5, &others);
    let not_last = chunk_with_rank(4, &others);
    for chunk in [last, not_last] {
        colony.hold(chunk, &[1, 2, 3, 4, 5, 6]);
    }
    let prove = |colony: &mut Colony, bad: Option<u8>| {
        let mut proved = BTreeSet::new();
        for _ in 0..120 {
            colony.pass(1);
            for output in std::mem::take(&mut colony.out) {
                match output {
                    Output::Task(Task::Audit { task_id, from: of, target: AuditTarget::Chunk(chunk) }) => {
                        assert_eq!(chunk, last);
                        proved.insert(byte_of(of));
                        let good = bad != Some(byte_of(of));
                        let how = if good { AuditOutcome::Good { chunk, len: LEN } } else { AuditOutcome::Failed };
                        colony.give(&Input::Copy(CopyInput::AuditDone { task_id, outcome: how }));
                    }
                    Output::Task(Task::Remove(chunk)) => return (proved, Some(chunk)),
                    _ => {}
                }
            }
        }
        (proved, None)
    };
    assert_eq!(prove(&mut colony, None), (BTreeSet::new(), None), "there is room");
    colony.full = true;
    assert_eq!(prove(&mut colony, Some(4)).1, None, "one of five has not proved its copy");
    let (proved, removed) = prove(&mut colony, None);
    assert_eq!((proved.len(), removed), (5, Some(last)));
    assert_eq!(prove(&mut colony, None).1, None, "the other is needed");
}

#[test]
fn a_guard_finds_a_bad_copy_tells_all_and_notes_it_itself() {
    let mut colony = Colony::new(&[2, 3, 4, 5]);
    let guard = colony.make_guard(&[2, 3, 4, 5]);
    colony.alive.insert(6);
    colony.pass(30);
    assert_eq!(colony.world.cell.beacon(colony.world.now).role, Role::Guard);
    let (task_id, culprit, _) = *colony.audits().last().unwrap();
    let (chunk, found) = (ChunkId::of(b"chunk"), ChunkId::of(b"bad"));
    colony.out.clear();
    colony.give(&Input::Copy(CopyInput::AuditDone { task_id, outcome: AuditOutcome::Bad { chunk, found, len: LEN } }));
    let told = colony.out.iter().find_map(|o| {
        if let Output::Task(Task::SendAlert { alert, to }) = o { Some((*alert, to.len())) } else { None }
    });
    assert_eq!(told, Some((Alert { node_id: guard, culprit: name(culprit), chunk, found }, 5)));
    assert!(colony.events().contains(&&Event::BadCopy { culprit: name(culprit), chunk }));
}

#[test]
fn what_is_believed_survives_a_restart_and_those_who_are_not_up_yet_count_for_a_while() {
    let mut colony = Colony::new(&[]);
    colony.hold(chunk_with_rank(0, &[2]), &[1, 2, 3, 4, 5]);
    colony.alive = BTreeSet::from([2, 6, 7, 8]);
    colony.pass(80);
    colony.answer(&[2]);
    assert!(colony.sends().is_empty(), "the others are still booting");
    for _ in 0..120 {
        colony.pass(1);
        colony.answer(&[2]);
    }
    assert!(!colony.sends().is_empty(), "they did not come");
}
