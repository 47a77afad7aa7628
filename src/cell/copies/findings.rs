//! What follows from good and bad copies: doubts, strikes, isolation, alerts.

use crate::cell::context::Context;
use crate::cell::copies::CopyManager;
use crate::cell::input::VerifyOutcome;
use crate::cell::integrity::audits::Finding;
use crate::cell::integrity::strikes::StrikeEffect;
use crate::cell::output::{Event, Output, Task};
use crate::id::{CellId, ChunkId};
use crate::wire::datagram::Alert;

impl CopyManager {
    /// The disk could not read a local copy.
    pub(super) fn read_failed(&mut self, context: &Context, id: ChunkId, out: &mut Vec<Output>) {
        let is_new = self.replicas.contains(&id) && self.suspects.read_failed(context.now, id);
        self.failing_disk.read_failed(context.now, is_new);
        if !is_new {
            return;
        }
        self.replicas.set_suspect(&id, true);
        // Most faults of this kind pass before copies are moved because of them.
        let [.., wait_ms] = context.settings.heal_delay_ms;
        self.healer.recount(context, &self.replicas, &id, wait_ms);
        out.push(Output::Event(Event::OwnCopyUnreadable(id)));
    }

    /// Checks whether the disk is failing, or has recovered.
    pub(super) fn update_failing(&mut self, context: &mut Context, rng: &mut fastrand::Rng, out: &mut Vec<Output>) {
        if !self.failing_disk.advance(context.now, context.store.reads, &self.replicas, rng, out) {
            return;
        }
        context.failing = self.failing_disk.is_failing();
        if context.failing {
            self.scrub.abort_full();
        }
        out.push(Output::Event(Event::DiskFailing(context.failing)));
        self.save_state(context, out);
        let [.., wait_ms] = context.settings.heal_delay_ms;
        for id in self.replicas.ids() {
            // Only what no other cell has is urgent: most disks that fail can be read again soon.
            let is_alone = self.replicas.holders(id).next().is_none();
            self.healer.recount(context, &self.replicas, id, if is_alone { 0 } else { wait_ms });
        }
    }

    /// A local copy was read and is good.
    fn read_well(&mut self, context: &Context, id: ChunkId, out: &mut Vec<Output>) {
        if self.suspects.clear(&id) {
            self.replicas.set_suspect(&id, false);
            self.recount(context, &id);
            out.push(Output::Event(Event::OwnCopyReadable(id)));
        }
    }

    /// A local copy was hashed.
    pub(super) fn verify_done(
        &mut self,
        context: &Context,
        id: ChunkId,
        outcome: VerifyOutcome,
        out: &mut Vec<Output>,
    ) {
        self.failing_disk.verify_done(context.now, &id, outcome);
        self.scrub.verify_done(&id, outcome, self.suspects.contains(&id));
        match outcome {
            VerifyOutcome::Good => {
                self.read_well(context, id, out);
                if self.audits.own_copy_good(context.id, id) {
                    out.push(Output::Event(Event::FalseAlert { culprit: context.id, chunk: id }));
                }
            }
            VerifyOutcome::Bad => {
                out.push(Output::Event(Event::OwnCopyBad(id)));
                self.copy_lost(context, &id);
            }
            VerifyOutcome::Missing => self.copy_lost(context, &id),
            VerifyOutcome::Unreadable => self.read_failed(context, id, out),
            VerifyOutcome::Failed => self.suspects.read_undecided(context.now, id),
        }
    }

    pub(super) fn handle_finding(&mut self, context: &mut Context, finding: Finding, out: &mut Vec<Output>) {
        match finding {
            Finding::Bad { culprit, chunk, alert } => {
                self.strike(context, culprit, chunk, out);
                if let Some(found) = alert {
                    let alert = Alert { node_id: context.id, culprit, chunk, found };
                    let others = context.members.iter().filter(|(_, member)| member.may_respond());
                    let to = others.map(|(_, member)| member.address).collect();
                    out.push(Output::Task(Task::SendAlert { alert, to }));
                }
            }
            Finding::FalseAlert(culprit, chunk) => out.push(Output::Event(Event::FalseAlert { culprit, chunk })),
            Finding::Missing(cell, chunk) => {
                // The cell may have lost it a moment ago. From now on its word alone is not enough.
                if self.replicas.set_holder(&chunk, cell, false) {
                    context.strikes.doubt(context.now, cell, chunk, &context.settings);
                    self.holders_changed(context, &chunk, out);
                }
            }
            Finding::FalseClaim(cell, chunk) => self.strike(context, cell, chunk, out),
            Finding::Proved(cell, chunk) => {
                context.strikes.clear_doubt(cell, chunk);
                if self.replicas.set_holder(&chunk, cell, true) {
                    self.holders_changed(context, &chunk, out);
                }
            }
            Finding::ExtraCopy(chunk) => {
                // The copies that precede it may be as unreadable, behind a switch or a cable that fails.
                if !self.suspects.contains(&chunk) && self.replicas.remove(&chunk).is_some() {
                    self.recount(context, &chunk);
                    self.removed += 1;
                    out.push(Output::Task(Task::Remove(chunk)));
                    out.push(Output::Event(Event::ExtraCopyRemoved(chunk)));
                }
            }
        }
    }

    /// A cell has sent bad bytes for a chunk, or claimed again what it does not have.
    pub(super) fn strike(&mut self, context: &mut Context, culprit: CellId, chunk: ChunkId, out: &mut Vec<Output>) {
        out.push(Output::Event(Event::BadCopy { culprit, chunk }));
        context.strikes.doubt(context.now, culprit, chunk, &context.settings);
        if self.replicas.set_holder(&chunk, culprit, false) {
            self.holders_changed(context, &chunk, out);
        }
        match context.strikes.record(context.now, culprit, chunk, &context.settings) {
            StrikeEffect::None => return,
            StrikeEffect::Recorded => {}
            StrikeEffect::Isolated => {
                out.push(Output::Event(Event::Isolated(culprit)));
                self.recount_shared(context, &culprit);
            }
        }
        self.save_state(context, out);
    }

    /// A cell reports that a full scrub found all its copies good `clean_s` seconds ago.
    pub(in crate::cell) fn clean_reported(
        &mut self,
        context: &mut Context,
        cell: CellId,
        clean_s: u64,
        out: &mut Vec<Output>,
    ) {
        if context.strikes.clean_reported(context.now, cell, clean_s, &context.settings) {
            self.isolation_ended(context, cell, out);
        }
    }

    pub(super) fn isolation_ended(&mut self, context: &Context, cell: CellId, out: &mut Vec<Output>) {
        out.push(Output::Event(Event::IsolationEnded(cell)));
        self.healer.colony_changed(context.now, &cell);
        self.recount_shared(context, &cell);
        self.save_state(context, out);
    }
}
