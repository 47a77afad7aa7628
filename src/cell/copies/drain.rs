//! Draining: the cell copies its chunks to other cells until it can be unplugged.
//!
//! A draining cell does not count its own copies, so each chunk that has too few others becomes a shortage, and healing
//! does the rest. Recorded holders are not enough for a cell that will be unplugged: it queries the holders of every
//! chunk.

use crate::cell::context::Context;
use crate::cell::copies::CopyManager;
use crate::cell::output::{Event, Output};
use crate::wire::status::DrainProgress;

impl CopyManager {
    /// Starts or cancels draining.
    pub(super) fn set_draining(&mut self, context: &mut Context, on: bool, out: &mut Vec<Output>) {
        if context.draining == on {
            return;
        }
        context.draining = on;
        self.drained_reported = false;
        out.push(Output::Event(Event::Draining(on)));
        self.save_state(context, out);
        if on {
            self.healer.query_all(context, &self.replicas);
        } else {
            self.healer.cancel_queries(context, &self.replicas);
        }
    }

    /// Has each chunk enough copies on other cells?
    fn is_drained(&self, context: &Context) -> bool {
        context.draining
            && self.listed
            && self.healer.is_idle()
            // The number of copies to make is not known yet.
            && !self.bare_records.is_asking(&self.replicas)
    }

    /// Reports to the log once when draining is complete.
    pub(super) fn report_drained(&mut self, context: &Context, out: &mut Vec<Output>) {
        let is_drained = self.is_drained(context);
        if is_drained && !self.drained_reported {
            out.push(Output::Event(Event::Drained));
        }
        self.drained_reported = is_drained;
    }

    /// The progress of draining; `None` if the cell is not draining.
    pub(super) fn drain_progress(&self, context: &Context) -> Option<DrainProgress> {
        let total = self.replicas.len() as u64;
        context.draining.then(|| DrainProgress {
            left: if self.listed { self.healer.shortages() } else { total },
            total,
            stuck: self.healer.stuck_shortages(),
            safe: self.is_drained(context),
        })
    }
}
