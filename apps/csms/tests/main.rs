//! csms from outside: the real binary, real charge points (the PyPI package `ocpp`), the JSON API
//! and a browser.
//!
//! One crate, so that all themes run in parallel. What the tests need besides Rust is set up by
//! `cargo xtask test`.

mod harness;

mod bad_input;
mod conformance;
mod crashes;
mod dashboard;
mod database_away;
mod deadlines;
mod energy;
mod frames;
mod gate;
mod liveness;
mod operations;
mod people;
mod people_in_a_browser;
mod postgres_store;
mod read_models;
mod remote_start;
mod replays;
mod requests;
mod resends;
mod security;
mod sessions;
mod simulate;
mod startup;
mod tags;
mod three_servers;
