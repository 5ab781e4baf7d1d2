//! Approximate bytes of memory that waiting requests count for: their own bytes, and those of the
//! structures around them. Every backend bounds what waits by them.

use super::{
    Append, CommandRecord, Condition, NewEvent, NoneMatching, Query, QueryItem, Read, StreamMatch,
    TypeMatch, What,
};

/// Bytes that every append and every read counts for, however small it is.
pub const EACH: usize = 256;
/// Bytes that a name counts for beside its text.
const NAME: usize = 32;

/// Returns the bytes of an append whose events are not encoded yet.
#[must_use]
pub fn of_append(append: &Append) -> usize {
    let data = |event: &NewEvent| {
        let trace = event.metadata.trace.as_ref().map_or(0, |trace| 2 * NAME + trace.state().len());
        let tags = event.tags.iter().map(|tag| tag.len() + NAME).sum::<usize>();
        size_of::<NewEvent>() + event.data.len() + event.metadata.user.len() + trace + tags
    };
    EACH + append.events.iter().map(data).sum::<usize>()
        + of_condition(&append.condition)
        + of_command(append.command.as_ref())
}

/// Returns the bytes of an append without its events, once these are encoded.
#[must_use]
pub fn beside_events(condition: &Condition, command: Option<&CommandRecord>) -> usize {
    EACH + of_condition(condition) + of_command(command)
}

/// Returns the bytes of a request for a page.
#[must_use]
pub fn of_read(read: &Read) -> usize {
    EACH + match &read.what {
        What::Stream { stream, .. } => stream.len(),
        What::Matching { query, .. } => of_query(query),
    }
}

fn of_command(command: Option<&CommandRecord>) -> usize {
    command.map_or(0, |command| command.answer.len() + size_of::<CommandRecord>())
}

fn of_condition(condition: &Condition) -> usize {
    let streams = condition.streams.iter().map(|(name, _)| name.len() + 2 * NAME).sum::<usize>();
    let queries = condition
        .none_matching
        .iter()
        .map(|none| size_of::<NoneMatching>() + of_query(&none.query))
        .sum::<usize>();
    streams + queries
}

fn of_query(query: &Query) -> usize {
    query.items().iter().map(of_item).sum()
}

fn of_item(item: &QueryItem) -> usize {
    let types = item.types.iter().map(|one| match one {
        TypeMatch::Exact(name) => name.len(),
        TypeMatch::Prefix(prefix) => prefix.len(),
    });
    let streams = item.streams.as_ref().map_or(0, |streams| match streams {
        StreamMatch::Exact(name) => name.len(),
        StreamMatch::Category(text) | StreamMatch::Prefix(text) => text.len(),
    });
    let names =
        types.chain(item.tags.iter().map(|tag| tag.len())).map(|len| len + NAME).sum::<usize>();
    size_of::<QueryItem>() + streams + names
}
