//! Processes, on the memory backend and a clock that is moved by hand.

mod bounds;
mod clerk;
mod crashes;
mod digests;
mod parking;
#[path = "../runtime_stage/mod.rs"]
mod runtime_stage;
mod sharing;
mod steps;
mod timers;
mod transfer;
