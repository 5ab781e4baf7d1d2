//! The way of an append, from its caller to the disk.
//!
//! 1. `precheck` looks up on the caller's thread what the append depends on, up to some head; both
//!    together are a `request` to the writer.
//! 2. `queue` holds it until the writer takes it.
//! 3. `group` judges it against everything before it and puts its records into one group with
//!    others.
//! 4. `writer` makes the group durable with one sync at the `tail` of the log, shows it to readers
//!    and answers.
//! 5. `recycle` keeps answered requests until a caller frees them.
//!
//! `mark` tells readers in other processes that the last group is durable.
//!
//! A request for a lease takes the same way: `lease` judges it, and `fences` makes sure that no
//! fence is given twice.

pub(crate) mod fences;
pub(crate) mod group;
pub(crate) mod lease;
pub(crate) mod mark;
pub(crate) mod precheck;
pub(crate) mod queue;
pub(crate) mod recycle;
pub(crate) mod request;
pub(crate) mod tail;
pub(crate) mod writer;
