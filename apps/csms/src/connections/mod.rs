//! The connected stations, calls to them, and their signs of life.

mod liveness;
mod registry;

pub(crate) use liveness::{Liveness, SignOfLife, come_online, watch_for_silence};
pub(crate) use registry::{Called, NO_ANSWER, Outgoing, Place, Registry};
