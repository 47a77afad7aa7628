//! The saved state on the disk, the file `facts`.

use std::fs;

use cellsync::store::Store;

use crate::harness::{count, filled, new_cell, open};

#[test]
fn the_state_survives_a_restart_and_the_loss_of_the_catalogue() {
    let (dir, _) = filled(1);
    open(dir.path()).save_state(b"strikes").unwrap();
    fs::remove_dir_all(dir.path().join("catalogue")).unwrap();
    fs::write(dir.path().join("tmp/facts"), "half").unwrap();
    let store = open(dir.path());
    assert_eq!(store.load_state().unwrap().unwrap(), b"strikes");
    assert_eq!(count(&dir.path().join("tmp")), 0);
}

/// Method: the file is cut, grown, and damaged in each of its parts.
#[test]
fn a_damaged_state_counts_as_none_and_can_be_saved_anew() {
    let dir = new_cell();
    let store = open(dir.path());
    let path = dir.path().join("facts");
    store.save_state(b"three strikes").unwrap();
    let good = fs::read(&path).unwrap();
    let mut bad =
        vec![Vec::new(), b"\n".to_vec(), good[..good.len() - 1].to_vec(), [&good[..], &[b'x'; 70_000]].concat()];
    for at in [0, 64, good.len() - 1] {
        let mut flipped = good.clone();
        flipped[at] ^= 1;
        bad.push(flipped);
    }
    for (n, bad) in bad.into_iter().enumerate() {
        fs::write(&path, bad).unwrap();
        assert_eq!(store.load_state().unwrap(), None, "{n}");
        fs::write(&path, &good).unwrap();
        assert_eq!(store.load_state().unwrap().unwrap(), b"three strikes", "{n}");
    }
    fs::write(&path, "damaged").unwrap();
    store.save_state(b"four strikes").unwrap();
    assert_eq!(store.load_state().unwrap().unwrap(), b"four strikes");
}
