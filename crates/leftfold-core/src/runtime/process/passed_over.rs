//! Events that a process passed over: under older names of its types, that the owner knows and came
//! into use too late.
//!
//! What is not recorded as read yet is read again, in order. The rest is parked: what came after it
//! was reacted to, so a person is to say whether it still counts.

use super::Process;
use super::batch::ReactionBatch;
use super::instance::InstanceReader;
use super::instances::BatchAdmission;
use super::ranges::SearchRange;
use super::runner::{EVENTS_AT_ONCE, ProcessRunner, RunnerState};
use super::step::{ProcessTrouble, Step};
use crate::fold::EventError;
use crate::store::{Position, Read};

impl<P: Process> ProcessRunner<P> {
    /// Renews the schema, because the owner of a type came into use. The states of instances are
    /// folded again.
    pub(super) fn renew(&mut self) -> Result<(), EventError> {
        let archive = InstanceReader::new::<P>(self.host.store.clone())?;
        self.passed_over.asks_for_more(archive.schema.wanted_beside(&self.archive.schema));
        (self.query, self.archive, self.known) = (archive.schema.query(), archive, None);
        Ok(())
    }

    /// Parks some of the events that were passed over; `None` if there are no more.
    pub(super) async fn park_passed_over(
        &mut self,
        known: &mut RunnerState<P>,
    ) -> Result<Option<Step>, ProcessTrouble> {
        let Some(SearchRange { query, after, through }) = self.passed_over.again.front() else {
            return Ok(None);
        };
        let (after, through) = (*after, *through);
        let read = Read::matching(query.clone(), after.next()).page_of(EVENTS_AT_ONCE);
        let page = self.host.store.page(read).await?;
        let (mut batch, mut looked_at) = (ReactionBatch::default(), page.through);
        for event in page.events.iter().take_while(|event| event.position <= through) {
            let is_full =
                known.instances.park_passed_over(event, &mut batch)? == BatchAdmission::Full;
            if is_full && batch.is_empty() {
                return Ok(Some(self.needs_person()));
            }
            if is_full || !batch.has_room() {
                looked_at = if is_full { Position(event.position.0 - 1) } else { event.position };
                break;
            }
        }
        self.append(known, batch, None, None).await?;
        match self.passed_over.again.front_mut() {
            Some(again) if looked_at < through => again.after = looked_at,
            _ => drop(self.passed_over.again.pop_front()),
        }
        Ok(Some(Step::Worked))
    }
}
