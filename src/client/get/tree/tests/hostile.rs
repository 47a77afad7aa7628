//! Archives that lead elsewhere, name things twice, or have what no target accepts.

use super::*;

/// Links in an archive are made, and never followed.
#[test]
fn nothing_is_written_outside_the_directory() {
    let place = Place::new();
    let outside = place.0.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), b"keep").unwrap();
    let before = listing(&outside);
    let to = outside.to_str().unwrap();
    let entries = [
        link("a", to),
        file("a/new", 0o644, 1),
        file("a/file", 0o644, 1),
        directory("a/dir"),
        hard_link("a/hard", "b"),
        link("b", &format!("{to}/file")),
        file("b", 0o600, 1),
        hard_link("c", "a/file"),
        entry("a", 0o777, Kind::Directory),
        directory("d"),
        link("d/e", "../../outside"),
        link("d/e/f", "x"),
    ];
    let omissions = reasons(place.restore(&Archive::of(&entries), PLAIN).unwrap());
    let expected = [
        ("a/new", Reason::NotInDirectory),
        ("a/file", Reason::NotInDirectory),
        ("a/dir", Reason::NotInDirectory),
        ("a/hard", Reason::NotInDirectory),
        ("b", Reason::Collision),
        ("c", Reason::LinkTarget { target: b"a/file".to_vec() }),
        ("a", Reason::Collision),
        ("d/e/f", Reason::NotInDirectory),
    ];
    assert_eq!(omissions, expected.map(|(path, reason)| (path.to_owned(), reason)));
    assert_eq!(listing(&outside), before);
}

#[test]
fn paths_out_of_the_directory_are_refused() {
    for path in ["..", "../x", "a/../../x", "/x", "/", "a/.."] {
        let place = Place::new();
        for entry in [raw(b'0', path, ""), raw(b'1', "link", path), raw(b'5', path, "")] {
            let error = place.restore(&[raw(b'5', "a", ""), entry, END.to_vec()].concat(), PLAIN).unwrap_err();
            assert!(error.to_string().contains("leads out of the directory"), "{path}: {error}");
            assert!(place.names().is_empty(), "{path}");
        }
    }
}

#[test]
fn the_second_entry_of_a_name_overwrites_nothing() {
    let place = Place::new();
    let mut archive = Archive::default();
    archive.add(&file("f", 0o600, 5), b"first");
    archive.add(&file("f", 0o644, 6), b"second");
    archive.add(&directory("d"), b"");
    archive.add(&file("d/kept", 0o644, 0), b"");
    archive.add(&entry("d", 0o700, Kind::Directory), b"");
    archive.add(&file("d/added", 0o644, 0), b"");
    archive.add(&link("d", "f"), b"");
    archive.add(&directory("f"), b"");
    archive.add(&file("f/in", 0o644, 0), b"");
    let omissions = reasons(place.restore(&archive.end(), PLAIN).unwrap());
    let expected = [
        ("f", Reason::Collision),
        ("d", Reason::Collision),
        ("f", Reason::Collision),
        ("f/in", Reason::InOmittedDirectory),
    ];
    assert_eq!(omissions, expected.map(|(path, reason)| (path.to_owned(), reason)));
    assert_eq!(fs::read(place.out().join("f")).unwrap(), b"first");
    // The same directory twice is one directory.
    let d = place.out().join("d");
    assert!(d.join("kept").exists() && d.join("added").exists());
    assert_eq!(fs::metadata(d).unwrap().mode() & 0o7777, 0o700);
}

#[test]
fn directories_that_only_have_entries_are_private() {
    let place = Place::new();
    place.restore_whole(&[file("a/b/c", 0o644, 1), file("a/d", 0o644, 1)]);
    for name in ["a", "a/b"] {
        assert_eq!(fs::metadata(place.out().join(name)).unwrap().mode() & 0o7777, 0o700);
    }
}

#[test]
fn special_files_are_named_and_skipped() {
    let place = Place::new();
    let archive = [raw(b'6', "pipe\n", ""), Archive::of(&[file("after", 0o644, 3)])].concat();
    let omissions = place.restore(&archive, PLAIN).unwrap();
    assert_eq!(omissions.len(), 1);
    assert_eq!(omissions[0].to_string(), "pipe\\n: not restored: it is a FIFO");
    assert_eq!(fs::read(place.out().join("after")).unwrap(), b"xxx");
}

/// What cannot be in any target is omitted, and the rest is restored.
#[test]
fn names_that_the_target_refuses_are_omitted() {
    let place = Place::new();
    let name = "n".repeat(256);
    let inside = format!("{name}/inside");
    let entries = [directory(&name), file(&inside, 0o644, 1), file("good", 0o644, 1), link("long", &"t".repeat(5000))];
    let omissions = reasons(place.restore(&Archive::of(&entries), PLAIN).unwrap());
    let too_long = Reason::Refused { os_error: rustix::io::Errno::NAMETOOLONG.raw_os_error() };
    let expected = [(name, too_long.clone()), (inside, Reason::InOmittedDirectory), ("long".to_owned(), too_long)];
    assert_eq!(omissions, expected);
    assert_eq!(fs::read(place.out().join("good")).unwrap(), b"x");
}

/// Goal: the depth of a tree needs neither open files nor stack. Method: a tree deeper than the usual 1,024 files that a
/// process may open, and one beyond the limit.
#[test]
fn deep_trees_are_restored_to_a_limit() {
    let place = Place::new();
    let depths = [1, 2, 63, 64, 65, 66, 130, 1100, 2049, 100_000];
    let mut entries = vec![];
    for depth in 1..=200 {
        entries.push(entry("d/".repeat(depth), 0o500, Kind::Directory));
    }
    entries.extend(depths.map(|depth| file("e/".repeat(depth - 1) + "f", 0o644, 1)));
    for entry in &mut entries[..200] {
        entry.path.pop();
    }
    let omissions = place.restore(&Archive::of(&entries), PLAIN).unwrap();
    assert_eq!(
        omissions.iter().map(|omission| omission.reason.clone()).collect::<Vec<_>>(),
        [Reason::TooDeep, Reason::TooDeep]
    );
    let mut path = place.out();
    for _ in 0..200 {
        path.push("d");
        if !is_root() {
            break;
        }
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(
            (metadata.mode() & 0o7777, metadata.mtime(), metadata.mtime_nsec()),
            (0o500, 1_700_000_000, 123_456_789)
        );
    }
    assert!(place.out().join("e/".repeat(1099) + "f").exists());
}
