//! The stages upload, restore and verdict: files are stored, restored and compared.

// A shell: it measures how long things take.
#![allow(clippy::disallowed_methods)]

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use console::style;
use sha2::{Digest, Sha256};

use crate::client::{
    DEFAULT_PATIENCE, GetOptions, Part, PutOptions, PutReport, RestoreOptions, Source, Target, default_jobs,
};
use crate::demo::colony::Colony;
use crate::demo::disks::held;
use crate::demo::map::Map;
use crate::demo::narration::{Direction, TransferProgress, line, note, percent};
use crate::demo::{DemoError, Scene, file_error, sample};
use crate::human;
use crate::id::{ChunkId, DEFAULT_COPIES};
use crate::pipeline::{Level, Manifest};

/// A stored file.
pub(super) struct Stored {
    /// Its file name.
    pub(super) name: String,
    manifest: PathBuf,
    digest: String,
    pub(super) ids: Vec<ChunkId>,
    /// The bytes of its chunks, each counted once.
    pub(super) sealed_bytes: u64,
}

impl Stored {
    /// Which cells hold which of its chunks, from the cells' data folders.
    pub(super) fn map(&self, colony: &Colony) -> Map {
        let columns: Vec<_> = colony.cells().iter().map(|cell| held(cell, &self.ids)).collect();
        Map::new(&self.ids, &columns)
    }
}

/// Stores the user's file, or a generated one.
pub(super) fn upload(file: Option<&Path>, scene: &Scene, colony: &Colony) -> Result<Stored, DemoError> {
    let path = match file {
        Some(path) => path.to_owned(),
        None => generate(scene, "sample", sample::write)?,
    };
    let began = Instant::now();
    let size = path.metadata().map_err(file_error("read", &path))?.len();
    let what = if file.is_none() { " of text and random bytes" } else { "" };
    line(format_args!("{}, {}{what}", path.file_name().unwrap_or_default().display(), human::bytes(size)));
    let (stored, report) = put(&path, "manifest", &TransferProgress::new(Direction::Put), scene, colony)?;
    line(format_args!(
        "stored as {}, {} ({} %); sent {}, {}, in {:.1} s",
        human::count(report.chunks, "chunk"),
        human::bytes(report.sealed_bytes),
        percent(report.sealed_bytes, report.size),
        human::copies(report.sent_copies),
        human::bytes(report.sent_bytes),
        began.elapsed().as_secs_f64(),
    ));
    note("only the manifest holds the key: no cell can read what it stores");
    show_map(&stored.map(colony));
    Ok(stored)
}

/// Stores a second file.
pub(super) fn upload_letters(letters: usize, scene: &Scene, colony: &Colony) -> Result<Stored, DemoError> {
    let path = generate(scene, "letters", |to, rng| sample::write_letters(to, letters, rng))?;
    let (stored, report) = put(&path, "manifest-2", &TransferProgress::notices_only(), scene, colony)?;
    line(format_args!(
        "stored a second file, {}: {}, {}",
        path.file_name().unwrap_or_default().display(),
        human::count(report.chunks, "chunk"),
        human::copies(report.sent_copies),
    ));
    Ok(stored)
}

fn put(
    path: &Path,
    manifest: &str,
    progress: &TransferProgress,
    scene: &Scene,
    colony: &Colony,
) -> Result<(Stored, PutReport), DemoError> {
    let digest = digest(path)?;
    let manifest = scene.folder.join(manifest);
    let options = PutOptions {
        allow_empty: true,
        copies: DEFAULT_COPIES,
        // A colony of one cell can be shown too.
        min_copies: Some(1),
        level: Level::default(),
        jobs: default_jobs(),
        force: false,
        skip_room_check: false,
        exclude: Vec::new(),
        exclude_caches: false,
        one_file_system: false,
        xattrs: false,
        strict: false,
        scope: colony.scope(),
    };
    let report = crate::client::put(&Source::File(path.to_owned()), &manifest, &options, progress, scene.stop)?;
    let ids = Manifest::read(File::open(&manifest).map_err(file_error("read", &manifest))?)?.chunks;
    let name = path.file_name().unwrap_or_default().display().to_string();
    let sealed_bytes = report.sealed_bytes;
    Ok((Stored { name, manifest, digest, ids, sealed_bytes }, report))
}

fn generate(
    scene: &Scene,
    name: &str,
    write: impl Fn(&mut BufWriter<File>, &mut fastrand::Rng) -> std::io::Result<()>,
) -> Result<PathBuf, DemoError> {
    let path = scene.folder.join(name);
    let made = File::create(&path).and_then(|file| {
        let mut file = BufWriter::new(file);
        write(&mut file, &mut fastrand::Rng::new())?;
        file.flush()
    });
    made.map_err(file_error("write", &path))?;
    Ok(path)
}

pub(super) fn show_map(map: &Map) {
    for row in map.lines() {
        line(row);
    }
}

/// Restores a file and returns its path.
pub(super) fn restore(stored: &Stored, is_first: bool, scene: &Scene, colony: &Colony) -> Result<PathBuf, DemoError> {
    let began = Instant::now();
    let path = scene.folder.join(if is_first { "restored" } else { "restored-2" });
    let options = GetOptions {
        jobs: default_jobs(),
        force: false,
        patience: DEFAULT_PATIENCE,
        restore: RestoreOptions::default(),
        part: Part::Whole,
        salvage: false,
        scope: colony.scope(),
    };
    let target = Target::Path(path.clone());
    let progress = if is_first { TransferProgress::new(Direction::Get) } else { TransferProgress::silent() };
    let report = crate::client::get(&stored.manifest, &target, &options, &progress, scene.stop)?;
    line(format_args!(
        "restored {}, {}, in {:.1} s from {}, with the manifest alone",
        stored.name,
        human::bytes(report.size),
        began.elapsed().as_secs_f64(),
        human::count(report.cells, "cell"),
    ));
    if !is_first && !report.bad_copies.is_empty() {
        let bad = report.bad_copies.len();
        line(format_args!("rejected bad copies: {bad}; other holders had good ones"));
    }
    Ok(path)
}

/// Compares each restored file with what was stored, by SHA-256.
pub(super) fn compare(files: &[(Stored, PathBuf)], circumstances: &str) -> Result<(), DemoError> {
    let mut equal = true;
    for (stored, restored) in files {
        let got = digest(restored)?;
        line(format_args!("stored    {}", stored.digest));
        line(format_args!("restored  {got}"));
        equal &= got == stored.digest;
    }
    if !equal {
        line(style("different: this is a defect").red().bold());
        return Err(DemoError::Different);
    }
    line(style(format!("identical: every byte was restored{circumstances}")).green().bold());
    Ok(())
}

/// The SHA-256 of a file.
fn digest(path: &Path) -> Result<String, DemoError> {
    let failed = || file_error("read", path);
    let mut file = File::open(path).map_err(failed())?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut buffer).map_err(failed())?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        hasher.update(bytes);
    }
    Ok(ChunkId::from_bytes(hasher.finalize().into()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_byte_fails_the_comparison() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("restored");
        std::fs::write(&path, "the stored bytes").unwrap();
        let stored = |text: &str| Stored {
            name: String::new(),
            manifest: PathBuf::new(),
            digest: ChunkId::of(text.as_bytes()).to_string(),
            ids: Vec::new(),
            sealed_bytes: 0,
        };
        let good = (stored("the stored bytes"), path.clone());
        assert!(compare(std::slice::from_ref(&good), "").is_ok());
        let bad = (stored("the stored bytez"), path);
        assert!(matches!(compare(&[good, bad], ""), Err(DemoError::Different)));
    }
}
