//! The data folder: its marker, `init`, the lock, and what a start cleans up.

use std::fs;
use std::path::Path;

use cellsync::id::{CellId, ChunkId};
use cellsync::store::{FileStore, OpenError, PutMetadata, Record, Store, StoreOptions};

use crate::harness::{bytes, cell, count, file_of, filled, metadata, new_cell, open, put};

fn open_error(dir: &Path) -> OpenError {
    FileStore::open(dir, &StoreOptions::default()).map(drop).unwrap_err()
}

#[test]
fn a_folder_without_a_marker_is_refused_and_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let error = open_error(dir.path());
    assert!(matches!(error, OpenError::NoMarker { .. }), "{error}");
    assert!(error.to_string().contains("--init"), "{error}");
    assert_eq!(count(dir.path()), 0);
    let missing = dir.path().join("missing");
    assert!(matches!(open_error(&missing), OpenError::NoMarker { .. }));
    assert!(!missing.exists());
}

#[test]
fn the_marker_holds_the_cell_id() {
    let dir = new_cell();
    let text = fs::read_to_string(dir.path().join("cellsync.cell")).unwrap();
    assert_eq!(text, format!("{{\"version\":1,\"node_id\":\"{}\"}}\n", cell(1)));
}

#[test]
fn a_damaged_or_unknown_marker_is_refused_and_unchanged() {
    let newer = r#"{"version":2,"node_id":"00000000-0000-4000-8000-000000000000"}"#;
    for bad in ["", "{}", "not a marker", newer] {
        let is_expected = |error: &OpenError| match error {
            OpenError::MarkerVersion { version, .. } => bad == newer && *version == 2,
            OpenError::MarkerDamaged { .. } => bad != newer,
            _ => false,
        };
        let dir = new_cell();
        fs::write(dir.path().join("cellsync.cell"), bad).unwrap();
        let error = open_error(dir.path());
        assert!(is_expected(&error), "{bad}: {error}");
        let error = FileStore::init(dir.path(), cell(2)).unwrap_err();
        assert!(is_expected(&error), "{bad}: {error}");
        assert_eq!(fs::read(dir.path().join("cellsync.cell")).unwrap(), bad.as_bytes());
    }
}

#[test]
fn init_refuses_a_folder_that_is_not_empty() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("photo.jpg"), "").unwrap();
    let error = FileStore::init(dir.path(), cell(1)).unwrap_err();
    assert!(matches!(error, OpenError::NotEmpty { .. }), "{error}");
    assert_eq!(count(dir.path()), 1);
    // A cell's folder that lost its marker holds chunks, which a new cell must not take over silently.
    let (dir, _) = filled(1);
    fs::remove_file(dir.path().join("cellsync.cell")).unwrap();
    assert!(matches!(FileStore::init(dir.path(), cell(2)), Err(OpenError::NotEmpty { .. })));
}

#[test]
fn init_accepts_a_new_disk_and_an_interrupted_init() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["lost+found", "chunks", "chunks/00", "tmp"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    fs::write(dir.path().join("cellsync.cell.new"), "{").unwrap();
    assert_eq!(FileStore::init(dir.path(), cell(1)).unwrap(), cell(1));
    assert_eq!(open(dir.path()).cell_id(), cell(1));
}

#[test]
fn a_cell_keeps_its_id_until_it_is_set() {
    let (dir, ids) = filled(3);
    assert_eq!(FileStore::init(dir.path(), cell(2)).unwrap(), cell(1));
    let store = open(dir.path());
    assert_eq!(store.cell_id(), cell(1));
    store.set_cell_id(cell(3)).unwrap();
    assert_eq!(store.cell_id(), cell(3));
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.cell_id(), cell(3));
    assert_eq!(store.list(None, 9).unwrap(), ids);
}

#[test]
fn a_second_open_is_refused_but_waits_for_a_store_that_closes() {
    let dir = new_cell();
    let store = open(dir.path());
    let error = open_error(dir.path());
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    std::thread::scope(|scope| {
        let next = scope.spawn(|| open(dir.path()));
        drop(store);
        drop(next.join().unwrap());
    });
}

