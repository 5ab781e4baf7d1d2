//! Projections on a durable store and in real databases: what the runtime, the log and the targets
//! promise together.

mod away;
mod databases;
mod killed;
mod parked;
mod payments;
mod versions;
