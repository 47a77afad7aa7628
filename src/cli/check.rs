//! `cellsync check`: how well the colony keeps a file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use argh::{ArgsInfo, FromArgs};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::cli::error::CommandError;
use crate::cli::progress::{Bar, Direction};
use crate::cli::{colony_scope, copies, failed, path_or_dash, say, say_json, stop_on_interrupt};
use crate::client::{BadCopy, CellName, CheckOptions, CheckReport, KnownCell, Verdict};
use crate::human;

const NAME: &str = "cellsync check";

/// Bad copies that are told by name; --json tells all.
const MAX_BAD_TOLD: usize = 20;

/// Ask every cell what it has of a file, and tell how many copies there are of each chunk. Nothing is changed, but that
/// with --deep cells set aside the bad copies that they find.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "check",
    note = "Copies on cells that are being drained are not counted: they will be gone.",
    error_code(0, "every chunk has the copies that it should have"),
    error_code(1, "it could not be found out"),
    error_code(2, "the command cannot be meant so"),
    error_code(3, "some chunk has fewer copies than it should, or no cell answers"),
    error_code(4, "some chunk is on no cell that answers"),
    error_code(5, "all copies of some chunk are bad")
)]
pub(super) struct Args {
    /// the manifest that cellsync-put wrote
    #[argh(positional, arg_name = "manifest", from_str_fn(path_or_dash))]
    manifest: PathBuf,
    /// have every copy read and hashed on its cell; only those that are good are counted
    #[argh(switch)]
    deep: bool,
    /// copies that each chunk should have, 1 to 32 (default: as many as the put was asked for)
    #[argh(option, arg_name = "n")]
    copies: Option<u8>,
    /// print it as JSON, with the cells that hold each chunk
    #[argh(switch)]
    json: bool,
    /// ask this cell instead of the network; can be given many times
    #[argh(option, arg_name = "url")]
    node: Vec<String>,
    /// UDP port on which the colony finds itself (default 5000)
    #[argh(option, arg_name = "port")]
    udp_port: Option<u16>,
    /// look for cells on this machine only
    #[argh(switch)]
    loopback: bool,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let bar = Bar::new(NAME, Direction::Count("copies"), false);
    let checked = look(args, &bar);
    bar.clear();
    let report = match checked {
        Ok(report) => report,
        Err(error) => return failed(NAME, &error),
    };
    let said = if args.json {
        say_json(NAME, &AsJson { report: &report, manifest: &args.manifest })
    } else {
        say(NAME, &in_words(&report, &args.manifest, args.deep))
    };
    if said == ExitCode::SUCCESS { ExitCode::from(report.verdict().exit_code()) } else { said }
}

fn look(args: &Args, bar: &Bar) -> Result<CheckReport, CommandError> {
    let options = CheckOptions {
        deep: args.deep,
        copies: copies(args.copies)?,
        scope: colony_scope(&args.node, args.udp_port, args.loopback)?,
    };
    Ok(crate::client::check(&args.manifest, &options, bar, &stop_on_interrupt())?)
}

fn in_words(report: &CheckReport, manifest: &Path, deep: bool) -> String {
    let (chunks, wanted) = (report.chunk_count(), report.wanted);
    if chunks == 0 {
        return format!("{}: an empty file; its manifest is all there is to keep\n", manifest.display());
    }
    let size = report.size.map_or_else(String::new, |size| format!("{}, ", human::bytes(size)));
    let mut text = format!(
        "{} ({size}{}) on {}, {} of each wanted\n",
        manifest.display(),
        human::count(chunks, "chunk"),
        human::count(report.cells().count(), "cell"),
        human::copies(wanted),
    );
    for (copies, chunks) in report.by_copies().iter().rev() {
        text += &format!("  {}: {}\n", human::copies(*copies), human::count(*chunks, "chunk"));
    }
    if let Some(weakest) = report.weakest().filter(|weakest| weakest.copies < wanted) {
        let (index, id, copies) = (weakest.index, weakest.id.short(), human::copies(weakest.copies));
        text += &format!("weakest: chunk {index} ({id}, bytes {}) with {copies}\n", weakest.bytes);
    }
    for BadCopy { chunk, index, cell, .. } in report.bad_copies.iter().take(MAX_BAD_TOLD) {
        text += &format!("bad copy: chunk {index} ({}) on cell {cell}\n", chunk.short());
    }
    let more = report.bad_copies.len().saturating_sub(MAX_BAD_TOLD);
    if more > 0 {
        text += &format!(
            "and {} more; --json tells all\n",
            if more == 1 { "1 bad copy".into() } else { format!("{more} bad copies") }
        );
    }
    if !report.unheard.is_empty() {
        text += &format!("not counted, since they did not answer: {}\n", names(&report.unheard).join(", "));
    }
    text + &verdict(report, manifest, deep) + "\n"
}

