//! The stations that are connected now, in memory: what a restart forgets.
//!
//! - `registry`: the newest connection of each identity, calls to it, and answers that came late
//! - `liveness`: signs of life, and the silence after the last one
//! - `violations`: departures from the specification, counted

mod liveness;
mod registry;
mod violations;

pub(crate) use liveness::{Liveness, SignOfLife};
pub(crate) use registry::{Called, NO_ANSWER, Registry};
pub(crate) use registry::{OutgoingCall, RegisteredConnection};
