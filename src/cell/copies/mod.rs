//! The copy manager: it passes each input about copies to the rules that it concerns, and the result of one rule to the
//! others.
//!
//! ```text
//!  member changes ────▶ recount ─▶ heal ◀───────────── replica map ◀── queries, hints
//!  local copy bad ────▶ refetch  ◀── scrub, alerts        │
//!  read error ────────▶ suspects ──▶ recount ─▶ heal      │
//!  other copy bad ────▶ strikes ──▶ recount ─▶ heal       └─▶ Persist::Holders
//! ```
//!
//! This file is about where copies are. [`findings`] is about whether they are good, and [`drain`] about draining.

mod drain;
mod findings;

use crate::cell::context::{Context, Unseen};
use crate::cell::heal::Healer;
use crate::cell::input::{CopyInput, LocalCopy, QueryOutcome, SendOutcome, SharedOutcome, TaskId};
use crate::cell::integrity::audits::Audits;
use crate::cell::integrity::failing_disk::FailingDisk;
use crate::cell::integrity::scrub::Scrub;
use crate::cell::integrity::suspects::Suspects;
use crate::cell::output::{Event, Output, Persist, Task};
use crate::cell::replicas::bare_records::BareRecords;
use crate::cell::replicas::map::ReplicaMap;
use crate::cell::replicas::queries::{HolderQueries, QueryResult};
use crate::cell::replicas::refetch::{RefetchResult, Refetches};
use crate::cell::saved_state::SavedState;
use crate::cell::settings::Settings;
use crate::cell::task_ids::TaskIds;
use crate::id::{CellId, ChunkId};
use crate::time::Time;
use crate::wire::holder_hints::HolderHint;
use crate::wire::shared_chunks::{SharedChunk, SharedQuery};
use crate::wire::status::Activity;

pub(super) struct CopyManager {
    replicas: ReplicaMap,
    bare_records: BareRecords,
    healer: Healer,
    queries: HolderQueries,
    refetches: Refetches,
    scrub: Scrub,
    suspects: Suspects,
    failing_disk: FailingDisk,
    audits: Audits,
    task_ids: TaskIds,
    /// Are all copies known that were in the store at the start? Before that, only the replica map is filled.
    listed: bool,
    /// Has it been reported that draining is complete?
    drained_reported: bool,
    /// Has a cell returned from the dead since the last wake-up?
    returned: bool,
    /// Extra copies removed since the start.
    removed: u64,
}

impl CopyManager {
    pub(super) fn new(state: &SavedState, settings: &Settings) -> Self {
        Self {
            replicas: ReplicaMap::default(),
            bare_records: BareRecords::default(),
            healer: Healer::new(settings.heal_rate),
            queries: HolderQueries::default(),
            refetches: Refetches::new(settings.heal_rate),
            scrub: Scrub::new(state.scrub_position),
            suspects: Suspects::default(),
            failing_disk: FailingDisk::new(state.failing),
            audits: Audits::new(settings.audit_rate),
            task_ids: TaskIds::default(),
            listed: false,
            drained_reported: false,
            returned: false,
            removed: 0,
        }
    }

    /// Seconds since a full scrub found all copies good.
    pub(super) fn clean_s(&self, now: Time) -> Option<u64> {
        self.scrub.clean_s(now)
    }

    pub(super) fn activity(&self, context: &Context) -> Activity {
        Activity {
            short: self.healer.shortages(),
            stuck: self.healer.stuck_shortages(),
            split_wait_s: self.healer.split_wait_s(context.now),
            healed_copies: self.healer.copies_sent,
            healed_bytes: self.healer.bytes_sent,
            refetched_copies: self.refetches.fetched,
            bad_copies: self.scrub.bad,
            suspect_copies: self.suspects.len() as u64,
            failing: context.failing,
            removed_copies: self.removed,
            audits: self.audits.done,
            audits_bad: self.audits.bad,
            alerts: self.audits.alerts,
            alerts_false: self.audits.alerts_false,
            isolated: context.strikes.isolated().collect(),
            scrub: self.scrub.progress(),
            drain: self.drain_progress(context),
        }
    }

