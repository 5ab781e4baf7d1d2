//! Appends, the conditions that refuse them, and the sources that they track.

use leftfold::store::limits::{APPEND_EVENTS_MAX, LABEL_BYTES_MAX};
use leftfold::store::{
    Append, AppendError, Checkpoint, CheckpointRecord, Condition, Hash, Invalid, Label, MoveFrom,
    NoneMatching, Outcome, Partition, Position, Read, ReadError, Store, StoreId,
};
use tonic::Status;
use uuid::Uuid;

use super::access::AskedStore;
use super::event::{UnfitEvent, new_event};
use super::names::SOURCE;
use super::query::condition_of;
use super::{status, wire};
use crate::users::{UserRole, Wish};

/// The store whose checkpoints are the tracked positions: one for every source, whatever it is.
pub(super) const TRACKED: StoreId =
    StoreId(Uuid::from_u128(0x6c65_6674_666f_8ead_a0bd_756d_6164_6200));

/// Carries a request out, and returns the position of its last event, 0 if it has none.
///
/// A request whose condition fails takes effect once all the same: if the first events that match
/// are its own, by their UUIDs, it is answered as the first time.
pub(super) async fn append(
    asked: &AskedStore,
    request: wire::AppendRequest,
) -> Result<u64, Status> {
    asked.may(Wish::Role(UserRole::Append))?;
    let store = &asked.store;
    let wire::AppendRequest { events, condition, tracking_info } = request;
    let ids = events.iter().map(|event| id_of(&event.uuid)).collect::<Result<Vec<_>, _>>()?;
    let guard = condition.map(condition_of).transpose().map_err(status::of_invalid)?;
    if let Some(guard) = &guard {
        asked.may(Wish::Query(&guard.query))?;
    }
    if events.is_empty() && guard.is_none() && tracking_info.is_none() {
        return Ok(0);
    }
    let refused = match append_of(events, &ids, guard.clone(), tracking_info) {
        Err(unfit) => status::unfit(unfit),
        Ok(append) => {
            asked.may(Wish::Append(&append))?;
            asked.pace(&append).await?;
            let answer = store.append(append).await;
            asked.noted(&answer);
            match answer {
                Ok(Outcome::Appended(appended)) => {
                    return Ok(if ids.is_empty() { 0 } else { appended.last().0 });
                }
                Ok(Outcome::Conflict(conflict)) => status::overtaken(conflict),
                Ok(Outcome::Repeated(_)) => {
                    unreachable!("only appends with a command id are repeated, and this has none")
                }
                Err(error @ (AppendError::Invalid(_) | AppendError::CheckpointMoved { .. })) => {
                    status::of_append(error)
                }
                Err(error) => return Err(status::of_append(error)),
            }
        }
    };
    // The condition comes before every other reason.
    let Some(guard) = guard else { return Err(refused) };
    if let Some(position) = repeated(store, &guard, &ids).await.map_err(status::of_read)? {
        return Ok(position);
    }
    let alone = Condition { none_matching: vec![guard], ..Condition::none() };
    match store.append(Append::default().when(alone)).await.map_err(status::of_append)? {
        Outcome::Conflict(conflict) => Err(status::overtaken(conflict)),
        _ => Err(refused),
    }
}

/// Reads a UUID in any of its spellings; `None` if the text is empty.
fn id_of(text: &str) -> Result<Option<Uuid>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    Uuid::parse_str(text).map(Some).map_err(|_| status::no_uuid(text))
}

fn append_of(
    events: Vec<wire::Event>,
    ids: &[Option<Uuid>],
    guard: Option<NoneMatching>,
    tracking: Option<wire::TrackingInfo>,
) -> Result<Append, UnfitEvent> {
    // A message has room for millions of small ones, each of which takes more here than there.
    Invalid::if_over("the events of an append", events.len(), APPEND_EVENTS_MAX)?;
    let with_ids = events.into_iter().zip(ids);
    let events = with_ids
        .map(|(event, id)| new_event(event, *id, tracking.as_ref()))
        .collect::<Result<_, _>>()?;
    Ok(Append {
        condition: Condition { none_matching: guard.into_iter().collect(), ..Condition::none() },
        checkpoint: tracking.map(checkpoint_of).transpose()?,
        ..Append::of(events)
    })
}

fn checkpoint_of(tracking: wire::TrackingInfo) -> Result<CheckpointRecord, Invalid> {
    let wire::TrackingInfo { source, position } = tracking;
    Invalid::if_over("the source of a tracking", source.len(), LABEL_BYTES_MAX)?;
    Ok(CheckpointRecord {
        consumer: Label::new(SOURCE.name_of(source))?,
        from: MoveFrom::Earlier,
        checkpoint: Checkpoint {
            store: TRACKED,
            partition: Partition::default(),
            position: Position(position),
            hash: Hash::EMPTY,
        },
    })
}

/// Returns the position that a source was tracked to; `None` if it never was.
pub(super) async fn tracked(store: &Store, source: String) -> Result<Option<u64>, Status> {
    let consumer = Label::new(SOURCE.name_of(source)).map_err(status::of_invalid)?;
    let checkpoint = store.checkpoint_in(consumer, TRACKED).await.map_err(status::of_read)?;
    Ok(checkpoint.map(|checkpoint| checkpoint.position.0))
}

/// Returns the position of the last event if the first events that match are those of the request,
/// by their ids: it was carried out before.
async fn repeated(
    store: &Store,
    guard: &NoneMatching,
    ids: &[Option<Uuid>],
) -> Result<Option<u64>, ReadError> {
    if ids.is_empty() || ids.contains(&None) {
        return Ok(None);
    }
    let at_most = u32::try_from(ids.len()).unwrap_or(u32::MAX).min(Read::PAGE_EVENTS);
    let read = Read::matching(guard.query.clone(), guard.after.next()).page_of(at_most);
    let mut events = store.read(read);
    let mut last = None;
    for id in ids {
        match events.next().await? {
            Some(event) if Some(event.id.0) == *id => last = Some(event.position.0),
            _ => return Ok(None),
        }
    }
    Ok(last)
}
