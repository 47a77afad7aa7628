//! The harness: cells, clients and networks that end with their guards, and content to store.

mod bad_cell;
mod cell;
mod colony;
mod content;
mod failing_reads;
mod http;
mod lan;
mod poor_disk;
mod process;
mod timing;
mod tree;

pub(crate) use crate::harness::bad_cell::BadCell;
pub(crate) use crate::harness::cell::{Cell, UdpPort, node_command, parse_started};
pub(crate) use crate::harness::colony::{Colony, NO_AUDITS, StoredFile};
pub(crate) use crate::harness::content::{compressible_blocks, mixed_content, random_bytes};
pub(crate) use crate::harness::failing_reads::FailingReads;
pub(crate) use crate::harness::http::{Response, connect, read_response, request, request_exactly};
pub(crate) use crate::harness::lan::Lan;
pub(crate) use crate::harness::poor_disk::PoorDisk;
pub(crate) use crate::harness::process::{Finished, Running, assert_facts, has_fact, run, run_with_input};
pub(crate) use crate::harness::timing::{fast_options, heal_step, observe_for, speedup, wait_within};
pub(crate) use crate::harness::tree::{CAPABILITY_NET_RAW, ESCAPED_ATTRIBUTE, access_list, make_tree};
