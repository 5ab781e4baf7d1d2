//! Receipts: what was consumed, so that a skipped or a doubled event is detected.
//!
//! For each range of positions a lane notes how many events it consumed and the sum of their
//! hashes. The sum does not depend on the order, so lanes and retries change nothing, and it is
//! recomputed from the log alone.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::batch::query_of;
use super::notes::{self, RECEIPTS, RECEIPTS_AFTER};
use super::places::place_of;
use super::{Place, Projection, ProjectionError, Session, Target};
use crate::store::{
    EventId, Position, Query, Read, ReadError, RecordedEvent, Store, SubscribeError,
};

/// Positions that one receipt covers.
pub const RECEIPT_RANGE: u64 = 4_096;

/// Number of events, and the wrapping sum of their hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventReceipt {
    /// Events that were consumed: applied, parked or skipped.
    pub events: u64,
    /// The sum of the hashes of their positions and ids.
    pub sum: u128,
}

impl EventReceipt {
    fn add(&mut self, position: Position, id: EventId) {
        self.events = self.events.wrapping_add(1);
        self.sum = self.sum.wrapping_add(hash(position, id));
    }

    fn merge(&mut self, other: Self) {
        self.events = self.events.wrapping_add(other.events);
        self.sum = self.sum.wrapping_add(other.sum);
    }

    pub(super) fn encode(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.events.to_be_bytes());
        bytes[8..].copy_from_slice(&self.sum.to_be_bytes());
        bytes
    }

    pub(super) fn decode(key: &str, bytes: &[u8]) -> Result<Self, ProjectionError> {
        let (events, sum) = bytes.split_at_checked(8).unwrap_or_default();
        match (events.try_into(), sum.try_into()) {
            (Ok(events), Ok(sum)) => {
                Ok(Self { events: u64::from_be_bytes(events), sum: u128::from_be_bytes(sum) })
            }
            _ => Err(notes::UnreadableNote {
                key: key.to_owned(),
                why: "it is no receipt".to_owned(),
            }
            .into()),
        }
    }
}

/// The range that a position is in.
pub(super) fn range_of(position: Position) -> u64 {
    position.0 / RECEIPT_RANGE
}

/// The receipts of a lane that are still growing.
#[derive(Clone, Debug, Default)]
pub(super) struct Receipts {
    range: u64,
    receipt: EventReceipt,
    /// Those that changed since the last commit and are complete.
    full: Vec<(u64, EventReceipt)>,
    changed: bool,
    /// Receipt that the last commit noted.
    durable: (u64, EventReceipt),
}

impl Receipts {
    /// Goes on from the receipt noted for the range that a lane is in.
    pub(super) fn resumed(range: u64, receipt: EventReceipt) -> Self {
        Self { range, receipt, full: Vec::new(), changed: false, durable: (range, receipt) }
    }

    /// Takes an event. Those of a lane come in order.
    pub(super) fn add(&mut self, event: &RecordedEvent) {
        let range = range_of(event.position);
        if range != self.range {
            if self.changed {
                self.full.push((self.range, self.receipt));
            }
            (self.range, self.receipt) = (range, EventReceipt::default());
        }
        self.changed = true;
        self.receipt.add(event.position, event.id);
    }

    /// Returns the receipts to note with the transaction.
    pub(super) fn changed(&self) -> impl Iterator<Item = (u64, EventReceipt)> {
        self.full.iter().copied().chain(self.changed.then_some((self.range, self.receipt)))
    }

    pub(super) fn committed(&mut self) {
        self.full.clear();
        self.changed = false;
        self.durable = (self.range, self.receipt);
    }

    /// Drops the events taken since the last commit.
    pub(super) fn undo(&mut self) {
        self.full.clear();
        self.changed = false;
        (self.range, self.receipt) = self.durable;
    }
}

/// Spreads a position and an id over 128 bits: two rounds of SplitMix64's finalizer, which tell any
/// two events of a log apart.
fn hash(position: Position, id: EventId) -> u128 {
    const fn mix(mut x: u64) -> u64 {
        x ^= x >> 30;
        x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x ^= x >> 27;
        x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
    let (high, low) = id.0.as_u64_pair();
    let place = mix(position.0.wrapping_add(0x9e37_79b9_7f4a_7c15));
    u128::from(mix(high ^ place)) << 64 | u128::from(mix(low.wrapping_add(place)))
}

/// Proof that a projection consumed the events that the log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Everything up to here was compared.
    pub through: Position,
    /// Ranges of positions that were compared.
    pub ranges: u64,
    /// Events that were consumed in them.
    pub events: u64,
}

/// Reason why a projection cannot be trusted, or cannot be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// An event was skipped or taken twice.
    #[error(
        "events {from} to {to} were consumed otherwise than they are in the log: {} expected, {} found; rebuild the projection",
        .expected.events,
        .found.events
    )]
    Mismatch {
        /// The first position of the range.
        from: Position,
        /// The last one.
        to: Position,
        /// Receipt of the events in the log.
        expected: EventReceipt,
        /// Receipt that the projection noted.
        found: EventReceipt,
    },
    /// The version does not exist in the target.
    #[error("version {version} of {name} is not there, run it first")]
    Absent {
        /// The projection.
        name: &'static str,
        /// Its version.
        version: u32,
    },
    /// The notes of the projection do not belong to this log.
    #[error(transparent)]
    Foreign(#[from] SubscribeError),
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The target cannot be read; while the projection runs, ask
    /// [`Projections::verify`](super::Projections::verify).
    #[error("the target cannot be read: {0}")]
    Target(ProjectionError),
}