    pub(super) fn handle(
        &mut self,
        context: &mut Context,
        input: &CopyInput,
        rng: &mut fastrand::Rng,
        out: &mut Vec<Output>,
    ) {
        match input {
            CopyInput::Present(copies) => return self.copies_present(context, copies),
            CopyInput::ListingDone => {
                self.listed = true;
                if context.draining {
                    self.healer.query_all(context, &self.replicas);
                }
            }
            CopyInput::Gone(id) => self.copy_lost(context, id),
            CopyInput::QueryDone { task_id, outcome } => self.query_done(context, *task_id, outcome, out),
            CopyInput::SharedDone { task_id, outcome } => self.question_done(context, *task_id, outcome, out),
            CopyInput::CopiesStated { chunk, copies } => {
                if self.replicas.set_copies(chunk, *copies) {
                    self.copies_known(context, &[*chunk]);
                }
            }
            CopyInput::SendDone { task_id, outcome } => self.send_done(context, *task_id, *outcome, out),
            CopyInput::FetchDone { task_id, outcome } => match self.refetches.fetch_done(*task_id, *outcome) {
                Some(RefetchResult::Restored(copy)) => self.copy_restored(context, &copy, out),
                Some(RefetchResult::BadSource(cell, chunk)) => self.strike(context, cell, chunk, out),
                Some(RefetchResult::Pending) | None => {}
            },
            CopyInput::AuditDone { task_id, outcome } => {
                if let Some(finding) = self.audits.audit_done(context.now, *task_id, *outcome) {
                    self.handle_finding(context, finding, out);
                }
            }
            CopyInput::VerifyDone { chunk, outcome } => self.verify_done(context, *chunk, *outcome, out),
            CopyInput::ReadFailed(chunk) => self.read_failed(context, *chunk, out),
            CopyInput::Hints(hints) => {
                self.queries.start_for_hints(context, &self.replicas, hints, &mut self.task_ids, out);
            }
            CopyInput::Alert(alert) => self.audits.alert_received(context, &self.replicas, alert, out),
            CopyInput::Drain(on) => self.set_draining(context, *on, out),
            // On a failing disk it would not end.
            CopyInput::Scrub if context.failing => {}
            CopyInput::Scrub => self.scrub.start_full(&self.replicas),
        }
        self.advance(context, rng, out);
    }

    /// Does what is due because time has passed.
    pub(super) fn wake(&mut self, context: &mut Context, rng: &mut fastrand::Rng, out: &mut Vec<Output>) {
        let now = context.now;
        context.responsiveness.forget(context.members.len(), |cell| context.members.get(cell).is_some());
        self.update_unseen(context);
        let returned = std::mem::take(&mut self.returned);
        self.healer.update_hold_off(context, returned);
        for cell in context.strikes.expire(now) {
            self.isolation_ended(context, cell, out);
        }
        if self.listed {
            self.update_failing(context, rng, out);
            let unknown = self.queries.start_slice(context, &self.replicas, &mut self.task_ids, rng, out);
            let guessed = self.bare_records.guess(now, &mut self.replicas);
            self.copies_known(context, &guessed);
            if context.store.full && !context.store.read_only {
                self.audits.find_extra_copy(context, &self.replicas);
            }
            if context.unseen == Unseen::Over {
                for (id, cell) in unknown {
                    self.replicas.set_holder(&id, cell, false);
                }
            }
        }
        self.advance(context, rng, out);
        self.report_drained(context, out);
    }

    fn update_unseen(&mut self, context: &mut Context) {
        let end = match context.unseen {
            Unseen::BeforeStart => context.now.plus_ms(context.settings.unheard_ms),
            Unseen::CountUntil(end) => end,
            Unseen::Over => return,
        };
        if end <= context.now {
            context.unseen = Unseen::Over;
            self.recount_all(context);
        } else {
            context.unseen = Unseen::CountUntil(end);
        }
    }

