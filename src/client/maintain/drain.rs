//! Draining a cell: it hands off its copies to other cells, and can be unplugged afterwards.

use crate::client::discover::colony::KnownCell;
use crate::client::error::{ClientError, Operation};
use crate::client::maintain::polling::{PollCounter, wait};
use crate::client::notice::Notice;
use crate::client::progress::{Progress, StopSignal};
use crate::net::client::{CallError, Http};
use crate::wire::beacon::Status;
use crate::wire::peers::Presence;
use crate::wire::status::DrainProgress;

/// Starts to drain a cell, and on request waits until it can be unplugged. Returns the last progress.
pub fn drain(
    http: &Http,
    cell: &KnownCell,
    wait_until_done: bool,
    progress: &dyn Progress,
    stop: &StopSignal,
) -> Result<DrainProgress, ClientError> {
    let mut now = http.drain(&cell.url).map_err(refused(cell))?;
    if !wait_until_done {
        return Ok(now);
    }
    progress.total(Some(now.total));
    let (mut reported, mut warned, mut polls) = (0, false, PollCounter::default());
    while !now.safe {
        let handed_off = now.total.saturating_sub(now.left);
        progress.advance(handed_off.saturating_sub(reported), 0);
        reported = reported.max(handed_off);
        if now.stuck > 0 && !warned {
            progress.notice(&stuck(http, cell, now.stuck));
            warned = true;
        }
        if !wait(stop) {
            return Err(ClientError::StoppedDrainWait { cell: cell.name() });
        }
        match http.status(&cell.url).map(|status| status.activity.drain) {
            Ok(Some(drain)) => {
                polls.progressed();
                now = drain;
            }
            Ok(None) if polls.is_ended() => return Err(ClientError::DrainCancelled { cell: cell.name() }),
            Err(error) if polls.is_gone() => {
                let (cell, left, total) = (cell.name(), now.left, now.total);
                return Err(ClientError::DrainInterrupted { cell, left, total, source: Box::new(error) });
            }
            Ok(None) | Err(_) => {}
        }
    }
    progress.advance(now.total.saturating_sub(reported), 0);
    Ok(now)
}

/// Cancels the drain of a cell.
pub fn undrain(http: &Http, cell: &KnownCell) -> Result<(), ClientError> {
    http.undrain(&cell.url).map_err(refused(cell))
}

fn refused(cell: &KnownCell) -> impl FnOnce(CallError) -> ClientError {
    |error| ClientError::refused(cell.name(), Operation::Drain, error)
}

