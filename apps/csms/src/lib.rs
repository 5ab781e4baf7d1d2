//! The charging station management system: charging stations speak OCPP to it, and each is an
//! event-sourced aggregate on Leftfold.
//!
//! From the inside out; a folder knows only those above it:
//!
//! - [`ocpp`]: the protocol. Text goes in, values come out; without sockets, clocks or tasks
//! - [`domain`]: aggregates, state and decisions: pure folds of events
//! - [`read`]: read models for lists, reports and the dashboard: projections in memory, in SQLite
//!   or in PostgreSQL
//! - [`config`]: the configuration, by flags and environment
//! - [`connections`]: the stations that are connected now, and calls to them
//! - [`app`]: what requests need: the handles of the store, its consumers and the connections
//! - [`effects`]: requests to stations, after the commit
//! - [`processes`]: deadlines that survive restarts, with durable timers
//! - [`http`]: who may call, and how an error is told
//! - [`gateway`]: the endpoint of the stations, with its sockets
//! - [`api`]: JSON over HTTP
//! - [`dashboard`]: pages for people, rendered from plain values; `web` fills and serves them
//! - `start`: opens the store, starts what follows the log, serves, and stops it all

pub mod api;
pub mod app;
pub mod config;
pub mod connections;
pub mod dashboard;
pub mod domain;
pub mod effects;
pub mod gateway;
pub mod http;
pub mod ocpp;
pub mod processes;
pub mod read;
mod start;
mod web;

pub use start::{RunningServer, ServerStartError, start};
