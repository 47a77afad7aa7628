//! The hazards: what a user can lose, what leads to it, what prevents it, and the test that shows so.
//!
//! A hazard that is not in this table was not thought of. A change that adds one adds its row; a test here ensures that
//! every test which is named exists.
//!
//! # Bytes are lost
//!
//! | hazard | what prevents the loss | test |
//! |---|---|---|
//! | Power fails while a chunk is stored | a put is acknowledged only when file and name are durable | `acknowledged_chunks_survive_power_cuts`, `puts_survive_a_power_cut_at_each_step` |
//! | Power fails during a first start, or after one | a new folder's name is durable before its marker | `a_first_start_survives_a_power_cut_at_each_step` |
//! | Power fails while a copy moves to or from quarantine | its bytes are in one of the folders at each step | `quarantine_and_removal_survive_a_power_cut_at_each_step` |
//! | A name that a killed process left vanishes at a power cut | the start makes all names durable before one counts | `a_put_after_a_kill_survives_a_power_cut` |
//! | The disk fails at some call and works again | what failed is not acknowledged, and the process takes no later fsync for proof | `an_error_at_any_call_of_the_work_loses_nothing`, `an_error_at_any_call_of_the_start_loses_nothing` |
//! | The process is killed while it stores | the same; half-written files are deleted at the start | `acknowledged_chunks_survive_kills` |
//! | The disk fills up during a put | the put fails and leaves nothing; what is stored can be read | `a_disk_that_fills_up_during_puts_keeps_nothing_half_written` |
//! | A board or its card dies | five copies on different cells; missing ones are made again | `twelve_cells_heal_the_copies_that_three_lost` |
//! | All holders but one die | one copy suffices, and it is copied first | `four_holders_of_a_chunk_may_die`, `the_last_copy_gets_a_second_one_at_once` |
//! | Bits flip on a disk | scrubs and audits hash all copies; a bad one is replaced | `audits_find_a_bad_copy_and_the_cell_replaces_it`, `a_full_scrub_finds_all_bad_copies_and_they_are_refetched` |
//! | A card takes more than it can keep | new copies are read back from the disk | `new_copies_are_read_back_from_the_disk` |
//! | A loose cable makes reads fail | a copy that cannot be read is not a bad copy; it stays | `a_scrub_of_an_unreadable_disk_loses_no_copy`, `an_unreadable_copy_stays_until_a_put_replaces_it` |
//! | A disk becomes unreadable bit by bit | its copies do not count, and are copied to other cells | `a_copy_that_stays_suspect_is_replaced_on_another_cell`, `eight_new_suspects_in_ten_minutes_are_a_failing_disk` |
//! | The quarantine is full | a file goes only if its chunk is stored again; good ones return | `the_quarantine_deletes_no_only_copy`, `a_quarantined_file_that_is_good_returns` |
//! | The index of a cell is lost or damaged | the files alone make a chunk exist; the index is rebuilt | `a_lost_catalogue_is_rebuilt`, `a_damaged_catalogue_is_rebuilt` |
//! | A lost index does not say how many copies a chunk needs | other holders tell it; until then none is extra, and two suffice | `a_lost_index_moves_no_bytes_and_the_copies_are_known_again`, `a_lost_catalogue_moves_and_removes_no_copy` |
//! | A cell lies about how many copies a chunk needs | only a number that was lost is asked for; the largest counts | `of_several_numbers_the_largest_counts`, `a_number_is_taken_only_for_a_bare_record` |
//! | The disk is not mounted at the start | a folder without a marker is refused and left as it is | `a_folder_without_a_marker_is_refused_and_unchanged` |
//! | A card is cloned, and two cells have one id | the newer cell takes another id | `a_cloned_board_takes_a_new_id_and_nothing_is_lost` |
//! | A drained cell is unplugged too early | "can be unplugged" means that others have reported all copies | `a_drained_cell_can_be_unplugged_without_loss`, `a_cell_whose_chunks_fit_nowhere_is_not_safe_to_unplug` |
//! | An extra copy is removed that was needed | it is removed only after others proved theirs by their bytes | `extra_copies_are_removed_for_space_and_never_the_fifth` |
//! | A cell claims chunks that it does not hold | claims that audits refute do not count; one liar hides one copy at most | `a_cell_that_claims_every_chunk_hides_at_most_one_copy` |
//! | A cell takes copies and drops them | it is sent fewer and fewer, and others are sent them | `a_cell_that_drops_chunks_does_not_stop_healing` |
//! | Forged alerts, hints and beacons | each only causes a check | `forged_alerts_change_only_counters`, `forged_hints_move_no_byte_and_hide_no_loss`, `forged_beacons_move_no_byte_and_have_no_lasting_effect` |
//! | A put finds too few cells | it refuses below `--min-copies`, and says how many copies it made | `a_put_to_few_cells_makes_fewer_copies_or_refuses` |
//! | A file changes while it is stored | the change is noticed; in a directory the file is named | `a_file_that_grows_is_stored_and_one_that_changes_is_not`, `a_changing_directory_is_stored_with_every_stable_file` |
//! | A put continues with another file of that name | size, times and inode, and the hash of each block, must be the same | `a_changed_file_resumes_with_the_blocks_that_are_the_same`, `a_file_that_got_its_old_time_back_has_changed` |
//! | A restore overwrites something | only with `--force`, and only when it is complete | `only_force_overwrites_a_file_and_only_with_a_complete_one` |
//! | A restore continues what somebody changed | everything that is kept is compared first | `a_damaged_partial_file_is_noticed`, `a_continued_directory_that_was_changed_is_restored_anew` |
//! | Some chunks of a file are lost | a salvage restores all else, and names what is lost | `a_salvage_returns_every_byte_that_is_there` |
//!
//! # The key is lost
//!
//! | hazard | what prevents the loss | test |
//! |---|---|---|
//! | The manifest cannot be written after a put | that is tried before the first byte is sent | `an_unwritable_manifest_is_found_before_sending` |
//! | Another put overwrites the manifest | only with `--force`, and never from an unfinished put of other content | `only_force_overwrites_a_manifest`, `a_changed_file_does_not_replace_the_manifest_of_the_former` |
//! | The output of a put or a get is its own source | it refuses | `no_put_or_get_overwrites_its_source_or_a_manifest` |
//! | A put is killed | its journal has the key and continues | `a_killed_put_sends_only_missing_copies_when_repeated` |
//! | The user does not know that the manifest is the key | every put says that it is the only key | `a_put_says_that_its_manifest_is_the_only_key` |
//!
//! # The bytes are there and cannot be had
//!
//! | hazard | what prevents it | test |
//! |---|---|---|
//! | All cells are away for a while | a get waits, and continues | `a_get_continues_after_all_cells_have_restarted`, `a_get_continues_after_all_cells_hung` |
//! | A cell sends a byte now and then | it is left behind, and another one is asked | `a_cell_that_trickles_is_left_behind` |
//! | A cell hangs | the service manager restarts it | `systemd_is_notified_until_a_cell_hangs_or_stops` |
//! | A disk fails to write and does not say so | it is tried after an error, and the cell accepts nothing while the trial fails | `a_disk_that_fails_to_write_is_read_only_until_it_writes` |
//! | A disk lacks sockets, links or modes | a cell needs none of them in its data folder | `a_data_folder_needs_no_sockets` |
//! | A stranger takes all connections | each network has a share of the slots | `half_open_connections_do_not_lock_out_others`, `one_address_takes_slots_only_from_itself` |
//! | A board reboots, and its copies are made again until all disks are full | one silent holder is awaited | `a_reboot_moves_no_bytes`, `a_reboot_of_two_minutes_moves_no_byte_at_any_number_of_copies` |
//! | A switch fails, and each half fills its disks | chunks with two copies or more wait | `a_switch_outage_moves_only_last_copies`, `a_third_that_falls_silent_at_once_delays_healing` |
//! | A slow cell is taken for an empty one | it counts until it has answered nothing for an hour | `copies_of_slow_cells_count` |
//! | A get is killed near its end | the next one continues | `a_killed_get_of_a_file_continues_and_fetches_nothing_twice`, `a_killed_get_of_a_directory_continues` |
//!
//! # Others read what they must not
//!
//! | hazard | what prevents it | test |
//! |---|---|---|
//! | A cell reads what it stores | chunks are encrypted before they leave the client | `the_token_of_the_specification_is_reproduced`, `nothing_is_decrypted_before_the_hmac_is_checked` |
//! | One shared chunk opens others | each chunk of a directory has a key of its own | `derived_keys_are_the_documented_ones` |
//! | Other users read the manifest or the journal | mode 0600 from the first byte on | `a_put_stores_five_good_copies_and_a_get_restores_them` |
//! | A restored file grants more than its source did | the mode is set before the name; without one it is 0600 | `a_file_has_the_mode_and_time_of_its_manifest` |
//! | A crash report prints the key | the debug form hides it | `the_debug_form_hides_the_key`, `the_debug_form_hides_the_secret` |
//!
//! # What is not prevented
//!
//! - Without the manifest the bytes are noise. Nothing recovers them; keep a copy of it elsewhere.
//! - All boards in one room burn together. Keep one of them, or a second colony, in another place.
//! - Five holders that die within the time that healing takes take the chunk with them.
//! - Several cells of one attacker can pretend to be holders on different boards, until audits fetch their copies.
//! - If all holders of a chunk lose their indexes at once, nobody knows how many copies it needs: it then gets five,
//!   and none is removed. A cell of an earlier version knows no other number after the loss of its index either.
//! - A disk that reports bytes as written and forgets them at a power cut breaks every promise of one cell.
//! - Bad memory in the laptop damages bytes before they are hashed. Compare after a put: `cellsync-get -o - | cmp`.
//! - A cell knows the sizes and times of the chunks that it stores, and who fetches them. Who holds a manifest can find
//!   its chunks on any cell.

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    /// The names of all functions in the Rust files of a folder.
    fn functions(folder: &Path, names: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                functions(&path, names);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let after_fn = text.lines().filter_map(|line| line.trim_start().strip_prefix("fn "));
                names.extend(after_fn.filter_map(|line| Some(line.split_once("()")?.0.to_owned())));
            }
        }
    }

    #[test]
    fn every_test_that_is_named_exists() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut names = BTreeSet::new();
        functions(&root.join("src"), &mut names);
        functions(&root.join("tests"), &mut names);
        let text = fs::read_to_string(root.join("src/hazards.rs")).unwrap();
        let rows = text.lines().filter_map(|line| line.strip_prefix("//! | ")).filter(|row| !row.starts_with("hazard"));
        let mut count = 0;
        for row in rows {
            let tests = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
            for test in tests.split(", ") {
                let name = test.strip_prefix('`').and_then(|test| test.strip_suffix('`'));
                let name = name.unwrap_or_else(|| panic!("no test: {row}"));
                assert!(names.contains(name), "there is no test {name}");
                count += 1;
            }
        }
        assert!(count >= 40, "{count}");
    }
}
