//! Having cells re-hash their copies, several cells at a time; those that do not know how are fetched from, and their
//! bytes hashed here.

// A shell: a cell that has no time now is asked again a little later.
#![allow(clippy::disallowed_methods)]

use std::collections::{BTreeSet, VecDeque};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::client::discover::holder_index::HolderIndex;
use crate::client::{BadCopy, CellName, ClientError, KnownCell, Notice, Progress, StopSignal};
use crate::id::ChunkId;
use crate::net::client::{CallError, Http};
use crate::sync::lock;
use crate::wire::id_lists::MAX_VERIFY_IDS;

/// Cells that hash at the same time.
const AT_ONCE: usize = 16;
/// How often a cell is asked the same before its copies are given up, and with how much time between.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// How often the user's wish to stop is looked at.
const STOP_LOOK: Duration = Duration::from_millis(100);

/// One copy: the number of the chunk in its manifest, and the chunk.
type Held = (usize, ChunkId);

/// What was found of one copy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Finding {
    Good,
    /// Bad; with what it hashes to, if that was seen here.
    Bad(Option<ChunkId>),
    /// It was there when the cell was asked first.
    Gone,
}

/// What a worker tells.
enum Told {
    Found {
        cell: usize,
        findings: Vec<(usize, Finding)>,
    },
    /// The cell's copies from this chunk on could not be verified.
    Unheard {
        cell: usize,
        from: usize,
        error: CallError,
    },
}