#[test]
fn half_written_files_are_deleted_at_start_and_after_errors() {
    let dir = new_cell();
    fs::write(dir.path().join("tmp/0"), "half").unwrap();
    fs::create_dir(dir.path().join("tmp/folder")).unwrap();
    let store = open(dir.path());
    assert_eq!(count(&dir.path().join("tmp")), 0);
    let bytes = bytes(1, 70_000);
    store.put(None, 80_000, &mut &*bytes, &metadata()).unwrap_err();
    store.put(Some(&ChunkId::of(b"other")), 70_000, &mut &*bytes, &metadata()).unwrap_err();
    assert_eq!(count(&dir.path().join("tmp")), 0);
}

/// Goal: every release opens the folders of the first one, and writes the same formats. Method: a folder written here
/// byte by byte.
#[test]
fn the_formats_of_the_first_release_are_read_and_written() {
    let (dir, chunk) = (tempfile::tempdir().unwrap(), b"chunk");
    let (marker, clean, facts) = (dir.path().join("cellsync.cell"), dir.path().join("clean"), dir.path().join("facts"));
    let id = ChunkId::of(chunk);
    assert_eq!(id.to_string(), "6c87f68371b28954707ebb92afee7ccffb74c6f71ec8fea8a98cf6104289585b");
    let marker_text = format!("{{\"version\":1,\"node_id\":\"{}\"}}\n", cell(1));
    let shards: Vec<_> = (0..256).map(|n| if n == 0x6c { "[1,5]" } else { "[0,0]" }).collect();
    let clean_text = format!("{{\"version\":1,\"shards\":[{}]}}", shards.join(","));
    let state_text = format!("{}\n{{\"draining\":true}}", ChunkId::of(b"{\"draining\":true}"));
    for folder in ["chunks/6c", "catalogue"] {
        fs::create_dir_all(dir.path().join(folder)).unwrap();
    }
    fs::write(&marker, &marker_text).unwrap();
    fs::write(&clean, &clean_text).unwrap();
    fs::write(&facts, &state_text).unwrap();
    fs::write(file_of(dir.path(), &id), chunk).unwrap();
    // Five copies wanted, one holder, an owner; 5 bytes, stored at 256, verified at 257.
    let mut record = vec![1, 5, 1, 1, 5, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0, 0];
    record.extend([7; 32]);
    record.extend([8; 16]);
    let db = sled::Config::new().path(dir.path().join("catalogue")).open().unwrap();
    db.insert("layout", &[1]).unwrap();
    db.open_tree("chunks").unwrap().insert(id.as_bytes(), record).unwrap();
    drop(db);

    let store = open(dir.path());
    assert_eq!(store.cell_id(), cell(1));
    let usage = store.usage();
    assert_eq!((usage.chunks, usage.bytes, usage.counted), (1, 5, true));
    let owned = PutMetadata {
        copies: 5,
        bare: false,
        holders: vec![CellId::from_bytes([8; 16])],
        owner: Some([7; 32]),
        stored_at_s: 256,
    };
    assert_eq!(store.record(&id).unwrap().unwrap(), Record { len: 5, metadata: owned, scrubbed_at_s: 257 });
    assert_eq!(store.load_state().unwrap().unwrap(), b"{\"draining\":true}");
    for written in [&marker, &clean, &facts] {
        fs::remove_file(written).unwrap();
    }
    store.set_cell_id(cell(1)).unwrap();
    store.save_state(b"{\"draining\":true}").unwrap();
    store.remove(&id).unwrap();
    put(&store, chunk).unwrap();
    store.flush().unwrap();
    assert_eq!(fs::read_to_string(&marker).unwrap(), marker_text);
    assert_eq!(fs::read_to_string(&clean).unwrap(), clean_text);
    assert_eq!(fs::read_to_string(&facts).unwrap(), state_text);
}
