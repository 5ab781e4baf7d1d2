//! State of a copy, by what it recorded in the new store.

use std::collections::HashSet;

use super::error::CopyError;
use super::map::PositionMap;
use super::record::{COPY, CopyEvent, consumers, stream};
use super::walk::Walk;
use super::{CONSUMERS_MAX, Copy};
use crate::fold::{Schema, Unknown};
use crate::store::{Checkpoint, Label, Position, Read, StoreId, SubscribeError, Version};

/// State of a copy.
#[derive(Debug)]
pub(super) struct CopyState {
    /// Checkpoint up to which the old store was copied.
    pub(super) at: Checkpoint,
    pub(super) map: PositionMap,
    /// The consumers that recorded a checkpoint in the old store, each with the store that it
    /// follows.
    pub(super) consumers: HashSet<(Label, StoreId)>,
    pub(super) switched: Option<SwitchRecord>,
}

/// A switch that took place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SwitchRecord {
    /// End of the old store at the switch.
    pub(super) through: Position,
    /// End of the copier's part of the new store.
    pub(super) at: Position,
    pub(super) consumers: u64,
}

pub(super) fn consumer() -> Result<Label, CopyError> {
    Ok(Label::new(COPY)?)
}

impl CopyState {
    /// Loads the state of the copy; `None` if it was not begun.
    ///
    /// The part that the map does not have yet is made out from both stores: the function is asked
    /// again for those appends, and its answers must be what is there.
    pub(super) async fn load(copy: &Copy) -> Result<Option<Self>, CopyError> {
        let old = copy.old.identity().store;
        if old == copy.new.identity().store {
            return Err(CopyError::SameStore { store: old });
        }
        let Some(at) = copy.new.checkpoint_in(consumer()?, old).await? else { return Ok(None) };
        copy.old.verify(&at).await.map_err(|error| match error {
            SubscribeError::Read(error) => CopyError::Read(error),
            foreign => CopyError::OtherHistory(foreign),
        })?;
        let map = PositionMap::open(&copy.new, old).await?;
        let (switched, consumers) = (switched(copy).await?, seen(copy).await?);
        let mut state = Self { at, map, consumers, switched };
        if state.switched.is_none() {
            state.catch_up(copy).await?;
        }
        Ok(Some(state))
    }

    /// Adds to the map what came after its last record, and sees that nobody else wrote the new
    /// store since.
    async fn catch_up(&mut self, copy: &Copy) -> Result<(), CopyError> {
        let mut walk = Walk::rebuilding(copy, self.map.through(), self.map.last_record().await?);
        while let Some(step) = walk.step(&mut self.map, self.at.position).await? {
            if let Some(difference) = step.difference {
                return Err(CopyError::OtherFunction(difference));
            }
            step.add_to(&mut self.map);
        }
        match walk.next_new().await? {
            None => Ok(()),
            Some(foreign) => Err(CopyError::Foreign { found: foreign.first }),
        }
    }
}

async fn switched(copy: &Copy) -> Result<Option<SwitchRecord>, CopyError> {
    let stream = stream(copy.old.identity().store)?;
    let page = copy.new.page(Read::stream(stream, Version::END).backwards().page_of(1)).await?;
    let Some(last) = page.events.first() else { return Ok(None) };
    let mut found = None;
    Schema::of::<CopyEvent>()?.decode_each(last, Unknown::Refuse, |event| {
        if let CopyEvent::Switched { through, consumers, .. } = event {
            found = Some(SwitchRecord { through: Position(through), at: last.position, consumers });
        }
    })?;
    Ok(found)
}

async fn seen(copy: &Copy) -> Result<HashSet<(Label, StoreId)>, CopyError> {
    let schema = Schema::of::<CopyEvent>()?;
    let mut events = copy.new.read(Read::stream(consumers(copy.old.identity().store)?, Version(1)));
    let mut seen = HashSet::new();
    while let Some(event) = events.next().await? {
        for event in schema.decode(&event, Unknown::Refuse)? {
            if let CopyEvent::ConsumerSeen { consumer, source } = event {
                // It was written from a store's id.
                let source =
                    source.parse().map(StoreId).unwrap_or_else(|_| copy.old.identity().store);
                seen.insert((Label::new(consumer)?, source));
            }
        }
        if seen.len() > CONSUMERS_MAX {
            return Err(CopyError::TooManyConsumers { limit: CONSUMERS_MAX });
        }
    }
    Ok(seen)
}
