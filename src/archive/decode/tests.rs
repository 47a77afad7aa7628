use std::io::Read;

use tar::{Builder, EntryType, Header};

use super::*;
use crate::archive::{MAX_EXTENTS, encode, pax};

/// The entries of a stream with their data, or its first error.
fn decode(stream: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, DecodeError> {
    let mut decoder = Decoder::new(stream);
    let mut entries = Vec::new();
    while let Some(entry) = decoder.next_entry()? {
        let mut data = Vec::new();
        while let bytes = decoder.data()?
            && !bytes.is_empty()
        {
            let length = bytes.len();
            data.extend_from_slice(bytes);
            decoder.consume_data(length);
        }
        entries.push((entry, data));
    }
    Ok(entries)
}

/// The only entry of a stream.
fn decode_one(stream: &[u8]) -> Entry {
    let mut entries = decode(stream).unwrap();
    assert_eq!(entries.len(), 1);
    entries.remove(0).0
}

fn header(flag: u8, path: &str, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_path(path).unwrap();
    header.as_old_mut().linkflag = [flag];
    header.set_mode(0o644);
    header.set_uid(1000);
    header.set_gid(100);
    header.set_size(size);
    header.set_mtime(7);
    header.set_cksum();
    header
}

/// A header with its data and padding.
fn block(header: &Header, data: &[u8]) -> Vec<u8> {
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

fn member(flag: u8, path: &str, data: &[u8]) -> Vec<u8> {
    block(&header(flag, path, data.len() as u64), data)
}

/// A whole stream of these members.
fn stream(members: &[Vec<u8>]) -> Vec<u8> {
    [members.concat(), vec![0; 2 * BLOCK]].concat()
}

/// The data of an extension header.
fn records(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut data = Vec::new();
    for (key, value) in records {
        pax::push(&mut data, key.as_bytes(), value);
    }
    data
}

/// A sparse file of GNU tar: its header, the blocks that continue its map, and its data.
fn sparse(size: u64, extents: &[(u64, u64)], data: &[u8]) -> Vec<u8> {
    let mut header = header(b'S', "sparse", data.len() as u64);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.set_real_size(size);
    let (first, rest) = extents.split_at(extents.len().min(4));
    gnu.set_is_extended(!rest.is_empty());
    for (slot, &(offset, length)) in gnu.sparse.iter_mut().zip(first) {
        slot.set_offset(offset);
        slot.set_length(length);
    }
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    let mut blocks = rest.chunks(21).peekable();
    while let Some(listed) = blocks.next() {
        let mut block = GnuExtSparseHeader::new();
        block.set_is_extended(blocks.peek().is_some());
        for (slot, &(offset, length)) in block.sparse_mut().iter_mut().zip(listed) {
            slot.set_offset(offset);
            slot.set_length(length);
        }
        bytes.extend_from_slice(block.as_bytes());
    }
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

#[test]
fn headers_of_posix_and_gnu_have_the_same_meaning() {
    for (mut header, name) in [(Header::new_gnu(), "a/b"), (Header::new_ustar(), "a/b"), (Header::new_old(), "a/b")] {
        header.set_path(name).unwrap();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o104_755);
        header.set_uid(1000);
        header.set_gid(100);
        header.set_size(3);
        header.set_mtime(1_700_000_000);
        let _ = header.set_username("alice");
        header.set_cksum();
        let (entry, data) = decode(&stream(&[block(&header, b"abc")])).unwrap().remove(0);
        assert_eq!(entry.path, b"a/b");
        assert_eq!(entry.kind, Kind::File { size: 3, extents: None });
        assert_eq!((entry.mode, entry.user.id, entry.group.id), (0o4755, 1000, 100));
        assert_eq!(entry.modified, Timestamp { seconds: 1_700_000_000, nanoseconds: 0 });
        assert_eq!(data, b"abc");
    }
}

#[test]
fn records_replace_fields_of_the_header() {
    let long = "d/".repeat(200) + "f";
    let values = records(&[
        ("path", long.as_bytes()),
        ("size", b"5"),
        ("uid", b"4294967294"),
        ("gid", b"3000000"),
        ("uname", b"alice"),
        ("gname", b"\xffstaff"),
        ("mtime", b"-1.25"),
        ("SCHILY.xattr.user.b", b"2\n=\0"),
        ("SCHILY.xattr.user.a%3D", b""),
        ("SCHILY.acl.access", b"user::rw-"),
        ("SCHILY.acl.default", b"user::rwx"),
    ]);
    let file = block(&header(b'0', "short", 0), b"12345");
    let (entry, data) = decode(&stream(&[member(b'x', "x", &values), file])).unwrap().remove(0);
    let expected = Entry {
        path: long.into_bytes(),
        kind: Kind::File { size: 5, extents: None },
        mode: 0o644,
        user: Owner { id: 4_294_967_294, name: Some("alice".into()) },
        group: Owner { id: 3_000_000, name: None },
        modified: Timestamp { seconds: -2, nanoseconds: 750_000_000 },
        xattrs: vec![(b"user.a=".to_vec(), vec![]), (b"user.b".to_vec(), b"2\n=\0".to_vec())],
        access_acl: Some("user::rw-".into()),
        default_acl: Some("user::rwx".into()),
    };
    assert_eq!((entry, &data[..]), (expected, &b"12345"[..]));
}

#[test]
fn records_for_one_entry_end_there_and_global_ones_do_not() {
    let global = member(b'g', "g", &records(&[("uid", b"5"), ("gname", b"all")]));
    let own = member(b'x', "x", &records(&[("uid", b"6"), ("path", b"renamed")]));
    let members = [global, own, member(b'0', "one", b""), member(b'0', "two", b"")];
    let entries = decode(&stream(&members)).unwrap();
    let seen: Vec<_> = entries.iter().map(|(entry, _)| (&entry.path[..], entry.user.id)).collect();
    assert_eq!(seen, [(&b"renamed"[..], 6), (b"two", 5)]);
    assert!(entries.iter().all(|(entry, _)| entry.group.name.as_deref() == Some("all")));
}

#[test]
fn long_names_of_gnu_tar_are_read() {
    let (name, target) = ("n".repeat(300), "t".repeat(400));
    let zero_ended = |text: &str| [text.as_bytes(), b"\0"].concat();
    let members =
        [member(b'K', "L", &zero_ended(&target)), member(b'L', "L", &zero_ended(&name)), member(b'2', "nnn", b"")];
    let entry = decode_one(&stream(&members));
    assert_eq!((entry.path, entry.kind), (name.into_bytes(), Kind::SymbolicLink { target: target.into_bytes() }));
}

/// Earlier versions wrote times before 1970 as numbers of 64 bits without a sign. GNU tar writes a sign.
#[test]
fn times_before_1970_are_read_with_and_without_a_sign() {
    for first in [0x80, 0xff] {
        let mut header = header(b'0', "old", 0);
        let time = &mut header.as_old_mut().mtime;
        time[..4].copy_from_slice(&[first, first & 0x7f, first & 0x7f, first & 0x7f]);
        time[4..].copy_from_slice(&(-460_000_000_i64).to_be_bytes());
        header.set_cksum();
        let entry = decode_one(&stream(&[block(&header, b"")]));
        assert_eq!(entry.modified, Timestamp { seconds: -460_000_000, nanoseconds: 0 });
    }
}

#[test]
fn every_type_is_read_and_only_files_have_data() {
    let mut link = header(b'1', "hard", 99);
    link.set_link_name("file").unwrap();
    link.set_cksum();
    let members = [
        member(b'5', "dir//", b""),
        member(b'\0', "v7/", b""),
        member(b'7', "file", b"data"),
        block(&link, b""),
        block(&header(b'3', "device", 99), b""),
        member(b'D', "unknown", b"has data"),
        member(b'0', "last", b"!"),
    ];
    let entries = decode(&stream(&members)).unwrap();
    let kinds: Vec<_> = entries.iter().map(|(entry, data)| (&entry.path[..], entry.kind.clone(), &data[..])).collect();
    let file = |size| Kind::File { size, extents: None };
    let expected = [
        (&b"dir"[..], Kind::Directory, &b""[..]),
        (b"v7", Kind::Directory, b""),
        (b"file", file(4), b"data"),
        (b"hard", Kind::HardLink { target: b"file".to_vec() }, b""),
        (b"device", Kind::Other { flag: b'3' }, b""),
        (b"unknown", Kind::Other { flag: b'D' }, b"has data"),
        (b"last", file(1), b"!"),
    ];
    assert_eq!(kinds, expected);
}

#[test]
fn a_sparse_file_has_its_parts_with_data() {
    let parts: Vec<(u64, u64)> = (0..60).map(|i| (i * 1024, 512)).chain([(1 << 30, 10), (1 << 40, 0)]).collect();
    let data = vec![7; 60 * 512 + 10];
    let entries = decode(&stream(&[sparse(1 << 40, &parts, &data), member(b'0', "next", b"x")])).unwrap();
    let extents = parts[..61].iter().map(|&(offset, length)| Extent { offset, length }).collect();
    assert_eq!(entries[0].0.kind, Kind::File { size: 1 << 40, extents: Some(extents) });
    assert_eq!((entries[0].0.data_bytes(), entries[0].1.len(), &entries[1].1[..]), (30_730, 30_730, &b"x"[..]));
}

#[test]
fn a_sparse_map_that_is_not_in_order_is_refused() {
    type Parts<'a> = &'a [(u64, u64)];
    let cases: [(u64, Parts<'_>, usize); 7] = [
        (4096, &[(1024, 512), (512, 512)], 1024),
        (4096, &[(0, 1024), (512, 512)], 1536),
        (4096, &[(0, 10), (512, 512)], 522),
        (100, &[(95, 10)], 10),
        (100, &[(0, 10)], 11),
        (100, &[(0, 10)], 9),
        (u64::MAX >> 1, &[(1, u64::MAX - 1), (2, 10)], 10),
    ];
    for (size, parts, data) in cases {
        let error = decode(&stream(&[sparse(size, parts, &vec![1; data])])).unwrap_err();
        assert!(matches!(error, DecodeError::SparseMap { .. }), "{parts:?}: {error}");
    }
    let too_many: Vec<(u64, u64)> = (0..=MAX_EXTENTS as u64).map(|i| (i * 1024, 512)).collect();
    let error = decode(&stream(&[sparse(1 << 40, &too_many, b"")])).unwrap_err();
    assert!(matches!(error, DecodeError::Extents { .. }), "{error}");
}

#[test]
fn sparse_files_of_other_programs_are_refused_by_name() {
    let values = records(&[("GNU.sparse.major", b"1"), ("GNU.sparse.name", b"f")]);
    let error = decode(&stream(&[member(b'x', "x", &values), member(b'0', "f\x1b", b"map")])).unwrap_err();
    assert!(error.to_string().starts_with("f\\u{1b}: "), "{error}");
}

#[test]
fn extension_records_are_bounded() {
    let half = vec![b'n'; MAX_EXTENSION_BYTES / 2 + 1];
    for flags in [b"xx", b"LK", b"Lx", b"gg"] {
        let members: Vec<_> = flags.iter().map(|&flag| member(flag, "x", &half)).collect();
        // The second one is refused before it is read; of the first, `x` and `g` are malformed.
        let error = decode(&stream(&members)).unwrap_err();
        let is_expected = matches!(error, DecodeError::Extensions { .. })
            || (flags == b"gg" && matches!(error, DecodeError::Records { .. }));
        assert!(is_expected, "{}: {error}", flags.escape_ascii());
    }
    // The size alone is not believed.
    let error = decode(&header(b'x', "x", 1 << 60).as_bytes()[..]).unwrap_err();
    assert!(matches!(error, DecodeError::Extensions { at: 0 }), "{error}");
}

#[test]
fn a_stream_that_is_cut_anywhere_is_an_error() {
    let values = records(&[("path", b"renamed")]);
    let whole = stream(&[
        member(b'x', "x", &values),
        member(b'0', "file", &[1; 700]),
        sparse(10_000, &[(0, 512), (1024, 0), (1024, 0), (1024, 0), (1024, 5)], &[3; 517]),
    ]);
    assert_eq!(decode(&whole).unwrap().len(), 2);
    for length in 0..whole.len() {
        let error = decode(&whole[..length]).unwrap_err();
        assert!(matches!(error, DecodeError::Truncated { .. }), "{length}: {error}");
    }
}

#[test]
fn only_zeros_may_follow_the_end() {
    let whole = stream(&[member(b'0', "file", b"1")]);
    let padded = [&whole[..], &[0; 9000]].concat();
    assert_eq!(decode(&padded).unwrap().len(), 1);
    for rest in [&b"x"[..], &[&[0; 8999][..], b"x"].concat(), &whole] {
        let error = decode(&[&whole[..], rest].concat()).unwrap_err();
        assert!(matches!(error, DecodeError::Trailing { at: 1024 }), "{error}");
    }
}

#[test]
fn damaged_headers_are_refused() {
    let whole = stream(&[member(b'0', "file", b"1")]);
    for at in 0..BLOCK {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        assert!(decode(&damaged).is_err(), "byte {at}");
    }
    for values in [records(&[("path", b"a\0b")]), b"99 path=a\n".to_vec(), records(&[("size", b"9223372036854775808")])]
    {
        assert!(decode(&stream(&[member(b'x', "x", &values), member(b'0', "file", b"")])).is_err());
    }
    // Records without an entry.
    let error = decode(&stream(&[member(b'x', "x", &records(&[("path", b"a")]))])).unwrap_err();
    assert!(matches!(error, DecodeError::Records { .. }), "{error}");
    // A symbolic link to nothing.
    assert!(decode(&stream(&[member(b'2', "link", b"")])).is_err());
}

/// An archive as earlier versions wrote it, with one of everything.
fn sample() -> Vec<u8> {
    let values = records(&[("path", b"renamed"), ("mtime", b"-1.5"), ("SCHILY.xattr.user.a", b"\n")]);
    let mut builder = Builder::new(Vec::new());
    for (path, data) in [("a", &b"1"[..]), (&"long/".repeat(50), &[9; 2000])] {
        let mut header = header(b'0', "x", data.len() as u64);
        builder.append_data(&mut header, path, data).unwrap();
    }
    let built = builder.into_inner().unwrap();
    let parts: Vec<(u64, u64)> = (0..30).map(|i| (i * 1024, 512)).collect();
    let sparse = sparse(1 << 30, &parts, &[5; 30 * 512]);
    let tail = stream(&[member(b'x', "x", &values), member(b'0', "y", b"22"), sparse]);
    [&built[..built.len() - 2 * BLOCK], &tail].concat()
}

/// Goal: no stream makes the decoder panic or take much memory. Method: random bytes, and archives with random changes
/// and correct checksums; a decoder that returned more data than it was given would not end.
#[test]
fn no_stream_makes_the_decoder_panic() {
    let mut rng = fastrand::Rng::with_seed(1);
    let sample = sample();
    let entries = decode(&sample).unwrap();
    assert_eq!(entries.len(), 4);
    for round in 0..20_000 {
        let mut bytes = if round % 20 == 0 {
            let length = rng.usize(..3000);
            std::iter::repeat_with(|| rng.u8(..)).take(length).collect()
        } else {
            sample.clone()
        };
        for _ in 0..rng.usize(1..4) {
            if let Some(byte) = rng.choice(0..bytes.len()).and_then(|at| bytes.get_mut(at)) {
                *byte = *rng.choice([0, 1, b' ', b'0', b'7', b'9', b'\n', b'=', 0x80, 0xff].iter()).unwrap();
            }
        }
        let kept = rng.usize(0..=bytes.len());
        if round % 3 == 0 {
            bytes.truncate(kept);
        }
        // Correct the checksum of whatever is at the place of a header.
        for block in bytes.chunks_exact_mut(BLOCK) {
            if block[257..262] == *b"ustar" {
                let mut header = Header::new_old();
                header.as_mut_bytes().copy_from_slice(block);
                header.set_cksum();
                block.copy_from_slice(header.as_bytes());
            }
        }
        if let Ok(entries) = decode(&bytes) {
            let data: usize = entries.iter().map(|(_, data)| data.len()).sum();
            assert!(data <= bytes.len());
        }
    }
}

#[test]
fn data_can_be_read_as_a_stream() {
    let bytes = stream(&[member(b'0', "a", &[1; 600]), member(b'0', "b", b"22")]);
    let mut decoder = Decoder::new(&bytes[..]);
    decoder.next_entry().unwrap().unwrap();
    let mut half = [0; 300];
    decoder.read_exact(&mut half).unwrap();
    decoder.next_entry().unwrap().unwrap();
    let mut data = Vec::new();
    decoder.read_to_end(&mut data).unwrap();
    assert_eq!(data, b"22");
    assert!(decoder.next_entry().unwrap().is_none() && decoder.next_entry().unwrap().is_none());
}

/// Goal: an entry that this program writes reads back as it was. Method: random entries of every kind, with names,
/// times, numbers and attributes of every form.
#[test]
fn a_written_entry_reads_back() {
    let mut rng = fastrand::Rng::with_seed(2);
    for _ in 0..3000 {
        let written: Vec<Entry> = (0..3).map(|_| random_entry(&mut rng)).collect();
        let mut bytes = Vec::new();
        for entry in &written {
            let data_bytes = entry.data_bytes();
            bytes.extend(encode::header(entry).unwrap());
            bytes.resize(bytes.len() + usize::try_from(data_bytes).unwrap() + encode::padding(data_bytes), 1);
        }
        bytes.extend(encode::END);
        let read: Vec<Entry> = decode(&bytes).unwrap().into_iter().map(|(entry, _)| entry).collect();
        assert_eq!(read, written);
    }
}

fn random_bytes(rng: &mut fastrand::Rng, lengths: std::ops::Range<usize>) -> Vec<u8> {
    (0..rng.usize(lengths)).map(|_| rng.u8(1..)).collect()
}

fn random_owner(rng: &mut fastrand::Rng) -> Owner {
    let name: String = (0..rng.usize(1..60)).map(|_| rng.alphanumeric()).collect();
    Owner { id: rng.u32(..) >> rng.u32(0..32), name: rng.bool().then_some(name) }
}

fn random_entry(rng: &mut fastrand::Rng) -> Entry {
    let names = [99..102, 1..20, 154..160, 250..300, 900..1100];
    let range = rng.choice(names).unwrap();
    // A path that ends in a slash is that of a directory.
    let path = [random_bytes(rng, range.clone()), vec![b'.']].concat();
    let target = random_bytes(rng, range);
    let extents: Vec<Extent> = (0..rng.u64(0..50)).map(|i| Extent { offset: i * 1024, length: 512 }).collect();
    let kind = match rng.u8(..5) {
        0 => Kind::File { size: rng.u64(..2000), extents: None },
        1 => Kind::File { size: (1 << 16) + rng.u64(..1 << 40), extents: Some(extents) },
        2 => Kind::SymbolicLink { target },
        3 => Kind::HardLink { target },
        _ => Kind::Directory,
    };
    let acl = |rng: &mut fastrand::Rng| rng.bool().then(|| "user::rw-,group::r--,other::---".to_owned());
    let mut xattrs: Vec<(Vec<u8>, Vec<u8>)> = (0..rng.u8(..4))
        .map(|number| ([b"user.%=", &[b'a' + number][..]].concat(), random_bytes(rng, 0..200)))
        .collect();
    xattrs.sort();
    Entry {
        path,
        kind,
        mode: rng.u32(..0o10000),
        user: random_owner(rng),
        group: random_owner(rng),
        modified: Timestamp {
            seconds: rng.i64(..) >> rng.u32(0..64),
            nanoseconds: if rng.bool() { 0 } else { rng.u32(..1_000_000_000) },
        },
        xattrs,
        access_acl: acl(rng),
        default_acl: acl(rng),
    }
}
