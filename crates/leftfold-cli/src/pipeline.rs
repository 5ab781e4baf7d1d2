//! Appends that are under way: many at once, in order.

use std::collections::VecDeque;

use leftfold::store::{Append, AppendError, Kind, Outcome, Pending, Store};

use crate::failure::CliFailure;

/// Appends that are under way at once.
const UNDER_WAY_MAX: usize = 256;

/// Appends to a store, each for a line or a row with a number.
pub(crate) struct AppendPipeline<'a> {
    store: &'a Store,
    /// Name of what has the numbers.
    noun: &'static str,
    under_way: VecDeque<(u64, Pending<Outcome, AppendError>)>,
    /// Number of appends that are durable, and of those the ones that had been before.
    pub(crate) done: u64,
    pub(crate) repeated: u64,
}

impl<'a> AppendPipeline<'a> {
    pub(crate) fn into(store: &'a Store, noun: &'static str) -> Self {
        Self { store, noun, under_way: VecDeque::new(), done: 0, repeated: 0 }
    }

    /// Appends; it may not be durable yet when this returns. Waits while too many are under way.
    pub(crate) async fn push(&mut self, number: u64, append: Append) -> Result<(), CliFailure> {
        self.under_way.push_back((number, self.store.append(append)));
        while self.under_way.len() >= UNDER_WAY_MAX {
            self.settle_one().await?;
        }
        Ok(())
    }

    /// Waits until everything is durable.
    pub(crate) async fn finish(&mut self) -> Result<(), CliFailure> {
        while self.settle_one().await? {}
        Ok(())
    }

    async fn settle_one(&mut self) -> Result<bool, CliFailure> {
        let Some((number, pending)) = self.under_way.pop_front() else { return Ok(false) };
        let outcome = settled(pending.await, &format!("{} {number}: ", self.noun))?;
        self.done += 1;
        self.repeated += u64::from(matches!(outcome, Outcome::Repeated(_)));
        Ok(true)
    }
}

/// Reads the answer to an append; a condition that failed, and a doubt, are failures of their own.
pub(crate) fn settled(
    answer: Result<Outcome, AppendError>,
    place: &str,
) -> Result<Outcome, CliFailure> {
    match answer {
        Ok(Outcome::Conflict(conflict)) => Err(CliFailure::Conflict(format!("{place}{conflict}"))),
        Ok(outcome) => Ok(outcome),
        Err(error) if error.kind() == Kind::InDoubt => {
            Err(CliFailure::InDoubt(format!("{place}{error}")))
        }
        Err(error) => Err(CliFailure::Failed(format!("{place}{error}"))),
    }
}
