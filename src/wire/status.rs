//! The JSON of `GET /status`: a cell's state and counters. `POST /drain`, `POST /scrub` and `POST /chunk` respond with
//! parts of it.

use serde::{Deserialize, Serialize};

use crate::id::{CellId, ChunkId};
use crate::wire::beacon::{Beacon, Boot};

/// The response of `GET /status`: everything in the cell's beacon, and what does not fit in one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellStatus {
    /// The fields of the cell's beacon.
    #[serde(flatten)]
    pub beacon: Beacon,
    /// The version of the program.
    #[serde(default)]
    pub version: String,
    /// The size of all chunks that the cell holds, in bytes.
    #[serde(default)]
    pub bytes: u64,
    /// Whether `chunks` and `bytes` are exact; false while the cell counts its chunks after an unclean stop.
    #[serde(default)]
    pub counted: bool,
    /// Whether the cell's disk can only be read: it serves its chunks and accepts none.
    #[serde(default)]
    pub read_only: bool,
    /// New chunks that the cell has still to read from its disk once.
    #[serde(default)]
    pub read_back_left: u64,
    /// Seconds since the cell started.
    #[serde(default)]
    pub uptime_s: u64,
    /// Open connections at the gateway.
    #[serde(default)]
    pub connections: u64,
    /// Healing, audits, scrub and drain.
    #[serde(default, rename = "life")]
    pub activity: Activity,
}

impl CellStatus {
    /// Identifies this start of the cell, if the cell sends it.
    pub fn boot(&self) -> Option<Boot> {
        self.beacon.boot
    }
}

/// What a cell does to keep chunks healthy. Counters begin at 0 when the cell starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Activity {
    /// Chunks that the cell holds and that have too few copies, as far as the cell knows.
    pub short: u64,
    /// Of those, the chunks that no other cell can take now: the colony is too small or full.
    pub stuck: u64,
    /// Seconds for which healing still waits, because a large part of the colony fell silent at once; absent if it does
    /// not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split_wait_s: Option<u64>,
    /// Copies sent to other cells to heal.
    pub healed_copies: u64,
    /// Their size in bytes.
    pub healed_bytes: u64,
    /// Own bad copies replaced by a good one from another cell.
    #[serde(rename = "mended_copies")]
    pub refetched_copies: u64,
    /// Own copies found bad and quarantined.
    pub bad_copies: u64,
    /// Own copies that the disk could not read the last time.
    pub suspect_copies: u64,
    /// Is the disk failing, so that the cell takes no new chunks and its copies do not count?
    pub failing: bool,
    /// Own copies removed because the chunk was over-replicated and space was short.
    pub removed_copies: u64,
    /// Copies of other cells that were fetched and hashed.
    pub audits: u64,
    /// Of those, the bad ones.
    pub audits_bad: u64,
    /// Alerts received.
    pub alerts: u64,
    /// Alerts that a check refuted.
    pub alerts_false: u64,
    /// The cells that this one has isolated.
    pub isolated: Vec<CellId>,
    /// The full scrub under way, or the last one; absent if there was none since the start.
    pub scrub: Option<ScrubProgress>,
    /// The drain under way; absent if the cell is not draining.
    pub drain: Option<DrainProgress>,
}

/// The progress of a full scrub, which re-hashes all copies of a cell. Also the response of `POST /scrub`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct ScrubProgress {
    /// Copies checked so far.
    pub done: u64,
    /// Copies to check in total.
    pub total: u64,
    /// Bad copies found.
    pub bad: u64,
    /// Copies that could not be read.
    pub unread: u64,
    /// Whether the scrub is complete, or was ended because the disk is failing.
    pub finished: bool,
}

/// The progress of a drain, which hands a cell's copies to other cells. Also the response of `POST /drain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct DrainProgress {
    /// Copies whose chunk is not known to have enough copies on other cells.
    pub left: u64,
    /// Copies in total.
    pub total: u64,
    /// Of those left, the copies that no other cell can take now.
    pub stuck: u64,
    /// Whether the cell can be unplugged without losing a copy.
    pub safe: bool,
}

/// The response of `POST /chunk`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredChunk {
    /// The id of the bytes that were stored.
    pub id: ChunkId,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::beacon::Status;

    #[test]
    fn a_status_contains_the_fields_of_the_beacon() {
        let text =
            r#"{"node_id":"6f3c1b52-7a0e-4a53-9a39-2f1f7d0f4c11","port":8081,"status":"full","boot":"00ff","bytes":7}"#;
        let status: CellStatus = serde_json::from_str(text).unwrap();
        assert_eq!((status.beacon.status, status.boot(), status.bytes), (Status::Full, Some(Boot(255)), 7));
        let again: CellStatus = serde_json::from_str(&serde_json::to_string(&status).unwrap()).unwrap();
        assert_eq!(again, status);
    }

    #[test]
    fn the_keys_of_a_status_are_those_that_clients_read() {
        let beacon =
            serde_json::from_str(r#"{"node_id":"6f3c1b52-7a0e-4a53-9a39-2f1f7d0f4c11","port":1,"status":"active"}"#);
        let activity = Activity {
            scrub: Some(ScrubProgress::default()),
            drain: Some(DrainProgress::default()),
            ..Activity::default()
        };
        let status = CellStatus {
            beacon: beacon.unwrap(),
            version: "1".to_owned(),
            bytes: 0,
            counted: true,
            read_only: false,
            read_back_left: 0,
            uptime_s: 0,
            connections: 0,
            activity,
        };
        let value = serde_json::to_value(&status).unwrap();
        let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(
            keys(&value),
            "bytes connections counted life node_id port read_back_left read_only role status uptime_s version"
        );
        assert_eq!(
            keys(&value["life"]),
            "alerts alerts_false audits audits_bad bad_copies drain failing healed_bytes healed_copies isolated mended_copies \
             removed_copies scrub short stuck suspect_copies"
        );
        assert_eq!(keys(&value["life"]["scrub"]), "bad done finished total unread");
        assert_eq!(keys(&value["life"]["drain"]), "left safe stuck total");
    }
}
