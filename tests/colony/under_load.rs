//! Faults while chunks are stored and fetched: processes that are killed, disks that cannot be read for minutes.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cellsync::id::ChunkId;
use cellsync::net::client::{Http, PutHints, Timeouts};
use cellsync::wire::id_lists::MAX_VERIFY_IDS;

use crate::harness::{Cell, Colony, FailingReads, UdpPort, fast_options, observe_for, random_bytes, run, speedup};
use crate::wait::wait_until;

/// Kills; `RUNS=20 cargo test --test colony survive_kills` makes more.
fn runs() -> u64 {
    std::env::var("RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(2)
}

/// Goal: every chunk that a cell acknowledged is there after a SIGKILL. Method: four clients store chunks of up to 64 KiB
/// in one cell; it is killed once 200 were acknowledged, started again, and made to hash all of them.
#[test]
fn acknowledged_puts_survive_kills_under_load() {
    const ACKNOWLEDGED: usize = 200;
    let udp_port = UdpPort::free();
    for run in 0..runs() {
        let folder = tempfile::tempdir().unwrap();
        let mut cell = Cell::start(&folder.path().join("cell"), udp_port.number, &[]);
        let acknowledged = Mutex::new(Vec::new());
        let url = cell.url.clone();
        let client = |number: u64| {
            let http = Http::new(Timeouts::TRANSFER, 1, 1);
            let hints = PutHints { copies: 1, bare: false, holders: Vec::new(), owner: None };
            for n in (number << 32).. {
                let mut random = fastrand::Rng::with_seed(run << 48 | n);
                let bytes = random_bytes(random.u64(..), random.usize(1..64 << 10));
                let id = ChunkId::of(&bytes);
                if http.put_chunk(&url, &id, &bytes, &hints).is_err() {
                    return;
                }
                acknowledged.lock().unwrap().push(id);
            }
        };
        thread::scope(|scope| {
            (1..=4).for_each(|number| drop(scope.spawn(move || client(number))));
            wait_until("enough chunks are stored", || acknowledged.lock().unwrap().len() >= ACKNOWLEDGED);
            cell.kill();
        });
        cell.restart();
        let http = Http::new(Timeouts::TRANSFER, 1, 1);
        let acknowledged = acknowledged.into_inner().unwrap();
        let mut good = 0;
        for ids in acknowledged.chunks(MAX_VERIFY_IDS) {
            http.verify(&cell.url, ids, &mut |_| good += 1).unwrap();
        }
        assert_eq!(good, acknowledged.len(), "run {run}");
    }
}

/// Goal: two cells of eight that cannot read their disks for two minutes lose nothing, and what is copied meanwhile is no
/// more than their copies. Method: their reads fail while two clients store and fetch files. The times are a tenth of the
/// real ones; `CELLSYNC_REAL_TIMES=1` has the real ones.
#[test]
fn two_cells_that_cannot_read_for_two_minutes_lose_nothing() {
    const FAILING: [usize; 2] = [2, 5];
    let Some(reads) = FailingReads::new() else { return };
    let colony = Colony::start_with_reads(8, &FAILING, &reads, &fast_options());
    let stored: Vec<_> = (0..12).map(|n| colony.put_bytes(&format!("before-{n}"), &random_bytes(n, 1 << 20))).collect();
    let held: BTreeMap<usize, Vec<String>> =
        FAILING.map(|index| (index, colony.cells[index].chunks().into_iter().collect())).into();
    let sent_before: u64 = colony.statuses().iter().map(|status| status.activity.healed_copies).sum();
    let is_over = AtomicBool::new(false);
    let during = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for client in 0..2 {
            let (colony, stored, is_over, during) = (&colony, &stored, &is_over, &during);
            scope.spawn(move || {
                for n in (100 + 1_000_000 * client).. {
                    if is_over.load(Ordering::SeqCst) {
                        return;
                    }
                    let bytes = random_bytes(n, 300_000);
                    let file = colony.put_bytes(&format!("during-{n}"), &bytes);
                    during.lock().unwrap().push((file, n));
                    let old = usize::try_from(n).unwrap() % stored.len();
                    let restored = colony.path(&format!("restored-{n}"));
                    run(colony.get().arg(&stored[old].manifest).arg("-o").arg(&restored)).expect_success();
                    assert!(fs::read(&restored).unwrap() == random_bytes(old as u64, 1 << 20));
                }
            });
        }
        reads.begin();
        for index in FAILING {
            colony.http.scrub(&colony.cells[index].url).unwrap();
        }
        observe_for(Duration::from_secs(120 / speedup()));
        reads.end();
        is_over.store(true, Ordering::SeqCst);
    });
    for (index, ids) in &held {
        let cell = &colony.cells[*index];
        let lost = ids.iter().filter(|id| !cell.has_good_copy(id)).count();
        assert_eq!((lost, cell.quarantined()), (0, 0), "cell {index}");
    }
    let during = during.into_inner().unwrap();
    assert!(!during.is_empty());
    for (file, n) in &during {
        assert!(colony.get_bytes(&file.manifest) == random_bytes(*n, 300_000));
    }
    for (n, file) in stored.iter().enumerate() {
        assert!(colony.get_bytes(&file.manifest) == random_bytes(n as u64, 1 << 20));
    }
    // The copies on the two cells did not count for a while; each of them is replaced at most once.
    let sent: u64 = colony.statuses().iter().map(|status| status.activity.healed_copies).sum::<u64>() - sent_before;
    let on_failing: usize = FAILING.iter().map(|index| colony.cells[*index].chunks().len()).sum();
    println!("{} files stored meanwhile; {sent} copies sent, {on_failing} were on the two cells", during.len());
    assert!(sent <= on_failing as u64, "{sent} copies were sent for {on_failing}");
}
