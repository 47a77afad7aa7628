//! POSIX access control lists, between their text form and the form that Linux stores.
//!
//! An archive has the text form, with numbers in place of names: `user::rw-,user:1000:r--,group::r--,mask::r--,other::---`.
//! Linux stores a list as the extended attribute `system.posix_acl_access` or `system.posix_acl_default`. All integers
//! are little-endian:
//!
//! ```text
//!  offset   size   content
//!  0        4      2, the version
//!  4        8 × n  entries: tag (2 bytes), permissions (2), id (4)
//!
//!  tag      whose permissions            id               text
//!  0x01     the owner                    0xffffffff       user::rwx
//!  0x02     a user                       the user's       user:ID:rwx
//!  0x04     the owning group             0xffffffff       group::rwx
//!  0x08     a group                      the group's      group:ID:rwx
//!  0x10     the most that 0x02, 0x04     0xffffffff       mask::rwx
//!           and 0x08 grant
//!  0x20     everybody else               0xffffffff       other::rwx
//! ```
//!
//! The entries are sorted by tag and id. Permissions are 4 (read), 2 (write) and 1 (execute). Sources: IEEE 1003.1e
//! draft 17 for the text; `linux/posix_acl_xattr.h` for the other form.

/// The version of the stored form.
const VERSION: u32 = 2;
/// The id of an entry that is neither of a user nor of a group by number.
const NO_ID: u32 = u32::MAX;
const OWNER: u16 = 0x01;
const USER: u16 = 0x02;
const OWNING_GROUP: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// An access control list that cannot be converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an access control list with numeric ids")]
pub struct MalformedAcl;

/// The text of a stored list.
pub fn to_text(stored: &[u8]) -> Result<String, MalformedAcl> {
    let Some((version, entries)) = stored.split_first_chunk() else { return Err(MalformedAcl) };
    let (entries, rest) = entries.as_chunks::<8>();
    if u32::from_le_bytes(*version) != VERSION || !rest.is_empty() {
        return Err(MalformedAcl);
    }
    let texts: Result<Vec<String>, _> = entries.iter().map(|entry| entry_text(*entry)).collect();
    Ok(texts?.join(","))
}

fn entry_text([tag_low, tag_high, low, high, id @ ..]: [u8; 8]) -> Result<String, MalformedAcl> {
    let permissions = u16::from_le_bytes([low, high]);
    let id = u32::from_le_bytes(id);
    let who = match u16::from_le_bytes([tag_low, tag_high]) {
        OWNER => "user:".to_owned(),
        USER => format!("user:{id}"),
        OWNING_GROUP => "group:".to_owned(),
        GROUP => format!("group:{id}"),
        MASK => "mask:".to_owned(),
        OTHER => "other:".to_owned(),
        _ => return Err(MalformedAcl),
    };
    if permissions > 7 {
        return Err(MalformedAcl);
    }
    let letter = |bit, letter| if permissions & bit == 0 { '-' } else { letter };
    Ok(format!("{who}:{}{}{}", letter(4, 'r'), letter(2, 'w'), letter(1, 'x')))
}

/// The stored form of a list. Its entries may be separated by commas or line breaks and be in any order. Of an entry
/// such as `user:bob:r--:1000`, which names a user or a group and has the number behind the permissions, the number
/// counts; a name alone is an error.
pub fn from_text(text: &str) -> Result<Vec<u8>, MalformedAcl> {
    // A comment begins with `#` and ends with the line.
    let lines = text.lines().filter_map(|line| line.split('#').next());
    let entries = lines.flat_map(|line| line.split(',')).map(str::trim).filter(|entry| !entry.is_empty());
    let mut entries: Vec<(u16, u32, u16)> = entries.map(parsed_entry).collect::<Result<_, _>>()?;
    entries.sort_unstable();
    let mut stored = VERSION.to_le_bytes().to_vec();
    for (tag, id, permissions) in entries {
        stored.extend(tag.to_le_bytes());
        stored.extend(permissions.to_le_bytes());
        stored.extend(id.to_le_bytes());
    }
    Ok(stored)
}

/// The mode of a file whose list is left out. A mode has the mask in place of what the owning group may do, and anyone
/// who is named in the list is in the group or among the others now: neither gets a permission that one of the named
/// lacks. A malformed list leaves nothing to them.
pub fn mode_without(text: &str, mode: u32) -> u32 {
    let stored = from_text(text).unwrap_or_default();
    let (entries, _) = stored.get(size_of_val(&VERSION)..).unwrap_or_default().as_chunks::<8>();
    let (mut owning_group, mut mask, mut named) = (0, 7, None);
    for &[tag_low, tag_high, low, high, ..] in entries {
        let permissions = u32::from(u16::from_le_bytes([low, high]));
        match u16::from_le_bytes([tag_low, tag_high]) {
            OWNING_GROUP => owning_group = permissions,
            MASK => mask = permissions,
            USER | GROUP => named = Some(named.unwrap_or(7) & permissions),
            _ => {}
        }
    }
    let others = match named {
        _ if entries.is_empty() => 0,
        Some(named) => named & mask,
        None => 7,
    };
    let group = owning_group & mask & others;
    mode & !0o077 | mode & (group << 3 | others)
}

