//! What a put does with files that it cannot store as they are: it names them, stores everything else, and ends with
//! exit code 6.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::SystemTime;

use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};
use rustix::process::{Signal, geteuid};

use crate::harness::{CAPABILITY_NET_RAW, Colony, StoredFile, access_list, random_bytes, run};
use crate::interrupted::suspend_put;

/// The same command, for a user who can read only what permissions allow: root without its privileges.
fn unprivileged(command: &Command) -> Command {
    let mut unprivileged = if geteuid().is_root() {
        let mut setpriv = Command::new("setpriv");
        setpriv.arg("--bounding-set=-dac_override,-dac_read_search").arg(command.get_program());
        setpriv
    } else {
        Command::new(command.get_program())
    };
    unprivileged.args(command.get_args()).current_dir(command.get_current_dir().unwrap());
    for (name, value) in command.get_envs() {
        unprivileged.env(name, value.unwrap());
    }
    unprivileged
}

/// Goal: what cannot be stored is named before anything is sent, and all else is stored. Method: a directory with
/// unreadable files and special files, first with `--strict`.
#[test]
fn what_cannot_be_stored_is_named_before_the_upload() {
    let colony = Colony::start(3);
    let tree = colony.path("tree");
    fs::create_dir_all(tree.join("closed")).unwrap();
    fs::create_dir_all(tree.join("sub")).unwrap();
    for name in ["a", "secret", "closed/file", "sub/z"] {
        fs::write(tree.join(name), name).unwrap();
    }
    mknodat(CWD, tree.join("sub/fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    for name in ["secret", "closed"] {
        fs::set_permissions(tree.join(name), Permissions::from_mode(0o000)).unwrap();
    }
    let mut put = colony.put();
    put.args(["--copies", "3", "--json", "tree"]);
    let mut strict = unprivileged(&put);
    strict.arg("--strict");
    let failed = run(&mut strict).expect_code(1).expect_last_line(&["3", "--strict", "no manifest"]);
    for facts in [["tree/secret", "ermission denied"], ["tree/closed", "listed"], ["tree/sub/fifo", "FIFO"]] {
        assert!(failed.stderr.lines().any(|line| facts.iter().all(|fact| line.contains(fact))), "{}", failed.stderr);
    }
    assert_eq!((colony.count_copies(), colony.files()), (0, vec!["tree".to_owned()]), "nothing was sent");

    let report = run(&mut unprivileged(&put)).expect_code(6).json();
    assert_eq!(report["omissions"], 3);
    assert_eq!(report["omitted"][0]["path"], "tree/closed");
    assert!(report["omitted"][0]["reason"].as_str().unwrap().contains("listed"), "{report}");
    run(colony.get().args(["tree.manifest", "-o", "restored"])).expect_success();
    let restored = colony.path("restored");
    assert_eq!(
        (fs::read(restored.join("a")).unwrap(), fs::read(restored.join("sub/z")).unwrap()),
        (b"a".to_vec(), b"sub/z".to_vec())
    );
    assert!(restored.join("closed").is_dir() && !restored.join("secret").exists());
    for folder in [tree, restored] {
        fs::set_permissions(folder.join("closed"), Permissions::from_mode(0o700)).unwrap();
    }
}

/// Changes the files of a directory that the test does not compare, until it is told to stop.
fn disturb(folder: &Path, is_ended: &AtomicBool) {
    let log = folder.join("log");
    let (mut random, mut round) = (fastrand::Rng::new(), 0);
    while !is_ended.load(Ordering::SeqCst) {
        round += 1;
        let name = |n: u32| folder.join(format!("sub{}/changing{n}", n % 3));
        let path = name(random.u32(0..12));
        // Another writer may have removed the file.
        match random.u32(0..6) {
            0 => drop(fs::write(&path, vec![7; random.usize(0..2 << 20)])),
            1 => drop(File::options().write(true).open(&path).and_then(|file| file.set_len(random.u64(0..1000)))),
            2 => drop(fs::remove_file(&path)),
            3 => drop(fs::rename(name(random.u32(0..12)), &path)),
            4 => drop(File::options().write(true).open(&path).and_then(|file| file.write_all_at(b"new", 5))),
            _ => {
                let folder = folder.join(format!("folder{}", round % 4));
                drop(fs::create_dir(&folder));
                drop(fs::write(folder.join("file"), b"x"));
                drop(fs::remove_dir_all(&folder));
            }
        }
        let log = File::options().create(true).append(true).open(&log);
        drop(log.and_then(|mut log| log.write_all(&[b'l'; 5000])));
    }
}

/// Goal: whatever happens to a directory while it is stored, the result is a readable archive in which every file that
/// did not change is right. Method: two threads change files while a put runs, twenty times.
#[test]
fn a_changing_directory_is_stored_with_every_stable_file() {
    let colony = Colony::start(3);
    let tree = colony.path("tree");
    for folder in 0..3 {
        fs::create_dir_all(tree.join(format!("sub{folder}"))).unwrap();
    }
    let stable: Vec<String> = (0..30).map(|n| format!("sub{}/stable{n}", n % 3)).collect();
    for (name, n) in stable.iter().zip(0..) {
        fs::write(tree.join(name), random_bytes(n, 40_000 * usize::try_from(n % 5).unwrap())).unwrap();
    }
    let mut with_omissions = 0;
    for round in 0..20 {
        let is_ended = AtomicBool::new(false);
        let put = thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| disturb(&tree, &is_ended));
            }
            let mut put = colony.put();
            put.args(["--copies", "2", "--compress", "0", "--jobs", "1", "--force", "--json", "tree"]);
            let put = run(&mut put);
            is_ended.store(true, Ordering::SeqCst);
            put
        });
        assert!(put.code == 0 || put.code == 6, "round {round}: {}", put.stderr);
        assert_eq!(put.code == 6, !put.stderr.is_empty());
        with_omissions += usize::from(put.code == 6);
        let restored = colony.path("restored");
        run(colony.get().args(["tree.manifest", "-o", "restored"])).expect_success();
        for name in &stable {
            assert!(
                fs::read(restored.join(name)).unwrap() == fs::read(tree.join(name)).unwrap(),
                "round {round}: {name}"
            );
            assert!(!put.stderr.contains(name.as_str()), "round {round}: {}", put.stderr);
        }
        fs::remove_dir_all(&restored).unwrap();
        fs::remove_file(tree.join("log")).unwrap();
    }
    assert!(with_omissions > 5, "only {with_omissions} puts met a file that changed");
}

