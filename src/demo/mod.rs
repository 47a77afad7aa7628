//! `cellsync demo`: a colony of real cells on this machine. It stores a file, loses cells, heals, finds a damaged copy and a
//! lying cell, and restores the file.
//!
//! ```text
//!  genesis ▶ differentiation ▶ upload ▶ attack ▶ healing ▶ corruption ▶ liar ▶ restore ▶ verdict
//!                                     └▶ chaos ▶ healing ───────────────────▶ restore ▶ verdict      (--chaos)
//! ```
//!
//! Each stage checks what it shows on the disks of the cells or by their `GET /status`, and fails if it does not happen.

// A shell: it runs processes and waits for them.
#![allow(clippy::disallowed_methods)]

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

use tempfile::TempDir;

use crate::client::{ClientError, StopSignal};
use crate::demo::colony::Colony;
use crate::demo::file::Stored;
use crate::demo::narration::{Stage, line, note};
use crate::demo::steps::Steps;
use crate::demo::timing::Detection;
use crate::human;
use crate::id::BLOCK_BYTES;
use crate::net::client::CallError;
use crate::pipeline::ManifestError;

/// What the demo shows.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The file to store, which is only read; `None` for a generated one.
    pub(crate) file: Option<PathBuf>,
    /// The number of cells, at least one.
    pub(crate) cells: usize,
    /// Wait for Enter before each stage.
    pub(crate) step: bool,
    /// Random damage, in place of the attack and the stages after it.
    pub(crate) chaos: Option<ChaosOptions>,
    /// Keep the folder with the cells' data.
    pub(crate) keep: bool,
}

/// Random damage.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChaosOptions {
    /// How long it lasts, in seconds.
    pub(crate) seconds: u64,
    /// Determines the order of events; `None` for a random order.
    pub(crate) seed: Option<u64>,
}

/// Why the demo failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    #[error("stopped")]
    Stopped,
    /// A file or folder could not be used.
    #[error("cannot {action} {}: {source}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    /// The colony could not be set up.
    #[error("cannot {action}: {source}")]
    Setup { action: &'static str, source: io::Error },
    /// A cell's process could not be started or killed.
    #[error("cannot {action} cell {number}: {source}")]
    Process { action: &'static str, number: usize, source: io::Error },
    /// A cell's process ended before it listened; `reason` is the last line of its log.
    #[error("cell {number} did not start: {reason}")]
    NotStarted { number: usize, reason: String },
    /// Something did not happen in time.
    #[error("timed out after {seconds} s: {condition}")]
    Timeout { condition: String, seconds: u64 },
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("cannot read the manifest of the stored file: {0}")]
    Manifest(#[from] ManifestError),
    #[error("the restored file differs from the stored one")]
    Different,
}

fn file_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DemoError {
    move |source| DemoError::File { action, path: path.to_owned(), source }
}

/// What all stages share.
struct Scene<'a> {
    folder: &'a Path,
    stop: &'a StopSignal,
    steps: Steps,
}

impl Scene<'_> {
    /// Starts a stage.
    fn stage(&self, stage: Stage) -> Result<(), DemoError> {
        self.steps.stage(stage, self.stop)
    }
}

/// Runs the demo. When `stop` is set, it kills its cells, removes its folder and returns [`DemoError::Stopped`].
pub(crate) fn run(options: &Options, stop: &StopSignal) -> Result<(), DemoError> {
    crate::pipeline::keep_freed_memory();
    run_and_clean_up(options, stop).map_err(|error| if stop.is_set() { DemoError::Stopped } else { error })
}

/// Runs all stages in a temporary folder. The cells end before the folder is removed, whether the stages fail or not.
fn run_and_clean_up(options: &Options, stop: &StopSignal) -> Result<(), DemoError> {
    let size = match &options.file {
        Some(path) => {
            let file = File::open(path).and_then(|file| file.metadata());
            file.map_err(file_error("read", path))?.len()
        }
        None => sample::SAMPLE_BYTES,
    };
    let folder = tempfile::Builder::new()
        .prefix("cellsync-demo-")
        .disable_cleanup(options.keep)
        .tempdir()
        .map_err(file_error("create a folder in", &std::env::temp_dir()))?;
    let result = run_stages(options, size, &folder, stop);
    if options.keep {
        line(format_args!("stopped all cells; {} is kept", folder.path().display()));
        return result;
    }
    let path = folder.path().to_owned();
    let removed = folder.close().map_err(file_error("remove", &path));
    if removed.is_ok() {
        note("stopped all cells and removed their folder");
    }
    result.and(removed)
}

fn run_stages(options: &Options, size: u64, folder: &TempDir, stop: &StopSignal) -> Result<(), DemoError> {
    let scene = Scene { folder: folder.path(), stop, steps: Steps::new(options.step) };
    let count = options.cells;
    let blocks = size.div_ceil(BLOCK_BYTES as u64);
    let detection = match options.chaos {
        Some(_) => Detection::Chaos,
        None => Detection::of(attack::survivors(count), blocks),
    };
    let mut colony = genesis::genesis(&scene, count, blocks, detection)?;
    genesis::differentiation(&scene, &colony)?;
    scene.stage(Stage::Upload)?;
    let stored = file::upload(options.file.as_deref(), &scene, &colony)?;
    match options.chaos {
        Some(ChaosOptions { seconds, seed }) => {
            let seed = seed.unwrap_or_else(|| fastrand::u64(0..1_000_000));
            let mut damage = chaos::chaos(&scene, &mut colony, &stored, seconds, seed)?;
            damage.heal(&scene, &mut colony, &stored)?;
            restore(&scene, &colony, vec![stored], Some(&damage), "")
        }
        None => defend(&scene, &mut colony, stored, detection),
    }
}

/// The stages in which the colony is attacked, and the restore after them.
fn defend(scene: &Scene, colony: &mut Colony, stored: Stored, detection: Detection) -> Result<(), DemoError> {
    attack::attack(scene, colony, &stored)?;
    if colony.dead().next().is_some() {
        attack::healing(scene, colony, &stored)?;
    }
    corruption::corruption(scene, colony, &stored, detection)?;
    match isolation::isolation(scene, colony)? {
        Some((letters, _liar)) => restore(scene, colony, vec![stored, letters], None, " and a lying cell"),
        None => restore(scene, colony, vec![stored], None, ""),
    }
}

/// The last two stages: restores the files and compares them with what was stored.
fn restore(
    scene: &Scene,
    colony: &Colony,
    files: Vec<Stored>,
    damage: Option<&chaos::Damage>,
    liar: &str,
) -> Result<(), DemoError> {
    scene.stage(Stage::Restore)?;
    let mut restored = Vec::new();
    for stored in files {
        let path = file::restore(&stored, restored.is_empty(), scene, colony)?;
        restored.push((stored, path));
    }
    scene.stage(Stage::Verdict)?;
    if let Some(damage) = damage {
        damage.print_summary();
    }
    let dead = match colony.dead().count() {
        0 => String::new(),
        dead => format!(", with {dead} of {} dead", human::count(colony.cells().len(), "cell")),
    };
    file::compare(&restored, &format!("{dead}{liar}"))
}
