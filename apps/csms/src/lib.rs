//! The charging station management system: charging stations speak OCPP to it, and each is an
//! event-sourced aggregate on Leftfold.
//!
//! - [`ocpp`]: the protocol, without sockets
//! - [`domain`]: state and decisions, without the protocol's transport
//! - [`gateway`]: the endpoint of the stations
//! - [`effects`]: requests to stations, after the commit
//! - [`deadlines`]: deadlines that survive restarts: processes with durable timers
//! - [`read`]: read models for lists, reports and the dashboard: projections in memory, in SQLite
//!   or in PostgreSQL
//! - [`api`]: JSON over HTTP; [`dashboard`]: the same for people, rendered from plain values
//! - [`config`]: the configuration

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
