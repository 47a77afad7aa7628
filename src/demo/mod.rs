//! `cellsync demo`: a colony of real cells on this machine is born, keeps a file, is attacked, heals, finds out what is
//! rotten and who lies, and the file comes back.

// A shell: it runs processes.
#![allow(clippy::disallowed_methods, clippy::print_stderr)]

mod attack;
mod chaos;
mod colony;
mod corruption;
mod counters;
mod disks;
mod file;
mod genesis;
mod isolation;
mod liar;
mod live;
mod map;
mod narration;
mod sample;
mod steps;
mod timing;
mod wait;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use argh::{ArgsInfo, FromArgs};
use tempfile::TempDir;

use crate::cli::{FAILED, failed, stop_on_interrupt};
use crate::client::{ClientError, Stop};
use crate::demo::colony::Colony;
use crate::demo::file::Stored;
use crate::demo::narration::{Stage, aside, line};
use crate::demo::steps::Steps;
use crate::demo::timing::Watch;
use crate::human;
use crate::id::BLOCK_BYTES;
use crate::net::client::CallError;
use crate::pipeline::ManifestError;

const NAME: &str = "cellsync demo";

/// So many that the attack leaves as many as there are copies.
const DEFAULT_CELLS: usize = 9;
const MAX_CELLS: usize = 50;

/// Watch a colony of real cells on this machine lose some of them and heal, find rotten copies and a liar, and give a
/// file back whole. Nothing leaves this machine, and nothing stays on it.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "demo")]
pub(crate) struct Args {
    /// what to store; it is only read (default: a file made for it)
    #[argh(positional, arg_name = "file")]
    file: Option<PathBuf>,
    /// how many cells, 1 to 50 (default 9)
    #[argh(option, arg_name = "n")]
    cells: Option<usize>,
    /// wait for Enter before each stage
    #[argh(switch)]
    step: bool,
    /// in place of the attack and what follows: kill, revive and damage at random for so long, 1 to 3600
    #[argh(option, arg_name = "seconds")]
    chaos: Option<u64>,
    /// with --chaos: the order of events, as an earlier run told it (default: a new one)
    #[argh(option, arg_name = "n")]
    seed: Option<u64>,
    /// keep the folder with the cells' data, their logs, the manifests and the restored files
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

/// Where the play is played, and how.
struct Scene<'a> {
    folder: &'a Path,
    stop: &'a Stop,
    steps: Steps,
}

impl Scene<'_> {
    /// Begins a stage.
    fn stage(&self, stage: Stage) -> Result<(), DemoError> {
        self.steps.stage(stage, self.stop)
    }
}

pub(crate) fn run(args: &Args) -> ExitCode {
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
    if args.chaos.is_some_and(|seconds| !(1..=chaos::MAX_SECONDS).contains(&seconds)) {
        return usage(format!("--chaos is a number of seconds from 1 to {}", chaos::MAX_SECONDS));
    }
    if args.seed.is_some() && args.chaos.is_none() {
        return usage("--seed is for --chaos, which has an order of events".into());
    }
    if args.step && !steps::can_wait() {
        return usage("--step waits for Enter, and standard input is no terminal".into());
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
    let size = match &args.file {
        Some(path) => {
            let file = File::open(path).and_then(|file| file.metadata());
            file.map_err(file_error("cannot read", path))?.len()
        }
        None => sample::SAMPLE_BYTES,
    };
    let folder = tempfile::Builder::new()
        .prefix("cellsync-demo-")
        .disable_cleanup(args.keep)
        .tempdir()
        .map_err(file_error("cannot make a folder in", &std::env::temp_dir()))?;
    let played = play(args, size, &folder, stop);
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

fn play(args: &Args, size: u64, folder: &TempDir, stop: &Stop) -> Result<(), DemoError> {
    let scene = Scene { folder: folder.path(), stop, steps: Steps::new(args.step) };
    let count = args.cells.unwrap_or(DEFAULT_CELLS);
    let blocks = size.div_ceil(BLOCK_BYTES as u64);
    let watch = match args.chaos {
        Some(_) => Watch::Chaos,
        None => Watch::of(attack::left_of(count), blocks),
    };
    let mut colony = genesis::genesis(&scene, count, blocks, watch)?;
    genesis::differentiation(&scene, &colony)?;
    scene.stage(Stage::Upload)?;
    let stored = file::upload(args.file.as_deref(), &scene, &colony)?;
    match args.chaos {
        Some(seconds) => {
            let seed = args.seed.unwrap_or_else(|| fastrand::u64(0..1_000_000));
            let mut harm = chaos::chaos(&scene, &mut colony, &stored, seconds, seed)?;
            harm.heal(&scene, &mut colony, &stored)?;
            end(&scene, &colony, vec![stored], Some(&harm), "")
        }
        None => immunity(&scene, &mut colony, stored, watch),
    }
}

/// What a colony survives, one thing after the other.
fn immunity(scene: &Scene, colony: &mut Colony, stored: Stored, watch: Watch) -> Result<(), DemoError> {
    attack::attack(scene, colony, &stored)?;
    if colony.dead().next().is_some() {
        attack::healing(scene, colony, &stored)?;
    }
    corruption::corruption(scene, colony, &stored, watch)?;
    match isolation::deceit(scene, colony)? {
        Some((letters, _liar)) => end(scene, colony, vec![stored, letters], None, ", and a liar"),
        None => end(scene, colony, vec![stored], None, ""),
    }
}

fn end(
    scene: &Scene,
    colony: &Colony,
    files: Vec<Stored>,
    harm: Option<&chaos::Harm>,
    liar: &str,
) -> Result<(), DemoError> {
    scene.stage(Stage::Restore)?;
    let mut restored = Vec::new();
    for stored in files {
        let path = file::restore(&stored, restored.is_empty(), scene, colony)?;
        restored.push((stored, path));
    }
    scene.stage(Stage::Verdict)?;
    if let Some(harm) = harm {
        harm.tell();
    }
    let dead = match colony.dead().count() {
        0 => String::new(),
        dead => format!(", with {dead} of {} dead", human::count(colony.cells().len(), "cell")),
    };
    file::compare(&restored, &format!("{dead}{liar}"))
}
