//! The life of a cell among the others: what happens is given to the rules that it concerns, and what one rule finds to
//! the others.
//!
//! ```text
//!  member comes, goes ─▶ recount ─▶ heal ◀──────────── beliefs ◀── answers, hints, audits of beliefs
//!  own copy bad ───────▶ mend    ◀── scrub, alerts       │
//!  other's copy bad ───▶ trust ──▶ recount ─▶ heal       └─▶ Note
//! ```

use crate::cell::context::{TaskIds, View};
use crate::cell::heal::Heal;
use crate::cell::integrity::audits::{Audits, Finding};
use crate::cell::integrity::scrub::Scrub;
use crate::cell::integrity::strikes::{Struck, Trust};
use crate::cell::membership::Membership;
use crate::cell::membership::responsiveness::Voices;
use crate::cell::replicas::map::Holdings;
use crate::cell::replicas::queries::{Beliefs, Learned};
use crate::cell::replicas::refetch::{Mended, Mends};
use crate::cell::{
    CopyInput, Event, LocalCopy, Output, Persist, SavedState, SendOutcome, Settings, StoreStats, Task, VerifyOutcome,
};
use crate::id::CellId;
use crate::id::ChunkId;
use crate::time::Time;
use crate::wire::beacon::{Beacon, Role};
use crate::wire::datagram::Alert;
use crate::wire::holder_hints::HolderHint;
use crate::wire::status::{Activity, DrainProgress};

/// What is around the cell at one moment.
pub(super) struct Around<'a> {
    pub(super) now: Time,
    pub(super) id: CellId,
    pub(super) role: Role,
    pub(super) store: StoreStats,
    pub(super) members: &'a Membership,
    pub(super) settings: &'a Settings,
}

pub(super) struct Living {
    holdings: Holdings,
    heal: Heal,
    beliefs: Beliefs,
    voices: Voices,
    mends: Mends,
    scrub: Scrub,
    audits: Audits,
    trust: Trust,
    task_ids: TaskIds,
    draining: bool,
    /// Has the log been told that all is handed on?
    drained: bool,
    /// Has the store told all it had at the start?
    counted: bool,
    /// Until when holders that were never heard count; none before the first moment.
    unheard_until: Option<Time>,
    removed: u64,
    /// Has a cell come back from the dead since it was last looked?
    returned: bool,
}

/// The rules' view of the moment. A macro, since a method would borrow all of the cell's life.
macro_rules! view {
    ($living:expr, $around:expr) => {
        View {
            now: $around.now,
            id: $around.id,
            draining: $living.draining,
            unheard_until: $living.unheard_until.unwrap_or(Time(u64::MAX)),
            members: $around.members,
            trust: &$living.trust,
            voices: &$living.voices,
            settings: $around.settings,
        }
    };
}

