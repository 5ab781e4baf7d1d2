//! The charging station management system: charging stations speak OCPP to it, and each is an event-sourced aggregate
//! on Leftfold.
//!
//! - [`ocpp`]: the protocol, without sockets
//! - [`domain`]: what is true and what may follow, without the protocol's transport
//! - [`gateway`]: where stations connect
//! - [`effects`]: what is asked of stations, after the commit
//! - [`deadlines`]: what ends when nothing has happened, also over restarts
//! - [`read`]: what lists, reports and the dashboard read: projections in memory, in SQLite or in PostgreSQL
//! - [`api`]: JSON over HTTP; [`dashboard`]: the same for people, rendered from plain values
//! - [`config`]: what can be set

pub mod api;
pub mod config;
mod csms;
pub mod dashboard;
pub mod deadlines;
pub mod domain;
pub mod effects;
mod fault;
pub mod gateway;
pub mod ocpp;
pub mod read;
pub mod transaction_numbers;
mod web;

pub use csms::{Csms, Running, StartError, start};
