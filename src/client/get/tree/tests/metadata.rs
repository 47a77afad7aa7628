//! Owners, attributes and access control lists.

use super::*;

#[test]
fn set_id_bits_are_kept_for_their_owner_only() {
    let place = Place::new();
    let other = |id| Owner { id: id + 12_345, name: None };
    let mine = file("mine", 0o6755, 1);
    let user = Entry { user: other(mine.user.id), ..file("user", 0o6755, 1) };
    let group = Entry { group: other(mine.group.id), ..file("group", 0o6711, 1) };
    let named = Entry { user: Owner { id: mine.user.id, name: Some("daemon".into()) }, ..file("named", 0o4755, 1) };
    let archive = Archive::of(&[mine, user, group, named]);
    let modes = |place: &Place| {
        ["mine", "user", "group", "named"].map(|name| fs::metadata(place.out().join(name)).unwrap().mode() & 0o7777)
    };
    let options = RestoreOptions { owners: RestoreOwners::None, xattrs: false };
    let omissions = reasons(place.restore(&archive, options).unwrap());
    assert_eq!(omissions, ["user", "group", "named"].map(|name| (name.to_owned(), Reason::SetId)));
    assert_eq!(modes(&place), [0o6755, 0o2755, 0o4711, 0o755]);
    if is_root() {
        let place = Place::new();
        assert_eq!(
            place.restore(&archive, RestoreOptions { owners: RestoreOwners::ByName, xattrs: true }).unwrap(),
            []
        );
        assert_eq!(modes(&place), [0o6755, 0o6755, 0o6711, 0o4755]);
    }
}

#[test]
fn owners_are_restored_by_name_or_by_number() {
    if !is_root() {
        eprintln!("NOT RUN: owners_are_restored_by_name_or_by_number: this is not root");
        return;
    }
    let owned = |path: &str, id, name: Option<&str>, kind| {
        let owner = Owner { id, name: name.map(ToOwned::to_owned) };
        Entry { user: owner.clone(), group: owner, ..entry(path, 0o755, kind) }
    };
    let file = Kind::File { size: 0, extents: None };
    let archive = Archive::of(&[
        owned(".", 70_000, None, Kind::Directory),
        owned("daemon", 70_001, Some("daemon"), file.clone()),
        owned("nobody here", 70_002, Some("no such user"), file),
        owned("link", 70_003, None, Kind::SymbolicLink { target: b"nowhere".to_vec() }),
    ]);
    for (owners, daemon) in [(RestoreOwners::ByName, 1), (RestoreOwners::ByNumber, 70_001)] {
        let place = Place::new();
        assert_eq!(place.restore(&archive, RestoreOptions { owners, xattrs: false }).unwrap(), []);
        for (name, id) in [("", 70_000), ("daemon", daemon), ("nobody here", 70_002), ("link", 70_003)] {
            let metadata = fs::symlink_metadata(place.out().join(name)).unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (id, id), "{name}");
        }
    }
}

#[cfg(target_os = "linux")]
mod attributes {
    use rustix::fs::{XattrFlags, getxattr, lgetxattr, setxattr};

    use super::*;
    use crate::archive::acl;
    use crate::client::get::tree::metadata::MetadataSetter;
    use crate::client::get::tree::restorer::copy_link;