/// Goal: a file that only grows is stored up to its first size; one that was rewritten is refused when that is noticed.
/// Method: suspends a put, changes the file, and lets the put continue.
#[test]
fn a_file_that_grows_is_stored_and_one_that_changes_is_not() {
    let colony = Colony::start(3);
    let bytes = random_bytes(1, 40 << 20);
    let path = colony.write_file("file", &bytes);
    let mut put = colony.put();
    put.args(["--copies", "1", "--compress", "0", "--jobs", "1", "--force", "file"]);

    let mut suspended = suspend_put(&colony, &mut put, 2);
    File::options().append(true).open(&path).unwrap().write_all(b"more").unwrap();
    suspended.signal(Signal::CONT);
    suspended.finish().expect_code(6).expect_line(&["file", "grew", "40"]);
    assert!(colony.get_bytes(&colony.path("file.manifest")) == bytes);

    fs::remove_file(colony.path("file.manifest")).unwrap();
    let mut suspended = suspend_put(&colony, &mut put, 2);
    File::options().write(true).open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    suspended.signal(Signal::CONT);
    suspended.finish().expect_error(1, &["file changed while it was stored"]);
    let sealed = fs::read_to_string(colony.path("file.manifest.part")).unwrap().lines().count();
    assert!(sealed < 39, "the put read on: {sealed} blocks");

    fs::remove_file(colony.path("file.manifest.part")).unwrap();
    put.arg("--strict");
    let mut suspended = suspend_put(&colony, &mut put, 2);
    File::options().append(true).open(&path).unwrap().write_all(b"more").unwrap();
    suspended.signal(Signal::CONT);
    suspended.finish().expect_code(1).expect_last_line(&["--strict"]);
    assert!(!colony.path("file.manifest").exists());
}

