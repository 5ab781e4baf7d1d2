//! Processes, on the memory backend and a clock that is moved by hand.

#[path = "../runtime_stage/mod.rs"]
mod runtime_stage;
mod steps;
mod transfer;
