//! `cellsync check`: the copies of a file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::cli::client_config::ClientConfig;
use crate::cli::error::{CommandError, failed};
use crate::cli::interrupt::stop_on_interrupt;
use crate::cli::progress::{Bar, Unit};
use crate::cli::terminal::{print, print_json, shown_path};
use crate::cli::values;
use crate::client::{BadCopy, CellName, CheckOptions, CheckReport, KnownCell, Verdict};
use crate::human;

const NAME: &str = "cellsync check";

/// Maximum number of bad copies listed in text. JSON lists all.
const MAX_BAD_COPIES_LISTED: usize = 20;

with_colony_options! {
    /// Count the copies of each chunk of a file.
    #[argh(
        subcommand,
        name = "check",
        note = "With --deep, cells quarantine the bad copies that they find. Nothing else is changed.",
        note = "Copies on draining cells do not count: those cells are about to be unplugged.",
        error_code(0, "every chunk has the wanted copies"),
        error_code(1, "failed, or stopped"),
        error_code(2, "invalid arguments"),
        error_code(3, "some chunk has too few copies, or no cell responds"),
        error_code(4, "some chunk is on no cell that responds"),
        error_code(5, "some chunk has only bad copies")
    )]
    command struct Args {
        /// manifest that cellsync-put wrote
        #[argh(positional, arg_name = "manifest", from_str_fn(values::path_or_dash))]
        manifest: PathBuf,
        /// have the cells read and hash every copy, and count only good ones
        #[argh(switch)]
        deep: bool,
        /// wanted copies of each chunk, 1 to 32 (default: as when the file was stored)
        #[argh(option, arg_name = "n", from_str_fn(values::copies))]
        copies: Option<u8>,
        /// print the result as JSON, with the holders of each chunk
        #[argh(switch)]
        json: bool,
    }
}

pub(super) fn run(args: &Args) -> ExitCode {
    let report = match check(args) {
        Ok(report) => report,
        Err(error) => return failed(NAME, &error),
    };
    let printed = if args.json {
        print_json(NAME, &Json { report: &report, manifest: &args.manifest })
    } else {
        print(NAME, &text(&report, &args.manifest, args.deep))
    };
    if printed == ExitCode::SUCCESS { ExitCode::from(report.verdict().exit_code()) } else { printed }
}

fn check(args: &Args) -> Result<CheckReport, CommandError> {
    let scope = args.scope(&ClientConfig::load()?)?;
    let bar = Bar::new(NAME, Unit::Items("copies"), false);
    let options = CheckOptions { deep: args.deep, copies: args.copies, scope };
    let result = crate::client::check(&args.manifest, &options, &bar, &stop_on_interrupt());
    bar.clear();
    Ok(result?)
}

