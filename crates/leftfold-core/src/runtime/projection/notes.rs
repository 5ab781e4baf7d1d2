//! Notes of the runtime about a version, in its target.
//!
//! ```text
//! checkpoint/LANE           where a lane stands: store, position, hash, and how many lanes there
//!                           are
//! parked/KEY-HASH/POSITION  an event that waits for a person, or behind one that does
//! skipped/POSITION          an event that a person let go
//! receipt/RANGE/LANE        how many events of a range of positions a lane consumed, and the sum
//!                           of their hashes
//! receipts-after            the position after which receipts are kept; if it is absent, they are
//!                           kept from the beginning
//! ```

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::parked::Parked;
use super::{ProjectionError, Session};
use crate::runtime::positions::Positions;
use crate::store::{Checkpoint, Digest, Hash, Partition, Position, StoreId};

/// Notes read at a time.
const PAGE: usize = 1_000;

pub(super) const CHECKPOINTS: &str = "checkpoint/";
pub(super) const PARKED: &str = "parked/";
pub(super) const RECEIPTS: &str = "receipt/";
const SKIPPED: &str = "skipped/";

pub(super) const RECEIPTS_AFTER: &str = "receipts-after";

pub(super) fn checkpoint_key(lane: usize) -> String {
    format!("{CHECKPOINTS}{lane:03}")
}

pub(super) fn parked_key(key: &str, position: Position) -> String {
    let Digest(hash) = Digest::of(key.as_bytes());
    format!("{PARKED}{:032x}/{:020}", u128::from_be_bytes(hash), position.0)
}

pub(super) fn skipped_key(position: Position) -> String {
    format!("{SKIPPED}{:020}", position.0)
}

pub(super) fn receipt_key(range: u64, lane: usize) -> String {
    format!("{RECEIPTS}{range:020}/{lane:03}")
}

/// Progress of one lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LaneNote {
    store: Uuid,
    pub(super) position: u64,
    hash: [u8; 32],
    /// Number of lanes.
    pub(super) lanes: usize,
}

impl LaneNote {
    pub(super) fn new(checkpoint: &Checkpoint, lanes: usize) -> Self {
        Self {
            store: checkpoint.store.0,
            position: checkpoint.position.0,
            hash: checkpoint.hash.0,
            lanes,
        }
    }

    pub(super) fn checkpoint(&self) -> Checkpoint {
        let (position, hash) = (Position(self.position), Hash(self.hash));
        Checkpoint { store: StoreId(self.store), partition: Partition::default(), position, hash }
    }
}

/// Record of an item that a person let go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SkippedNote {
    pub(super) key: String,
    pub(super) error: Option<String>,
    pub(super) by: String,
    pub(super) at: String,
}

/// A note as bytes: JSON, so that people can read it.
pub(super) fn encode(note: &impl Serialize) -> Result<Vec<u8>, ProjectionError> {
    Ok(serde_json::to_vec(note)?)
}

pub(super) fn decode<N: DeserializeOwned>(key: &str, value: &[u8]) -> Result<N, ProjectionError> {
    serde_json::from_slice(value)
        .map_err(|error| UnreadableNote { key: key.to_owned(), why: error.to_string() }.into())
}

/// A note that cannot be read: it was damaged, or written by a later release.
#[derive(Debug, thiserror::Error)]
#[error("the note {key} cannot be read, upgrade or rebuild the version: {why}")]
pub(super) struct UnreadableNote {
    pub(super) key: String,
    pub(super) why: String,
}

/// Reads the note of a parked item.
pub(super) fn parked(key: &str, value: &[u8]) -> Result<Parked, ProjectionError> {
    decode(key, value)
}

/// The position that the key of a note ends with.
pub(super) fn position_of(key: &str) -> Option<Position> {
    key.rsplit_once('/')?.1.parse().ok().map(Position)
}

/// All notes whose keys begin so.
pub(super) async fn all(
    session: &mut impl Session,
    prefix: &str,
) -> Result<Vec<(String, Vec<u8>)>, ProjectionError> {
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    loop {
        let page = session.notes(prefix, all.last().map(|(key, _)| key.as_str()), PAGE).await?;
        let last = page.len() < PAGE;
        all.extend(page);
        if last {
            return Ok(all);
        }
    }
}

/// The lanes that are noted, in order.
pub(super) async fn lanes(session: &mut impl Session) -> Result<Vec<LaneNote>, ProjectionError> {
    let notes = all(session, CHECKPOINTS).await?;
    notes.iter().map(|(key, value)| decode(key, value)).collect()
}

/// A note, or the removal of one, as it speaks of a copy of the store.
type MovedNote = Option<(String, Option<Vec<u8>>)>;

/// Returns a note for a copy of the store; `None` if it speaks of an event that was dropped, and
/// for receipts: events consumed in the old store have other positions there, and the receipts are
/// hashes of the old ones.
pub(super) fn moved(
    key: &str,
    value: Option<&[u8]>,
    positions: &dyn Positions,
) -> Result<MovedNote, String> {
    // And where they begin: the copy begins again.
    if key.starts_with("receipt") {
        return Ok(None);
    }
    let of_event = [PARKED, SKIPPED].into_iter().any(|prefix| key.starts_with(prefix));
    let Some((before, position)) = key.rsplit_once('/').filter(|_| of_event) else {
        return Ok(Some((key.to_owned(), value.map(<[u8]>::to_vec))));
    };
    let position = position.parse().map_err(|_| format!("the note {key} names no position"))?;
    let Some(position) = positions.event(Position(position)) else { return Ok(None) };
    let value = match value.filter(|_| key.starts_with(PARKED)) {
        Some(value) => {
            let parked: Parked = decode(key, value).map_err(|error| error.to_string())?;
            Some(encode(&Parked { position, ..parked }).map_err(|error| error.to_string())?)
        }
        None => value.map(<[u8]>::to_vec),
    };
    Ok(Some((format!("{before}/{:020}", position.0), value)))
}
