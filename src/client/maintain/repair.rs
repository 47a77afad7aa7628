//! Repairing a file: bringing every chunk back to its number of copies now. The key is not needed: chunks are copied as
//! they are, sealed.
//!
//! ```text
//!  Survey ─▶ short chunks, weakest first ─▶ workers, a chunk each: fetch ─▶ verify ─▶ Placer: which cells ─▶ send
//! ```
//!
//! Chunks are independent of each other: a repair may be stopped at any time, and run again.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};

use crate::client::bad_copy::BadCopy;
use crate::client::byte_ranges::{ByteRange, ByteRanges};
use crate::client::discover::colony::CellName;
use crate::client::discover::holder_index::HolderIndex;
use crate::client::error::{ClientError, Damage};
use crate::client::maintain::check::CheckOptions;
use crate::client::maintain::repair_worker::{ChunkRepairer, RepairEvent};
use crate::client::maintain::survey::Survey;
use crate::client::manifest_file;
use crate::client::notice::Notice;
use crate::client::progress::{Progress, StopSignal};
use crate::client::put::availability::CellAvailability;
use crate::client::workers::STOP_CHECK_INTERVAL;
use crate::id::ChunkId;
use crate::pipeline::Manifest;

/// The result of a repair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// Chunks of the file.
    pub chunks: usize,
    /// Copies wanted of each chunk.
    pub wanted: usize,
    /// Chunks that had fewer copies.
    pub short: usize,
    /// Copies made.
    pub made_copies: u64,
    /// Bytes of these copies.
    pub made_bytes: u64,
    /// Chunks that still have fewer copies than wanted, also those without any.
    pub still_short: usize,
    /// Chunks without any copy.
    pub missing: usize,
    /// The bytes of the file that are in them.
    pub missing_bytes: ByteRanges,
    /// Chunks with bad copies only.
    pub corrupt: usize,
    /// The bytes of the file that are in them.
    pub corrupt_bytes: ByteRanges,
    /// Copies that were found bad.
    pub bad_copies: Vec<BadCopy>,
    /// Cells that were found and did not respond, or not to the end. Their copies do not count.
    pub unresponsive: Vec<CellName>,
    /// Cells that responded.
    pub cells: usize,
    /// Requests made.
    pub requests: u64,
    /// The cells at the end, by whether they accept chunks.
    pub availability: CellAvailability,
}

impl RepairReport {
    /// What the repair could not do, as an error with its exit code.
    pub fn failure(&self) -> Option<ClientError> {
        if self.missing > 0 {
            let (missing, chunks, cells, bytes) = (self.missing, self.chunks, self.cells, self.missing_bytes.clone());
            return Some(ClientError::Missing { missing, chunks, cells, silent: 0, bytes, salvageable: None });
        }
        if self.corrupt > 0 {
            let damage = Damage::ChunksWithoutGoodCopy { corrupt: self.corrupt, chunks: self.chunks };
            return Some(ClientError::Corrupt { bytes: self.corrupt_bytes.clone(), damage });
        }
        (self.still_short > 0).then(|| ClientError::StillShort {
            short: self.still_short,
            chunks: self.chunks,
            wanted: self.wanted,
            cells: self.availability.clone(),
        })
    }
}

/// Makes the copies that the chunks of a file lack.
pub fn repair(
    manifest: &Path,
    options: &CheckOptions,
    progress: &dyn Progress,
    stop: &StopSignal,
) -> Result<RepairReport, ClientError> {
    let manifest = manifest_file::read(manifest)?;
    let chunks: Vec<ChunkId> = manifest.all_chunks().copied().collect();
    let copies = options.copies.unwrap_or(manifest.copies);
    let report = RepairReport { chunks: chunks.len(), wanted: copies.into(), ..RepairReport::default() };
    if chunks.is_empty() {
        return Ok(report);
    }
    let http = Survey::http();
    let survey = Survey::take(&http, &chunks, &options.scope, options.deep, progress, stop)?;
    let counts = survey.count_copies(chunks.len(), report.wanted);
    let lost: BTreeSet<usize> = counts.missing.iter().chain(&counts.corrupt).copied().collect();
    let queue = repair_order(&counts.short, &lost, &chunks, &survey.holders);

    let mut repair = Repair { manifest, progress, report, missing: counts.missing, corrupt: counts.corrupt };
    repair.report.short = counts.short.len();
    repair.report.still_short = lost.len();
    repair.report.cells = survey.holders.cell_count();
    for copy in survey.bad_copies {
        repair.record_bad_copy(copy);
    }
    if !survey.unresponsive.is_empty() {
        progress.notice(&Notice::UnresponsiveCells { cells: survey.unresponsive.clone() });
    }
    repair.report.unresponsive = survey.unresponsive;
    progress.total(Some(queue.len() as u64));

    let repairer = ChunkRepairer::new(http.clone(), copies, survey.holders, &repair.report.bad_copies);
    repair.run(&repairer.start(queue, stop), stop)?;
    repair.report.availability = repairer.availability();
    repair.report.requests = http.requests();
    Ok(repair.finish())
}

