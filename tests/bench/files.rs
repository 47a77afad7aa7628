//! Put and get of large files: speed, size, requests and memory.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use aes::Aes128;
use aes::cipher::block_padding::NoPadding;
use aes::cipher::{BlockDecryptMut, KeyIvInit};
use sha2::{Digest, Sha256};

use crate::colony::{CELLS, Colony};
use crate::material;
use crate::process::{Usage, cores, run};
use crate::table::{Bar, Table, mb_per_s, median, mib, ms};

const MIB: usize = 1 << 20;
/// Bytes of text for each core, so that the run takes as long on any machine.
const TEXT_BYTES_PER_CORE: usize = 8 * MIB;
const RANDOM_BYTES: usize = 128 * MIB;
/// Runs of each side of a ratio, in turns.
const TURNS: usize = 3;

pub(crate) fn put(table: &mut Table) {
    put_text(table);
    put_random(table);
}

/// A put of text spends its time in the compressor, so a compressor is the reference.
fn put_text(table: &mut Table) {
    let colony = Colony::start();
    let len = TEXT_BYTES_PER_CORE * cores();
    let source = material::text_file(colony.path(), len);
    let compressed = colony.path().join("text.xz");
    if !Command::new("xz").arg("--version").output().is_ok_and(|output| output.status.success()) {
        table.missing("put text", "xz is not installed");
        return;
    }
    let (mut puts, mut references) = (Vec::new(), Vec::new());
    let mut sealed_bytes = 0.0;
    for _ in 0..TURNS {
        let threads = format!("-T{}", cores());
        let mut command = Command::new("xz");
        command.args([&threads, "-9e", "--block-size=1MiB", "-k", "-c"]).arg(&source);
        references.push(run(command.stdout(File::create(&compressed).unwrap()), false));
        let (took, report) = colony.put(&source);
        puts.push(took);
        sealed_bytes = report["sealed_bytes"].as_f64().unwrap();
    }
    let (put, reference) = (rate(len, &puts), rate(len, &references));
    let name = format!("xz -T{} -9e {}", cores(), mb_per_s(reference));
    table.ratio("put text, 5 copies", mb_per_s(put), name, put / reference, Bar::AtLeast(0.95));
    let chunks = len.div_ceil(MIB);
    let xz_bytes = fs::metadata(&compressed).unwrap().len() as f64;
    // Without what encryption adds.
    let without_seals = sealed_bytes - 73.0 * chunks as f64;
    let name = format!("xz -9e {} + 73 B a chunk", mib(xz_bytes));
    table.ratio("stored bytes of one copy", mib(sealed_bytes), name, without_seals / xz_bytes, Bar::AtMost(1.01));
    client_memory(table, "put text", &puts);
}

/// A put of incompressible data spends its time writing, so writing the same bytes is the reference: five copies, all
/// fsynced.
fn put_random(table: &mut Table) {
    let colony = Colony::start();
    let source = material::random_file(colony.path(), RANDOM_BYTES);
    let bytes = fs::read(&source).unwrap();
    let (mut puts, mut streams, mut files) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        streams.push(write_stream(&colony.path().join("raw"), &bytes));
        files.push(write_files(&colony.path().join("raw"), &bytes));
        rustix::fs::sync();
        puts.push(colony.put(&source).0);
    }
    let disk_bytes = (CELLS * RANDOM_BYTES) as f64;
    let put = disk_bytes / median(&seconds(&puts));
    let stream = disk_bytes / median(&streams);
    let files = disk_bytes / median(&files);
    let name = format!("one file, one fsync {}", mb_per_s(stream));
    table.ratio("put random, 5 copies, on disk", mb_per_s(put), name, put / stream, Bar::AtLeast(0.6));
    let name = format!("1 MiB files, each fsynced {}", mb_per_s(files));
    table.ratio("put random, 5 copies, on disk", mb_per_s(put), name, put / files, Bar::None);
    client_memory(table, "put random", &puts);
}