/// Copies have no destination: what the other cells, as this one knows them, can take.
fn stuck(http: &Http, cell: &KnownCell, copies: u64) -> Notice {
    let peers = http.peers(&cell.url).map(|peers| peers.cells).unwrap_or_default();
    let active = peers.iter().filter(|peer| peer.state == Presence::Active);
    let statuses: Vec<Status> = active.map(|peer| peer.status).collect();
    let count = |status| statuses.iter().filter(|other| **other == status).count();
    Notice::DrainStuck { copies, others: statuses.len(), accepting: count(Status::Active), full: count(Status::Full) }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::client::fixtures::{cell_at, status};
    use crate::net::client::Timeouts;
    use crate::net::test_server::TestServer;

    #[derive(Default)]
    struct Recorder {
        done: RefCell<u64>,
        notices: RefCell<Vec<String>>,
    }

    impl Progress for Recorder {
        fn total(&self, _: Option<u64>) {}
        fn advance(&self, plain: u64, _: u64) {
            *self.done.borrow_mut() += plain;
        }
        fn notice(&self, notice: &Notice) {
            self.notices.borrow_mut().push(notice.to_string());
        }
    }

    fn drain_json(left: u64, stuck: u64) -> serde_json::Value {
        serde_json::json!({ "left": left, "total": 200, "stuck": stuck, "safe": left == 0 })
    }

    fn activity(left: u64, stuck: u64) -> String {
        status(&serde_json::json!({ "drain": drain_json(left, stuck) }))
    }

    fn http() -> Http {
        Http::new(Timeouts::PROBE, 1, 4)
    }

    #[test]
    fn a_drain_is_polled_to_its_end_and_warns_once_if_stuck() {
        // The drain has just begun, and the cell restarts between two polls.
        let idle = || (200, status(&serde_json::json!({})));
        let server = TestServer::scripted(&[
            ("POST /drain", &[(200, drain_json(200, 0).to_string())]),
            (
                "GET /status",
                &[
                    idle(),
                    idle(),
                    (200, activity(120, 7)),
                    idle(),
                    (503, String::new()),
                    (200, activity(7, 7)),
                    (200, activity(0, 0)),
                ],
            ),
            ("GET /peers", &[(200, r#"{"peers":[]}"#.to_owned())]),
        ]);
        let recorder = Recorder::default();
        let ended = drain(&http(), &cell_at(&server.url), true, &recorder, &StopSignal::default()).unwrap();
        assert!(ended.safe && ended.total == 200);
        assert_eq!(*recorder.done.borrow(), 200);
        let notices = recorder.notices.borrow();
        assert_eq!(notices.len(), 1, "{notices:?}");
        assert!(notices[0].starts_with("7 copies have no destination: there is no other cell"), "{notices:?}");
    }

    #[test]
    fn without_waiting_there_is_one_request() {
        let server = TestServer::scripted(&[("POST /drain", &[(200, drain_json(200, 0).to_string())])]);
        let ended = drain(&http(), &cell_at(&server.url), false, &Recorder::default(), &StopSignal::default()).unwrap();
        assert_eq!((ended.left, ended.safe, server.calls()), (200, false, vec!["POST /drain".to_owned()]));
    }

    #[test]
    fn a_user_who_stops_waiting_does_not_stop_the_drain() {
        let server = TestServer::scripted(&[("POST /drain", &[(200, drain_json(200, 0).to_string())])]);
        let stop = StopSignal::default();
        stop.set();
        let error = drain(&http(), &cell_at(&server.url), true, &Recorder::default(), &stop).unwrap_err();
        assert!(matches!(error, ClientError::StoppedDrainWait { cell } if cell.url == server.url));
        assert_eq!(server.calls(), ["POST /drain"], "the drain is not cancelled");
    }

    #[test]
    fn a_cell_that_is_gone_or_not_draining_ends_the_wait() {
        let posted = (200, drain_json(200, 0).to_string());
        let gone = TestServer::scripted(&[
            ("POST /drain", std::slice::from_ref(&posted)),
            ("GET /status", &[(200, activity(90, 0)), (503, String::new())]),
        ]);
        let error =
            drain(&http(), &cell_at(&gone.url), true, &Recorder::default(), &StopSignal::default()).unwrap_err();
        assert!(matches!(error, ClientError::DrainInterrupted { left: 90, total: 200, .. }), "{error}");
        let undone = TestServer::scripted(&[
            ("POST /drain", &[posted]),
            ("GET /status", &[(200, status(&serde_json::json!({})))]),
        ]);
        let error =
            drain(&http(), &cell_at(&undone.url), true, &Recorder::default(), &StopSignal::default()).unwrap_err();
        assert!(matches!(error, ClientError::DrainCancelled { .. }), "{error}");
    }

    #[test]
    fn a_cell_of_the_first_version_does_not_support_draining() {
        let old = TestServer::scripted(&[]);
        let error = drain(&http(), &cell_at(&old.url), true, &Recorder::default(), &StopSignal::default()).unwrap_err();
        assert!(matches!(error, ClientError::Unsupported { operation: Operation::Drain, .. }), "{error}");
        assert_eq!((error.exit_code(), undrain(&http(), &cell_at(&old.url)).is_err()), (1, true));
        let new = TestServer::scripted(&[("DELETE /drain", &[(200, String::new())])]);
        undrain(&http(), &cell_at(&new.url)).unwrap();
    }
}
