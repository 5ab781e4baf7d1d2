//! Outcome of the command that an instance issued for an aggregate: for instances that issue
//! one, as those of scheduled commands do.

use super::instance::category;
use super::orders::command_id;
use super::record::{ParkedRecord, ProcessEvent, ReactionRecord, StoredCause};
use crate::fold::{KeptAnswer, LoadError, RequestAnswer, Schema, Unknown};
use crate::store::{CommandId, Read, Store, StreamName, Version};

/// Outcome of the last command that an instance issued for a kind of aggregate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::runtime) enum CommandOutcome {
    /// It is not issued yet, or not carried out yet, and nobody has to do anything for that.
    UnderWay,
    /// It took effect.
    CarriedOut,
    /// Its instance waits for a person, for this reason.
    Parked { why: String },
    /// A person let it go, or what would have led to it.
    Skipped { by: String },
}

/// Reads the outcome from the stream of the instance.
///
/// # Errors
/// Those of reading the stream.
pub(in crate::runtime) async fn outcome(
    store: &Store,
    (process, key): (&str, &str),
    target: &str,
) -> Result<CommandOutcome, LoadError> {
    let stream = StreamName::of(&category(process), key)?;
    let schema = Schema::of::<ProcessEvent>()?;
    let mut course = Course::default();
    let mut records = store.read(Read::stream(stream, Version(1)));
    while let Some(record) = records.next().await? {
        // A record that cannot be read is parked.
        for own in schema.decode::<ProcessEvent>(&record, Unknown::Ignore).unwrap_or_default() {
            let id = |index| command_id(process, key, record.version(), index);
            course.take(own, target, id);
        }
    }
    if let Some(id) = course.issued
        && let Some(answered) = store.answered(id).await?
        && let Some(KeptAnswer { said: RequestAnswer::Accepted(_), .. }) =
            KeptAnswer::decode(&answered.record.answer)
    {
        return Ok(CommandOutcome::CarriedOut);
    }
    if !course.parked.is_empty() {
        // Those without a reason only wait behind the one that has it.
        let why = course.parked.into_iter().find_map(|(_, why)| why).unwrap_or_default();
        return Ok(CommandOutcome::Parked { why });
    }
    Ok(course.skipped.map_or(CommandOutcome::UnderWay, |by| CommandOutcome::Skipped { by }))
}

/// Course of an instance, as far as it was read.
#[derive(Default)]
struct Course {
    /// Triggers and commands that wait for a person, and why.
    parked: Vec<(StoredCause, Option<String>)>,
    issued: Option<CommandId>,
    /// Name of the person who let the last of them go.
    skipped: Option<String>,
}

impl Course {
    fn take(&mut self, own: ProcessEvent, target: &str, id: impl Fn(u32) -> CommandId) {
        match own {
            ProcessEvent::Reacted(ReactionRecord { commands, timers, .. }) => {
                let issued = (0..).zip(&commands).find(|(_, command)| command.to == target);
                if let Some((index, _)) = issued {
                    self.issued = Some(id(index));
                }
                if issued.is_some() || !timers.is_empty() {
                    self.skipped = None;
                }
            }
            ProcessEvent::Parked(ParkedRecord { cause, error, .. }) => {
                self.parked.push((cause, error))
            }
            ProcessEvent::Skipped { cause, by } => {
                self.conclude(&cause);
                self.skipped = Some(by);
            }
            ProcessEvent::Unparked { cause } => self.conclude(&cause),
        }
    }

    fn conclude(&mut self, cause: &StoredCause) {
        // Of several that were dropped by a copy each is one.
        if let Some(at) = self.parked.iter().position(|(parked, _)| parked == cause) {
            self.parked.remove(at);
        }
    }
}
