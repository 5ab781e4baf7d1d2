//! The way of a read, from a query to a page of events.
//!
//! 1. `pool` runs reads that may wait for the disk.
//! 2. `candidates` asks the index for positions that may match.
//! 3. `fetch` brings the bytes of their events from the segments.
//! 4. `pages` checks them against the query and fills a page.
//!
//! `appends` reads whole appends as they were recorded, for copies and replicas, and `history` the
//! bytes that the chain covers.

pub(crate) mod appends;
pub(crate) mod candidates;
pub(crate) mod fetch;
pub(crate) mod history;
pub(crate) mod pages;
pub(crate) mod pool;
