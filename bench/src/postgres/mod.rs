//! The store in PostgreSQL, on a server of its own that syncs every commit.
//!
//! `server` is that server, and its stores; `peer` the program that does the same by another
//! library. Each of the others measures one thing: `commands`, `batches`, `delivery` (the time
//! until another handle sees an event), `projections` into the same database, and `history`: what
//! depends on how much the store holds.

pub(crate) mod batches;
pub(crate) mod commands;
pub(crate) mod delivery;
pub(crate) mod history;
mod peer;
pub(crate) mod projections;
pub(crate) mod server;