    /// Continues what is under way, and starts what is due.
    fn advance(&mut self, context: &Context, rng: &mut fastrand::Rng, out: &mut Vec<Output>) {
        if !self.listed {
            return;
        }
        let known = self.bare_records.advance(context, &mut self.replicas, &mut self.task_ids, rng, out);
        self.copies_known(context, &known);
        let task_ids = &mut self.task_ids;
        if let Some((round, queries)) = self.healer.start_round(context, &self.replicas, out) {
            self.queries.start_for_round(context, round, queries, task_ids, out);
        }
        self.healer.advance(context, &self.replicas, task_ids, out);
        if !context.failing {
            self.refetches.advance(context, task_ids, out);
        }
        self.audits.advance(context, &self.replicas, task_ids, rng, out);
        self.suspects.advance(context.now, out);
        // On a failing disk a scrub only delays the reads that others need.
        if !context.failing && self.scrub.advance(context.now, &self.replicas, &context.settings, rng, out) {
            self.save_state(context, out);
        }
    }

    /// These members have changed; each with whether it has returned from the dead.
    pub(super) fn members_changed(&mut self, context: &Context, changes: &[(CellId, bool)], out: &mut Vec<Output>) {
        self.healer.members_changed(context);
        for (cell, returned) in changes {
            self.healer.colony_changed(context.now, cell);
            self.recount_shared(context, cell);
            self.returned |= *returned;
            if *returned && self.listed {
                self.queries.start_for_returned(context, &self.replicas, *cell, &mut self.task_ids, out);
            }
        }
    }

    /// These copies are in the store.
    fn copies_present(&mut self, context: &Context, copies: &[LocalCopy]) {
        let [_, _, settle_ms, _] = context.settings.heal_delay_ms;
        for copy in copies {
            let may_exist = |cell: &CellId| {
                context.unseen != Unseen::Over || context.members.get(cell).is_some() || *cell == context.id
            };
            let holders = copy.holders.iter().copied().filter(may_exist).collect();
            if self.replicas.add(context.id, &LocalCopy { holders, ..copy.clone() }) {
                self.bare_records.added(context.now, &copy.id, &self.replicas);
            }
            self.suspects.clear(&copy.id);
            self.refetches.cancel(&copy.id);
            // The put that brought this copy may still be sending the others, so a shortage must settle first.
            if context.draining && self.listed {
                self.healer.query(context, &self.replicas, &copy.id);
            } else {
                self.healer.recount(context, &self.replicas, &copy.id, settle_ms);
            }
        }
    }

    /// A local copy is lost. It will be fetched again.
    fn copy_lost(&mut self, context: &Context, id: &ChunkId) {
        self.suspects.clear(id);
        if let Some(copy) = self.replicas.remove(id) {
            self.recount(context, id);
            self.refetches.add(context.now, copy);
        }
    }

    /// A lost copy was fetched again.
    fn copy_restored(&mut self, context: &Context, copy: &LocalCopy, out: &mut Vec<Output>) {
        self.copies_present(context, std::slice::from_ref(copy));
        out.push(Output::Event(Event::Refetched(copy.id)));
        for to in copy.holders.iter().filter_map(|cell| context.address_of(cell)) {
            let hints = vec![HolderHint { id: copy.id, holders: vec![context.id] }];
            out.push(Output::Task(Task::SendHints { to, hints }));
        }
    }

    fn query_done(&mut self, context: &mut Context, task_id: TaskId, outcome: &QueryOutcome, out: &mut Vec<Output>) {
        let Some(mut result) = self.queries.query_done(&mut self.replicas, task_id, outcome) else { return };
        self.check_claims(context, &mut result);
        let QueryResult { cell, changed, present, absent, heal_round, answered } = result;
        if answered.is_some_and(|answered| context.responsiveness.record(context.now, cell, answered)) {
            self.recount_shared(context, &cell);
        }
        self.healer.chunks_absent(context.now, cell, &absent);
        if let Some(round) = heal_round {
            self.healer.query_done(context, round, cell, &present, &absent);
        }
        for id in changed {
            self.holders_changed(context, &id, out);
        }
    }