fn verdict(report: &CheckReport, manifest: &Path, deep: bool) -> String {
    let (wanted, chunks, short) = (human::copies(report.wanted), report.chunk_count(), report.short());
    match report.verdict() {
        Verdict::Whole if deep => format!("whole: every chunk has its {wanted}, all of them re-hashed now"),
        Verdict::Whole => format!("whole: every chunk has its {wanted}"),
        Verdict::Short if report.on_all_cells() => {
            let (cells, more) = (report.staying(), report.wanted.saturating_sub(report.staying()));
            format!(
                "short: {short} of {chunks} chunks have fewer than {wanted}, as many as there are cells ({cells}); add {}",
                human::count(more, "cell")
            )
        }
        Verdict::Short => format!(
            "short: {short} of {chunks} chunks have fewer than {wanted}; the colony heals by itself, and cellsync repair {} makes them now",
            manifest.display()
        ),
        Verdict::Missing => {
            let (missing, bytes) = report.missing();
            format!(
                "missing: {missing} of {chunks} chunks are on no cell that answers, bytes {bytes}; start the cells that hold them"
            )
        }
        Verdict::Corrupt => {
            let (corrupt, bytes) = report.corrupt();
            format!(
                "corrupt: of {corrupt} of {chunks} chunks all copies are bad, bytes {bytes}; if cells are switched off that have others, start them"
            )
        }
    }
}

/// The report, of any length, as it is written.
struct AsJson<'a> {
    report: &'a CheckReport,
    manifest: &'a Path,
}

impl Serialize for AsJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let report = self.report;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("manifest", self.manifest)?;
        map.serialize_entry("verdict", report.verdict().word())?;
        map.serialize_entry("size", &report.size)?;
        map.serialize_entry("wanted", &report.wanted)?;
        map.serialize_entry("fewest_copies", &report.weakest().map(|weakest| weakest.copies))?;
        map.serialize_entry("short", &report.short())?;
        map.serialize_entry("missing", &report.missing().0)?;
        map.serialize_entry("corrupt", &report.corrupt().0)?;
        map.serialize_entry("on_all_cells", &report.on_all_cells())?;
        map.serialize_entry("by_copies", report.by_copies())?;
        map.serialize_entry("cells", &report.cells().map(cell_as_json).collect::<Vec<_>>())?;
        map.serialize_entry("unheard", &names(&report.unheard))?;
        map.serialize_entry("bad_copies", &Each(|| report.bad_copies.iter().map(bad_as_json)))?;
        map.serialize_entry(
            "chunks",
            &Each(|| {
                report.chunks().map(|chunk| {
                let holders: Vec<_> = chunk.holders.iter().map(|cell| called(cell)).collect();
                serde_json::json!({ "index": chunk.index, "id": chunk.id, "copies": chunk.copies, "holders": holders })
            })
            }),
        )?;
        map.serialize_entry("requests", &report.requests)?;
        map.end()
    }
}

/// A list that is made while it is written.
struct Each<F>(F);

impl<F: Fn() -> I, I: Iterator<Item = serde_json::Value>> Serialize for Each<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

/// A cell's name; of an older server, that tells none, its URL.
fn called(cell: &KnownCell) -> String {
    cell.id.map_or_else(|| cell.url.clone(), |id| id.to_string())
}

fn cell_as_json(cell: &KnownCell) -> serde_json::Value {
    serde_json::json!({ "node_id": cell.id, "url": cell.url, "role": cell.role, "status": cell.status })
}

pub(super) fn names(cells: &[CellName]) -> Vec<String> {
    cells.iter().map(CellName::to_string).collect()
}

/// As get tells it.
pub(super) fn bad_as_json(copy: &BadCopy) -> serde_json::Value {
    serde_json::json!({ "chunk": copy.chunk, "index": copy.index, "cell": copy.cell.to_string(), "found": copy.found })
}
