//! The way of an append into the tables.
//!
//! 1. `queue` holds what waits, and `request` is what waits there: an append, or a word about a
//!    lease.
//!    `look_up` looks for events that a condition forbids further back than the writer knows.
//! 2. `writer` takes it as a group, and answers it when the group is committed, or when it is known
//!    that it is not.
//! 3. `session` is the transaction of a group: the lock of the head, what the group depends on
//!    (`facts`), its rows (`group_rows`, as a `row_array` each those of `append_rows` and of
//!    `event_rows`, with their `weight` in a page), the commit.
//! 4. `judge` judges each request against everything before it, as `facts` and the group so far
//!    have it; `recent` has the latest events, against which conditions are judged, and `versions`
//!    those of the streams that earlier groups asked about.

mod append_rows;
pub(super) mod event_rows;
pub(super) mod facts;
pub(super) mod group_rows;
pub(super) mod judge;
pub(super) mod look_up;
pub(super) mod queue;
pub(super) mod recent;
pub(super) mod request;
mod row_array;
pub(super) mod session;
mod versions;
mod weight;
pub(super) mod writer;
