//! `cellsync demo`: a colony of real cells on this machine loses some of them, and the file comes back.

// A shell: it tells how long things took.
#![allow(clippy::disallowed_methods)]

mod colony;
mod map;
mod sample;
mod story;

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use argh::FromArgs;
use console::style;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use self::colony::Colony;
use self::map::Map;
use self::story::{Stage, Teller, Way, aside, line, percent, stage, warn};
use super::{FAILED, failed, jobs, show, stop_on_interrupt};
use crate::chunk::ChunkId;
use crate::client::{ClientError, GetOptions, PutOptions, Source, Stop, Target};
use crate::net::client::CallError;
use crate::pipeline::{Level, Manifest, ManifestError};
use crate::wire::api::DEFAULT_COPIES;

const NAME: &str = "cellsync demo";

const DEFAULT_CELLS: usize = 6;
const MAX_CELLS: usize = 50;
/// One holder of the chunk is left.
const MAX_KILLED: usize = DEFAULT_COPIES as usize - 1;
/// More cells than this are named several in a line.
const MAX_LISTED: usize = 12;
const NAMED_IN_A_LINE: usize = 4;

/// Watch a colony of real cells on this machine lose some of them, and a file come back from the others. Nothing
/// leaves this machine, and nothing stays on it.
#[derive(FromArgs)]
#[argh(subcommand, name = "demo")]
pub(super) struct Args {
    /// what to store; it is only read (default: a file made for it)
    #[argh(positional, arg_name = "file")]
    file: Option<PathBuf>,
    /// how many cells, 1 to 50 (default 6)
    #[argh(option, arg_name = "n")]
    cells: Option<usize>,
    /// keep the folder with the cells' data, the manifest and the restored file
    #[argh(switch)]
    keep: bool,
}

/// Why the demo did not come to its good end. Each is one line for the user.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error("stopped")]
    Stopped,
    #[error("{doing}: {source}")]
    File { doing: String, source: io::Error },
    #[error("cell {number} did not start: {what}")]
    NoStart { number: usize, what: String },
    #[error("{trouble}, after {seconds} s")]
    Late { trouble: String, seconds: u64 },
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the manifest just written cannot be read: {0}")]
    Manifest(#[from] ManifestError),
    #[error("the restored file is not the one that was put")]
    Different,
}

fn file_error(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> DemoError {
    move |source| DemoError::File { doing: format!("{doing} {}", path.display()), source }
}

pub(super) fn run(args: &Args) -> ExitCode {
    if let Err(error) = check(args) {
        return failed(NAME, &error);
    }
    crate::pipeline::keep_freed_memory();
    // Before there is anything to clean up.
    let stop = stop_on_interrupt();
    match play_and_clean_up(args, &stop) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let error = if stop.is_asked() { DemoError::Stopped } else { error };
            eprintln!("{NAME}: {error}");
            ExitCode::from(FAILED)
        }
    }
}

fn check(args: &Args) -> Result<(), ClientError> {
    let usage = |what: String| Err(ClientError::Usage(what));
    if args.cells.is_some_and(|cells| !(1..=MAX_CELLS).contains(&cells)) {
        return usage(format!("--cells is a number from 1 to {MAX_CELLS}"));
    }
    match &args.file {
        Some(path) if path.exists() && !path.is_file() => {
            usage(format!("{} is not a file; the demo stores one file", path.display()))
        }
        _ => Ok(()),
    }
}

/// The folder outlives the cells, and goes whatever happens to the play.
fn play_and_clean_up(args: &Args, stop: &Stop) -> Result<(), DemoError> {
    if let Some(path) = &args.file {
        File::open(path).map_err(file_error("cannot read", path))?;
    }
    let folder = tempfile::Builder::new()
        .prefix("cellsync-demo-")
        .disable_cleanup(args.keep)
        .tempdir()
        .map_err(file_error("cannot make a folder in", &std::env::temp_dir()))?;
    let played = play(args, &folder, stop);
    if args.keep {
        line(format_args!("all cells are ended; {} is kept", folder.path().display()));
        return played;
    }
    let path = folder.path().to_owned();
    let removed = folder.close().map_err(file_error("cannot remove", &path));
    if removed.is_ok() {
        aside("all cells are ended, and their folder is removed");
    }
    played.and(removed)
}

