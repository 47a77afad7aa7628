//! The names of users and groups on this machine.
//!
//! They come from `/etc/passwd` and `/etc/group` alone. A statically linked program cannot use the name services of the
//! C library, so users who exist only in a directory service have numbers and no names in the archive.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;

use crate::archive::Owner;

/// Maximum size of each of the files, in bytes. What is beyond it is ignored.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// The names by their numbers.
#[derive(Debug, Default)]
pub(super) struct Owners {
    users: BTreeMap<u32, String>,
    groups: BTreeMap<u32, String>,
}

impl Owners {
    /// Reads the names. Files that cannot be read have none.
    pub(super) fn read() -> Self {
        Self { users: parse(&contents("/etc/passwd")), groups: parse(&contents("/etc/group")) }
    }

    pub(super) fn user(&self, id: u32) -> Owner {
        Owner { id, name: self.users.get(&id).cloned() }
    }

    pub(super) fn group(&self, id: u32) -> Owner {
        Owner { id, name: self.groups.get(&id).cloned() }
    }
}

fn contents(path: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        // What was read before an error is as good as the rest.
        let _ = file.take(MAX_FILE_BYTES).read_to_end(&mut bytes);
    }
    bytes
}

/// The names in lines of the form `NAME:PASSWORD:NUMBER:…`. The first of several lines with one number counts, as for
/// the C library.
fn parse(file: &[u8]) -> BTreeMap<u32, String> {
    let mut names = BTreeMap::new();
    for line in file.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok()) {
        let mut fields = line.split(':');
        let (name, number) = (fields.next(), fields.nth(1));
        if let (Some(name), Some(Ok(number))) = (name, number.map(str::parse))
            && !name.is_empty()
            && !name.starts_with(['#', '+', '-'])
        {
            names.entry(number).or_insert_with(|| name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_from_the_lines_of_the_files() {
        let file = b"root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:\n# note:x:7:\n+::::::\nbad:x:y:\nd\xff:x:8:\n\
                     bob:x:4294967295:\nshort:x";
        let expected = [(0, "root".to_owned()), (u32::MAX, "bob".to_owned())];
        assert_eq!(parse(file), BTreeMap::from(expected));
    }
}
