//! Where a directory is restored, and what is left if that fails.

use super::*;

#[test]
fn a_failed_restore_leaves_nothing_even_of_closed_directories() {
    let place = Place::new();
    let whole = Archive::of(&[entry("a", 0o500, Kind::Directory), file("a/f", 0o000, 1), directory("b")]);
    for length in [0, 600, 2000, whole.len() - 600] {
        let error = place.restore(&whole[..length], PLAIN).unwrap_err();
        assert!(error.to_string().contains("the archive is truncated"), "{error}");
        assert!(place.names().is_empty(), "{length} bytes");
    }
    // Stopped in between.
    let mut output = TreeOutput::open(&place.out(), &manifest(), &get_with(PLAIN, false)).unwrap();
    output.write(whole[..1500].to_vec()).unwrap();
    drop(output);
    assert!(place.names().is_empty());
}

#[test]
fn an_existing_empty_directory_is_filled() {
    let place = Place::new();
    let out = place.out();
    fs::create_dir(&out).unwrap();
    fs::create_dir(out.join("lost+found")).unwrap();
    let inode = fs::metadata(&out).unwrap().ino();
    let entries = [
        entry(".", 0o555, Kind::Directory),
        entry("closed", 0o500, Kind::Directory),
        file("closed/f", 0o600, 1),
        file("f", 0o600, 1),
        link("link", "f"),
        directory("lost+found"),
    ];
    place.restore_whole(&entries);
    let metadata = fs::metadata(&out).unwrap();
    assert_eq!((metadata.ino(), metadata.mode() & 0o7777, metadata.mtime()), (inode, 0o555, 1_700_000_000));
    let listing = listing(&out);
    let names: Vec<_> = listing.keys().map(|name| str::from_utf8(name).unwrap()).collect();
    assert_eq!(names, ["", "closed", "closed/f", "f", "link", "lost+found"]);
    assert_eq!((listing[&b"closed"[..]].0, listing[&b"closed"[..]].2), (0o500, 1_700_000_000));
    // It is not empty now.
    let error = place.restore(&Archive::of(&entries), PLAIN).unwrap_err();
    assert!(matches!(error, ClientError::Usage(UsageError::OutputDirectoryNotEmpty { .. })), "{error}");
}

#[test]
fn a_directory_that_takes_the_path_of_the_target_gets_nothing() {
    let place = Place::new();
    let [out, moved, other] = ["out", "moved", "other"].map(|name| place.0.path().join(name));
    fs::create_dir(&out).unwrap();
    fs::create_dir(&other).unwrap();
    let before = listing(&other);
    let entries = [
        entry(".", 0o751, Kind::Directory),
        entry("closed", 0o500, Kind::Directory),
        file("closed/f", 0o600, 1),
        file("f", 0o600, 1),
    ];
    let mut output = TreeOutput::open(&out, &manifest(), &get_with(PLAIN, false)).unwrap();
    output.write(Archive::of(&entries)).unwrap();
    fs::rename(&out, &moved).unwrap();
    std::os::unix::fs::symlink(&other, &out).unwrap();
    assert_eq!(output.finish().unwrap().omissions, []);
    assert_eq!(listing(&other), before);
    let listing = listing(&moved);
    let modes: Vec<_> = listing.iter().map(|(name, entry)| (str::from_utf8(name).unwrap(), entry.0)).collect();
    assert_eq!(modes, [("", 0o751), ("closed", 0o500), ("closed/f", 0o600), ("f", 0o600)]);
}

#[test]
fn what_appeared_meanwhile_is_kept_and_so_is_what_was_restored() {
    for is_inside in [true, false] {
        let place = Place::new();
        let out = place.out();
        if is_inside {
            fs::create_dir(&out).unwrap();
        }
        let mut output = TreeOutput::open(&out, &manifest(), &get_with(PLAIN, false)).unwrap();
        output.write(Archive::of(&[file("f", 0o600, 8), file("g", 0o600, 1)])).unwrap();
        fs::create_dir_all(&out).unwrap();
        fs::write(out.join("f"), b"other").unwrap();
        match output.finish().unwrap_err() {
            ClientError::RestoredElsewhere { saved_as, .. } => {
                assert_eq!(fs::read(saved_as.join("f")).unwrap(), b"xxxxxxxx");
            }
            error => panic!("{error}"),
        }
        assert_eq!(fs::read(out.join("f")).unwrap(), b"other");
        assert_eq!(out.join("g").exists(), is_inside);
    }
}

#[test]
fn only_an_empty_directory_is_a_place() {
    let place = Place::new();
    let out = place.out();
    fs::write(&out, b"keep").unwrap();
    let error = place.restore(&Archive::of(&[]), PLAIN).unwrap_err();
    assert!(matches!(error, ClientError::Usage(UsageError::OutputDirectoryExists { .. })), "{error}");
    fs::remove_file(&out).unwrap();
    std::os::unix::fs::symlink("nowhere", &out).unwrap();
    let error = place.restore(&Archive::of(&[]), PLAIN).unwrap_err();
    assert!(matches!(error, ClientError::Usage(UsageError::OutputDirectoryExists { .. })), "{error}");
    fs::set_permissions(place.0.path(), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(place.names(), ["out"]);
}
