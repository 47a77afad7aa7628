//! `cellsync demo`: a colony of real cells on this machine is born, keeps a file, is attacked, heals, finds out what is
//! rotten and who lies, and the file comes back.

// A shell: it runs processes.
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
use crate::demo::narration::{Stage, aside, line};
use crate::demo::steps::Steps;
use crate::demo::timing::Watch;
use crate::human;
use crate::id::BLOCK_BYTES;
use crate::net::client::CallError;
use crate::pipeline::ManifestError;

/// What the demo is to show.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The file to store, which is only read; none for one that is made for the demo.
    pub(crate) file: Option<PathBuf>,
    /// The number of cells, at least one.
    pub(crate) cells: usize,
    /// Wait for Enter before each stage.
    pub(crate) step: bool,
    /// Random harm, in place of the attack and the stages after it.
    pub(crate) chaos: Option<ChaosOptions>,
    /// Keep the folder with the cells' data.
    pub(crate) keep: bool,
}

/// Random harm.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChaosOptions {
    /// How long it lasts, in seconds.
    pub(crate) seconds: u64,
    /// Determines the order of events; none for a new order.
    pub(crate) seed: Option<u64>,
}

/// Why the demo did not come to its good end. Each is one line for the user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
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
    stop: &'a StopSignal,
    steps: Steps,
}

impl Scene<'_> {
    /// Begins a stage.
    fn stage(&self, stage: Stage) -> Result<(), DemoError> {
        self.steps.stage(stage, self.stop)
    }
}

/// Runs the demo. Once `stop` is asked, it ends its cells and returns [`DemoError::Stopped`].
pub(crate) fn run(options: &Options, stop: &StopSignal) -> Result<(), DemoError> {
    crate::pipeline::keep_freed_memory();
    play_and_clean_up(options, stop).map_err(|error| if stop.is_set() { DemoError::Stopped } else { error })
}

/// The folder outlives the cells, and goes whatever happens to the play.
fn play_and_clean_up(options: &Options, stop: &StopSignal) -> Result<(), DemoError> {
    let size = match &options.file {
        Some(path) => {
            let file = File::open(path).and_then(|file| file.metadata());
            file.map_err(file_error("cannot read", path))?.len()
        }
        None => sample::SAMPLE_BYTES,
    };
    let folder = tempfile::Builder::new()
        .prefix("cellsync-demo-")
        .disable_cleanup(options.keep)
        .tempdir()
        .map_err(file_error("cannot make a folder in", &std::env::temp_dir()))?;
    let played = play(options, size, &folder, stop);
    if options.keep {
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

fn play(options: &Options, size: u64, folder: &TempDir, stop: &StopSignal) -> Result<(), DemoError> {
    let scene = Scene { folder: folder.path(), stop, steps: Steps::new(options.step) };
    let count = options.cells;
    let blocks = size.div_ceil(BLOCK_BYTES as u64);
    let watch = match options.chaos {
        Some(_) => Watch::Chaos,
        None => Watch::of(attack::left_of(count), blocks),
    };
    let mut colony = genesis::genesis(&scene, count, blocks, watch)?;
    genesis::differentiation(&scene, &colony)?;
    scene.stage(Stage::Upload)?;
    let stored = file::upload(options.file.as_deref(), &scene, &colony)?;
    match options.chaos {
        Some(ChaosOptions { seconds, seed }) => {
            let seed = seed.unwrap_or_else(|| fastrand::u64(0..1_000_000));
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
