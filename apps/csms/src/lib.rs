//! The charging station management system: charging stations speak OCPP to it, and each is an
//! event-sourced aggregate on Leftfold.
//!
//! The library is for its binary alone: [`Config`] is read, [`start`] serves it, and
//! [`RunningServer::stop`] ends that in order. The tests run the binary, so everything else is
//! private, and the compiler finds what nothing uses.
//!
//! From the inside out; a folder knows only those above it:
//!
//! - `ocpp`: the protocol. Text goes in, values come out; without sockets, clocks or tasks
//! - `domain`: aggregates, state and decisions: pure folds of events
//! - `confidential`: passwords and tokens, which no message shows
//! - `read`: read models for lists, reports and the dashboard: projections in memory, in SQLite
//!   or in PostgreSQL
//! - `config`: the configuration, by flags and environment
//! - `connections`: the stations that are connected now, and calls to them
//! - `people`: users, sessions and tokens over the store: what proves who calls
//! - `app`: what requests need: the handles of the store, its consumers and the connections
//! - `effects`: requests to stations, after the commit
//! - `processes`: deadlines that survive restarts, with durable timers
//! - `http`: who may call, and how an error is told
//! - `gateway`: the endpoint of the stations, with its sockets
//! - `api`: JSON over HTTP
//! - `dashboard`: pages for people, rendered from plain values; `web` fills and serves them
//! - `user_command`: users from the command line; `remote_api` for those of a server that runs
//! - `listeners`: the addresses that are listened on
//! - `simulate`: charge points to try a server with, from outside
//! - `start`: opens the store, starts what follows the log, serves, and stops it all

mod api;
mod app;
mod confidential;
mod config;
mod connections;
mod dashboard;
mod domain;
mod effects;
mod gateway;
mod http;
mod listeners;
mod ocpp;
mod people;
mod processes;
mod read;
mod remote_api;
mod simulate;
mod start;
mod user_command;
mod web;

pub use confidential::StorePlace;
pub use config::{Config, ConfigError, HELP, Invocation};
pub use remote_api::RemoteApiError;
pub use simulate::{
    BooksError, FrameScriptError, ReplayReport, SimulateError, SimulateInvocation, SimulateOptions,
    SimulateOptionsError, SimulationOutcome, SimulationReport, simulate, simulate_help,
};
pub use start::{RunningServer, ServerStartError, start};
pub use user_command::{USER_HELP, UserCommandError, UserCommandLine};
