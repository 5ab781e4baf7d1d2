//! A store is copied into a new one through a function, and nothing is lost, doubled or fired
//! again.

mod crash;
mod outbox;
mod process;
#[path = "../projection_stage/mod.rs"]
mod projection_stage;
mod runtime;
#[path = "../runtime_stage/mod.rs"]
mod runtime_stage;
mod stage;
mod switch;
mod transform;
mod verify;
