//! Telling a cell to hand its copies on, and waiting until it may be unplugged.

use crate::client::error::{ClientError, Operation};
use crate::client::maintain::poll::{Missed, wait};
use crate::client::{KnownCell, Notice, Progress, StopSignal};
use crate::net::client::Http;
use crate::wire::beacon::Status;
use crate::wire::peers::Presence;
use crate::wire::status::DrainProgress;

/// Tells the cell to hand its copies on; with `waits`, until that is done. What it said last.
pub fn drain(
    http: &Http,
    cell: &KnownCell,
    waits: bool,
    progress: &dyn Progress,
    stop: &StopSignal,
) -> Result<DrainProgress, ClientError> {
    let mut now = http.drain(&cell.url).map_err(|error| ClientError::refused(cell.name(), Operation::Drain, error))?;
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
            progress.notice(&stuck(http, cell, now.stuck));
            told_stuck = true;
        }
        if !wait(stop) {
            return Err(ClientError::StoppedDrainWait { cell: cell.name() });
        }
        match http.status(&cell.url).map(|status| status.activity.drain) {
            Ok(Some(drain)) => {
                missed.heard();
                now = drain;
            }
            Ok(None) if missed.silent() => {
                return Err(ClientError::DrainCancelled { cell: cell.name() });
            }
            Err(error) if missed.unheard() => {
                let (cell, left, total) = (cell.name(), now.left, now.total);
                return Err(ClientError::DrainInterrupted { cell, left, total, source: Box::new(error) });
            }
            Ok(None) | Err(_) => {}
        }
    }
    progress.advance(now.total.saturating_sub(shown), 0);
    Ok(now)
}

/// Tells the cell to stay.
pub fn undrain(http: &Http, cell: &KnownCell) -> Result<(), ClientError> {
    http.undrain(&cell.url).map_err(|error| ClientError::refused(cell.name(), Operation::Drain, error))
}

/// Why copies stay where they are: what the other cells can take.
fn stuck(http: &Http, cell: &KnownCell, copies: u64) -> Notice {
    let peers = http.peers(&cell.url).map(|peers| peers.cells).unwrap_or_default();
    let active: Vec<Status> =
        peers.iter().filter(|peer| peer.state == Presence::Active).map(|peer| peer.status).collect();
    let count = |status| active.iter().filter(|other| **other == status).count();
    Notice::DrainStuck { copies, others: active.len(), accepting: count(Status::Active), full: count(Status::Full) }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::client::fixtures::{cell_at, status};
    use crate::net::client::Timeouts;
    use crate::net::test_server::TestServer;

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
        fn notice(&self, notice: &Notice) {
            self.lines.borrow_mut().push(notice.to_string());
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
        let server = TestServer::scripted(&[
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
        let ended = drain(&http(), &cell_at(&server.url), true, &heard, &StopSignal::default()).unwrap();
        assert!(ended.safe && ended.total == 200);
        assert_eq!(*heard.done.borrow(), 200);
        let lines = heard.lines.borrow();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("7 copies have no destination: there is no other cell; add a cell"), "{lines:?}");
    }

    #[test]
    fn without_waiting_the_cell_is_told_and_no_more() {
        let server = TestServer::scripted(&[("POST /drain", &[(200, drain_json(200, 0).to_string())])]);
        let ended = drain(&http(), &cell_at(&server.url), false, &Heard::default(), &StopSignal::default()).unwrap();
        assert_eq!((ended.left, ended.safe, server.calls()), (200, false, vec!["POST /drain".to_owned()]));
    }

    #[test]
    fn a_user_who_stops_waiting_is_told_how_to_undo_it() {
        let server = TestServer::scripted(&[("POST /drain", &[(200, drain_json(200, 0).to_string())])]);
        let stop = StopSignal::default();
        stop.set();
        let stopped = drain(&http(), &cell_at(&server.url), true, &Heard::default(), &stop).unwrap_err();
        assert!(matches!(stopped, ClientError::StoppedDrainWait { cell } if cell.url == server.url));
        assert_eq!(server.calls(), ["POST /drain"], "nothing is undone by itself");
    }

    #[test]
    fn a_cell_that_vanishes_or_is_told_to_stay_ends_the_waiting() {
        let posted = (200, drain_json(200, 0).to_string());
        let gone = TestServer::scripted(&[
            ("POST /drain", std::slice::from_ref(&posted)),
            ("GET /status", &[(200, life(90, 0)), (503, String::new())]),
        ]);
        let error = drain(&http(), &cell_at(&gone.url), true, &Heard::default(), &StopSignal::default()).unwrap_err();
        assert!(matches!(error, ClientError::DrainInterrupted { left: 90, total: 200, .. }), "{error}");
        let undone = TestServer::scripted(&[
            ("POST /drain", &[posted]),
            ("GET /status", &[(200, status(&serde_json::json!({})))]),
        ]);
        let error = drain(&http(), &cell_at(&undone.url), true, &Heard::default(), &StopSignal::default()).unwrap_err();
        assert!(matches!(error, ClientError::DrainCancelled { .. }), "{error}");
    }

    #[test]
    fn a_cell_that_cannot_be_drained_is_said_to_be_old() {
        let old = TestServer::scripted(&[]);
        let error = drain(&http(), &cell_at(&old.url), true, &Heard::default(), &StopSignal::default()).unwrap_err();
        assert!(matches!(error, ClientError::Unsupported { operation: Operation::Drain, .. }), "{error}");
        assert_eq!((error.exit_code(), undrain(&http(), &cell_at(&old.url)).is_err()), (1, true));
        let new = TestServer::scripted(&[("DELETE /drain", &[(200, String::new())])]);
        undrain(&http(), &cell_at(&new.url)).unwrap();
    }
}
