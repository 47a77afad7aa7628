//! Healing: a colony that loses cells restores its copies without being asked to, and sends no more bytes than it must.
//!
//! The delays are a tenth of those of real cells; with `CELLSYNC_REAL_TIMES` set they have their full length.

use std::collections::BTreeSet;
use std::time::Duration;

use cellsync::wire::peers::Presence;

use crate::harness::{
    Cell, Colony, Lan, StoredFile, assert_facts, compressible_blocks, fast_options, heal_step, observe_for, run,
    speedup, wait_within,
};

impl Colony {
    /// Bytes that running cells have sent to each other to heal since they started.
    pub(crate) fn healed_bytes(&self) -> u64 {
        self.statuses().iter().map(|status| status.activity.healed_bytes).sum()
    }

    /// The lowest number of copies of a chunk on running cells, not counting those on the cells `without`.
    pub(crate) fn fewest_copies(&self, stored: &StoredFile, without: &[usize]) -> usize {
        let copies = self.copies();
        let counts = |index: &&usize| self.cells[**index].is_running() && !without.contains(index);
        let count = |id: &String| copies.get(id).map_or(0, |cells| cells.iter().filter(counts).count());
        stored.ids.iter().map(count).min().unwrap()
    }

    /// The size of all chunks on these cells.
    fn chunk_bytes(&self, cells: &[usize]) -> u64 {
        let size =
            |cell: &Cell| -> u64 { cell.chunks().iter().map(|id| cell.chunk_file(id).metadata().unwrap().len()).sum() };
        cells.iter().map(|index| size(&self.cells[*index])).sum()
    }
}

/// Goal: a colony that loses three of twelve cells at once gets five copies of every chunk back in time, sends hardly
/// more bytes than were lost, and sends nothing when one of the cells returns. Method: on a network of its own, kills
/// two cells and pulls out the cable of a third, which is plugged in again later.
#[test]
fn twelve_cells_heal_the_copies_that_three_lost() {
    let Some(lan) = Lan::create(12) else { return };
    lan.enter();
    let mut colony = Colony::start_on(&lan, 12, &fast_options());
    let stored = colony.put_bytes("file", &compressible_blocks(1, 200));
    assert_eq!((stored.ids.len(), colony.count_copies()), (200, 1000));

    let lost = colony.chunk_bytes(&[0, 1, 2]);
    colony.cells[0].kill();
    colony.cells[1].kill();
    lan.disconnect(2);
    // Silence and a probe, the longest delay, four steps between five ranks, and the bytes at the rate of healing.
    let limit = Duration::from_millis(5_000 + 8_000 + 120_000 / speedup())
        + 4 * heal_step()
        + Duration::from_secs(lost / (8 << 20));
    let took = wait_within(limit, "every chunk has five copies", || colony.fewest_copies(&stored, &[2]) >= 5);
    let sent = colony.healed_bytes();
    eprintln!("healed within {took:?}: {sent} bytes sent, {lost} lost: {:.3}", sent as f64 / lost as f64);
    assert!(sent as f64 <= 1.1 * lost as f64, "{sent} bytes were sent for {lost} that were lost");
    assert!(sent as f64 >= 0.99 * lost as f64, "only {sent} bytes were sent for {lost} that were lost");

    // The disconnected cell returns with its copies.
    let copies = colony.count_copies();
    lan.reconnect(2);
    wait_within(Duration::from_secs(20), "the cell is active again", || {
        colony.presence(&colony.cells[3], &colony.cells[2]) == Some(Presence::Active)
            && colony.presence(&colony.cells[2], &colony.cells[3]) == Some(Presence::Active)
    });
    observe_for(Duration::from_millis(150_000 / speedup()));
    let sent_since = colony.healed_bytes().saturating_sub(sent);
    assert_eq!(sent_since, 0, "bytes were sent because a cell returned");
    assert_eq!(colony.count_copies(), copies);
    assert_eq!(colony.get_bytes(&stored.manifest), compressible_blocks(1, 200));
    colony.assert_all_copies_good();
}

/// Goal: the reboot of a board moves no bytes, whatever number of copies the chunks have, and whether it was switched off
/// or shut down. Method: kills a cell, and terminates another one. Waits each time until the others know, and for 37
/// seconds of the delays of real cells, and starts it again.
#[test]
fn a_reboot_moves_no_bytes() {
    let mut colony = Colony::start_with(7, &fast_options());
    let mut copies = 0;
    for wanted in 2..=5 {
        let file = colony.write_file(&format!("file{wanted}"), &compressible_blocks(wanted, 30));
        run(colony.put().args(["--compress", "1", "--copies", &wanted.to_string()]).arg(&file)).expect_success();
        copies += 30 * wanted;
    }
    assert_eq!(colony.count_copies(), copies);
    for (index, gone) in [(3, Presence::Dead), (4, Presence::Left)] {
        if gone == Presence::Dead {
            colony.cells[index].kill();
        } else {
            colony.cells[index].terminate();
            assert_eq!(colony.cells[index].wait_exit(), Some(0));
        }
        wait_within(Duration::from_secs(20), "the others know", || {
            colony.presence(&colony.cells[0], &colony.cells[index]) == Some(gone)
        });
        observe_for(Duration::from_millis(37_000 / speedup()));
        colony.cells[index].restart();
        colony.wait_all_active();
        observe_for(Duration::from_millis(150_000 / speedup()));
        assert_eq!(colony.healed_bytes(), 0, "{gone:?}");
        assert_eq!(colony.count_copies(), copies);
    }
}

