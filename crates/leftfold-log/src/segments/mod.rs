//! The files that hold the log: segments, and the offsets of the events in each.
//!
//! `segment` finds an event and its bytes; `offsets` has the table for that, in memory or in a
//! file; `open_files` bounds the handles and `buffers` the memory that readers use. `scan` goes
//! through the groups of a segment and checks each.

pub(crate) mod buffers;
pub(crate) mod offsets;
pub(crate) mod open_files;
pub(crate) mod scan;
pub(crate) mod segment;
