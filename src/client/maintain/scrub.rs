//! Scrubbing cells: they re-hash all of their copies now.

use crate::client::discover::colony::KnownCell;
use crate::client::discover::query::query_cells;
use crate::client::error::{ClientError, Operation};
use crate::client::maintain::polling::{PollCounter, wait};
use crate::client::progress::{Progress, StopSignal};
use crate::net::client::Http;
use crate::wire::status::ScrubProgress;

/// How a scrub went on one cell.
#[derive(Debug)]
pub struct ScrubOutcome {
    /// The cell.
    pub cell: KnownCell,
    /// Its last progress, or why there is none.
    pub result: Result<ScrubProgress, ClientError>,
}

/// A cell that is polled.
struct PolledCell {
    outcome: ScrubOutcome,
    polls: PollCounter,
    has_ended: bool,
}

/// Starts to scrub cells, and on request waits until all have ended. The outcomes are in the order of the cells.
pub fn scrub(
    http: &Http,
    cells: &[KnownCell],
    wait_until_done: bool,
    progress: &dyn Progress,
    stop: &StopSignal,
) -> Result<Vec<ScrubOutcome>, ClientError> {
    let refused = |cell: &KnownCell, error| ClientError::refused(cell.name(), Operation::Scrub, error);
    let started = query_cells(cells, |cell| http.scrub(&cell.url).map_err(|error| refused(cell, error)));
    let polled_cell = |(cell, result): (&KnownCell, Result<ScrubProgress, ClientError>)| {
        let has_ended = !wait_until_done || result.as_ref().map_or(true, |scrub| scrub.finished);
        let outcome = ScrubOutcome { cell: cell.clone(), result };
        PolledCell { outcome, polls: PollCounter::default(), has_ended }
    };
    let mut polled: Vec<PolledCell> = cells.iter().zip(started).map(polled_cell).collect();
    let sum = |polled: &[PolledCell], amount: fn(&ScrubProgress) -> u64| {
        polled.iter().filter_map(|cell| cell.outcome.result.as_ref().ok()).map(amount).sum::<u64>()
    };
    progress.total(Some(sum(&polled, |scrub| scrub.total)));
    let mut reported = 0;
    loop {
        let done = sum(&polled, |scrub| scrub.done);
        progress.advance(done.saturating_sub(reported), 0);
        reported = reported.max(done);
        if polled.iter().all(|cell| cell.has_ended) {
            return Ok(polled.into_iter().map(|cell| cell.outcome).collect());
        }
        if !wait(stop) {
            return Err(ClientError::StoppedScrubWait);
        }
        poll(http, &mut polled);
    }
}

/// Polls the cells that have not ended.
fn poll(http: &Http, polled: &mut [PolledCell]) {
    let waiting: Vec<&mut PolledCell> = polled.iter_mut().filter(|cell| !cell.has_ended).collect();
    let cells: Vec<KnownCell> = waiting.iter().map(|cell| cell.outcome.cell.clone()).collect();
    let responses = query_cells(&cells, |cell| http.status(&cell.url).map(|status| status.activity.scrub));
    for (waiting, response) in waiting.into_iter().zip(responses) {
        let cell = waiting.outcome.cell.name();
        let error = match response {
            Ok(Some(scrub)) => {
                waiting.polls.progressed();
                waiting.has_ended = scrub.finished;
                waiting.outcome.result = Ok(scrub);
                continue;
            }
            Ok(None) if waiting.polls.is_ended() => ClientError::ScrubLost { cell },
            Err(error) if waiting.polls.is_gone() => ClientError::ScrubInterrupted { cell, source: Box::new(error) },
            Ok(None) | Err(_) => continue,
        };
        waiting.has_ended = true;
        waiting.outcome.result = Err(error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::fixtures::{NoProgress, cell_at, status};
    use crate::net::client::Timeouts;
    use crate::net::test_server::TestServer;

    fn progress(done: u64, bad: u64) -> serde_json::Value {
        serde_json::json!({ "done": done, "total": 40, "bad": bad, "finished": done == 40 })
    }

    #[test]
    fn every_cell_is_polled_to_its_end() {
        let activity = |done, bad| (200, status(&serde_json::json!({ "scrub": progress(done, bad) })));
        let cells = [
            TestServer::scripted(&[
                ("POST /scrub", &[(200, progress(0, 0).to_string())]),
                ("GET /status", &[activity(10, 0), (503, String::new()), activity(40, 2)]),
            ]),
            TestServer::scripted(&[("POST /scrub", &[(200, progress(40, 0).to_string())])]),
            TestServer::scripted(&[]),
        ];
        let cells: Vec<KnownCell> = cells.iter().map(|server| cell_at(&server.url)).collect();
        let http = Http::new(Timeouts::PROBE, 1, 4);
        let outcomes = scrub(&http, &cells, true, &NoProgress, &StopSignal::default()).unwrap();
        let of = |n: usize| outcomes[n].result.as_ref().map(|scrub| (scrub.done, scrub.bad));
        assert_eq!((of(0).unwrap(), of(1).unwrap()), ((40, 2), (40, 0)));
        assert!(matches!(of(2), Err(ClientError::Unsupported { operation: Operation::Scrub, .. })));
    }

    #[test]
    fn a_restarted_cell_has_lost_its_scrub() {
        let server = TestServer::scripted(&[
            ("POST /scrub", &[(200, progress(0, 0).to_string())]),
            ("GET /status", &[(200, status(&serde_json::json!({})))]),
        ]);
        let http = Http::new(Timeouts::PROBE, 1, 4);
        let outcomes = scrub(&http, &[cell_at(&server.url)], true, &NoProgress, &StopSignal::default()).unwrap();
        assert!(matches!(outcomes[0].result, Err(ClientError::ScrubLost { .. })));
        let begun = scrub(&http, &[cell_at(&server.url)], false, &NoProgress, &StopSignal::default()).unwrap();
        assert_eq!(begun[0].result.as_ref().unwrap().total, 40);
    }
}
