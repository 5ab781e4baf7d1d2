//! Effects, on the memory backend and a clock that is moved by hand.

mod begin;
mod clock;
mod here;
mod life;
mod operators;
mod order;
mod renamed;
#[path = "../runtime_stage/mod.rs"]
mod runtime_stage;
mod shared;
mod unreadable;
mod values;