/// Goal: options for directories are checked. Method: each mistake, and one put that they change.
#[test]
fn exclude_options_leave_files_out_and_name_mistakes() {
    let colony = Colony::start(1);
    let tree = colony.path("tree");
    fs::create_dir_all(tree.join("cache")).unwrap();
    for name in ["keep", "a.o", "cache/x", "-b"] {
        fs::write(tree.join(name), name).unwrap();
    }
    let patterns = colony.write_file("patterns", b"# objects\n\n*.o\ncache/\n");
    let put = |options: &[&str]| run(colony.put().args(["--copies", "1"]).args(options));
    put(&["tree", "--exclude", "[x"]).expect_error(2, &["[x"]);
    put(&["tree", "--exclude-from", "missing"]).expect_error(1, &["missing"]);
    put(&["patterns", "--exclude", "x"]).expect_error(2, &["--exclude", "directory"]);
    put(&["patterns", "--exclude-caches"]).expect_error(2, &["--exclude-caches", "directory"]);
    put(&["tree", "--exclude-from", patterns.to_str().unwrap(), "--exclude=/-b"]).expect_success();
    run(colony.get().args(["tree.manifest", "-o", "restored"])).expect_success();
    let names: Vec<_> =
        fs::read_dir(colony.path("restored")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["keep"]);
    assert_eq!(StoredFile::read(&colony.path("tree.manifest")).json["content"], "tar");
}

/// Goal: the manifest has the mode and the time of a single file, and what it has no place for is named.
#[test]
fn the_manifest_of_a_file_has_its_mode_and_time() {
    let colony = Colony::start(1);
    let path = colony.write_file("file", b"content");
    fs::set_permissions(&path, Permissions::from_mode(0o4750)).unwrap();
    run(colony.put().args(["--copies", "1", "--strict", "file"])).expect_error(1, &["file", "set-user-id", "--strict"]);
    assert!(!colony.path("file.manifest").exists());
    run(colony.put().args(["--copies", "1", "file"])).expect_code(6).expect_line(&["file", "set-user-id"]);
    let json = StoredFile::read(&colony.path("file.manifest")).json;
    let modified = fs::metadata(&path).unwrap().modified().unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(json["mode"], 0o750);
    assert_eq!(json["mtime_ns"].as_u64(), Some(u64::try_from(modified.as_nanos()).unwrap()));
}

/// Goal: what a file may do and who may use it is not lost unnoticed. Method: a single file with a capability and one
/// with an access control list, each first with `--strict`. Capabilities need root.
#[test]
fn capabilities_and_the_list_of_a_single_file_are_named() {
    let colony = Colony::start(1);
    for (file, attribute, value, reason) in [
        ("program", "security.capability", &CAPABILITY_NET_RAW[..], "its capabilities"),
        ("shared", "system.posix_acl_access", &access_list(&[1000]), "its access control list"),
    ] {
        let path = colony.write_file(file, file.as_bytes());
        if let Err(error) = setxattr(&path, attribute, value, XattrFlags::empty()) {
            let is_required = std::env::var_os("CELLSYNC_REQUIRE_ROOT_TESTS").is_some();
            assert!(!is_required, "cannot set {attribute}: {error}");
            eprintln!("skipped: cannot set {attribute}: {error}");
            continue;
        }
        let before = (colony.files(), colony.count_copies());
        run(colony.put().args(["--copies", "1", "--strict", file])).expect_error(1, &[file, reason, "--strict"]);
        assert_eq!((colony.files(), colony.count_copies()), before, "nothing is stored");
        let stored =
            run(colony.put().args(["--copies", "1", "--json", file])).expect_code(6).expect_line(&[file, reason]);
        let (manifest, report) = (colony.path(&format!("{file}.manifest")), stored.json());
        assert_eq!(report["omissions"], 1, "{report}");
        assert!(report["omitted"][0]["reason"].as_str().unwrap().contains(reason), "{report}");
        assert_eq!(colony.get_bytes(&manifest), file.as_bytes());
    }
}
