//! The place of a reaction in its chain: found from the event, the timer or the refusal that it
//! reacts to.

use super::Process;
use super::chain::{Chain, ChainLink};
use super::instance::IncomingTrigger;
use super::instances::Instances;
use super::record::StoredCause;
use super::step::ProcessTrouble;
use crate::store::{Position, RecordedEvent};

impl<P: Process> Instances<P> {
    /// Returns the place of the reactions to an event.
    pub(super) async fn chain_after(
        &mut self,
        event: &RecordedEvent,
    ) -> Result<Chain, ProcessTrouble> {
        let Some(causation) =
            event.metadata.causation.as_ref().filter(|label| label.starts_with("$process:"))
        else {
            return Ok(Chain::default());
        };
        let position = causation.rsplit_once('@').and_then(|(_, position)| position.parse().ok());
        match position {
            Some(position) => {
                Ok(self.chains.link_of(Position(position), &self.archive).await?.chain.caused())
            }
            None => Ok(Chain::default()),
        }
    }

    /// The place of the reaction to a timer or a refusal of an instance's own, and the trace that
    /// it goes on in. If time has passed since, that is from outside: a new chain, and no part of
    /// the trace, since what waits for days is another story.
    pub(super) async fn link_before(
        &mut self,
        heard: &IncomingTrigger<P::Event>,
    ) -> Result<ChainLink, ProcessTrouble> {
        let (reaction, is_timer) = match &heard.cause {
            StoredCause::Timer { name, set_at, .. } => {
                let instance = self.instance(&heard.context.key).await?;
                if !instance.timers.get(name).is_some_and(|set| set.at_once) {
                    return Ok(ChainLink::default());
                }
                (Position(*set_at), true)
            }
            StoredCause::Refused { position, .. } => (Position(*position), false),
            StoredCause::Event { .. }
            | StoredCause::Command { .. }
            | StoredCause::Record { .. } => {
                return Ok(ChainLink::default());
            }
        };
        let ChainLink { chain, trace } = self.chains.link_of(reaction, &self.archive).await?;
        Ok(ChainLink { chain: if is_timer { chain.next_round() } else { chain.caused() }, trace })
    }
}
