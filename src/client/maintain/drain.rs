//! Telling a cell to hand its copies on, and waiting until it may be unplugged.

use crate::client::maintain::poll::{Missed, wait};
use crate::client::{ClientError, KnownCell, Progress, StopSignal};
use crate::net::client::{CallError, Http};
use crate::wire::api::{DrainProgress, Presence};
use crate::wire::beacon::Status;

/// Tells the cell to hand its copies on; with `waits`, until that is done. What it said last.
pub fn drain(
    http: &Http,
    cell: &KnownCell,
    waits: bool,
    progress: &dyn Progress,
    stop: &StopSignal,
) -> Result<DrainProgress, ClientError> {
    let mut now = http.drain(&cell.url).map_err(|error| refusal(cell, &error, "drained"))?;
    if !waits {
        return Ok(now);
    }
    progress.total(Some(now.total));
    let (mut shown, mut told_stuck, mut missed) = (0, false, Missed::default());
    while !now.safe {
        let gone = now.total.saturating_sub(now.left);
        progress.advance(gone.saturating_sub(shown), 0);
        shown = shown.max(gone);
        if now.stuck > 0 && !told_stuck {
            progress.warning(&stuck(http, cell, now.stuck));
            told_stuck = true;
        }
        if !wait(stop) {
            let name = cell.name();
            let undo = format!("cellsync drain {} --undo", cell.url);
            return Err(ClientError::Stopped(format!("stopped waiting; cell {name} goes on; {undo} makes it stay")));
        }
        match http.status(&cell.url).map(|status| status.activity.drain) {
            Ok(Some(drain)) => {
                missed.heard();
                now = drain;
            }
            Ok(None) if missed.silent() => {
                let what = "is not being drained any more: it was told to stay";
                return Err(ClientError::Cell(format!("cell {} {what}", cell.name())));
            }
            Err(error) if missed.unheard() => {
                let (name, left, total) = (cell.name(), now.left, now.total);
                return Err(ClientError::Cell(format!(
                    "cell {name} is gone before it was done ({error}); {left} of its {total} copies may be nowhere else: start it again, and it goes on"
                )));
            }
            Ok(None) | Err(_) => {}
        }
    }
    progress.advance(now.total.saturating_sub(shown), 0);
    Ok(now)
}

/// Tells the cell to stay.
pub fn undrain(http: &Http, cell: &KnownCell) -> Result<(), ClientError> {
    http.undrain(&cell.url).map_err(|error| refusal(cell, &error, "drained"))
}

/// Why the cell does not do it.
pub(in crate::client) fn refusal(cell: &KnownCell, error: &CallError, what: &str) -> ClientError {
    ClientError::Cell(match error {
        CallError::Refused { status: 404 | 405 | 501, .. } => {
            format!("cell {} is of a version that cannot be {what}; install a newer one there", cell.name())
        }
        _ => error.to_string(),
    })
}

/// Why copies stay where they are, and what to do.
fn stuck(http: &Http, cell: &KnownCell, copies: u64) -> String {
    let others = http.peers(&cell.url).map(|peers| peers.cells).unwrap_or_default();
    let statuses: Vec<Status> =
        others.iter().filter(|other| other.state == Presence::Active).map(|other| other.status).collect();
    stuck_in_words(copies, &statuses)
}