/// Goal: when a switch fails for five minutes, each half of the colony makes copies only of the chunks of which it holds
/// one, and nothing is sent when the switch is back. Method: splits the bridge of a network of twelve hosts in two.
#[test]
fn a_switch_outage_moves_only_last_copies() {
    let Some(lan) = Lan::create(12) else { return };
    lan.enter();
    let mut options = fast_options();
    for setting in ["settled_ms=1000".to_owned(), format!("split_wait_ms={}", 900_000 / speedup())] {
        options.extend(["--set".to_owned(), setting]);
    }
    let colony = Colony::start_on(&lan, 12, &options);
    let stored = colony.put_bytes("file", &compressible_blocks(1, 100));
    observe_for(Duration::from_secs(2));
    let halves = [0..6, 6..12];
    let last_copies: u64 = colony
        .copies()
        .iter()
        .map(|(id, cells)| {
            let bytes = |cell: &usize| colony.cells[*cell].chunk_file(id).metadata().unwrap().len();
            let held = halves.iter().map(|half| cells.iter().filter(|cell| half.contains(*cell)).collect::<Vec<_>>());
            held.filter(|cells| cells.len() == 1).map(|cells| 4 * bytes(cells[0])).sum::<u64>()
        })
        .sum();

    lan.split(6);
    wait_within(Duration::from_secs(20), "the halves are dead to each other", || {
        (6..12).all(|other| colony.presence(&colony.cells[0], &colony.cells[other]) == Some(Presence::Dead))
    });
    let status = String::from_utf8(run(&mut colony.status()).expect_success().stdout).unwrap();
    assert_facts(&status, &["healing waits up to"]);
    observe_for(Duration::from_millis(300_000 / speedup()));
    lan.join();
    colony.wait_all_active();
    observe_for(Duration::from_millis(150_000 / speedup()));
    let sent = colony.healed_bytes();
    eprintln!("{sent} bytes sent, {last_copies} for chunks of which a half had one copy");
    assert!(0 < sent && sent <= last_copies, "{sent} bytes were sent, and {last_copies} are needed for last copies");
    assert_eq!(colony.get_bytes(&stored.manifest), compressible_blocks(1, 100));
}

/// Goal: a chunk that was put when there were fewer cells than copies gets its other copies when cells join, and no
/// more: the put tells the cells how many are wanted. Method: puts to three cells, then adds three.
#[test]
fn an_under_replicated_chunk_gets_copies_when_cells_join() {
    let options = fast_options();
    let mut colony = Colony::start_with(3, &options);
    let stored = colony.put_bytes("file", &compressible_blocks(3, 10));
    assert_eq!(colony.count_copies(), 30);
    for _ in 0..3 {
        colony.add_cell(&options);
    }
    let limit = Duration::from_millis(30_000 / speedup()) + 4 * heal_step();
    wait_within(limit, "every chunk has five copies", || colony.fewest_copies(&stored, &[]) == 5);
    observe_for(Duration::from_secs(3));
    assert_eq!(colony.count_copies(), 50, "a chunk has more than five copies");
}

/// Goal: when `cellsync drain` reports that a cell can be unplugged, every chunk has five copies elsewhere, and nothing
/// is healed when the cell is gone. Method: drains the cell with the most chunks and kills it.
#[test]
fn nothing_is_healed_for_a_drained_cell_that_is_unplugged() {
    let mut colony = Colony::start_with(7, &fast_options());
    let stored = colony.put_bytes("file", &compressible_blocks(4, 260));
    let drained = (0..7).max_by_key(|index| colony.cells[*index].chunks().len()).unwrap();
    let held = colony.cells[drained].chunks();
    assert!(held.len() >= 186, "{}", held.len());
    let finished = run(colony.tool("drain").arg(&colony.cells[drained].url)).expect_success();
    assert_facts(finished.text(), &["can be unplugged", colony.cells[drained].address()]);
    assert!(colony.fewest_copies(&stored, &[drained]) >= 5, "the drain ended too early");
    let healed = colony.healed_bytes();
    let healed_by_drained = colony.http.status(&colony.cells[drained].url).unwrap().activity.healed_bytes;
    colony.cells[drained].kill();
    observe_for(Duration::from_millis(250_000 / speedup()));
    assert_eq!(colony.healed_bytes(), healed - healed_by_drained, "something was healed for the drained cell");
    let others: BTreeSet<String> = colony.copies().into_keys().collect();
    assert!(held.is_subset(&others));
}
