//! The commands, a file each.
//!
//! `serve` serves stores, `config` looks at its settings, `users` makes entries of those who may
//! call, and `users_file` keeps the file of them. `read` prints events, `list` what a store holds,
//! `head` its end. `verify` finds damage. `append` writes events, and `table` makes some of rows.
//! `dump` makes lines of JSON of a store, and a store of them, or, by `foreign`, of another server;
//! `backup` makes copies of a log.
//! `sql` answers questions, `transform` copies by rules. `consumers` and `open_work` say what the
//! runtime has recorded, `operate` asks it for what a person wants, `doctor` says what is amiss.
//! `listed` asks it what read models have parked. `groups` has the groups of consumers of a server.
//! `shell` has completions and manual pages.

pub(crate) mod append;
pub(crate) mod backup;
pub(crate) mod config;
pub(crate) mod consumers;
pub(crate) mod doctor;
pub(crate) mod dump;
pub(crate) mod foreign;
pub(crate) mod groups;
pub(crate) mod head;
pub(crate) mod list;
pub(crate) mod listed;
pub(crate) mod open_work;
pub(crate) mod operate;
pub(crate) mod read;
pub(crate) mod serve;
pub(crate) mod shell;
pub(crate) mod sql;
pub(crate) mod table;
pub(crate) mod transform;
pub(crate) mod users;
pub(crate) mod users_file;
pub(crate) mod verify;