fn stuck_in_words(copies: u64, others: &[Status]) -> String {
    let count = |status| others.iter().filter(|other| **other == status).count();
    let (takers, full) = (count(Status::Active), count(Status::Full));
    let there = match (others.len(), takers) {
        (0, _) => "there is no other cell".to_owned(),
        (all, takers) if full > 0 => format!("of {all} other cells {takers} take chunks and {full} have no room"),
        (all, takers) => format!("of {all} other cells {takers} take chunks, and those have what they may have"),
    };
    let copies = if copies == 1 { "1 copy".to_owned() } else { format!("{copies} copies") };
    format!("{copies} can go nowhere now: {there}; add a cell or make room; still waiting")
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::client::test_server::{Fake, cell_at, status};
    use crate::net::client::Timeouts;

    #[derive(Default)]
    struct Heard {
        done: RefCell<u64>,
        lines: RefCell<Vec<String>>,
    }

    impl Progress for Heard {
        fn total(&self, _: Option<u64>) {}
        fn advance(&self, plain: u64, _: u64) {
            *self.done.borrow_mut() += plain;
        }
        fn notice(&self, text: &str) {
            self.lines.borrow_mut().push(text.to_owned());
        }
    }

    fn drain_json(left: u64, stuck: u64) -> serde_json::Value {
        serde_json::json!({ "left": left, "total": 200, "stuck": stuck, "safe": left == 0 })
    }

    fn life(left: u64, stuck: u64) -> String {
        status(&serde_json::json!({ "drain": drain_json(left, stuck) }))
    }

    fn http() -> Http {
        Http::new(Timeouts::PROBE, 1, 4)
    }

    #[test]
    fn a_drain_is_watched_to_its_end_and_copies_that_are_stuck_are_told_once() {
        // One that has just begun, and between two looks was started anew.
        let silent = || (200, status(&serde_json::json!({})));
        let fake = Fake::start(&[
            ("POST /drain", &[(200, drain_json(200, 0).to_string())]),
            (
                "GET /status",
                &[
                    silent(),
                    silent(),
                    (200, life(120, 7)),
                    silent(),
                    (503, String::new()),
                    (200, life(7, 7)),
                    (200, life(0, 0)),
                ],
            ),
            ("GET /peers", &[(200, r#"{"peers":[]}"#.to_owned())]),
        ]);
        let heard = Heard::default();
        let ended = drain(&http(), &cell_at(&fake.url), true, &heard, &StopSignal::default()).unwrap();
        assert!(ended.safe && ended.total == 200);
        assert_eq!(*heard.done.borrow(), 200);
        let lines = heard.lines.borrow();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("7 copies can go nowhere now: there is no other cell; add a cell"), "{lines:?}");
    }

    #[test]
    fn without_waiting_the_cell_is_told_and_no_more() {
        let fake = Fake::start(&[("POST /drain", &[(200, drain_json(200, 0).to_string())])]);
        let ended = drain(&http(), &cell_at(&fake.url), false, &Heard::default(), &StopSignal::default()).unwrap();
        assert_eq!((ended.left, ended.safe, fake.asked()), (200, false, vec!["POST /drain".to_owned()]));
    }

    #[test]
    fn a_user_who_stops_waiting_is_told_how_to_undo_it() {
        let fake = Fake::start(&[("POST /drain", &[(200, drain_json(200, 0).to_string())])]);
        let stop = StopSignal::default();
        stop.set();
        let stopped = drain(&http(), &cell_at(&fake.url), true, &Heard::default(), &stop).unwrap_err();
        let words = stopped.to_string();
        assert!(words.contains("goes on") && words.contains(&format!("cellsync drain {} --undo", fake.url)), "{words}");
        assert_eq!(fake.asked(), ["POST /drain"], "nothing is undone by itself");
    }

    #[test]
    fn a_cell_that_vanishes_or_is_told_to_stay_ends_the_waiting() {
        let posted = (200, drain_json(200, 0).to_string());
        let gone = Fake::start(&[
            ("POST /drain", std::slice::from_ref(&posted)),
            ("GET /status", &[(200, life(90, 0)), (503, String::new())]),
        ]);
        let error = drain(&http(), &cell_at(&gone.url), true, &Heard::default(), &StopSignal::default()).unwrap_err();
        assert!(error.to_string().contains("90 of its 200 copies may be nowhere else"), "{error}");
        let undone =
            Fake::start(&[("POST /drain", &[posted]), ("GET /status", &[(200, status(&serde_json::json!({})))])]);
        let error = drain(&http(), &cell_at(&undone.url), true, &Heard::default(), &StopSignal::default()).unwrap_err();
        assert!(error.to_string().contains("told to stay"), "{error}");
    }

    #[test]
    fn a_cell_that_cannot_be_drained_is_said_to_be_old() {
        let old = Fake::start(&[]);
        let error = drain(&http(), &cell_at(&old.url), true, &Heard::default(), &StopSignal::default()).unwrap_err();
        assert!(error.to_string().contains("version that cannot be drained"), "{error}");
        assert_eq!((error.exit_code(), undrain(&http(), &cell_at(&old.url)).is_err()), (1, true));
        let new = Fake::start(&[("DELETE /drain", &[(200, String::new())])]);
        undrain(&http(), &cell_at(&new.url)).unwrap();
    }

    #[test]
    fn why_copies_are_stuck_is_told_by_the_other_cells() {
        let (active, full) = (Status::Active, Status::Full);
        let told = stuck_in_words(12, &[active, full, full]);
        assert!(
            told.starts_with("12 copies can go nowhere now: of 3 other cells 1 take chunks and 2 have no room"),
            "{told}"
        );
        assert!(stuck_in_words(1, &[active; 4]).contains("of 4 other cells 4 take chunks, and those have"));
    }
}
