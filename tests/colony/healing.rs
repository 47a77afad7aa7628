//! A colony that loses cells gets its copies back by itself, and moves no byte more than it must.
//!
//! The times are those of real cells, a tenth as long; `CELLSYNC_REAL_TIMES` runs them at full length.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cellsync::wire::peers::Presence;
use cellsync::wire::status::CellStatus;

use super::house::{Cell, Colony, Stored, light_blocks, run};
use super::lan::Lan;

/// How much quicker than real cells these live.
pub(crate) fn pace() -> u64 {
    if std::env::var_os("CELLSYNC_REAL_TIMES").is_some() { 1 } else { 10 }
}

/// The settings of a real cell, as much quicker; the silence after which a cell is missed is not, nor what follows from
/// the beacons.
pub(crate) fn quick() -> Vec<String> {
    let [ten, thirty, hundred] = [10_000, 30_000, 120_000].map(|ms| ms / pace());
    [
        format!("heal_delay_ms=[0,{ten},{thirty},{hundred}]"),
        format!("heal_step_ms={}", 20_000 / pace().min(5)),
        format!("belief_audit_ms={}", 600_000 / pace()),
    ]
    .into_iter()
    .flat_map(|setting| ["--set".to_owned(), setting])
    .collect()
}

/// Waits for a condition as long as the rules allow, and a while for this machine.
#[track_caller]
pub(crate) fn within(what: &str, rules: Duration, mut condition: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < rules + Duration::from_mins(1), "not within {rules:?}: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
    began.elapsed()
}

impl Colony {
    pub(crate) fn statuses(&self) -> Vec<CellStatus> {
        let living = self.cells.iter().filter(|cell| cell.is_running());
        living.filter_map(|cell| self.http.status(&cell.url).ok()).collect()
    }

    /// Bytes that cells have sent to each other to heal since they started.
    pub(crate) fn healed_bytes(&self) -> u64 {
        self.statuses().iter().map(|status| status.activity.healed_bytes).sum()
    }

    /// The fewest living copies that a chunk has, not counting those of these cells.
    pub(crate) fn fewest_copies(&self, stored: &Stored, without: &[usize]) -> usize {
        let copies = self.copies();
        let counts = |number: &&usize| self.cells[**number].is_running() && !without.contains(number);
        let count = |id: &String| copies.get(id).map_or(0, |cells| cells.iter().filter(counts).count());
        stored.ids.iter().map(count).min().unwrap()
    }

    fn bytes_of(&self, cells: &[usize]) -> u64 {
        let size =
            |cell: &Cell| -> u64 { cell.chunks().iter().map(|id| cell.chunk_file(id).metadata().unwrap().len()).sum() };
        cells.iter().map(|number| size(&self.cells[*number])).sum()
    }
}

/// Twelve cells on a real network lose two to SIGKILL and one to a pulled cable, all at once. Every chunk comes back to
/// five copies in the time the rules give, no more than the lost bytes are moved, and the third cell comes back without
/// a storm.
#[test]
fn twelve_cells_on_a_network_of_their_own_heal_what_three_lost() {
    let Some(lan) = Lan::build(12) else { return };
    lan.enter();
    let options = quick();
    let mut colony = Colony::on_lan(&lan, 12, &options.iter().map(String::as_str).collect::<Vec<_>>());
    let stored = colony.put_bytes("file", &light_blocks(1, 200));
    assert_eq!((stored.ids.len(), colony.count_copies()), (200, 1000));

    let lost = colony.bytes_of(&[0, 1, 2]);
    colony.cells[0].kill();
    colony.cells[1].kill();
    lan.plug(2, false);
    // Silence and probe, the longest delay, all five ranks, and the bytes at the healing rate.
    let rules = Duration::from_millis(5_000 + 8_000 + 120_000 / pace() + 4 * 20_000 / pace().min(5))
        + Duration::from_secs(lost / (8 << 20));
    let took = within("every chunk has five copies", rules, || colony.fewest_copies(&stored, &[2]) >= 5);
    let moved = colony.healed_bytes();
    eprintln!("healed within {took:?}: {moved} bytes moved, {lost} lost: {:.3}", moved as f64 / lost as f64);
    assert!(moved as f64 <= 1.1 * lost as f64, "{moved} bytes moved for {lost} that were lost");
    assert!(moved as f64 >= 0.99 * lost as f64, "{moved} bytes moved for {lost} that were lost: how?");

    // The cable is plugged in again. The cell still has its copies, and nobody moves a byte for it.
    let copies = colony.count_copies();
    lan.plug(2, true);
    within("the cell is back", Duration::from_secs(20), || {
        colony.state(&colony.cells[3], &colony.cells[2]) == Some(Presence::Active)
            && colony.state(&colony.cells[2], &colony.cells[3]) == Some(Presence::Active)
    });
    let until = Instant::now() + Duration::from_millis(150_000 / pace());
    within("some time passes", Duration::from_millis(150_000 / pace()), || Instant::now() > until);
    let now = colony.healed_bytes();
    assert!(now <= moved, "{} bytes moved because a cell came back", now - moved);
    assert_eq!(colony.count_copies(), copies);
    assert_eq!(colony.get_bytes(&stored.manifest), light_blocks(1, 200));
    colony.assert_all_chunks_are_what_they_are_named();
}

