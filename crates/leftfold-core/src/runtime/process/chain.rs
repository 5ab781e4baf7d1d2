//! Data that reactions hand on to their results: how many of them led one to another, and the
//! trace.
//!
//! Two counts tell long work from a process that reacts to itself without end. A timer that is due
//! at once is a process's own way to say that it goes on, so such rounds are many; what leads
//! through commands and events from one reaction to the next is a circle soon. Rounds do not add to
//! the depth of their results, or a process that reacts to the last of a thousand batches would be
//! stopped for it.

use std::collections::HashMap;

use super::instance::InstanceReader;
use super::record::{ProcessEvent, ReactionRecord};
use super::step::ProcessTrouble;
use crate::store::{Metadata, Position, TraceContext};

// ANCHOR: limits
/// Reactions that may lead one to another by commands and their results: a process that goes
/// on beyond that reacts to itself without end, and is parked.
pub const CHAIN_MAX: u32 = 100;
/// Timers of one instance that may lead one to another, each due at once: so work in batches may
/// have as many of them.
pub const ROUNDS_MAX: u32 = 2_000;
// ANCHOR_END: limits
/// Reactions whose links are remembered.
const LINKS_MAX: usize = 4_096;

/// The links of the latest reactions, by their positions; those of others are read from the store.
#[derive(Debug, Default)]
pub(super) struct Chains(HashMap<u64, ChainLink>);

/// Values that a reaction hands on to all that it leads to.
#[derive(Clone, Debug, Default)]
pub(super) struct ChainLink {
    pub(super) chain: Chain,
    pub(super) trace: Option<TraceContext>,
}

/// Place of a reaction among those that led to it, without anything from outside and without time
/// that passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    /// Number of reactions that led to it one from another, by commands and their events.
    pub(super) depth: u32,
    /// Number of timers of its instance that led to it one from another, each due at once.
    pub(super) rounds: u32,
}

impl Chain {
    /// Returns the place of a reaction, as it is recorded.
    pub(super) fn of(reacted: &ReactionRecord) -> Self {
        Self { depth: reacted.depth, rounds: reacted.rounds }
    }

    /// Returns the place of every reaction that a command of the reaction leads to.
    pub(super) fn caused(self) -> Self {
        Self { depth: self.depth.saturating_add(1), rounds: 0 }
    }

    /// Returns the place of the reaction to a timer that the reaction set to be due at once.
    pub(super) fn next_round(self) -> Self {
        Self { rounds: self.rounds.saturating_add(1), ..self }
    }

    /// Refuses a chain that seems to be without end.
    pub(super) fn check(self) -> Result<(), String> {
        if self.depth > CHAIN_MAX {
            return Err(format!(
                "more than {CHAIN_MAX} reactions led one to another: the process reacts to itself without end; go from one \
                 batch of long work to the next by a timer instead"
            ));
        }
        if self.rounds > ROUNDS_MAX {
            return Err(format!(
                "more than {ROUNDS_MAX} timers in a row were due at once: the process reacts to itself without end; if it does \
                 not, do more in one reaction, or set a timer that lets time pass, and retry: it goes on with as many again"
            ));
        }
        Ok(())
    }
}

impl Chains {
    pub(super) async fn link_of(
        &mut self,
        reaction: Position,
        archive: &InstanceReader,
    ) -> Result<ChainLink, ProcessTrouble> {
        if let Some(link) = self.0.get(&reaction.0) {
            return Ok(link.clone());
        }
        let record = archive.event_at(reaction).await?;
        let link = match record.as_ref().map(|record| (archive.own(record), record)) {
            Some((Ok(ProcessEvent::Reacted(reacted)), record)) => {
                ChainLink::of(&reacted, &record.metadata)
            }
            _ => ChainLink::default(),
        };
        self.0.insert(reaction.0, link.clone());
        Ok(link)
    }

    /// A reaction is durable.
    pub(super) fn settle(
        &mut self,
        reacted: &ReactionRecord,
        position: Position,
        metadata: &Metadata,
    ) {
        self.0.insert(position.0, ChainLink::of(reacted, metadata));
    }

    pub(super) fn forget_some(&mut self) {
        if self.0.len() > LINKS_MAX {
            self.0.clear();
        }
    }
}

impl ChainLink {
    fn of(reacted: &ReactionRecord, metadata: &Metadata) -> Self {
        Self { chain: Chain::of(reacted), trace: metadata.trace.clone() }
    }
}
