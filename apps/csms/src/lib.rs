//! The charging station management system: charging stations speak OCPP to it, and each is an event-sourced aggregate
//! on Leftfold.
//!
//! - [`ocpp`]: the protocol, without sockets
//! - [`domain`]: what is true and what may follow, without the protocol's transport

pub mod domain;
pub mod ocpp;
