//! Memory, processor time and writes of a cell: idle, with many chunks, and under parallel puts.

use std::fs::{self, File};
use std::path::Path;
use std::thread;
use std::time::Duration;

use cellsync::id::{CellId, ChunkId};
use cellsync::net::client::{Http, PutHints, Timeouts};
use cellsync::store::{FileStore, Store, StoreOptions};

use crate::colony::{Cell, Colony, folder, free_udp_port};
use crate::material;
use crate::process::{memory as memory_of, processor_seconds, written_bytes};
use crate::table::{Bar, Table, mib};
use crate::wait::wait_until;

const MIB: f64 = 1_048_576.0;
/// How long an idle cell is measured.
const WATCHED: Duration = Duration::from_secs(20);
/// The time after which a cell is idle: at start it counts its files and opens its catalogue.
const SETTLED: Duration = Duration::from_secs(3);
/// Chunks of a large cell, and the most memory that it may take with them, in MiB.
const LARGE: [(u64, f64); 3] = [(100_000, 28.0), (1_000_000, 72.0), (4_000_000, 220.0)];
/// Other holders that a large cell knows of each chunk.
const KNOWN_HOLDERS: usize = 4;
/// Cells of the colony of a large cell.
const COLONY: u64 = 50;
const UPLOADS: u64 = 32;
/// Chunks that each of these uploads sends in sequence.
const CHUNKS_PER_UPLOAD: u64 = 4;

pub(crate) fn memory(table: &mut Table) {
    let folder = folder();
    let cell = Cell::start(&folder.path().join("busy"), free_udp_port());
    thread::sleep(SETTLED);
    table.figure("cell memory, idle and empty", memory_of(cell.pid(), "VmRSS").unwrap(), Bar::AtMost(12.0 * MIB), mib);
    upload(&cell.url);
    let peak = memory_of(cell.pid(), "VmHWM").unwrap();
    let what = format!("cell memory, peak, {UPLOADS} puts of 1 MiB at once");
    table.figure(&what, peak, Bar::AtMost(64.0 * MIB), mib);
    drop(cell);
    let largest = std::env::var("CHUNKS").map_or(100_000, |chunks| chunks.parse().unwrap());
    for (chunks, bar) in LARGE.into_iter().filter(|(chunks, _)| *chunks <= largest) {
        many_chunks(table, &folder.path().join(format!("{chunks}")), chunks, bar);
    }
}

/// Many parallel puts of 1 MiB.
fn upload(url: &str) {
    let http = Http::new(Timeouts::STORE, 32, 32);
    thread::scope(|scope| {
        for upload in 0..UPLOADS {
            let http = http.clone();
            scope.spawn(move || {
                for chunk in 0..CHUNKS_PER_UPLOAD {
                    let bytes = material::random(upload * CHUNKS_PER_UPLOAD + chunk, 1 << 20);
                    let hints = PutHints { copies: 5, bare: false, holders: Vec::new(), owner: None };
                    http.put_chunk(url, &ChunkId::of(&bytes), &bytes, &hints).unwrap();
                }
            });
        }
    });
}

/// A cell that finds many chunks in its folder, rebuilds its catalogue from them, and starts again when it knows their
/// holders.
fn many_chunks(table: &mut Table, data: &Path, chunks: u64, bar: f64) {
    let port = free_udp_port();
    drop(Cell::start(data, port));
    // The clean-stop file is wrong now; without it the cell counts the files.
    let _ = fs::remove_file(data.join("clean"));
    for number in 0..chunks {
        let bytes = number.to_le_bytes();
        let id = ChunkId::of(&bytes).to_string();
        fs::write(data.join("chunks").join(&id[..2]).join(id), bytes).unwrap();
    }
    rustix::fs::syncfs(File::open(data).unwrap()).unwrap();
    let cell = Cell::start(data, port);
    let http = Http::new(Timeouts::STORE, 1, 1);
    wait_until("the chunks are counted", || http.status(&cell.url).unwrap().beacon.chunks == Some(chunks));
    // The cell counts first and writes the catalogue then. It is done when it uses no processor time.
    let mut before = -1.0;
    wait_until("the catalogue is rebuilt", || {
        thread::sleep(Duration::from_millis(500));
        let now = processor_seconds(cell.pid());
        now - std::mem::replace(&mut before, now) < 0.02
    });
    let what = format!("cell memory, peak, finding {chunks} chunks");
    table.figure(&what, memory_of(cell.pid(), "VmHWM").unwrap(), Bar::None, mib);
    drop(cell);

    write_holders(data, chunks);
    let cell = Cell::start_with(data, port, &["--set", "unheard_ms=86400000"]);
    let mut before = -1.0;
    wait_until("the chunks are listed", || {
        thread::sleep(Duration::from_millis(500));
        let now = processor_seconds(cell.pid());
        now - std::mem::replace(&mut before, now) < 0.02
    });
    let what = format!("cell memory, peak, {chunks} chunks with {KNOWN_HOLDERS} holders");
    table.figure(&what, memory_of(cell.pid(), "VmHWM").unwrap(), Bar::AtMost(bar * MIB), mib);
}

/// Writes to the catalogue of a cell which other cells hold each chunk.
fn write_holders(data: &Path, chunks: u64) {
    let store = FileStore::open(data, &StoreOptions::default()).unwrap();
    wait_until("the chunks are counted", || store.usage().counted);
    let cells: Vec<CellId> = (0..COLONY).map(|n| CellId::from_random(u128::from(n + 1).to_be_bytes())).collect();
    let mut random = fastrand::Rng::with_seed(1);
    for number in 0..chunks {
        let mut holders = vec![store.cell_id()];
        while holders.len() <= KNOWN_HOLDERS {
            let cell = cells[random.usize(..cells.len())];
            if !holders.contains(&cell) {
                holders.push(cell);
            }
        }
        store.set_holders(&ChunkId::of(&number.to_le_bytes()), &holders);
        // Hints wait in memory until they are written.
        if number % 1000 == 0 {
            store.flush().unwrap();
        }
    }
    store.flush().unwrap();
}

/// The cells of an unused colony. The figures are those of the busiest cell.
pub(crate) fn idle(table: &mut Table) {
    let colony = Colony::start();
    thread::sleep(SETTLED);
    let look = || -> Vec<(f64, f64)> {
        colony.cells.iter().map(|cell| (processor_seconds(cell.pid()), written_bytes(cell.pid()))).collect()
    };
    let before = look();
    thread::sleep(WATCHED);
    let spent: Vec<(f64, f64)> =
        look().iter().zip(&before).map(|(after, before)| (after.0 - before.0, after.1 - before.1)).collect();
    let processor = spent.iter().map(|spent| spent.0).fold(0.0, f64::max) / WATCHED.as_secs_f64();
    let written = spent.iter().map(|spent| spent.1).fold(0.0, f64::max);
    table.figure("idle cell, part of one core", processor, Bar::AtMost(0.005), |part| format!("{:.2} %", part * 100.0));
    table.figure("idle cell, written in 20 s", written, Bar::AtMost(0.0), |bytes| format!("{bytes} bytes"));
}
