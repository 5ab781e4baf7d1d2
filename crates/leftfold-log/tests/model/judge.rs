//! What an append should be answered, by the words of the contract.

use leftfold_core::store::{
    Append, AppendError, Backend, Conflict, MoveFrom, Outcome, Position, Read, StreamName,
    Timestamp, Version,
};

use crate::support::wait;

pub(crate) type Answer = Result<Outcome, AppendError>;

/// The answer to an append that may not go in; nothing if it may. Asks the model, and changes
/// nothing of it.
pub(crate) fn refusal(model: &dyn Backend, append: &Append) -> Option<Answer> {
    if let Some(command) = &append.command
        && let Some(answered) = wait(model.answered(command.id)).unwrap()
    {
        return Some(if answered.record.digest == command.digest {
            Ok(Outcome::Repeated(answered))
        } else {
            Err(AppendError::CommandIdReused { id: command.id })
        });
    }
    for (stream, expected) in &append.condition.streams {
        let actual = version(model, stream);
        if !expected.holds(actual) {
            let conflict = Conflict::Stream { stream: stream.clone(), expected: *expected, actual };
            return Some(Ok(Outcome::Conflict(conflict)));
        }
    }
    for (clause, none) in append.condition.none_matching.iter().enumerate() {
        let read = Read::matching(none.query.clone(), none.after.next()).page_of(1);
        if let Some(event) = wait(model.read(read)).unwrap().events.first() {
            return Some(Ok(Outcome::Conflict(Conflict::Matching {
                clause,
                after: none.after,
                found: event.position,
            })));
        }
    }
    let record = append.checkpoint.as_ref()?;
    let (source, partition) = (record.checkpoint.store, record.checkpoint.partition.clone());
    let current = wait(model.checkpoint(record.consumer.clone(), source, partition)).unwrap();
    let (current, proposed) = (current.map(|current| current.position), record.checkpoint.position);
    if record.from.allows(current, proposed) {
        return None;
    }
    let (consumer, from): (_, MoveFrom) = (record.consumer.clone(), record.from);
    Some(Err(AppendError::CheckpointMoved {
        consumer,
        current: current.unwrap_or(Position::START),
        from,
        proposed,
    }))
}

pub(crate) fn version(model: &dyn Backend, stream: &StreamName) -> Version {
    let page = wait(model.read(Read::stream(stream.clone(), Version::END).page_of(0))).unwrap();
    page.stream_version.unwrap_or(Version::ABSENT)
}

/// An answer without its time.
pub(crate) fn comparable(answer: Answer) -> Answer {
    let never = Timestamp::MIN;
    answer.map(|outcome| match outcome {
        Outcome::Appended(mut appended) => {
            appended.recorded_at = never;
            Outcome::Appended(appended)
        }
        Outcome::Repeated(mut answered) => {
            answered.recorded_at = never;
            Outcome::Repeated(answered)
        }
        Outcome::Conflict(conflict) => Outcome::Conflict(conflict),
    })
}
