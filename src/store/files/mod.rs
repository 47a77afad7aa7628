//! A store on a disk, and the specification of its data folder.
//!
//! # The data folder
//!
//! ```text
//! DATA/
//! ├── cellsync.cell        marker: makes this a cell's data folder, and holds the cell's id
//! ├── lock                 empty; flock held by the one process that uses the folder
//! ├── chunks/
//! │   ├── 00/
//! │   ├── …                256 shard folders, by the first byte of the id
//! │   └── ff/<id>          one file for each chunk: exactly its bytes
//! ├── tmp/                 files being written; emptied at every start
//! ├── quarantine/<id>      bad copies; past 64 MiB those are deleted whose chunk is stored again
//! ├── catalogue/           index of records (sled), rebuildable from chunks/
//! ├── catalogue.bad/       the last catalogue that was set aside
//! ├── facts                the cell's saved state, up to 64 KiB
//! ├── clean                clean-stop note: what each shard held; removed before the first change
//! └── ballast              4 MiB that are released when the disk is full
//! ```
//!
//! `<id>` is a chunk's id, 64 lower-case hexadecimal digits: the SHA-256 of the file. The owner of the folder must also
//! be the owner of the files that the process creates; otherwise the folder is refused. Sizes are in bytes, times in
//! seconds since 1970 by the cell's own clock. All formats are fixed: every release opens the folder of every earlier
//! one.
//!
//! # What a chunk is on the disk
//!
//! A chunk is stored if `chunks/ab/<id>` is a regular file whose name is an id that begins with the folder's name `ab`.
//! All else in the shard folders is ignored and left alone. Nothing but these files decides whether a chunk is stored:
//! files can be copied in, restored from a backup or deleted while the cell is off, and the whole catalogue can be
//! deleted. The names make every copy verifiable with `sha256sum`.
//!
//! ```text
//! put:  body ──64 KiB at a time──▶ tmp/n ─fdatasync─▶ rename to chunks/ab/<id> ─fsync of chunks/ab─▶ Ok
//!             │ SHA-256                                                         (one for many puts)  │
//!             └──▶ id                                    record ─▶ change queue ─▶ catalogue  (not waited for)
//! ```
//!
//! | power cut | what the next start finds |
//! |---|---|
//! | before the rename is durable | nothing, or a file in `tmp/`, which it deletes |
//! | after `Ok` | the chunk, whole; perhaps without its record, which it rebuilds with default metadata |
//! | during `remove` | the chunk or nothing |
//! | during `quarantine` | the copy in `chunks/`, in `quarantine/` or in both, never in neither |
//!
//! A failed fsync of a shard folder leaves unknown which renames are durable, so all files that waited for it are
//! deleted and their puts fail; so does every other put in the folder until an fsync succeeds (`shard`). A put of a
//! stored chunk verifies the stored copy before it counts as present: a bad copy goes into quarantine and the body takes
//! its place.
//!
//! A copy is bad if its bytes do not hash to its id, or if it is larger than a chunk may be. A copy that the disk
//! cannot read (EIO, EUCLEAN, EBADMSG …) is not: a loose cable or an aborted journal makes good files unreadable for a
//! while. It stays where it is, and only a put of the chunk replaces it, by a rename once the new bytes are durable. A
//! file whose length cannot be read either is stored too, but not counted in the usage; its record stays in the
//! catalogue. Reads do not update access times, so that reading and auditing write nothing.
//!
//! # The other files
//!
//! ## `cellsync.cell`, the marker
//!
//! One line of JSON, `{"version":1,"node_id":"<uuid>"}`. Written by `init` and when the cell gets another id, under the
//! temporary name `cellsync.cell.new`. `open` writes nothing to a folder without a marker: it can be the mount
//! point of a disk that is not mounted, and chunks there would fill the system's card. A damaged marker, or one of
//! another version, is refused and never replaced, because other cells recognise this cell by the id in it.
//!
//! `init` makes a folder a cell's only if it is empty, except for `lost+found` and what an interrupted `init` left
//! behind. It makes the names of the folder and of those above it durable before it writes the marker.
//!
//! ## `lock`
//!
//! Locked with flock(2) from open to close, and never deleted. The kernel releases it when the process ends, however it
//! ends. A start retries for two seconds, then refuses.
//!
//! ## `tmp/`
//!
//! `tmp/<number>` is a chunk on its way in, `tmp/facts` a new state. Nothing in this folder is ever read.
//!
//! ## `quarantine/`
//!
//! Bad copies under their ids; further ones of the same chunk are `<id>.1` to `<id>.3`. They do not count as stored, but
//! towards the quota. One is deleted only if a good copy of its chunk is stored, and only when all together take more
//! than 64 MiB or a put finds no room. A put of a chunk may use the room of its own quarantined files, which are deleted
//! when it has succeeded. `restore` hashes a file again: one that was only unreadable returns to `chunks/`. Earlier
//! versions delete the files with the oldest modification time past 64 MiB.
//!
//! ## `catalogue/`, the index of records
//!
//! A sled 0.34 database. Its tree `chunks` maps the 32 bytes of an id to a record (copies, holders, owner, times);
//! `record` draws the bytes. The default tree maps `layout` to one byte, 1. One thread writes it, `catalogue_writer`;
//! it flushes at most every 5 s, every hour if only times of verification changed, and not at all if nothing did.
//!
//! The catalogue is kept at arm's length, because sled panics or hangs on some damaged files and on a full disk:
//!
//! ```text
//! at start   opens ───────────────────────────────▶ open
//!            fails, panics or has another layout ─▶ set aside as catalogue.bad, an empty one opens
//!                                                   (if that fails too ─▶ closed)
//! open       damage or panic ─────────────────────▶ set aside (at most once a minute), an empty one opens
//!            I/O error, disk full ────────────────▶ closed
//! closed     after 60 s ──────────────────────────▶ as at start
//! all        read error ──────────────────────────▶ closed; at the fifth, if the disk writes and reads another
//!                                                   file, set aside, and an empty one opens
//! ```
//!
//! While it is closed, puts, reads and listings continue. `record` then finds nothing, and `records` makes each record
//! from the file alone.
//!
//! After every start, and after it set a catalogue aside, the writer reconciles all shards: it deletes records without
//! a file, and makes records for files without one: default copies as a guess, no holders, no owner, the modification
//! time as time of storage.
//!
//! ## `facts`, the saved state
//!
//! A line with the SHA-256 of the state in hexadecimal, then the state as the cell passed it in (`state_file`).
//! Replaced through `tmp/facts`, so that a power cut leaves the old state or the new one. A damaged file is logged and
//! counts as no state. It is not part of the catalogue, because it must survive the catalogue.
//!
//! ## `clean`, the clean-stop note
//!
//! JSON with the number and bytes of chunks in each shard (`clean_stop`), written by `flush` and `init` under the
//! temporary name `clean.new`. `flush` writes none while a name in a shard folder may not be durable. It is deleted,
//! durably, before the first change after it; if the fsync of the deletion fails, an empty note takes its place before
//! any change. With a note the next start has its counts at once. Without one the process was killed or lost power: the
//! start first makes all visible names durable (syncfs; on FUSE, where that does nothing, an fsync of each folder), and
//! counts the files in the background. A folder that cannot be read is tried again after 5 s. Until all are counted,
//! `usage` reports `counted: false`, and a store with a quota refuses puts. A damaged or empty note counts as none; one
//! that is wrong, because somebody changed `chunks/` while the cell was off, is corrected by the same count.
//!
//! ## `ballast`
//!
//! 4 MiB of allocated space, created at open if the disk has twice as much free. It is deleted before the
//! catalogue opens with less than 2 MiB of free space or writes with less than 1 MiB, or when the state cannot be saved
//! for lack of space. The next
//! open with enough space creates it again. Without it a full disk could not record that the cell drains.
//!
//! # Reserve and quota
//!
//! A put is admitted if the chunk, rounded up to blocks of 4096 bytes, fits into `f_bavail × f_frsize − reserve − puts
//! in progress`, minus the ballast's size while that does not exist, and if its length fits into `quota − bytes stored
//! − bytes in quarantine − puts in progress`. The reserve defaults to 1 GiB or 5 % of the disk, whichever is smaller;
//! there is no default quota. Neither is stored in the data folder. With fewer than 64 free inodes the disk is full.
//! Error `NoRoom` also covers what only the system knows.
//!
//! # A disk that cannot be written to
//!
//! A disk that is mounted read-only, or that the kernel has made read-only after an error, is read: the store opens
//! (`lock` is locked through a descriptor for reading), and `tmp/`, the ballast, the clean-stop note and the catalogue
//! stay as they are. An open catalogue is still read; one that is not open stays closed. Every put fails with error
//! `ReadOnly`, also that of a stored chunk. Every 5 s the catalogue writer tries to create a file; once it can, the
//! store continues as after a start. If the last stop was unclean, no name was made durable at the start, and a put
//! writes and renames each stored chunk again.
//!
//! After a change that failed with EIO or the like, the writer tries the same. The disk counts as one that cannot be
//! written to if that fails too.
//!
//! # The modules
//!
//! ```text
//! file_store ─▶ put, verify ─▶ inner: the parts of an open store ◀─ catalogue_writer
//!
//! inner ─▶ catalogue ─▶ panics      change_queue ─▶ change ─▶ record      shard ─▶ listing
//!          state_file, clean_stop   data_folder ─▶ marker                 capacity
//!
//! put ─▶ staging ─▶ hash            quarantine ─▶ capacity, hash          all ─▶ fs, errors
//! ```

mod capacity;
mod catalogue;
mod catalogue_writer;
mod change;
mod change_queue;
mod clean_stop;
mod data_folder;
mod errors;
#[cfg(test)]
mod faults;
mod file_store;
mod fs;
mod hash;
mod inner;
mod listing;
mod marker;
mod panics;
mod put;
mod quarantine;
mod record;
mod shard;
mod staging;
mod state_file;
mod verify;

pub use crate::store::files::errors::OpenError;
pub use crate::store::files::file_store::{FileStore, StoreOptions};
pub use crate::store::files::panics::panic_is_caught;
