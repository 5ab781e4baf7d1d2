//! The charging station management system: charging stations speak OCPP to it, and each is an
//! event-sourced aggregate on Leftfold.
//!
//! - [`ocpp`]: the protocol, without sockets
//! - [`domain`]: state and decisions, without the protocol's transport
//! - `connections`: the connected stations, and calls to them
//! - `gateway`: the endpoint of the stations
//! - [`effects`]: requests to stations, after the commit
//! - [`processes`]: deadlines that survive restarts, with durable timers
//! - [`read`]: read models for lists, reports and the dashboard: projections in memory, in SQLite
//!   or in PostgreSQL
//! - [`api`]: JSON over HTTP; [`dashboard`]: the same for people, rendered from plain values
//! - [`config`]: the configuration

pub mod api;
mod app;
pub mod config;
mod connections;
pub mod dashboard;
pub mod domain;
pub mod effects;
pub mod gateway;
mod http;
pub mod ocpp;
pub mod processes;
pub mod read;
mod start;
mod web;

pub use start::{Csms, Running, StartError, start};