    /// A co-holder has been asked how many copies chunks need. That it holds them counts as an answer to a query.
    fn question_done(&mut self, context: &Context, task_id: TaskId, outcome: &SharedOutcome, out: &mut Vec<Output>) {
        let answer = self.bare_records.question_done(context, &self.replicas, task_id, outcome);
        let Some((cell, chunks)) = answer else { return };
        for SharedChunk { id, copies } in chunks {
            if context.strikes.is_doubted(&cell, &id) {
                self.audits.check_claim(cell, id);
                continue;
            }
            self.bare_records.told(&self.replicas, cell, id, copies);
            if self.replicas.set_holder(&id, cell, true) {
                self.holders_changed(context, &id, out);
            }
        }
    }

    /// The number of copies of these chunks has become known, or the default applies to them.
    fn copies_known(&mut self, context: &Context, chunks: &[ChunkId]) {
        for id in chunks {
            if context.draining {
                self.healer.query(context, &self.replicas, id);
            } else {
                self.recount(context, id);
            }
        }
    }

    /// The local chunks that the query asks for; `None` before all of them are known.
    pub(super) fn shared(&self, query: &SharedQuery) -> Option<Vec<SharedChunk>> {
        self.listed.then(|| self.replicas.shared(query))
    }

    /// A doubted copy does not count until an audit has found it good.
    fn check_claims(&mut self, context: &Context, result: &mut QueryResult) {
        let cell = result.cell;
        let is_doubted = |id: &ChunkId| context.strikes.is_doubted(&cell, id);
        let (doubted, present): (Vec<ChunkId>, _) = result.present.drain(..).partition(is_doubted);
        result.present = present;
        for id in doubted {
            self.replicas.set_holder(&id, cell, false);
            self.audits.check_claim(cell, id);
        }
    }

    fn send_done(&mut self, context: &Context, task_id: TaskId, outcome: SendOutcome, out: &mut Vec<Output>) {
        let Some(id) = self.healer.send_done(context.now, &mut self.replicas, task_id, outcome) else { return };
        match outcome {
            SendOutcome::OwnCopyBad => {
                self.scrub.bad += 1;
                out.push(Output::Event(Event::OwnCopyBad(id)));
                self.copy_lost(context, &id);
            }
            SendOutcome::OwnCopyGone => self.copy_lost(context, &id),
            SendOutcome::Stored | SendOutcome::Refused | SendOutcome::Failed | SendOutcome::OwnCopyUnreadable => {}
        }
    }

    /// The holders of a chunk have changed in the replica map.
    fn holders_changed(&mut self, context: &Context, id: &ChunkId, out: &mut Vec<Output>) {
        self.recount(context, id);
        let mut holders: Vec<CellId> = self.replicas.holders(id).chain([context.id]).collect();
        // Sorted, so that equal sets of holders make equal records.
        holders.sort_unstable();
        out.push(Output::Persist(Persist::Holders { chunk: *id, holders }));
    }

    fn recount(&mut self, context: &Context, id: &ChunkId) {
        self.healer.recount(context, &self.replicas, id, 0);
    }

    fn recount_shared(&mut self, context: &Context, cell: &CellId) {
        for id in self.replicas.shared_with(cell) {
            self.recount(context, &id);
        }
    }

    fn recount_all(&mut self, context: &Context) {
        for id in self.replicas.ids() {
            self.healer.recount(context, &self.replicas, id, 0);
        }
    }

    fn save_state(&self, context: &Context, out: &mut Vec<Output>) {
        out.push(Output::Persist(Persist::State(SavedState {
            draining: context.draining,
            scrub_position: self.scrub.position(),
            strikes: context.strikes.saved_strikes(context.now, &context.settings),
            isolated: context.strikes.saved_isolations(context.now),
            failing: context.failing,
        })));
    }
}
