//! The stations that are connected now, in memory: what a restart forgets.
//!
//! - `registry`: the newest connection of each identity, calls to it, and answers that came late
//! - `liveness`: signs of life, and the silence after the last one

mod liveness;
mod registry;

pub(crate) use liveness::{Liveness, SignOfLife};
pub(crate) use registry::{Called, NO_ANSWER, Registry};
pub(crate) use registry::{OutgoingCall, RegisteredConnection};