/// Verifies all copies. Those that are not good, or could not be verified, `holders` loses. Returns the bad ones, and
/// the cells that did not answer to the end.
pub(in crate::client) fn verify(
    http: &Http,
    holders: &mut HolderIndex,
    ids: &[ChunkId],
    progress: &dyn Progress,
    stop: &StopSignal,
) -> Result<(Vec<BadCopy>, Vec<CellName>), ClientError> {
    let cells: Vec<KnownCell> = holders.cells().cloned().collect();
    let copies: usize = (0..ids.len()).map(|index| holders.count(index)).sum();
    progress.total(Some(copies as u64));
    let told = start(http, holders, &cells, ids, stop);
    let (mut bad, mut unheard) = (Vec::new(), Vec::new());
    let name = |cell: usize| cells.get(cell).map(KnownCell::name);
    loop {
        if stop.is_set() {
            return Err(ClientError::Stopped);
        }
        match told.recv_timeout(STOP_LOOK) {
            Ok(Told::Found { cell, findings }) => {
                progress.advance(findings.len() as u64, 0);
                for (index, finding) in findings {
                    if finding != Finding::Good {
                        holders.lose(cell, index);
                    }
                    if let (Finding::Bad(found), Some(&chunk), Some(cell)) = (finding, ids.get(index), name(cell)) {
                        bad.push(BadCopy { chunk, index, cell, found });
                    }
                }
            }
            Ok(Told::Unheard { cell, from, error }) => {
                let left: Vec<usize> = holders.held_by(cell).filter(|&index| index >= from).collect();
                progress.advance(left.len() as u64, 0);
                for index in left {
                    holders.lose(cell, index);
                }
                progress.notice(&Notice::CopiesUnverified { error });
                unheard.extend(name(cell));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    bad.sort_by(|a, b| (a.index, &a.cell).cmp(&(b.index, &b.cell)));
    Ok((bad, unheard))
}

fn start(
    http: &Http,
    holders: &HolderIndex,
    cells: &[KnownCell],
    ids: &[ChunkId],
    stop: &StopSignal,
) -> std::sync::mpsc::Receiver<Told> {
    let (tell, told) = channel();
    let queue: VecDeque<usize> = (0..cells.len()).collect();
    let queue = Arc::new(Mutex::new(queue));
    let held = Arc::new(holders.clone());
    let ids: Arc<[ChunkId]> = ids.into();
    for _ in 0..cells.len().min(AT_ONCE) {
        let (queue, tell, held, ids) = (Arc::clone(&queue), tell.clone(), Arc::clone(&held), Arc::clone(&ids));
        let (http, stop) = (http.clone(), stop.clone());
        thread::spawn(move || {
            loop {
                let next = lock(&queue).pop_front();
                let Some((number, cell)) = next.and_then(|number| Some((number, held.cells().nth(number)?))) else {
                    return;
                };
                let copies = held.held_by(number).filter_map(|index| Some((index, *ids.get(index)?)));
                Worker { http: &http, url: &cell.url, number, tell: &tell, stop: &stop }.run(copies);
            }
        });
    }
    told
}

/// Goes through the copies of one cell.
struct Worker<'a> {
    http: &'a Http,
    url: &'a str,
    number: usize,
    tell: &'a Sender<Told>,
    stop: &'a StopSignal,
}

impl Worker<'_> {
    fn run(&self, mut copies: impl Iterator<Item = Held>) {
        let mut first = copies.next();
        let Some((from, _)) = first else { return };
        let unheard = |from, error| Told::Unheard { cell: self.number, from, error };
        let mut verifies = match self.persist(|| self.http.supports_verify(self.url)) {
            Ok(verifies) => verifies,
            Err(error) => return drop(self.tell.send(unheard(from, error))),
        };
        loop {
            let batch: Vec<Held> = first.take().into_iter().chain(copies.by_ref()).take(MAX_VERIFY_IDS).collect();
            let Some(&(from, _)) = batch.first() else { return };
            let told = match self.look_at(&batch, &mut verifies) {
                Ok(findings) => Told::Found { cell: self.number, findings },
                Err(error) => unheard(from, error),
            };
            let last = matches!(told, Told::Unheard { .. });
            if self.tell.send(told).is_err() || last || self.stop.is_set() {
                return;
            }
        }
    }

    fn look_at(&self, batch: &[Held], verifies: &mut bool) -> Result<Vec<(usize, Finding)>, CallError> {
        if *verifies && let Some(findings) = self.have_verified(batch)? {
            return Ok(findings);
        }
        *verifies = false;
        batch.iter().map(|(index, id)| Ok((*index, self.fetched(id)?))).collect()
    }

    /// `None` if the cell does not know how.
    fn have_verified(&self, batch: &[Held]) -> Result<Option<Vec<(usize, Finding)>>, CallError> {
        let ids: Vec<ChunkId> = batch.iter().map(|(_, id)| *id).collect();
        let mut good = BTreeSet::new();
        let verified = self.persist(|| {
            self.http.verify(self.url, &ids, &mut |id| {
                good.insert(id);
            })
        });
        match verified {
            Ok(false) => return Ok(None),
            // Of several, one cannot be read; each by itself tells which.
            Err(error) if is_unreadable(&error) && batch.len() > 1 => {
                let each = batch.iter().map(|held| self.have_verified(std::slice::from_ref(held)));
                return each.collect::<Result<Option<Vec<_>>, _>>().map(|found| Some(found?.concat()));
            }
            Err(error) if !is_unreadable(&error) => return Err(error),
            Ok(true) | Err(_) => {}
        }
        let finding = |id| if good.contains(id) { Finding::Good } else { Finding::Bad(None) };
        Ok(Some(batch.iter().map(|(index, id)| (*index, finding(id))).collect()))
    }

    fn fetched(&self, id: &ChunkId) -> Result<Finding, CallError> {
        Ok(match self.persist(|| self.http.get_chunk(self.url, id, 0, None)) {
            Ok(None) => Finding::Gone,
            Ok(Some(bytes)) => match ChunkId::of(&bytes) {
                found if found == *id => Finding::Good,
                found => Finding::Bad(Some(found)),
            },
            Err(error) if is_unreadable(&error) => Finding::Bad(None),
            Err(error) => return Err(error),
        })
    }

    /// Asks again, with some time between, while there is no answer.
    fn persist<T>(&self, mut call: impl FnMut() -> Result<T, CallError>) -> Result<T, CallError> {
        for _ in 1..TRIES {
            match call() {
                Err(error) if !is_unreadable(&error) && !self.stop.is_set() => thread::sleep(PAUSE),
                answer => return answer,
            }
        }
        call()
    }
}

/// Did the cell's disk fail? So disks tell of a copy that they have lost.
pub(in crate::client) fn is_unreadable(error: &CallError) -> bool {
    matches!(error, CallError::Refused { status: 500, .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::discover::holder_index::testing;
    use crate::client::fixtures::{Quiet, cell_at};
    use crate::net::client::Timeouts;
    use crate::net::test_server::TestServer;
    use crate::wire::id_lists::write_ids;

    const VERIFY: &str = "POST /chunks/have?verify=1";

    /// Verifies the copies of one cell: which chunks are bad, which are still counted, who was not heard.
    fn verified(server: &TestServer, ids: &[ChunkId]) -> (Vec<BadCopy>, Vec<usize>, usize) {
        let all: Vec<usize> = (0..ids.len()).collect();
        let mut holders = testing::holders(ids, &[(cell_at(&server.url), &all)]);
        let http = Http::new(Timeouts::PROBE, 1, 4);
        let (bad, unheard) = verify(&http, &mut holders, ids, &Quiet, &StopSignal::default()).unwrap();
        (bad, holders.held_by(0).collect(), unheard.len())
    }

    fn ids(count: usize) -> Vec<ChunkId> {
        (0..count).map(|n| ChunkId::of(format!("chunk {n}").as_bytes())).collect()
    }

    #[test]
    fn a_cell_that_knows_how_is_asked_in_batches_and_what_it_does_not_name_is_bad() {
        let ids = ids(MAX_VERIFY_IDS + 4);
        let (first, second) = ids.split_at(MAX_VERIFY_IDS);
        let answers = [(413, String::new()), (200, write_ids(&first[1..])), (200, write_ids(second))];
        let server = TestServer::scripted(&[(VERIFY, &answers)]);
        let (bad, counted, unheard) = verified(&server, &ids);
        assert_eq!(
            bad.iter().map(|copy| (copy.index, copy.chunk, copy.found)).collect::<Vec<_>>(),
            [(0, ids[0], None)]
        );
        assert_eq!((counted, unheard), ((1..ids.len()).collect(), 0));
        assert_eq!(server.calls(), [VERIFY; 3]);
    }

    #[test]
    fn a_copy_that_cannot_be_read_is_bad_and_the_others_of_its_batch_are_not() {
        let ids = ids(3);
        let good = |n: usize| (200, write_ids(&ids[n..=n]));
        let failed = (500, String::new());
        let answers = [(413, String::new()), failed.clone(), good(0), failed.clone(), good(2)];
        let (bad, counted, unheard) = verified(&TestServer::scripted(&[(VERIFY, &answers)]), &ids);
        assert_eq!(bad.iter().map(|copy| copy.index).collect::<Vec<_>>(), [1]);
        assert_eq!((counted, unheard), (vec![0, 2], 0));
        let [first, second] = [0, 1].map(|n| format!("GET /chunk/{}", ids[n]));
        let answers = [(&*first, &[failed][..]), (&*second, &[(200, "chunk 1".into())])];
        let (bad, counted, _) = verified(&TestServer::scripted(&answers), &ids[..2]);
        assert_eq!((bad.len(), counted), (1, vec![1]));
    }

    /// A cell of the first version answers at once what it has, whatever the bytes are.
    #[test]
    fn a_cell_that_passes_over_the_question_is_not_believed_but_fetched_from() {
        let ids = ids(3);
        let gets: Vec<String> = ids.iter().map(|id| format!("GET /chunk/{id}")).collect();
        let server = TestServer::scripted(&[
            (VERIFY, &[(200, write_ids(&ids))]),
            (&gets[0], &[(200, "chunk 0".into())]),
            (&gets[1], &[(200, "chunk x".into())]),
        ]);
        let (bad, counted, unheard) = verified(&server, &ids);
        let found = Some(ChunkId::of(b"chunk x"));
        assert_eq!(bad.iter().map(|copy| (copy.index, copy.found)).collect::<Vec<_>>(), [(1, found)]);
        assert_eq!((counted, unheard), (vec![0], 0), "the last one is gone meanwhile");
    }

    #[test]
    fn a_cell_that_is_busy_is_asked_again_and_one_that_stays_so_is_not_counted_from_there_on() {
        let ids = ids(MAX_VERIFY_IDS + 1);
        let (first, second) = ids.split_at(MAX_VERIFY_IDS);
        let all = (0..ids.len()).collect::<Vec<_>>();
        let busy = (503, String::new());
        let (first, second) = ((200, write_ids(first)), (200, write_ids(second)));
        let answers = [(400, String::new()), busy.clone(), first.clone(), busy.clone(), second];
        assert_eq!(verified(&TestServer::scripted(&[(VERIFY, &answers)]), &ids), (vec![], all.clone(), 0));
        let answers = [(400, String::new()), first, busy];
        assert_eq!(
            verified(&TestServer::scripted(&[(VERIFY, &answers)]), &ids),
            (vec![], all[..MAX_VERIFY_IDS].to_vec(), 1)
        );
    }
}
