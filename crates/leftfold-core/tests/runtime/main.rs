//! What a runtime does besides its consumers: timers, commands by a plan or at a time, running
//! until idle, alerts, what it says of types that nobody knows, and what it shares with others.

mod alerts;
mod away;
mod countdowns;
mod idle;
mod places;
#[path = "../projection_stage/mod.rs"]
mod projection_stage;
mod recurring;
#[path = "../runtime_stage/mod.rs"]
mod runtime_stage;
mod scheduled;
mod scheduled_origin;
mod sharing;
mod unheard_types;
