//! Processes, on the memory backend and a clock that is moved by hand.

mod bounds;
mod clerk;
mod crashes;
mod depths;
mod digests;
#[path = "../fuse/mod.rs"]
mod fuse;
mod late_owner;
mod operators;
mod panicking;
mod parking;
mod records;
#[path = "../runtime_stage/mod.rs"]
mod runtime_stage;
mod sharing;
mod snapshots;
mod steps;
mod stuck;
mod timers;
mod transfer;
mod values;
