//! The users and groups of this machine.
//!
//! They come from `/etc/passwd` and `/etc/group` alone. A statically linked program cannot use the name services of the
//! C library, so users who exist only in a directory service have numbers and no names.

use std::fs::File;
use std::io::Read;

/// Maximum size of each of the files, in bytes. What is beyond it is ignored.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// A user or a group: the name and the number. Of several with one name or one number, the first counts, as for the C
/// library.
pub(in crate::client) type Account = (String, u32);

/// The users, in the order of the file. A file that cannot be read has none.
pub(in crate::client) fn users() -> Vec<Account> {
    parse(&contents("/etc/passwd"))
}

/// The groups, in the order of the file. A file that cannot be read has none.
pub(in crate::client) fn groups() -> Vec<Account> {
    parse(&contents("/etc/group"))
}

fn contents(path: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        // What was read before an error is as good as the rest.
        let _ = file.take(MAX_FILE_BYTES).read_to_end(&mut bytes);
    }
    bytes
}

/// The accounts in lines of the form `NAME:PASSWORD:NUMBER:…`.
fn parse(file: &[u8]) -> Vec<Account> {
    let lines = file.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    lines.filter_map(account).collect()
}

fn account(line: &str) -> Option<Account> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with(['#', '+', '-']))?;
    Some((name.to_owned(), fields.nth(1)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_read_from_the_lines_of_the_files() {
        let file = b"root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:\n# note:x:7:\n+::::::\nbad:x:y:\nd\xff:x:8:\n\
                     bob:x:4294967295:\nshort:x";
        let expected = [("root", 0), ("toor", 0), ("bob", u32::MAX)];
        assert_eq!(parse(file), expected.map(|(name, number)| (name.to_owned(), number)));
    }
}
