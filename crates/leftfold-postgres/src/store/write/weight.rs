//! Bytes that events and appends count for in a page.

use leftfold_core::store::{CommandRecord, Label, RecordedEvent};

/// Bytes that each counts for beside what callers wrote.
const EACH: usize = 64;

/// Bytes of an event: its data, and everything of any length beside it.
pub(super) fn of_event(event: &RecordedEvent) -> usize {
    let labels = [&event.metadata.correlation, &event.metadata.causation];
    let labels = labels.into_iter().flatten().chain(&event.key_ids).map(|label| label.len());
    let tags = event.tags.iter().map(|tag| tag.len());
    let stream = event.stream.as_ref().map_or(0, |at| at.name.len());
    event.data.len()
        + event.metadata.user.len()
        + event.event_type.len()
        + stream
        + labels.chain(tags).sum::<usize>()
}

/// Bytes of an append with its events.
pub(super) fn of_append(
    events: &[RecordedEvent],
    command: Option<&CommandRecord>,
    consumer: Option<&Label>,
) -> usize {
    let events: usize = events.iter().map(|event| EACH + of_event(event)).sum();
    let answer = command.map_or(0, |command| command.answer.len());
    EACH + events + answer + consumer.map_or(0, |consumer| consumer.len())
}