/// The chunks to repair, those with the fewest copies first, since they are lost most easily. A chunk that has several
/// positions in the manifest is repaired once.
fn repair_order(
    short: &[usize],
    lost: &BTreeSet<usize>,
    ids: &[ChunkId],
    holders: &HolderIndex,
) -> Vec<(usize, ChunkId)> {
    let repairable = short.iter().filter(|index| !lost.contains(index));
    let mut queue: Vec<(usize, ChunkId)> = repairable.filter_map(|&index| Some((index, *ids.get(index)?))).collect();
    queue.sort_by_key(|&(index, _)| (holders.copies(index), index));
    let mut seen = BTreeSet::new();
    queue.retain(|(_, id)| seen.insert(*id));
    queue
}

/// The state of a repair, in the caller's thread.
struct Repair<'a> {
    manifest: Manifest,
    progress: &'a dyn Progress,
    report: RepairReport,
    missing: Vec<usize>,
    corrupt: Vec<usize>,
}

impl Repair<'_> {
    fn run(&mut self, events: &Receiver<RepairEvent>, stop: &StopSignal) -> Result<(), ClientError> {
        loop {
            if stop.is_set() {
                return Err(ClientError::StoppedRepair { made_copies: self.report.made_copies });
            }
            match events.recv_timeout(STOP_CHECK_INTERVAL) {
                Ok(RepairEvent::CopyMade { bytes }) => {
                    self.report.made_copies += 1;
                    self.report.made_bytes += bytes;
                }
                Ok(RepairEvent::BadCopy(copy)) => self.record_bad_copy(copy),
                Ok(RepairEvent::CellSkipped(error)) => self.progress.notice(&Notice::CellSkipped { error }),
                Ok(RepairEvent::Finished { index, copies }) => self.record_finished(index, copies),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    fn record_bad_copy(&mut self, copy: BadCopy) {
        let bytes = ByteRange::of_block(copy.index, &self.manifest);
        self.progress.notice(&Notice::BadCopy { copy: copy.clone(), bytes });
        self.report.bad_copies.push(copy);
    }

    fn record_finished(&mut self, index: usize, copies: Option<usize>) {
        self.progress.advance(1, 0);
        self.report.still_short += usize::from(copies.is_none_or(|copies| copies < self.report.wanted));
        if copies.is_none() {
            let has_bad_copy = self.report.bad_copies.iter().any(|copy| copy.index == index);
            let list = if has_bad_copy { &mut self.corrupt } else { &mut self.missing };
            list.push(index);
        }
    }

    fn finish(mut self) -> RepairReport {
        self.missing.sort_unstable();
        self.corrupt.sort_unstable();
        (self.report.missing, self.report.corrupt) = (self.missing.len(), self.corrupt.len());
        self.report.missing_bytes = ByteRanges::of_blocks(&self.missing, &self.manifest);
        self.report.corrupt_bytes = ByteRanges::of_blocks(&self.corrupt, &self.manifest);
        self.report
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::discover::colony::ColonyScope;
    use crate::client::discover::holder_index::testing;
    use crate::client::fixtures::{NoProgress, cell_at, status_of};
    use crate::net::test_server::TestServer;
    use crate::pipeline::{Content, Key};
    use crate::wire::id_lists::write_ids;

    const CHUNKS: usize = 8;

    fn bytes(index: usize) -> String {
        format!("chunk {index}")
    }

    fn ids() -> Vec<ChunkId> {
        (0..CHUNKS).map(|index| ChunkId::of(bytes(index).as_bytes())).collect()
    }

    /// A server of the first version. If it has the chunks, it serves them with these contents.
    fn server(number: u8, contents: Option<fn(usize) -> String>) -> TestServer {
        let have = (200, if contents.is_some() { write_ids(&ids()) } else { String::new() });
        let mut responses = vec![
            ("GET /status".to_owned(), (200, status_of(number, &serde_json::json!({})))),
            ("POST /chunks/have".to_owned(), have.clone()),
            ("POST /chunks/have?verify=1".to_owned(), have),
        ];
        for (index, id) in ids().iter().enumerate() {
            responses.push((format!("PUT /chunk/{id}"), (200, String::new())));
            if let Some(contents) = contents {
                responses.push((format!("GET /chunk/{id}"), (200, contents(index))));
            }
        }
        let responses: Vec<_> =
            responses.iter().map(|(call, response)| (call.as_str(), std::slice::from_ref(response))).collect();
        TestServer::scripted(&responses)
    }

    fn rot(_: usize) -> String {
        "rot".to_owned()
    }

    fn repair_from(servers: &[&TestServer], deep: bool) -> RepairReport {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest");
        let key = Key::generate();
        let manifest =
            Manifest { key, size: None, copies: 2, content: Content::default(), chunks: ids(), version2: None };
        manifest_file::write(&manifest, &path, false).unwrap();
        let nodes = servers.iter().map(|server| server.url.clone()).collect();
        let scope = ColonyScope { nodes, udp_port: 1, loopback: true };
        let options = CheckOptions { deep, copies: None, scope };
        repair(&path, &options, &NoProgress, &StopSignal::default()).unwrap()
    }

    fn puts(server: &TestServer) -> usize {
        server.calls().iter().filter(|call| call.starts_with("PUT")).count()
    }

    /// Such a server would report that the chunk is stored, and keep its bad file.
    #[test]
    fn a_server_that_keeps_its_bad_copies_gets_no_good_ones() {
        let (good, bad, empty) = (server(1, Some(bytes)), server(2, Some(rot)), server(3, None));
        let report = repair_from(&[&good, &bad, &empty], true);
        assert_eq!((report.short, report.made_copies, report.still_short), (CHUNKS, CHUNKS as u64, 0));
        assert_eq!((puts(&good), puts(&bad), puts(&empty)), (0, 0, CHUNKS));
        assert_eq!(report.bad_copies.len(), CHUNKS);
    }

    #[test]
    fn bad_bytes_that_are_fetched_are_not_sent() {
        let (bad, empty) = (server(2, Some(rot)), server(3, None));
        let report = repair_from(&[&bad, &empty], false);
        assert_eq!((report.corrupt, report.still_short, report.made_copies), (CHUNKS, CHUNKS, 0));
        assert_eq!((puts(&bad), puts(&empty)), (0, 0));
        assert_eq!(report.failure().unwrap().exit_code(), 5);
    }

    #[test]
    fn a_failure_has_its_exit_code_and_reason() {
        let good = server(1, Some(bytes));
        let failure = repair_from(&[&good], false).failure().unwrap();
        assert_eq!(failure.exit_code(), 3);
        assert!(
            matches!(failure, ClientError::StillShort { short: 8, chunks: 8, wanted: 2, cells } if cells.found == 1)
        );
        let report = repair_from(&[&server(3, None)], false);
        assert_eq!((report.missing, report.failure().unwrap().exit_code()), (CHUNKS, 4));
    }

    #[test]
    fn the_weakest_chunks_come_first_and_each_once() {
        let ids: Vec<ChunkId> = [0, 1, 2, 1].map(|n| ChunkId::of(bytes(n).as_bytes())).to_vec();
        let cell = |n: u8| cell_at(&format!("http://{n}"));
        let holders = testing::holder_index(&ids, &[(cell(1), &[0, 1, 2]), (cell(2), &[0])]);
        let queue = repair_order(&[0, 1, 2, 3], &BTreeSet::from([2]), &ids, &holders);
        assert_eq!(queue, [(1, ids[1]), (0, ids[0])]);
    }
}
