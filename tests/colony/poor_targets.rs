//! Restores to a file system without links, modes and case, which cannot rename without replacing: they finish, name
//! what could not be done, and end with exit code 6.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::harness::{Colony, PoorDisk, run};

/// The names in a directory, sorted.
fn names(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// Goal: everything that the target supports is restored, nothing overwrites anything, and the messages stay few.
/// Method: a tree with names that differ in case only, links, and many files with modes.
#[test]
fn a_directory_is_restored_as_far_as_the_target_can() {
    let Some(disk) = PoorDisk::mount() else { return };
    let colony = Colony::start(2);
    let tree = colony.path("tree");
    fs::create_dir_all(tree.join("Dir")).unwrap();
    fs::create_dir_all(tree.join("dir")).unwrap();
    fs::create_dir_all(tree.join("private")).unwrap();
    for (name, bytes) in [("File", "first"), ("file", "second"), ("Dir/x", "upper"), ("dir/y", "lower")] {
        fs::write(tree.join(name), bytes).unwrap();
    }
    for number in 0..50 {
        let path = tree.join(format!("private/{number}"));
        fs::write(&path, format!("{number}")).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    }
    fs::hard_link(tree.join("File"), tree.join("linked")).unwrap();
    symlink("File", tree.join("symlink")).unwrap();
    run(colony.put().args(["tree", "--copies", "2"])).expect_success();

    let restore = |target: &Path| {
        let mut get = colony.get();
        get.args(["tree.manifest", "--no-owner", "--no-xattrs", "--json", "-o"]).arg(target);
        let got = run(&mut get).expect_code(6);
        let facts: [&[&str]; 6] = [
            &["file: not restored", "another entry has this name"],
            &["dir: not restored", "another entry has this name"],
            &["dir/y: not restored", "its directory"],
            &["linked: ", "copy", "ermitted"],
            &["symlink: not restored", "ermitted"],
            &["more restored without", "permissions"],
        ];
        for facts in facts {
            let is_named = got.stderr.lines().any(|line| facts.iter().all(|fact| line.contains(fact)));
            assert!(is_named, "{facts:?}: {}", got.stderr);
        }
        assert!(got.stderr.lines().count() < 60, "{}", got.stderr);
        let report = got.json();
        assert!(report["omissions"].as_u64().unwrap() > 50, "{report}");
        let omitted = report["omitted"].as_array().unwrap();
        assert!(omitted.iter().any(|omission| omission["path"] == "file"), "{report}");

        assert_eq!(names(target), ["Dir", "File", "linked", "private"]);
        assert_eq!(names(&target.join("Dir")), ["x"]);
        for (name, bytes) in [("File", "first"), ("linked", "first"), ("Dir/x", "upper"), ("private/49", "49")] {
            assert_eq!(fs::read_to_string(target.join(name)).unwrap(), bytes, "{name}");
        }
    };
    // As the mount point itself, and in it.
    restore(disk.path());
    restore(&disk.path().join("private/deeper"));
    let again = disk.path().join("private/deeper");
    run(colony.get().args(["tree.manifest", "-o"]).arg(&again)).expect_error(2, &["deeper"]);
    assert_eq!(names(disk.path()), ["Dir", "File", "linked", "private"], "nothing temporary is left");
}

/// Goal: a file is restored where there are neither hard links nor renames without replacing, and replaces nothing.
#[test]
fn a_file_is_restored_to_a_target_without_links() {
    let Some(disk) = PoorDisk::mount() else { return };
    let colony = Colony::start(2);
    let file = colony.write_file("file", b"bytes");
    fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
    run(colony.put().args(["file", "--copies", "2"])).expect_success();
    let target = disk.path().join("file");
    let got = run(colony.get().args(["file.manifest", "-o"]).arg(&target)).expect_code(6);
    assert!(got.stderr.contains("permissions") && got.stderr.contains("ermitted"), "{}", got.stderr);
    assert_eq!(fs::read(&target).unwrap(), b"bytes");
    // Another spelling of its name is the same file here.
    run(colony.get().args(["file.manifest", "-o"]).arg(disk.path().join("FILE"))).expect_error(2, &["FILE"]);
    run(colony.get().args(["file.manifest", "--force", "-o"]).arg(&target)).expect_code(6);
    assert_eq!(names(disk.path()), ["file"]);
}