/// Seconds to write all copies in sequence to one file.
fn write_stream(path: &Path, bytes: &[u8]) -> f64 {
    let started = Instant::now();
    let mut file = File::create(path).unwrap();
    for _ in 0..CELLS {
        bytes.chunks(MIB).for_each(|block| file.write_all(block).unwrap());
    }
    file.sync_all().unwrap();
    let seconds = started.elapsed().as_secs_f64();
    fs::remove_file(path).unwrap();
    seconds
}

/// Seconds to write all copies as cells store them: each block in its own file, fsynced before the next one starts.
fn write_files(folder: &Path, bytes: &[u8]) -> f64 {
    fs::create_dir(folder).unwrap();
    let started = Instant::now();
    for copy in 0..CELLS {
        for (number, block) in bytes.chunks(MIB).enumerate() {
            let mut file = File::create(folder.join(format!("{copy}.{number}"))).unwrap();
            file.write_all(block).unwrap();
            file.sync_all().unwrap();
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    fs::remove_dir_all(folder).unwrap();
    seconds
}

pub(crate) fn get(table: &mut Table) {
    let colony = Colony::start();
    let source = material::random_file(colony.path(), RANDOM_BYTES);
    colony.put(&source);
    let target = colony.path().join("restored");
    let mut bytes = fs::read(&source).unwrap();
    let (mut gets, mut checks, mut floors, mut requests) = (Vec::new(), Vec::new(), Vec::new(), 0.0);
    for _ in 0..TURNS {
        floors.push(floor_seconds(&mut bytes));
        checks.push(colony.get(None).0);
        // A first get has no earlier file, the blocks of which the system must free.
        if target.exists() {
            fs::remove_file(&target).unwrap();
        }
        let (took, report) = colony.get(Some(&target));
        gets.push(took);
        requests = f64::max(requests, report["requests"].as_f64().unwrap());
    }
    assert!(fs::read(&source).unwrap() == fs::read(&target).unwrap(), "the restored file differs");
    let at_least = Bar::AtLeast(150e6);
    table.figure("get random, to a file, fsynced", rate(RANDOM_BYTES, &gets), at_least, mb_per_s);
    table.figure("get random, --check", rate(RANDOM_BYTES, &checks), Bar::None, mb_per_s);
    let used = median(&gets.iter().map(|run| run.processor_seconds).collect::<Vec<_>>());
    let floor = median(&floors);
    let name = format!("SHA-256 twice, AES-CBC once {}", ms(floor));
    table.ratio("processor time of that get", ms(used), name, used / floor, Bar::AtMost(1.8));
    let chunks = RANDOM_BYTES / MIB;
    let what = format!("requests to get {chunks} chunks from {CELLS} cells");
    table.figure(&what, requests, Bar::AtMost((CELLS + chunks) as f64), |requests| format!("{requests}"));
    client_memory(table, "get random", &gets);
}

/// Processor seconds for what no get can avoid: to check the id and the HMAC of each chunk, which is SHA-256 twice, and
/// to decrypt it. Overwrites `bytes`.
fn floor_seconds(bytes: &mut [u8]) -> f64 {
    let now = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    };
    let started = now();
    for block in bytes.chunks_mut(MIB) {
        std::hint::black_box((Sha256::digest(&block), Sha256::digest(&block)));
        let cipher = cbc::Decryptor::<Aes128>::new(&[1; 16].into(), &[2; 16].into());
        std::hint::black_box(cipher.decrypt_padded_mut::<NoPadding>(block).unwrap());
    }
    now() - started
}

fn seconds(runs: &[Usage]) -> Vec<f64> {
    runs.iter().map(|run| run.seconds).collect()
}

fn rate(bytes: usize, runs: &[Usage]) -> f64 {
    bytes as f64 / median(&seconds(runs))
}

fn client_memory(table: &mut Table, what: &str, runs: &[Usage]) {
    let peak = runs.iter().map(|run| run.peak_bytes).fold(0.0, f64::max);
    let bar = ((32 + 24 * cores()) * MIB) as f64;
    table.figure(&format!("client memory, {what}, {} workers", cores()), peak, Bar::AtMost(bar), mib);
}