/// Tag, id and permissions of an entry.
fn parsed_entry(entry: &str) -> Result<(u16, u32, u16), MalformedAcl> {
    let mut fields = entry.split(':').map(str::trim);
    let (who, name, permissions) = match (fields.next(), fields.next(), fields.next()) {
        (Some(who), Some(name), Some(permissions)) => (who, name, permissions),
        // `mask:rwx` and `other:rwx` need no empty field.
        (Some(who @ ("mask" | "m" | "other" | "o")), Some(permissions), None) => (who, "", permissions),
        _ => return Err(MalformedAcl),
    };
    let number = fields.next();
    if fields.next().is_some() {
        return Err(MalformedAcl);
    }
    let tag = match (who, name.is_empty()) {
        ("user" | "u", true) => OWNER,
        ("user" | "u", false) => USER,
        ("group" | "g", true) => OWNING_GROUP,
        ("group" | "g", false) => GROUP,
        ("mask" | "m", true) => MASK,
        ("other" | "o", true) => OTHER,
        _ => return Err(MalformedAcl),
    };
    let id = if name.is_empty() { NO_ID } else { number.unwrap_or(name).parse().map_err(|_| MalformedAcl)? };
    let mut bits = 0;
    for letter in permissions.chars() {
        bits |= match letter {
            'r' => 4,
            'w' => 2,
            'x' => 1,
            '-' => 0,
            _ => return Err(MalformedAcl),
        };
    }
    Ok((tag, id, bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "user::rw-,user:1000:r--,user:70000:-wx,group::r--,group:27:rwx,mask::rwx,other::---";

    /// The list of `TEXT` as Linux stores it.
    fn stored() -> Vec<u8> {
        let entries: [(u16, u16, u32); 7] = [
            (0x01, 6, NO_ID),
            (0x02, 4, 1000),
            (0x02, 3, 70_000),
            (0x04, 4, NO_ID),
            (0x08, 7, 27),
            (0x10, 7, NO_ID),
            (0x20, 0, NO_ID),
        ];
        let mut stored = vec![2, 0, 0, 0];
        for (tag, permissions, id) in entries {
            stored.extend(tag.to_le_bytes());
            stored.extend(permissions.to_le_bytes());
            stored.extend(id.to_le_bytes());
        }
        stored
    }

    #[test]
    fn a_list_converts_to_text_and_back() {
        assert_eq!(to_text(&stored()).as_deref(), Ok(TEXT));
        assert_eq!(from_text(TEXT), Ok(stored()));
    }

    #[test]
    fn text_of_other_programs_is_read() {
        let text = "# owner: bob\nother::---\nuser::rw-\nu:bob:r--:1000\nuser:70000:-wx #effective:-wx\ng::r\n\
                    group:sudo:rwx:27,m:rwx\n";
        assert_eq!(from_text(text), Ok(stored()));
    }

    #[test]
    fn malformed_lists_are_errors() {
        for text in [
            "user",
            "user::rwz",
            "user:bob:r--",
            "who::rwx",
            "mask:5:rwx",
            "user:1:r:1:1",
            "user:-1:r",
            "user:4294967296:r",
        ] {
            assert_eq!(from_text(text), Err(MalformedAcl), "{text}");
        }
        let good = stored();
        for len in (0..good.len()).filter(|len| *len < 4 || (len - 4) % 8 != 0) {
            assert_eq!(to_text(&good[..len]), Err(MalformedAcl), "{len}");
        }
        for (at, byte) in [(0, 3), (4, 3), (7, 1)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert_eq!(to_text(&bad), Err(MalformedAcl), "{at}");
        }
    }

    #[test]
    fn without_its_list_nobody_gets_more_permissions() {
        let modes = [
            ("user::rw-,group::r--,other::r--", 0o644, 0o644),
            // The mask stands in the place of the group.
            ("user::rwx,user:5:rwx,group::r--,mask::rwx,other::r-x", 0o4775, 0o4745),
            ("user::rwx,user:5:---,group::rwx,mask::rwx,other::rwx", 0o777, 0o700),
            ("user::rwx,user:5:rwx,group::rwx,mask::r--,other::rwx", 0o747, 0o744),
            ("user::rwx,group:5:r--,group::rw-,mask::rw-,other::---", 0o760, 0o740),
            ("user:bob:rwx", 0o777, 0o700),
            ("", 0o777, 0o700),
        ];
        for (text, mode, expected) in modes {
            assert_eq!(mode_without(text, mode), expected, "{text}");
        }
    }
}
