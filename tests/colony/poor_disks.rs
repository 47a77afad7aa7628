//! Cells on disks that lack something: sockets, room, or the permission to write. A disk that can be read is used.

use cellsync::id::ChunkId;

use crate::harness::{Cell, PoorDisk, UdpPort, random_bytes, request};

/// Goal: a data folder needs no sockets, links or modes. Method: a cell on such a disk stores a chunk, is killed,
/// stopped and started again.
#[test]
fn a_data_folder_needs_no_sockets() {
    let Some(disk) = PoorDisk::mount() else { return };
    let port = UdpPort::free();
    let mut cell = Cell::start(&disk.path().join("cell"), port.number, &[]);
    let bytes = random_bytes(1, 100_000);
    let path = format!("/chunk/{}", ChunkId::of(&bytes));
    assert_eq!(request(cell.address(), "PUT", &path, &[], &bytes).status, 200);
    cell.kill();
    cell.restart();
    assert_eq!(request(cell.address(), "GET", &path, &[], &[]).body, bytes);
    cell.terminate();
    assert_eq!(cell.wait_exit(), Some(0));
    cell.restart();
    assert_eq!(request(cell.address(), "GET", &path, &[], &[]).body, bytes);
}