fn play(args: &Args, folder: &TempDir, stop: &Stop) -> Result<(), DemoError> {
    let folder = folder.path();
    let count = args.cells.unwrap_or(DEFAULT_CELLS);
    let mut colony = genesis(folder, count, stop)?;
    let put = upload(args.file.as_deref(), folder, &colony, stop)?;
    attack(&mut colony, put.map, stop)?;
    let restored = restore(folder, &put.manifest, &colony, stop)?;
    verdict(&put.digest, &restored, colony.killed(), count)
}

fn genesis(folder: &Path, count: usize, stop: &Stop) -> Result<Colony, DemoError> {
    stage(Stage::Genesis);
    line(format_args!("{} on this machine: a process and a folder for each, under", show::count(count, "cell")));
    line(folder.display());
    let began = Instant::now();
    let colony = Colony::start(folder, count, stop)?;
    let cells = colony.cells();
    if count <= MAX_LISTED {
        for cell in cells {
            let door = cell.url.trim_start_matches("http://");
            line(format_args!("cell {:<2}  {}  {door}  pid {}", cell.number, cell.id.short(), cell.pid()));
        }
    } else {
        for row in cells.chunks(NAMED_IN_A_LINE) {
            let names: Vec<_> =
                row.iter().map(|cell| format!("{:>2} {} {:<7}", cell.number, cell.id.short(), cell.pid())).collect();
            line(names.join(" ").trim_end());
        }
    }
    colony.wait_until_all_know_each_other(stop)?;
    let seconds = began.elapsed().as_secs_f64();
    if count == 1 {
        line(format_args!("it is alone, and ready after {seconds:.1} s"));
    } else {
        line(format_args!("all know each other after {seconds:.1} s, from their beacons; there is no master"));
    }
    Ok(colony)
}

/// What is known of the file that was put.
struct Stored {
    manifest: PathBuf,
    digest: String,
    map: Map,
}

fn upload(file: Option<&Path>, folder: &Path, colony: &Colony, stop: &Stop) -> Result<Stored, DemoError> {
    stage(Stage::Upload);
    let path = match file {
        Some(path) => path.to_owned(),
        None => make_sample(folder)?,
    };
    let digest = digest(&path)?;
    let began = Instant::now();
    let size = path.metadata().map_err(file_error("cannot read", &path))?.len();
    let what = if file.is_none() { " made for this, text and random bytes" } else { "" };
    line(format_args!("{}, {}{what}", path.file_name().unwrap_or_default().display(), show::bytes(size)));
    let manifest = folder.join("manifest");
    let options = PutOptions {
        copies: DEFAULT_COPIES,
        min_copies: None,
        level: Level::default(),
        jobs: jobs(None)?,
        force: false,
        place: colony.place(),
    };
    let report = crate::client::put(&Source::File(path), &manifest, &options, &Teller::new(Way::In), stop)?;
    line(format_args!(
        "{}, {} ({} %); {} copies, {} in all, in {:.1} s",
        show::count(report.chunks, "chunk"),
        show::bytes(report.sealed_bytes),
        percent(report.sealed_bytes, report.size),
        report.sent_copies,
        show::bytes(report.sent_bytes),
        began.elapsed().as_secs_f64(),
    ));
    aside("the key is in the manifest, and nowhere else: no cell can read what it holds");
    let ids: Vec<ChunkId> =
        Manifest::read(File::open(&manifest).map_err(file_error("cannot read", &manifest))?)?.chunks;
    let map = Map::new(&ids, &colony.held(&ids)?);
    show_map(&map);
    Ok(Stored { manifest, digest, map })
}

fn make_sample(folder: &Path) -> Result<PathBuf, DemoError> {
    let path = folder.join("sample");
    let made = File::create(&path).and_then(|file| {
        let mut file = BufWriter::new(file);
        sample::write(&mut file, &mut fastrand::Rng::new())?;
        file.flush()
    });
    made.map_err(file_error("cannot write", &path))?;
    Ok(path)
}

