//! Put and get of a small file: the cost of starting the program and of finding the colony.

use std::fs;

use crate::colony::{CELLS, Colony};
use crate::material;
use crate::table::{Bar, Table, median, ms};

const RUNS: usize = 20;

pub(crate) fn put_and_get(table: &mut Table) {
    let colony = Colony::start();
    let (source, target) = (colony.path().join("small"), colony.path().join("restored"));
    let (mut puts, mut gets, mut requests) = (Vec::new(), Vec::new(), 0.0);
    for run in 0..RUNS {
        fs::write(&source, material::random(run as u64, 1024)).unwrap();
        puts.push(colony.put(&source).0.seconds);
        let (took, report) = colony.get(Some(&target));
        gets.push(took.seconds);
        requests = f64::max(requests, report["requests"].as_f64().unwrap());
        assert!(fs::read(&source).unwrap() == fs::read(&target).unwrap(), "the restored file differs");
    }
    table.figure("put 1 KiB, 5 copies, from start", median(&puts), Bar::AtMost(0.15), ms);
    table.figure("get 1 KiB, from start", median(&gets), Bar::AtMost(0.15), ms);
    let what = format!("requests to get 1 chunk from {CELLS} cells");
    table.figure(&what, requests, Bar::AtMost((CELLS + 1) as f64), |requests| format!("{requests}"));
}
