//! Read models in Redis: values under keys, each guarded by the position of the event that wrote
//! it.
//!
//! [`Redis::at`] names a database. A row `7` of version 2 of the projection `orders` is a plain
//! string under `orders:v2:7`; `orders:serving` says which version readers see. `apply` gets
//! [`Writes`], which keeps what is put and removed until the batch is committed.
//!
//! # What is promised
//! - A commit is one script, which Redis carries out as a whole: rows and checkpoint. Only more
//!   than 5,000 rows or 4 MiB go in several, the checkpoint with the last: a crash in between
//!   leaves rows that are written again.
//! - A row is what the newest event made it: a write counts only where no later event wrote or
//!   removed the row, so that to write again changes nothing, nor does an event that was parked and
//!   is tried again when later ones have passed.
//! - One session writes a version at a time. It holds `orders:owner:v2`, which every script checks;
//!   it runs out after 30 s without a sign of its holder, or at once when the server has lost its
//!   connection.
//! - A server that is away, loads, is full, cannot save, or only reads, is waited for; no event is
//!   parked for it.
//! - A [`Reader`] follows the version that serves, from one question to the next; each is of one
//!   moment.
//!
//! What Redis loses, it loses together, rows and checkpoint; it is written again when the
//! connection is made again. A server that evicts keys as it likes would lose them one by one, and
//! is refused: `maxmemory-policy` has to be `noeviction`, or one of those for keys that expire.
//! Needs Redis 6.2; a cluster has no place for keys that are read together.
//!
//! For an encrypted connection (`rediss://`) turn on the feature `tokio-rustls-comp` of the crate
//! `redis` in your manifest.

// `target` is the database, `session` the one connection that writes a version, with `writes` for
// the code of users; `reader` has the one that reads. `owner` says who writes a version, `keys`
// names everything, `connect` makes connections, and `error` tells trouble that passes from faults.
// The `target` names a database, to which `connect` goes; `keys` has the names in it. A `session`
// writes the rows of a version, collected by `writes`, for as long as it has its `owner` key; a
// `reader` reads them, and `error` says which failures are of the server and not of an event.

mod connect;
mod error;
mod keys;
mod owner;
mod reader;
mod session;
mod target;
mod writes;

pub use error::RedisError;
pub use reader::Reader;
pub use redis;
pub use session::RedisSession;
pub use target::Redis;
pub use writes::Writes;