impl Living {
    pub(super) fn new(memory: &SavedState, settings: &Settings) -> Self {
        Self {
            holdings: Holdings::default(),
            heal: Heal::new(settings.heal_rate),
            beliefs: Beliefs::default(),
            voices: Voices::default(),
            mends: Mends::new(settings.heal_rate),
            scrub: Scrub::new(memory.scrubbed),
            audits: Audits::new(settings.audit_rate),
            trust: Trust::recall(&memory.strikes, &memory.isolated, settings),
            task_ids: TaskIds::default(),
            draining: memory.draining,
            drained: false,
            counted: false,
            unheard_until: None,
            removed: 0,
            returned: false,
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining
    }

    pub(super) fn clean_s(&self, now: Time) -> Option<u64> {
        self.scrub.clean_s(now)
    }

    /// Takes in what concerns copies.
    pub(super) fn handle(
        &mut self,
        around: &Around,
        input: &CopyInput,
        rng: &mut fastrand::Rng,
        out: &mut Vec<Output>,
    ) {
        match input {
            CopyInput::Present(held) => return self.holds(around, held),
            CopyInput::ListingDone => {
                self.counted = true;
                if self.draining {
                    self.heal.check_all(&view!(self, around), &self.holdings);
                }
            }
            CopyInput::Gone(id) => self.lost(around, id),
            CopyInput::QueryDone { task_id, has } => {
                if let Some(mut learned) = self.beliefs.answered(&mut self.holdings, *task_id, has.as_deref()) {
                    self.doubt(&mut learned);
                    if self.voices.heard_from(around.now, learned.cell, learned.answered) {
                        self.recount_shared(around, &learned.cell);
                    }
                    let view = view!(self, around);
                    self.heal.absent(around.now, learned.cell, &learned.absent);
                    if let Some(round) = learned.round {
                        self.heal.answered(&view, round, learned.cell, &learned.present, &learned.absent);
                    }
                    for id in learned.changed {
                        self.believed(around, &id, out);
                    }
                }
            }
            CopyInput::SendDone { task_id, outcome: how } => {
                if let Some(id) = self.heal.sent(around.now, &mut self.holdings, *task_id, *how) {
                    match how {
                        SendOutcome::OwnCopyBad => self.own_copy_bad(around, &id, out),
                        SendOutcome::OwnCopyGone => self.lost(around, &id),
                        SendOutcome::Stored
                        | SendOutcome::Refused
                        | SendOutcome::Failed
                        | SendOutcome::OwnCopyUnreadable => {}
                    }
                }
            }
            CopyInput::FetchDone { task_id, outcome: how } => match self.mends.fetched(*task_id, *how) {
                Some(Mended::Here(held)) => self.mended(around, &held, out),
                Some(Mended::BadSource(cell, chunk)) => self.strike(around, cell, chunk, out),
                Some(Mended::NotYet) | None => {}
            },
            CopyInput::AuditDone { task_id, outcome: how } => {
                if let Some(finding) = self.audits.audited(around.now, *task_id, *how) {
                    self.found(around, finding, out);
                }
            }
            CopyInput::VerifyDone { chunk: id, outcome: how } => self.verified(around, *id, *how, out),
            CopyInput::Hints(news) => {
                self.beliefs.told(&view!(self, around), &self.holdings, news, &mut self.task_ids, out);
            }
            CopyInput::Alert(alert) => self.audits.alerted(&view!(self, around), &self.holdings, alert, out),
            CopyInput::Drain(on) => self.drain(around, *on, out),
            CopyInput::Scrub => self.scrub.start_full(&self.holdings),
        }
        self.tend(around, rng, out);
    }

    /// What goes on by itself, with time.
    pub(super) fn wake(&mut self, around: &Around, rng: &mut fastrand::Rng, out: &mut Vec<Output>) {
        let first = around.now.plus_ms(around.settings.unheard_ms);
        let unheard_until = *self.unheard_until.get_or_insert(first);
        self.voices.forget(around.members.len(), |cell| around.members.get(cell).is_some());
        if unheard_until <= around.now && !self.unheard_are_over() {
            self.unheard_until = Some(Time(0));
            self.recount_all(around);
        }
        let returned = std::mem::take(&mut self.returned);
        self.heal.company(&view!(self, around), around.members.actives(), returned);
        for cell in self.trust.age(around.now) {
            self.pardoned(around, cell, out);
        }
        if self.counted {
            let view = view!(self, around);
            let gone = self.beliefs.audit(&view, &self.holdings, &mut self.task_ids, rng, out);
            if around.store.full {
                self.audits.look_for_extra(&view, &self.holdings);
            }
            if self.unheard_are_over() {
                for (id, cell) in gone {
                    self.holdings.believe(&id, cell, false);
                }
            }
        }
        self.tend(around, rng, out);
        let nothing_left = self.heal.short().0 == 0 && !self.heal.is_busy();
        if self.draining && self.counted && nothing_left && !self.drained {
            out.push(Output::Event(Event::Drained));
        }
        self.drained = self.draining && self.counted && nothing_left;
    }

    fn unheard_are_over(&self) -> bool {
        self.unheard_until == Some(Time(0))
    }

    /// Goes on with whatever is under way, and begins what is due.
    fn tend(&mut self, around: &Around, rng: &mut fastrand::Rng, out: &mut Vec<Output>) {
        if !self.counted {
            return;
        }
        let view = view!(self, around);
        if let Some((round, questions)) = self.heal.begin(&view, &self.holdings, out) {
            self.beliefs.ask_for_round(&view, round, questions, &mut self.task_ids, out);
        }
        self.heal.advance(&view, &self.holdings, &mut self.task_ids, out);
        self.mends.advance(&view, &mut self.task_ids, out);
        self.audits.advance(&view, &self.holdings, around.role == Role::Guard, &mut self.task_ids, rng, out);
        if self.scrub.advance(around.now, &self.holdings, around.settings, rng, out) {
            self.keep(around, out);
        }
    }

    /// These cells have come, gone, or changed their status; each with whether it is back from the dead.
    pub(super) fn colony_changed(&mut self, around: &Around, changes: &[(CellId, bool)], out: &mut Vec<Output>) {
        for (cell, returned) in changes {
            self.heal.colony_changed(around.now, cell);
            self.recount_shared(around, cell);
            self.returned |= *returned;
            if *returned && self.counted {
                self.beliefs.returned(&view!(self, around), &self.holdings, *cell, &mut self.task_ids, out);
            }
        }
    }

    /// What a beacon says besides presence.
    pub(super) fn heard(&mut self, around: &Around, beacon: &Beacon, out: &mut Vec<Output>) {
        let Some(clean_s) = beacon.clean_s else { return };
        if self.trust.reports_clean(around.now, beacon.node_id, clean_s, around.settings) {
            self.pardoned(around, beacon.node_id, out);
        }
    }

    fn holds(&mut self, around: &Around, held: &[LocalCopy]) {
        let [_, _, settle_ms, _] = around.settings.heal_delay_ms;
        for held in held {
            let is_possible =
                |cell: &CellId| !self.unheard_are_over() || around.members.get(cell).is_some() || *cell == around.id;
            let holders = held.holders.iter().copied().filter(is_possible).collect();
            self.holdings.add(around.id, &LocalCopy { holders, ..held.clone() });
            self.mends.came(&held.id);
            // Its other copies may be on their way only now, and who has them may not have been told.
            let view = view!(self, around);
            if self.draining && self.counted {
                self.heal.check(&view, &self.holdings, &held.id);
            } else {
                self.heal.recount(&view, &self.holdings, &held.id, settle_ms);
            }
        }
    }

    fn recount(&mut self, around: &Around, id: &ChunkId) {
        self.heal.recount(&view!(self, around), &self.holdings, id, 0);
    }

    fn recount_shared(&mut self, around: &Around, cell: &CellId) {
        for id in self.holdings.shared_with(cell) {
            self.recount(around, &id);
        }
    }

    fn recount_all(&mut self, around: &Around) {
        let view = view!(self, around);
        for id in self.holdings.ids() {
            self.heal.recount(&view, &self.holdings, id, 0);
        }
    }

    /// Where a cell's word is not enough, its copy does not count until it was looked at.
    fn doubt(&mut self, learned: &mut Learned) {
        let cell = learned.cell;
        let (doubted, present): (Vec<ChunkId>, _) =
            learned.present.drain(..).partition(|id| self.trust.is_doubted(&cell, id));
        learned.present = present;
        for id in doubted {
            self.holdings.believe(&id, cell, false);
            self.audits.doubt(cell, id);
        }
    }

    /// Something else is believed of a chunk's holders.
    fn believed(&mut self, around: &Around, id: &ChunkId, out: &mut Vec<Output>) {
        self.recount(around, id);
        let mut holders: Vec<CellId> = self.holdings.holders(id).chain([around.id]).collect();
        // In one order, so that the same holders are the same record.
        holders.sort_unstable();
        out.push(Output::Persist(Persist::Holders { chunk: *id, holders }));
    }

    /// Our copy is not here any more; it is got back.
    fn lost(&mut self, around: &Around, id: &ChunkId) {
        if let Some(held) = self.holdings.remove(id) {
            self.recount(around, id);
            self.mends.lost(around.now, held);
        }
    }

    fn own_copy_bad(&mut self, around: &Around, id: &ChunkId, out: &mut Vec<Output>) {
        self.scrub.bad += 1;
        out.push(Output::Event(Event::OwnCopyBad(*id)));
        self.lost(around, id);
    }

    fn verified(&mut self, around: &Around, id: ChunkId, how: VerifyOutcome, out: &mut Vec<Output>) {
        self.scrub.verified(&id, how);
        match how {
            VerifyOutcome::Good => {
                if self.audits.own_copy_is_good(around.id, id) {
                    out.push(Output::Event(Event::FalseAlert { culprit: around.id, chunk: id }));
                }
            }
            VerifyOutcome::Bad => {
                out.push(Output::Event(Event::OwnCopyBad(id)));
                self.lost(around, &id);
            }
            VerifyOutcome::Missing => self.lost(around, &id),
            VerifyOutcome::Unreadable => {}
        }
    }

    fn mended(&mut self, around: &Around, held: &LocalCopy, out: &mut Vec<Output>) {
        self.holds(around, std::slice::from_ref(held));
        out.push(Output::Event(Event::Refetched(held.id)));
        let view = view!(self, around);
        for to in held.holders.iter().filter_map(|cell| view.door(cell)) {
            out.push(Output::Task(Task::SendHints {
                to,
                hints: vec![HolderHint { id: held.id, holders: vec![around.id] }],
            }));
        }
    }

    fn found(&mut self, around: &Around, finding: Finding, out: &mut Vec<Output>) {
        match finding {
            Finding::Bad { culprit, chunk, tell } => {
                self.strike(around, culprit, chunk, out);
                if let Some(found) = tell {
                    let alert = Alert { node_id: around.id, culprit, chunk, found };
                    let to = around.members.iter().filter(|(_, m)| m.is_there()).map(|(_, m)| m.door).collect();
                    out.push(Output::Task(Task::SendAlert { alert, to }));
                }
            }
            Finding::False(culprit, chunk) => out.push(Output::Event(Event::FalseAlert { culprit, chunk })),
            Finding::Absent(cell, chunk) => {
                // It may have lost it just then; from now on its word is not enough.
                if self.holdings.believe(&chunk, cell, false) {
                    self.trust.doubt(around.now, cell, chunk, around.settings);
                    self.believed(around, &chunk, out);
                }
            }
            // Its word was not enough any more, it gave it once more, and there is nothing behind it.
            Finding::Lie(cell, chunk) => self.strike(around, cell, chunk, out),
            Finding::Proved(cell, chunk) => {
                self.trust.believe(cell, chunk);
                if self.holdings.believe(&chunk, cell, true) {
                    self.believed(around, &chunk, out);
                }
            }
            Finding::Extra(chunk) => {
                if self.holdings.remove(&chunk).is_some() {
                    self.recount(around, &chunk);
                    self.removed += 1;
                    out.push(Output::Task(Task::Remove(chunk)));
                    out.push(Output::Event(Event::ExtraCopyRemoved(chunk)));
                }
            }
        }
    }

    /// A cell sent bytes that do not hash to their name.
    fn strike(&mut self, around: &Around, culprit: CellId, chunk: ChunkId, out: &mut Vec<Output>) {
        out.push(Output::Event(Event::BadCopy { culprit, chunk }));
        self.trust.doubt(around.now, culprit, chunk, around.settings);
        if self.holdings.believe(&chunk, culprit, false) {
            self.believed(around, &chunk, out);
        }
        match self.trust.strike(around.now, culprit, chunk, around.settings) {
            Struck::Known => return,
            Struck::Noted => {}
            Struck::Isolated => {
                out.push(Output::Event(Event::Isolated(culprit)));
                self.recount_shared(around, &culprit);
            }
        }
        self.keep(around, out);
    }

    fn pardoned(&mut self, around: &Around, cell: CellId, out: &mut Vec<Output>) {
        out.push(Output::Event(Event::IsolationEnded(cell)));
        self.heal.colony_changed(around.now, &cell);
        self.recount_shared(around, &cell);
        self.keep(around, out);
    }

    fn drain(&mut self, around: &Around, on: bool, out: &mut Vec<Output>) {
        if self.draining == on {
            return;
        }
        self.draining = on;
        self.drained = false;
        out.push(Output::Event(Event::Draining(on)));
        self.keep(around, out);
        let view = view!(self, around);
        if on {
            self.heal.check_all(&view, &self.holdings);
        } else {
            self.heal.check_none(&view, &self.holdings);
        }
    }

    fn keep(&self, around: &Around, out: &mut Vec<Output>) {
        out.push(Output::Persist(Persist::State(SavedState {
            draining: self.draining,
            scrubbed: self.scrub.place(),
            strikes: self.trust.strikes(around.now, around.settings),
            isolated: self.trust.isolations(around.now),
        })));
    }

    pub(super) fn facts(&self) -> Activity {
        let (short, stuck) = self.heal.short();
        let drain = self.draining.then(|| DrainProgress {
            left: if self.counted { short } else { self.holdings.len() as u64 },
            total: self.holdings.len() as u64,
            stuck,
            safe: self.counted && short == 0 && !self.heal.is_busy(),
        });
        Activity {
            short,
            stuck,
            healed_copies: self.heal.copies,
            healed_bytes: self.heal.bytes,
            mended_copies: self.mends.copies,
            bad_copies: self.scrub.bad,
            removed_copies: self.removed,
            audits: self.audits.done,
            audits_bad: self.audits.bad,
            alerts: self.audits.alerts,
            alerts_false: self.audits.alerts_false,
            isolated: self.trust.isolated().collect(),
            scrub: self.scrub.facts(),
            drain,
        }
    }
}
