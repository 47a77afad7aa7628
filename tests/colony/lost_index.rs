//! A cell loses its index, and with it how many copies each of its chunks needs.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use cellsync::id::ChunkId;
use cellsync::wire::shared_chunks::{SharedChunk, SharedQuery};

use crate::harness::{
    Cell, Colony, StoredFile, compressible_blocks, fast_options, observe_for, run, speedup, wait_within,
};

/// The numbers of copies that a cell knows of the chunks that it shares with another one.
fn known_copies(colony: &Colony, asked: &Cell, other: &Cell, chunks: &[&String]) -> BTreeMap<String, u8> {
    let mut known = BTreeMap::new();
    for id in chunks {
        let query = SharedQuery { node: other.id.parse().unwrap(), prefix: id[..2].parse().unwrap(), after: None };
        // A cell that has just started does not answer yet.
        let shared = colony.http.shared_chunks(&asked.url, &query).ok().flatten().unwrap_or_default();
        let id: ChunkId = id.parse().unwrap();
        let line = shared.into_iter().find(|line| line.id == id);
        if let Some(SharedChunk { copies: Some(copies), .. }) = line {
            known.insert(id.to_string(), copies);
        }
    }
    known
}

/// Goal: a lost index moves no byte, whatever number of copies the chunks have, and the number is known again, also
/// after the next start. Method: deletes the catalogue of a cell, and asks it which chunks it shares with the others.
/// Then starts it once more, when no other cell is left that could tell.
#[test]
fn a_lost_index_moves_no_bytes_and_the_copies_are_known_again() {
    let mut options = fast_options();
    options.extend(["--set", "unheard_ms=8000"].map(ToOwned::to_owned));
    let mut colony = Colony::start_with(7, &options);
    let mut wanted = BTreeMap::new();
    for copies in [2, 3, 6] {
        let name = format!("file{copies}");
        let file = colony.write_file(&name, &compressible_blocks(u64::from(copies), 12));
        run(colony.put().args(["--compress", "1", "--copies", &copies.to_string()]).arg(&file)).expect_success();
        let stored = StoredFile::read(&colony.path(&format!("{name}.manifest")));
        wanted.extend(stored.ids.into_iter().map(|id| (id, copies)));
    }
    let before = colony.copies();
    let on_first = colony.cells[0].chunks();
    let shared: Vec<(usize, &String)> =
        on_first.iter().map(|id| (*before[id].iter().find(|index| **index != 0).unwrap(), id)).collect();
    assert!(shared.iter().any(|(_, id)| wanted[*id] == 2) && shared.iter().any(|(_, id)| wanted[*id] == 6));
    let all_known = |colony: &Colony| {
        (1..colony.cells.len()).all(|other| {
            let chunks: Vec<&String> = shared.iter().filter(|(index, _)| *index == other).map(|(_, id)| *id).collect();
            let known = known_copies(colony, &colony.cells[0], &colony.cells[other], &chunks);
            assert!(known.iter().all(|(id, copies)| *copies == wanted[id]), "{known:?}");
            known.len() == chunks.len()
        })
    };
    assert!(all_known(&colony));

    colony.cells[0].terminate();
    assert_eq!(colony.cells[0].wait_exit(), Some(0));
    fs::remove_dir_all(colony.cells[0].data.join("catalogue")).unwrap();
    colony.cells[0].restart();
    assert!(!all_known(&colony), "the index is lost");
    wait_within(Duration::from_secs(30), "the numbers of copies are known again", || all_known(&colony));
    observe_for(Duration::from_millis(8_000 + 200_000 / speedup()));
    assert_eq!(colony.healed_bytes(), 0);
    assert_eq!(colony.copies(), before);

    colony.cells[0].terminate();
    assert_eq!(colony.cells[0].wait_exit(), Some(0));
    colony.cells[1..].iter_mut().for_each(Cell::kill);
    colony.cells[0].restart();
    wait_within(Duration::from_secs(10), "the cell knows its chunks", || all_known(&colony));
}