    fn value(path: &Path, name: &str) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 1000];
        let length = lgetxattr(path, name, &mut buffer).ok()?;
        buffer.truncate(length);
        Some(buffer)
    }

    /// Whether the file system for temporary files has this attribute, set to this value.
    fn is_supported(test: &str, name: &str, value: &[u8]) -> bool {
        let directory = tempfile::tempdir().unwrap();
        let set = setxattr(directory.path(), name, value, XattrFlags::empty());
        if let Err(error) = set {
            eprintln!("NOT RUN: {test}: {name}: {error}");
        }
        set.is_ok()
    }

    #[test]
    fn attributes_and_capabilities_come_back() {
        if !is_supported("attributes_and_capabilities_come_back", "user.a", b"1") {
            return;
        }
        let place = Place::new();
        let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
        let mut attributes = vec![(b"user.a".to_vec(), b"1\n=\0\xff".to_vec()), (b"user.empty".to_vec(), vec![])];
        if is_root() {
            attributes.insert(0, (b"security.capability".to_vec(), capability));
        }
        let with = |entry: Entry| Entry { xattrs: attributes.clone(), ..entry };
        let read_only = with(file("f", 0o555, 3));
        let folder = Entry { xattrs: attributes[usize::from(is_root())..].to_vec(), ..directory("d") };
        assert_eq!(place.restore(&Archive::of(&[read_only, folder]), FULL).unwrap(), []);
        for (name, expected) in &attributes {
            let name = str::from_utf8(name).unwrap();
            assert_eq!(value(&place.out().join("f"), name).as_ref(), Some(expected), "{name}");
        }
        assert_eq!(value(&place.out().join("d"), "user.empty"), Some(vec![]));
        // They are not restored unasked, and what the target refuses is named.
        let place = Place::new();
        let bad = Entry { xattrs: vec![(b"nonsense".to_vec(), vec![])], ..file("bad", 0o600, 0) };
        let archive = Archive::of(&[with(file("f", 0o555, 3)), bad]);
        assert_eq!(place.restore(&archive, PLAIN).unwrap(), []);
        assert_eq!(value(&place.out().join("f"), "user.a"), None);
        let place = Place::new();
        let omissions = place.restore(&archive, FULL).unwrap();
        assert!(matches!(&omissions[..], [RestoreOmission { reason: Reason::Attribute { .. }, .. }]), "{omissions:?}");
    }

    #[test]
    fn access_control_lists_come_back_or_grant_nothing() {
        const LIST: &str = "user::rwx,user:70000:r--,group::r--,mask::rwx,other::r-x";
        let stored = acl::from_text(LIST).unwrap();
        if !is_supported("access_control_lists_come_back_or_grant_nothing", "system.posix_acl_access", &stored) {
            return;
        }
        let list = || Some(LIST.to_owned());
        let place = Place::new();
        let archive = Archive::of(&[
            Entry { access_acl: list(), default_acl: list(), ..entry("d", 0o775, Kind::Directory) },
            Entry { access_acl: list(), ..file("d/f", 0o775, 1) },
            Entry { access_acl: Some("user:bob:rwx".into()), ..file("bad", 0o666, 1) },
            file("none", 0o660, 1),
        ]);
        assert_eq!(
            reasons(place.restore(&archive, FULL).unwrap()),
            [("bad".to_owned(), Reason::Acl { os_error: None })]
        );
        let out = place.out();
        for (name, attribute, expected) in [
            ("d", "system.posix_acl_access", Some(stored.clone())),
            ("d", "system.posix_acl_default", Some(stored.clone())),
            ("d/f", "system.posix_acl_access", Some(stored.clone())),
            ("d/f", "system.posix_acl_default", None),
            ("none", "system.posix_acl_access", None),
        ] {
            assert_eq!(value(&out.join(name), attribute), expected, "{name} {attribute}");
        }
        let mode = |place: &Place, name: &str| fs::metadata(place.out().join(name)).unwrap().mode() & 0o7777;
        assert_eq!([mode(&place, "d"), mode(&place, "d/f"), mode(&place, "bad")], [0o775, 0o775, 0o600]);
        // The mask is no permission of the group.
        let place = Place::new();
        assert_eq!(place.restore(&archive, PLAIN).unwrap(), []);
        assert_eq!([mode(&place, "d"), mode(&place, "d/f"), mode(&place, "none")], [0o744, 0o744, 0o660]);
    }

    #[test]
    fn a_copy_for_a_hard_link_grants_no_more_than_the_file() {
        let list = acl::from_text("user::rw-,user:70000:rw-,group::---,mask::rw-,other::---").unwrap();
        let test = "a_copy_for_a_hard_link_grants_no_more_than_the_file";
        if !is_supported(test, "system.posix_acl_access", &list) {
            return;
        }
        let place = Place::new();
        let [original, plain, with_list] = ["original", "plain", "list"].map(|name| place.0.path().join(name));
        fs::write(&original, b"bytes").unwrap();
        setxattr(&original, "system.posix_acl_access", &list, XattrFlags::empty()).unwrap();
        assert_eq!(fs::metadata(&original).unwrap().mode() & 0o777, 0o660, "the mask");
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        for (path, options) in [(&plain, PLAIN), (&with_list, FULL)] {
            let mut original = fs::File::open(&original).unwrap();
            let entry = entry("copy", 0o660, Kind::HardLink { target: b"original".to_vec() });
            let copy = fs::File::create_new(path).unwrap();
            assert_eq!(copy_link(&mut original, copy, &entry, &MetadataSetter::new(options)).unwrap(), []);
            assert_eq!(fs::read(path).unwrap(), b"bytes");
        }
        assert_eq!((mode(&plain), value(&plain, "system.posix_acl_access")), (0o600, None));
        assert_eq!((mode(&with_list), value(&with_list, "system.posix_acl_access")), (0o660, Some(list)));
    }

    /// A list for new files of the folder around must not grant anything on restored ones.
    #[test]
    fn lists_of_the_folder_around_are_not_inherited() {
        let list = acl::from_text("user::rwx,user:70000:rwx,group::rwx,mask::rwx,other::rwx").unwrap();
        if !is_supported("lists_of_the_folder_around_are_not_inherited", "system.posix_acl_default", &list) {
            return;
        }
        let place = Place::new();
        setxattr(place.0.path(), "system.posix_acl_default", &list, XattrFlags::empty()).unwrap();
        place.restore_whole(&[directory("d"), file("d/f", 0o640, 1)]);
        for name in ["", "d", "d/f"] {
            let path = place.out().join(name);
            assert_eq!(value(&path, "system.posix_acl_access"), None, "{name}");
            assert!(getxattr(&path, "system.posix_acl_default", &mut [0; 100][..]).is_err(), "{name}");
        }
    }

    #[test]
    fn entries_without_their_attributes_are_counted() {
        let place = Place::new();
        let with = |entry: Entry| Entry { xattrs: vec![(b"user.a".to_vec(), b"1".to_vec())], ..entry };
        let list = "user::rw-,group::r--,other::---".to_owned();
        let entries = [
            with(directory("d")),
            with(file("d/f", 0o600, 1)),
            Entry { access_acl: Some(list.clone()), ..file("list", 0o640, 1) },
            Entry { default_acl: Some(list), ..directory("default") },
            file("plain", 0o600, 1),
        ];
        let archive = Archive::of(&entries);
        let mut output = TreeOutput::open(&place.out(), &manifest(), &get_with(PLAIN, false)).unwrap();
        output.write(archive).unwrap();
        let finished = output.finish().unwrap();
        assert_eq!((finished.without_attributes, finished.omissions), (4, vec![]));
        for name in ["d", "d/f"] {
            assert_eq!(value(&place.out().join(name), "user.a"), None);
        }
    }
}
