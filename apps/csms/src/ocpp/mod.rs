//! OCPP without sockets, clocks or tasks: text goes in, values come out.
//!
//! - [`frame`]: the envelope, OCPP-J's CALL, CALLRESULT and CALLERROR
//! - [`session`]: the state machine of one connection
//! - [`v16`]: the messages of OCPP 1.6
//! - `abridged`: what is kept of a message that is too large
//! - [`reading`]: how a message may break the specification and still be read, with each
//!   [`Violation`](reading::Violation) recorded
//!
//! Invariant: inwards everything is lenient and nothing panics, whatever the bytes; outwards only
//! what the 1.6 schemas allow can be built.

mod abridged;
pub(crate) mod frame;
mod open_enum;
pub(crate) mod reading;
pub(crate) mod session;
pub(crate) mod v16;

#[cfg(test)]
mod tests;
