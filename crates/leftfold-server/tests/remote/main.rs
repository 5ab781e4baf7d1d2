//! Stores that a server keeps, over real sockets.

mod bounds;
mod calls;
mod conformance;
mod cut;
mod encrypted;
mod hostile;
#[path = "../kurrent/mod.rs"]
mod kurrent;
mod runtime;
mod support;
mod tenants;
mod umadb;
mod users;
