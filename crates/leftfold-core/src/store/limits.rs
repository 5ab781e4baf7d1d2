//! The limits that stand on every size the store accepts. A value beyond its limit is refused with
//! [`Invalid`](super::Invalid) before anything is written.

/// Bytes of an event's data.
pub const DATA_BYTES_MAX: usize = 16 << 20;
/// Bytes of an event's user metadata.
pub const METADATA_BYTES_MAX: usize = 64 << 10;
/// Bytes of the state that comes with a trace context.
pub const TRACE_STATE_BYTES_MAX: usize = 512;
/// Bytes of a stream name.
pub const STREAM_BYTES_MAX: usize = 512;
/// Bytes of the id of an aggregate for which something is recorded: short enough for every id to be
/// the key of a process.
pub const ID_BYTES_MAX: usize = 440;
/// Bytes of an event type.
pub const TYPE_BYTES_MAX: usize = 255;
/// Bytes of one tag.
pub const TAG_BYTES_MAX: usize = 512;
/// Tags on one event.
pub const TAGS_MAX: usize = 64;
/// Keys that encrypt fields of one event.
pub const KEY_IDS_MAX: usize = 16;
/// Bytes of a correlation, causation, content type, key id, consumer or partition name.
pub const LABEL_BYTES_MAX: usize = 255;
/// Events in one append.
pub const APPEND_EVENTS_MAX: usize = 10_000;
/// Bytes of one append: all data, metadata, names and tags together.
pub const APPEND_BYTES_MAX: usize = 32 << 20;
/// Bytes of the answer kept with a command id.
pub const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Stream expectations in one condition.
pub const EXPECTATIONS_MAX: usize = 1_000;
/// Queries in one condition that no event may match.
pub const QUERIES_MAX: usize = 100;
/// Items of a query, and of all queries of one condition together.
pub const QUERY_ITEMS_MAX: usize = 1_000;
/// Types, or tags, in one item of a query.
pub const ITEM_TERMS_MAX: usize = 1_000;
/// Leases that are held at once.
pub const LEASES_MAX: usize = 10_000;
/// Seconds that a lease is asked for at once: a day. A holder that needs it longer renews it.
pub const LEASE_SECONDS_MAX: usize = 24 * 60 * 60;
/// Seconds after its end for which a lease is remembered, unless its place is needed: a holder that
/// is late by less goes on under its fence if nobody else was given the work.
pub const LEASE_REMEMBERED_SECONDS: usize = 60 * 60;
/// Bytes of the note that a holder leaves with its lease.
pub const LEASE_NOTE_BYTES_MAX: usize = 4 << 10;
/// Bytes of a snapshot; a larger one is not stored.
pub const SNAPSHOT_BYTES_MAX: usize = 8 << 20;
