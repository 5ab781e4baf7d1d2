//! Appends that are under way: many at once, in order.

use std::collections::VecDeque;

use leftfold::store::{Append, AppendError, Kind, Outcome, Pending, Store};

use crate::failure::CliFailure;
use crate::screen::counted;

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
        let answer = pending.await;
        let behind = match &answer {
            Ok(Outcome::Appended(_) | Outcome::Repeated(_)) => String::new(),
            _ => self.settle_behind().await,
        };
        let outcome = settled(answer, &format!("{} {number}: ", self.noun), &behind)?;
        self.done += 1;
        self.repeated += u64::from(matches!(outcome, Outcome::Repeated(_)));
        Ok(true)
    }

    /// Settles what is under way behind an append that has failed, and tells what of it is there
    /// all the same: whoever goes on would append that twice.
    async fn settle_behind(&mut self) -> String {
        let (mut appended, mut last) = (0, 0);
        while let Some((number, pending)) = self.under_way.pop_front() {
            if let Ok(Outcome::Appended(_) | Outcome::Repeated(_)) = pending.await {
                (appended, last) = (appended + 1, number);
            }
        }
        match appended {
            0 => String::new(),
            _ => format!(
                "; {} behind it are appended, the last is {last}",
                counted(appended, self.noun)
            ),
        }
    }
}

/// Reads the answer to an append; a condition that failed, and a doubt, are failures of their own,
/// told with the place before them and what is behind.
pub(crate) fn settled(
    answer: Result<Outcome, AppendError>,
    place: &str,
    behind: &str,
) -> Result<Outcome, CliFailure> {
    match answer {
        Ok(Outcome::Conflict(conflict)) => {
            Err(CliFailure::Conflict(format!("{place}{conflict}{behind}")))
        }
        Ok(outcome) => Ok(outcome),
        Err(error) if error.kind() == Kind::InDoubt => {
            Err(CliFailure::InDoubt(format!("{place}{error}{behind}")))
        }
        Err(error) => Err(CliFailure::Failed(format!("{place}{error}{behind}"))),
    }
}