/// Compares the events that a version of a projection consumed with the log, up to its position. It
/// must not be running here or elsewhere.
///
/// Ranges that are not complete are compared if all lanes are at one position.
pub async fn verify<T: Target, P: Projection<T>>(
    store: &Store,
    target: &T,
    projection: &P,
) -> Result<Verified, VerifyError> {
    let _ = projection;
    let (name, version) = (P::NAME, P::VERSION);
    let place = place_of(target, name, version).await.map_err(VerifyError::Target)?;
    let place = place.ok_or(VerifyError::Absent { name, version })?;
    let mut session =
        target.open(&Place { name, version: place, lane: 0 }).await.map_err(VerifyError::Target)?;
    let taken = taken(&mut session).await.map_err(VerifyError::Target)?;
    drop(session);
    let query = query_of::<T, P>(store).map_err(|error| VerifyError::Target(error.into()))?;
    compare(store, query, &taken).await
}

/// Notes of a version about the events it consumed.
#[derive(Debug)]
pub(in crate::runtime) struct ConsumedNotes {
    lanes: Vec<notes::LaneNote>,
    receipts: BTreeMap<u64, EventReceipt>,
    /// Receipts are kept from here on.
    after: Position,
}

/// Reads the receipts, in a transaction of its own.
pub(super) async fn taken(session: &mut impl Session) -> Result<ConsumedNotes, ProjectionError> {
    session.begin().await?;
    let lanes = notes::lanes(session).await?;
    let mut receipts: BTreeMap<u64, EventReceipt> = BTreeMap::new();
    for (key, value) in notes::all(session, RECEIPTS).await? {
        let range = key[RECEIPTS.len()..].split('/').next().and_then(|range| range.parse().ok());
        let range = range.ok_or_else(|| notes::UnreadableNote {
            key: key.clone(),
            why: "it names no range".to_owned(),
        })?;
        receipts.entry(range).or_default().merge(EventReceipt::decode(&key, &value)?);
    }
    let after = kept_after(session).await?;
    session.commit().await?;
    Ok(ConsumedNotes { lanes, receipts, after })
}

/// Returns the position after which receipts are kept.
async fn kept_after(session: &mut impl Session) -> Result<Position, ProjectionError> {
    let noted = session.notes(RECEIPTS_AFTER, None, 1).await?;
    let after = noted.first().map(|(key, value)| notes::decode(key, value)).transpose()?;
    Ok(after.map_or(Position::START, Position))
}

/// Lets receipts begin at the version's position, if it has none. Those of the old store do not go
/// into a copy: they are sums over positions, which are different there.
pub(super) async fn begin_in_copy(
    session: &mut impl Session,
    stands: Position,
) -> Result<(), ProjectionError> {
    session.begin().await?;
    if stands > kept_after(session).await? && session.notes(RECEIPTS, None, 1).await?.is_empty() {
        session.note(RECEIPTS_AFTER, Some(&notes::encode(&stands.0)?)).await?;
    }
    session.commit().await
}

/// Recomputes the receipts from the log.
pub(super) async fn compare(
    store: &Store,
    query: Query,
    taken: &ConsumedNotes,
) -> Result<Verified, VerifyError> {
    for lane in &taken.lanes {
        store.verify(&lane.checkpoint()).await?;
    }
    let least = taken.lanes.iter().map(|lane| lane.position).min().unwrap_or(0);
    let most = taken.lanes.iter().map(|lane| lane.position).max().unwrap_or(0);
    // Where lanes differ, those ahead have noted more than all have consumed: the last complete
    // range is the end.
    let ends =
        if least == most { range_of(Position(least)) + 1 } else { (least + 1) / RECEIPT_RANGE };
    let through = least.min((ends * RECEIPT_RANGE).saturating_sub(1));
    let from = taken.after.next();
    let begins = range_of(from).min(ends);
    let mut verified = Verified { through: Position(through), ranges: ends - begins, events: 0 };
    let mut events = store.read(Read::matching(query, from));
    let mut expected: BTreeMap<u64, EventReceipt> = BTreeMap::new();
    let mut compared = begins;
    while compared < ends {
        let page = events.page().await?;
        for event in page.iter().flatten().take_while(|event| event.position.0 <= through) {
            expected.entry(range_of(event.position)).or_default().add(event.position, event.id);
        }
        let ended = page.is_none() || events.through().0 >= through;
        let until = if ended { ends } else { range_of(events.through()) };
        verified.events +=
            compare_ranges(&mut expected, &taken.receipts, compared..until, through)?;
        compared = until;
    }
    Ok(verified)
}

/// Compares ranges that were read completely; how many events they hold.
fn compare_ranges(
    expected: &mut BTreeMap<u64, EventReceipt>,
    found: &BTreeMap<u64, EventReceipt>,
    ranges: Range<u64>,
    through: u64,
) -> Result<u64, VerifyError> {
    let mut events = 0;
    let known = expected.range(ranges.clone()).chain(found.range(ranges)).map(|(range, _)| *range);
    for range in known.collect::<BTreeSet<u64>>() {
        let expected = expected.remove(&range).unwrap_or_default();
        let found = found.get(&range).copied().unwrap_or_default();
        if expected != found {
            let from = Position((range * RECEIPT_RANGE).max(1));
            let to = Position((range * RECEIPT_RANGE + RECEIPT_RANGE - 1).min(through));
            return Err(VerifyError::Mismatch { from, to, expected, found });
        }
        events += expected.events;
    }
    Ok(events)
}
