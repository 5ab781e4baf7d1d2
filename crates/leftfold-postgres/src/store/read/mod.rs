//! The way of a query to a page.
//!
//! `pool` has the connections that read. `statement` turns a query into SQL, `pages` reads pages by
//! it, and the first match of a condition, of as many events as `usual_bytes` expects to have room.
//! `lookups` finds single things, `appends` reads whole appends, `history` has them as the chain
//! covers them, and `verify` recomputes it; `tags` verifies the table of tags.

pub(super) mod appends;
pub(super) mod history;
pub(super) mod lookups;
pub(super) mod pages;
pub(super) mod pool;
mod statement;
mod tags;
pub(super) mod usual_bytes;
pub(super) mod verify;
