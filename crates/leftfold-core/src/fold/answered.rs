//! Answers recorded under a command id before: the events of the answer, or why it cannot be given
//! again.

use bytes::Bytes;

use super::command::{ExecuteError, RefusalCodec};
use super::error::EventError;
use super::event::{Event, Unknown};
use super::schema::Schema;
use crate::store::{Answered, Query, Read, ReadError, RecordedEvent, Store};

pub(super) fn encode_refusal<R>(
    remember: &RefusalCodec<R>,
    refusal: &R,
) -> Result<Bytes, EventError> {
    Ok(Bytes::from((remember.encode)(refusal)?))
}

pub(super) fn foreign_answer<R>(answered: &Answered) -> ExecuteError<R> {
    let detail = "the answer kept under it was not written by the model".to_owned();
    ExecuteError::AnswerUnreadable { id: answered.record.id, detail }
}

/// Returns the events that were appended with a request: all of them, or an error.
pub(crate) async fn events_of(
    store: &Store,
    answered: &Answered,
) -> Result<Vec<RecordedEvent>, ReadError> {
    if answered.events == 0 {
        return Ok(Vec::new());
    }
    let mut left = answered.events as usize;
    let mut events =
        store.read(Read::matching(Query::everything(), answered.first).page_of(answered.events));
    let mut all = Vec::with_capacity(left);
    while left > 0
        && let Some(page) = events.page().await?
    {
        let taken = page.len().min(left);
        all.extend(page.into_iter().take(taken));
        left -= taken;
    }
    if left > 0 { Err(missing(answered, left)) } else { Ok(all) }
}

/// An answer with some of its events would be another answer.
pub(super) fn missing(answered: &Answered, events: usize) -> ReadError {
    let Answered { record, first, events: all, .. } = answered;
    let detail = format!(
        "{events} of the {all} events of command {} at position {first} are not there, ask again",
        record.id
    );
    ReadError::Io { detail }
}

pub(super) fn decode_all<'a, E: Event>(
    schema: &Schema,
    recorded: impl Iterator<Item = &'a RecordedEvent>,
    unknown: Unknown,
) -> Result<Vec<E>, EventError> {
    let mut events = Vec::new();
    for event in recorded {
        schema.decode_each(event, unknown, |event| events.push(event))?;
    }
    Ok(events)
}
