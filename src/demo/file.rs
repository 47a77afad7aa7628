//! A file that the colony keeps: put, restored, and compared with what it was.

// A shell: it tells how long things took.
#![allow(clippy::disallowed_methods)]

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use console::style;
use sha2::{Digest, Sha256};

use crate::client::{GetOptions, PutOptions, PutReport, Source, Target, default_jobs};
use crate::demo::colony::Colony;
use crate::demo::disks::held;
use crate::demo::map::Map;
use crate::demo::narration::{Teller, Way, aside, line, percent};
use crate::demo::{DemoError, Scene, file_error, sample};
use crate::human;
use crate::id::ChunkId;
use crate::id::DEFAULT_COPIES;
use crate::pipeline::{Level, Manifest};

/// What is known of a file that was put.
pub(super) struct Stored {
    /// As the story calls it.
    pub(super) name: String,
    manifest: PathBuf,
    digest: String,
    pub(super) ids: Vec<ChunkId>,
    /// Bytes of its chunks, each counted once.
    pub(super) sealed_bytes: u64,
}

impl Stored {
    /// Who holds what, as the cells' folders show it.
    pub(super) fn map(&self, colony: &Colony) -> Map {
        let columns: Vec<_> = colony.cells().iter().map(|cell| held(cell, &self.ids)).collect();
        Map::new(&self.ids, &columns)
    }
}

/// Puts the user's file, or one made for it.
pub(super) fn upload(file: Option<&Path>, scene: &Scene, colony: &Colony) -> Result<Stored, DemoError> {
    let path = match file {
        Some(path) => path.to_owned(),
        None => make(scene, "sample", sample::write)?,
    };
    let began = Instant::now();
    let size = path.metadata().map_err(file_error("cannot read", &path))?.len();
    let what = if file.is_none() { " made for this, text and random bytes" } else { "" };
    line(format_args!("{}, {}{what}", path.file_name().unwrap_or_default().display(), human::bytes(size)));
    let (stored, report) = put(&path, "manifest", &Teller::new(Way::In), scene, colony)?;
    line(format_args!(
        "{}, {} ({} %); {} copies, {} in all, in {:.1} s",
        human::count(report.chunks, "chunk"),
        human::bytes(report.sealed_bytes),
        percent(report.sealed_bytes, report.size),
        report.sent_copies,
        human::bytes(report.sent_bytes),
        began.elapsed().as_secs_f64(),
    ));
    aside("the key is in the manifest, and nowhere else: no cell can read what it holds");
    show_map(&stored.map(colony));
    Ok(stored)
}

/// Puts a second file, with fewer words.
pub(super) fn upload_letters(letters: usize, scene: &Scene, colony: &Colony) -> Result<Stored, DemoError> {
    let path = make(scene, "letters", |to, rng| sample::write_letters(to, letters, rng))?;
    let (stored, report) = put(&path, "manifest-2", &Teller::quiet(), scene, colony)?;
    line(format_args!(
        "a second file comes, {}: {}, {} copies",
        path.file_name().unwrap_or_default().display(),
        human::count(report.chunks, "chunk"),
        report.sent_copies,
    ));
    Ok(stored)
}

fn put(
    path: &Path,
    manifest: &str,
    teller: &Teller,
    scene: &Scene,
    colony: &Colony,
) -> Result<(Stored, PutReport), DemoError> {
    let digest = digest(path)?;
    let manifest = scene.folder.join(manifest);
    let options = PutOptions {
        copies: DEFAULT_COPIES,
        min_copies: None,
        level: Level::default(),
        jobs: default_jobs(),
        force: false,
        scope: colony.scope(),
    };
    let report = crate::client::put(&Source::File(path.to_owned()), &manifest, &options, teller, scene.stop)?;
    let ids = Manifest::read(File::open(&manifest).map_err(file_error("cannot read", &manifest))?)?.chunks;
    let name = path.file_name().unwrap_or_default().display().to_string();
    let sealed_bytes = report.sealed_bytes;
    Ok((Stored { name, manifest, digest, ids, sealed_bytes }, report))
}

fn make(
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
    made.map_err(file_error("cannot write", &path))?;
    Ok(path)
}

pub(super) fn show_map(map: &Map) {
    for row in map.lines() {
        line(row);
    }
}

/// Gets a file back. Where it is now.
pub(super) fn restore(stored: &Stored, is_first: bool, scene: &Scene, colony: &Colony) -> Result<PathBuf, DemoError> {
    let began = Instant::now();
    let path = scene.folder.join(if is_first { "restored" } else { "restored-2" });
    let options = GetOptions { jobs: default_jobs(), force: false, scope: colony.scope() };
    let target = Target::Path(path.clone());
    let teller = if is_first { Teller::new(Way::Out) } else { Teller::silent() };
    let report = crate::client::get(&stored.manifest, &target, &options, &teller, scene.stop)?;
    line(format_args!(
        "{}, {} back in {:.1} s from {}, by the manifest alone",
        stored.name,
        human::bytes(report.size),
        began.elapsed().as_secs_f64(),
        human::count(report.cells, "cell"),
    ));
    if !is_first && !report.bad_copies.is_empty() {
        let bad = report.bad_copies.len();
        line(format_args!("bad copies among them, by their hash: {bad}; good ones came from others"));
    }
    Ok(path)
}

/// Says whether each is, byte for byte, what was put.
pub(super) fn compare(files: &[(Stored, PathBuf)], circumstances: &str) -> Result<(), DemoError> {
    let mut equal = true;
    for (stored, restored) in files {
        let got = digest(restored)?;
        line(format_args!("put       {}", stored.digest));
        line(format_args!("restored  {got}"));
        equal &= got == stored.digest;
    }
    if !equal {
        line(style("not equal: this is a defect").red().bold());
        return Err(DemoError::Different);
    }
    line(style(format!("equal: every byte came back{circumstances}")).green().bold());
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
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("restored");
        std::fs::write(&path, "as it was put").unwrap();
        let stored = |text: &str| Stored {
            name: String::new(),
            manifest: PathBuf::new(),
            digest: ChunkId::of(text.as_bytes()).to_string(),
            ids: Vec::new(),
            sealed_bytes: 0,
        };
        let good = (stored("as it was put"), path.clone());
        assert!(compare(std::slice::from_ref(&good), "").is_ok());
        let bad = (stored("as it was pat"), path);
        assert!(matches!(compare(&[good, bad], ""), Err(DemoError::Different)));
    }
}
