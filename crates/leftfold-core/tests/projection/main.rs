//! Projections, on the memory backend, a target with transactions and a clock that is moved by
//! hand.

mod crashes;
mod handover;
mod memory;
mod operators;
mod outbox;
mod parking;
#[path = "../projection_stage/mod.rs"]
mod projection_stage;
mod receipts;
#[path = "../runtime_stage/mod.rs"]
mod runtime_stage;
mod time;
mod versions;
