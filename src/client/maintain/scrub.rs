//! Having cells re-hash all of their copies now, and waiting until they have.

use crate::client::error::{ClientError, Operation};
use crate::client::maintain::poll::{Missed, wait};
use crate::client::{KnownCell, Progress, StopSignal, query_cells};
use crate::net::client::Http;
use crate::wire::status::ScrubProgress;

/// How it went on one cell.
#[derive(Debug)]
pub struct ScrubOutcome {
    /// Which one.
    pub cell: KnownCell,
    /// What it said last; or why it did not do it, or is gone.
    pub result: Result<ScrubProgress, ClientError>,
}

struct Watched {
    scrubbed: ScrubOutcome,
    missed: Missed,
    ended: bool,
}

impl Watched {
    fn done(&self) -> u64 {
        self.scrubbed.result.as_ref().map_or(0, |scrub| scrub.done)
    }
}

/// Tells the cells; with `waits`, until all have finished. In the order of the cells.
pub fn scrub(
    http: &Http,
    cells: &[KnownCell],
    waits: bool,
    progress: &dyn Progress,
    stop: &StopSignal,
) -> Result<Vec<ScrubOutcome>, ClientError> {
    let told = query_cells(cells, |cell| {
        http.scrub(&cell.url).map_err(|error| ClientError::refused(cell.name(), Operation::Scrub, error))
    });
    let mut watched: Vec<Watched> = cells
        .iter()
        .zip(told)
        .map(|(cell, result)| {
            let ended = !waits || result.as_ref().map_or(true, |scrub| scrub.finished);
            Watched { scrubbed: ScrubOutcome { cell: cell.clone(), result }, missed: Missed::default(), ended }
        })
        .collect();
    let total = watched.iter().filter_map(|one| one.scrubbed.result.as_ref().ok()).map(|scrub| scrub.total).sum();
    progress.total(Some(total));
    let mut shown = 0;
    loop {
        let done: u64 = watched.iter().map(Watched::done).sum();
        progress.advance(done.saturating_sub(shown), 0);
        shown = shown.max(done);
        if watched.iter().all(|one| one.ended) {
            return Ok(watched.into_iter().map(|one| one.scrubbed).collect());
        }
        if !wait(stop) {
            return Err(ClientError::StoppedScrubWait);
        }
        look(http, &mut watched);
    }
}

fn look(http: &Http, watched: &mut [Watched]) {
    let waiting: Vec<&mut Watched> = watched.iter_mut().filter(|one| !one.ended).collect();
    let cells: Vec<KnownCell> = waiting.iter().map(|one| one.scrubbed.cell.clone()).collect();
    let looks = query_cells(&cells, |cell| http.status(&cell.url).map(|status| status.activity.scrub));
    for (one, look) in waiting.into_iter().zip(looks) {
        let cell = one.scrubbed.cell.name();
        let error = match look {
            Ok(Some(scrub)) => {
                one.missed.heard();
                one.ended = scrub.finished;
                one.scrubbed.result = Ok(scrub);
                continue;
            }
            Ok(None) if one.missed.silent() => ClientError::ScrubLost { cell },
            Err(error) if one.missed.unheard() => ClientError::ScrubInterrupted { cell, source: Box::new(error) },
            Ok(None) | Err(_) => continue,
        };
        one.ended = true;
        one.scrubbed.result = Err(error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::fixtures::{Quiet, cell_at, status};
    use crate::net::client::Timeouts;
    use crate::net::test_server::TestServer;

    fn told(done: u64, bad: u64) -> serde_json::Value {
        serde_json::json!({ "done": done, "total": 40, "bad": bad, "finished": done == 40 })
    }

    #[test]
    fn every_cell_is_watched_to_its_end_and_one_that_cannot_holds_up_none() {
        let life = |done, bad| (200, status(&serde_json::json!({ "scrub": told(done, bad) })));
        let cells = [
            TestServer::scripted(&[
                ("POST /scrub", &[(200, told(0, 0).to_string())]),
                ("GET /status", &[life(10, 0), (503, String::new()), life(40, 2)]),
            ]),
            TestServer::scripted(&[("POST /scrub", &[(200, told(40, 0).to_string())])]),
            TestServer::scripted(&[]),
        ];
        let cells: Vec<KnownCell> = cells.iter().map(|server| cell_at(&server.url)).collect();
        let http = Http::new(Timeouts::PROBE, 1, 4);
        let scrubbed = scrub(&http, &cells, true, &Quiet, &StopSignal::default()).unwrap();
        let of = |n: usize| scrubbed[n].result.as_ref().map(|scrub| (scrub.done, scrub.bad));
        assert_eq!((of(0).unwrap(), of(1).unwrap()), ((40, 2), (40, 0)));
        assert!(matches!(of(2), Err(ClientError::Unsupported { operation: Operation::Scrub, .. })));
    }

    #[test]
    fn a_cell_that_forgets_its_scrub_is_told_of() {
        let server = TestServer::scripted(&[
            ("POST /scrub", &[(200, told(0, 0).to_string())]),
            ("GET /status", &[(200, status(&serde_json::json!({})))]),
        ]);
        let http = Http::new(Timeouts::PROBE, 1, 4);
        let scrubbed = scrub(&http, &[cell_at(&server.url)], true, &Quiet, &StopSignal::default()).unwrap();
        assert!(matches!(scrubbed[0].result, Err(ClientError::ScrubLost { .. })));
        let begun = scrub(&http, &[cell_at(&server.url)], false, &Quiet, &StopSignal::default()).unwrap();
        assert_eq!(begun[0].result.as_ref().unwrap().total, 40);
    }
}
