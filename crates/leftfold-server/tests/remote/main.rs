//! Stores that a server keeps, over real sockets.

mod bounds;
mod calls;
mod conformance;
mod cut;
mod encrypted;
mod hostile;
mod runtime;
mod support;
mod tenants;
mod umadb;
mod users;