fn text(report: &CheckReport, manifest: &Path, deep: bool) -> String {
    let (chunks, wanted) = (report.chunk_count(), report.wanted);
    if chunks == 0 {
        return format!("{}: the file is empty, and its manifest holds all of it\n", shown_path(manifest));
    }
    let size = report.size.map_or_else(String::new, |size| format!("{}, ", human::bytes(size)));
    let mut text = format!(
        "{} ({size}{}) on {}, {} of each wanted\n",
        shown_path(manifest),
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
    for BadCopy { chunk, index, cell, .. } in report.bad_copies.iter().take(MAX_BAD_COPIES_LISTED) {
        text += &format!("bad copy: chunk {index} ({}) on cell {cell}\n", chunk.short());
    }
    let more = report.bad_copies.len().saturating_sub(MAX_BAD_COPIES_LISTED);
    if more > 0 {
        text += &format!("and {more} more bad {}; --json lists all\n", human::if_one(&more, "copy", "copies"));
    }
    if !report.unresponsive.is_empty() {
        text += &format!("not counted, because they did not respond: {}\n", names(&report.unresponsive).join(", "));
    }
    text + &verdict(report, manifest, deep) + "\n"
}

fn verdict(report: &CheckReport, manifest: &Path, deep: bool) -> String {
    let wanted = human::copies(report.wanted);
    let part = |of| human::part(of, report.chunk_count(), "chunk");
    match report.verdict() {
        Verdict::Whole if deep => format!("whole: every chunk has {wanted}, all of them verified now"),
        Verdict::Whole => format!("whole: every chunk has {wanted}"),
        Verdict::Short if report.on_all_cells() => {
            let (cells, more) = (report.staying_cells(), report.wanted.saturating_sub(report.staying_cells()));
            format!(
                "short: {}, because the colony has only {}; add {}",
                short(report),
                human::count(cells, "cell"),
                human::count(more, "cell")
            )
        }
        Verdict::Short => format!(
            "short: {}; the colony heals that in time, and cellsync repair {} does it now",
            short(report),
            shown_path(manifest)
        ),
        Verdict::Missing => {
            let (missing, bytes) = report.missing();
            format!(
                "missing: {} {} on no cell that responds, bytes {bytes}; start the cells that had copies",
                part(missing),
                human::if_one(&missing, "is", "are")
            )
        }
        Verdict::Corrupt => {
            let (corrupt, bytes) = report.corrupt();
            format!(
                "corrupt: {} {} only bad copies, bytes {bytes}; if cells are switched off, start them: they may have \
                 good ones",
                part(corrupt),
                human::if_one(&corrupt, "has", "have")
            )
        }
    }
}

/// `1 of 3 chunks has fewer than 5 copies`.
fn short(report: &CheckReport) -> String {
    let (short, wanted) = (report.short(), human::copies(report.wanted));
    let part = human::part(short, report.chunk_count(), "chunk");
    format!("{part} {} fewer than {wanted}", human::if_one(&short, "has", "have"))
}

/// The report as JSON. It is serialized in parts, since it may be long.
struct Json<'a> {
    report: &'a CheckReport,
    manifest: &'a Path,
}

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let report = self.report;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("manifest", &self.manifest.display().to_string())?;
        map.serialize_entry("verdict", report.verdict().word())?;
        map.serialize_entry("size", &report.size)?;
        map.serialize_entry("wanted", &report.wanted)?;
        map.serialize_entry("fewest_copies", &report.weakest().map(|weakest| weakest.copies))?;
        map.serialize_entry("short", &report.short())?;
        map.serialize_entry("missing", &report.missing().0)?;
        map.serialize_entry("corrupt", &report.corrupt().0)?;
        map.serialize_entry("on_all_cells", &report.on_all_cells())?;
        map.serialize_entry("by_copies", report.by_copies())?;
        map.serialize_entry("cells", &report.cells().map(cell_json).collect::<Vec<_>>())?;
        map.serialize_entry("unheard", &names(&report.unresponsive))?;
        map.serialize_entry("bad_copies", &Each(|| report.bad_copies.iter().map(bad_copy_json)))?;
        map.serialize_entry(
            "chunks",
            &Each(|| {
                report.chunks().map(|chunk| {
                    let holders: Vec<_> = chunk.holders.iter().map(|cell| name(cell)).collect();
                    let (index, id, copies) = (chunk.index, chunk.id, chunk.copies);
                    serde_json::json!({ "index": index, "id": id, "copies": copies, "holders": holders })
                })
            }),
        )?;
        map.serialize_entry("requests", &report.requests)?;
        map.end()
    }
}

/// A list whose entries are made while they are serialized.
struct Each<F>(F);

impl<F: Fn() -> I, I: Iterator<Item = serde_json::Value>> Serialize for Each<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

/// The id of a cell, or its URL: servers of the first version have no id.
fn name(cell: &KnownCell) -> String {
    cell.id.map_or_else(|| cell.url.clone(), |id| id.to_string())
}

fn cell_json(cell: &KnownCell) -> serde_json::Value {
    serde_json::json!({ "node_id": cell.id, "url": cell.url, "role": cell.role, "status": cell.status })
}

pub(super) fn names(cells: &[CellName]) -> Vec<String> {
    cells.iter().map(CellName::to_string).collect()
}

pub(super) fn bad_copy_json(copy: &BadCopy) -> serde_json::Value {
    serde_json::json!({ "chunk": copy.chunk, "index": copy.index, "cell": copy.cell.to_string(), "found": copy.found })
}
