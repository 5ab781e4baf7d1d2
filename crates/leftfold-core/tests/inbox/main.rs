//! Inboxes, on the memory backend and a clock that is moved by hand.

mod delivery;
mod gaps;
mod messages;
mod receiving;
#[path = "../runtime_stage/mod.rs"]
mod runtime_stage;
mod tracking;