/// A board reboots: it is gone for longer than silence takes, and back before it is given up.
#[test]
fn a_reboot_moves_no_bytes() {
    let options = quick();
    let mut colony = Colony::start_with(7, &options.iter().map(String::as_str).collect::<Vec<_>>());
    let stored = colony.put_bytes("file", &light_blocks(2, 30));
    colony.cells[3].kill();
    let dead = |colony: &Colony| colony.state(&colony.cells[0], &colony.cells[3]) == Some(Presence::Dead);
    within("it is dead to the others", Duration::from_secs(20), || dead(&colony));
    colony.cells[3].restart();
    colony.know_each_other();
    let until = Instant::now() + Duration::from_millis(250_000 / pace());
    within("some time passes", Duration::from_millis(250_000 / pace()), || Instant::now() > until);
    assert_eq!(colony.healed_bytes(), 0);
    assert_eq!(colony.fewest_copies(&stored, &[]), 5);
    assert_eq!(colony.count_copies(), 150);
}

/// A file that was put while there were fewer cells than copies is completed when cells join.
#[test]
fn a_chunk_with_too_few_copies_gets_the_others_when_cells_join() {
    let options = quick();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let mut colony = Colony::start_with(3, &options);
    let stored = colony.put_bytes("file", &light_blocks(3, 10));
    assert_eq!(colony.count_copies(), 30);
    for _ in 0..3 {
        colony.join(&options);
    }
    let rules = Duration::from_millis(30_000 / pace() + 4 * 20_000 / pace().min(5));
    within("every chunk has five copies", rules, || colony.fewest_copies(&stored, &[]) == 5);
    let until = Instant::now() + Duration::from_secs(3);
    within("some time passes", Duration::from_secs(3), || Instant::now() > until);
    assert_eq!(colony.count_copies(), 50, "and no more");
}

/// `cellsync drain` hands a cell's copies on; then it can be unplugged, and nobody misses it.
#[test]
fn a_drained_cell_can_be_unplugged_and_nothing_is_healed() {
    let options = quick();
    let mut colony = Colony::start_with(7, &options.iter().map(String::as_str).collect::<Vec<_>>());
    let stored = colony.put_bytes("file", &light_blocks(4, 260));
    let drained = (0..7).max_by_key(|number| colony.cells[*number].chunks().len()).unwrap();
    let held = colony.cells[drained].chunks();
    assert!(held.len() >= 186, "{}", held.len());
    let ran = run(colony.tool("drain").arg(&colony.cells[drained].url)).succeeded();
    assert!(ran.text().contains("can be unplugged"), "{}", ran.text());
    assert!(colony.fewest_copies(&stored, &[drained]) >= 5, "the moment it says so");
    let healed = colony.healed_bytes();
    let by_itself = colony.http.status(&colony.cells[drained].url).unwrap().activity.healed_bytes;
    eprintln!("{} chunks: {}", held.len(), ran.text().lines().last().unwrap_or_default());
    colony.cells[drained].kill();
    let until = Instant::now() + Duration::from_millis(250_000 / pace());
    within("some time passes", Duration::from_millis(250_000 / pace()), || Instant::now() > until);
    assert_eq!(colony.healed_bytes(), healed - by_itself, "nothing is healed for it");
    let others: BTreeSet<String> = colony.copies().into_keys().collect();
    assert!(held.is_subset(&others));
}
