//! The engine by its public face: files of every age, damaged and forged ones, crashes of the
//! process, followers, backups, leases, keys, limits and the conformance suite.

mod age;
mod archive;
mod backup;
mod beside;
mod bounds;
mod conformance;
mod damage;
mod fetched;
mod follow;
mod forged;
mod forgetting;
mod handles;
mod ids;
mod io;
mod keys;
mod kill;
mod lease;
mod metrics;
mod old;
mod panics;
mod repeats;
#[path = "../support/mod.rs"]
mod support;
mod verify;