fn show_map(map: &Map) {
    for row in map.lines() {
        line(row);
    }
}

fn attack(colony: &mut Colony, mut map: Map, stop: &Stop) -> Result<(), DemoError> {
    stage(Stage::Attack);
    let Some((chunk, holders)) = map.first() else {
        line("an empty file has no chunks, so nobody holds anything worth killing for");
        return Ok(());
    };
    let (short, holders) = (chunk.short(), holders.clone());
    if !holders.iter().any(|&cell| map.can_spare(cell)) {
        warn("with one copy of each chunk no cell can be spared: none is killed");
        return Ok(());
    }
    line(format_args!(
        "of the {} of chunk 0 ({short}) up to {MAX_KILLED} get SIGKILL, without warning",
        show::count(holders.len(), "holder"),
    ));
    for number in holders {
        if stop.is_asked() {
            return Err(DemoError::Stopped);
        }
        // A last copy is never killed: a put into a small colony may have left some chunk with one.
        if colony.killed() == MAX_KILLED || !map.can_spare(number) {
            continue;
        }
        let Some(cell) = colony.cell_mut(number) else { continue };
        cell.kill()?;
        map.kill(number);
        line(style(format!("cell {number:<2}  {}  pid {} is dead", cell.id.short(), cell.pid())).red());
    }
    let left = colony.answering();
    let (lost, all) = map.lost();
    line(format_args!(
        "{} of {} still answer; {lost} of {all} copies are gone",
        left.len(),
        show::count(colony.cells().len(), "cell"),
    ));
    line(format_args!("of each chunk there is at least {}", copies(map.fewest_copies())));
    show_map(&map);
    Ok(())
}

fn copies(count: usize) -> String {
    if count == 1 { "1 copy".to_owned() } else { format!("{count} copies") }
}

fn restore(folder: &Path, manifest: &Path, colony: &Colony, stop: &Stop) -> Result<PathBuf, DemoError> {
    stage(Stage::Restore);
    let began = Instant::now();
    let path = folder.join("restored");
    let options = GetOptions { jobs: jobs(None)?, force: false, place: colony.place() };
    let target = Target::Path(path.clone());
    let report = crate::client::get(manifest, &target, &options, &Teller::new(Way::Out), stop)?;
    line(format_args!(
        "{} back in {:.1} s from {}, by the manifest alone",
        show::bytes(report.size),
        began.elapsed().as_secs_f64(),
        show::count(report.cells, "cell"),
    ));
    Ok(path)
}

fn verdict(put: &str, restored: &Path, killed: usize, cells: usize) -> Result<(), DemoError> {
    stage(Stage::Verdict);
    let got = digest(restored)?;
    line(format_args!("put       {put}"));
    line(format_args!("restored  {got}"));
    if got != *put {
        line(style("not equal: this is a defect").red().bold());
        return Err(DemoError::Different);
    }
    let lost = match killed {
        0 => String::new(),
        _ => format!(", with {killed} of {} dead", show::count(cells, "cell")),
    };
    line(style(format!("equal: every byte came back{lost}")).green().bold());
    Ok(())
}

/// SHA-256 of a file.
fn digest(path: &Path) -> Result<String, DemoError> {
    let cannot = || file_error("cannot read", path);
    let mut file = File::open(path).map_err(cannot())?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut buffer).map_err(cannot())?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        hasher.update(bytes);
    }
    Ok(ChunkId::from_bytes(hasher.finalize().into()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_byte_is_no_good_end() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("restored");
        std::fs::write(&path, "as it was put").unwrap();
        let put = digest(&path).unwrap();
        assert_eq!(put, ChunkId::of(b"as it was put").to_string());
        assert!(verdict(&put, &path, 4, 6).is_ok());
        std::fs::write(&path, "as it was pat").unwrap();
        assert!(matches!(verdict(&put, &path, 4, 6), Err(DemoError::Different)));
    }
}
